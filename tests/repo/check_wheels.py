"""Build the four wheels, look into them, and import each alone in a clean environment.

python -m tests.repo.check_wheels
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from .tree import DISTRIBUTIONS, ROOT, files

UV = str(Path(sysconfig.get_path("scripts")) / "uv")
WHEELS = ROOT / "build/wheels"
# The SDK installs alone and stays thin, whatever its siblings need.
ABSENT = {"featurestore-sdk": ["featurestore", "featurestore_server", "duckdb", "numpy", "pyarrow"]}


def main() -> int:
    """Check every wheel; return the exit code."""
    _uv("build", "--quiet", "--wheel", "--all-packages", "--clear", "--out-dir", str(WHEELS))
    problems = [p for name in DISTRIBUTIONS for p in (*_misplaced(name), *_import_alone(name))]
    _say(*(f"PROBLEM {problem}" for problem in problems))
    return 1 if problems else 0


def _misplaced(distribution: str) -> list[str]:
    """What a wheel lacks of the files of its package, and what it should not hold."""
    folder = DISTRIBUTIONS[distribution].relative_to(ROOT)
    package = (folder / _module(distribution)).as_posix() + "/"
    expected = {Path(p).relative_to(folder).as_posix() for p in files() if p.startswith(package)}
    with zipfile.ZipFile(_wheel(distribution)) as wheel:
        packed = {
            name for name in wheel.namelist() if ".dist-info/" not in name and name[-1] != "/"
        }
    problems = [f"{distribution}: lacks {path}" for path in sorted(expected - packed)]
    return problems + [f"{distribution}: holds {path}" for path in sorted(packed - expected)]


def _import_alone(distribution: str) -> list[str]:
    """Import errors of a package in an environment that holds its wheel and what that demands."""
    with tempfile.TemporaryDirectory() as folder:
        python = _environment(folder, _wheel(distribution))
        error = _python(python, f"import {_module(distribution)}")
        surplus = [
            name for name in ABSENT.get(distribution, []) if not _python(python, _find(name))
        ]
        _say(f"{distribution}: {_megabytes(Path(folder)):.0f} MB installed")
    problems = [f"{distribution}: {error}"] if error else []
    return problems + [f"{distribution}: installs {name}" for name in surplus]


def _environment(folder: str, wheel: Path) -> str:
    """Make an environment with one wheel; return its Python."""
    python = str(Path(folder, "bin/python"))
    _uv("venv", "--quiet", "--python", sys.executable, folder)
    versions = ["--constraint", str(ROOT / "constraints.txt"), "--find-links", str(WHEELS)]
    # The siblings' wheels changed although their version did not.
    fresh = [flag for name in DISTRIBUTIONS for flag in ("--refresh-package", name)]
    _uv("pip", "install", "--quiet", "--python", python, *versions, *fresh, str(wheel))
    return python


def _python(python: str, code: str) -> str:
    """What goes wrong when a Python runs this code, or nothing."""
    command = [python, "-I", "-W", "error", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return (ran.stderr or f"exit code {ran.returncode}") if ran.returncode else ""


def _find(module: str) -> str:
    return f"import sys, importlib.util; sys.exit(importlib.util.find_spec({module!r}) is None)"


def _module(distribution: str) -> str:
    return distribution.replace("-", "_")


def _wheel(distribution: str) -> Path:
    [wheel] = WHEELS.glob(f"{_module(distribution)}-*.whl")
    return wheel


def _megabytes(folder: Path) -> float:
    # Not through links: lib64 is lib once more, and python lies outside.
    found = (Path(at, name).lstat() for at, _, names in os.walk(folder) for name in names)
    return sum(each.st_size for each in found) / 1e6


def _uv(*arguments: str) -> None:
    outside = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    subprocess.run([UV, *arguments], cwd=ROOT, check=True, env=outside)


def _say(*lines: str) -> None:
    for line in lines:
        print(line)  # noqa: T201 - a script's result


if __name__ == "__main__":
    sys.exit(main())

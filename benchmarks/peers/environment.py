"""Virtual environments of the peers, made below the build folder from pinned requirements."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import venv
from pathlib import Path

from benchmarks import data
from benchmarks.errors import BenchmarkError, ToolMissingError

FOLDER = Path(__file__).parent


def python_of(peer: str) -> Path:
    """The Python of ``peer``'s environment; made, or made anew, when its requirements changed.

    Raises:
        ToolMissingError: the requirements could not be installed.
    """
    folder = data.build_folder() / "peers" / peer
    python = folder / "bin" / "python"
    stamp = folder / "requirements.sha256"
    wanted = hashlib.sha256(_requirements(peer).read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        _install(peer, folder, python)
        stamp.write_text(wanted)
    return python


def pinned_version(peer: str, package: str) -> str:
    """The version of ``package`` that the peer's requirements pin.

    Raises:
        BenchmarkError: they do not pin it.
    """
    text = _requirements(peer).read_text()
    pin = re.search(rf"^{re.escape(package)}(?:\[.*\])?==(\S+)$", text, re.MULTILINE)
    if pin is None:
        raise BenchmarkError(f"{_requirements(peer)} pins no version of {package}.")
    return pin[1]


def _requirements(peer: str) -> Path:
    return FOLDER / peer / "requirements.txt"


def _install(peer: str, folder: Path, python: Path) -> None:
    print(f"Making the environment of {peer} in {folder} (once) ...", file=sys.stderr)
    venv.create(folder, clear=True, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command = [*install, "--requirement", str(_requirements(peer))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise ToolMissingError(
            f"{peer} could not be installed with {' '.join(command)}:\n{done.stderr[-2000:]}"
        )

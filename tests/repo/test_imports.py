"""Importing is free: heavy libraries load where they are used."""

import subprocess
import sys

import pytest

ENGINES = {
    "duckdb",
    "lmdb",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "redis",
    "sqlalchemy",
    "sqlglot",
}
WIRE = {"google", "grpc", "featurestore_protos", "featurestore_sdk", "featurestore_server"}
PRINTING = {"rich"}
CORE = {"featurestore", "pydantic", "typer", "yaml"}

ALLOWED_TO_LOAD_NOTHING_OF = {
    "featurestore": ENGINES | WIRE | PRINTING | {"typer", "yaml"},
    "featurestore.cli": ENGINES | WIRE | PRINTING,
    "featurestore_sdk": ENGINES | CORE | PRINTING | {"featurestore_server"},
}


def _python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ALLOWED_TO_LOAD_NOTHING_OF)
def test_importing_a_package_loads_nothing_heavy(module: str) -> None:
    heavy = ALLOWED_TO_LOAD_NOTHING_OF[module]
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    ran = _python(code)
    assert (ran.returncode, ran.stdout.split(), ran.stderr) == (0, [], "")


def test_asking_for_help_loads_nothing_heavy() -> None:
    heavy = ALLOWED_TO_LOAD_NOTHING_OF["featurestore.cli"]
    code = (
        "import sys, contextlib\n"
        "sys.argv = ['featurestore', '--help']\n"
        "from featurestore.cli import main\n"
        "with contextlib.suppress(SystemExit): main()\n"
        f"print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr)"
    )
    ran = _python(code)
    assert "materialize" in ran.stdout
    assert ran.stderr.split() == []

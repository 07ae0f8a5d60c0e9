"""Generate `featurestore_protos` from `featurestore/**/*.proto`, or check that this was done.

    make protos                           # generates
    python protos/generate.py --check     # compares hashes only: needs no compiler

The generated code demands at least the `grpcio` and `protobuf` it was made with, so the compiler is
pinned low and raised on purpose. It wants an older protobuf than everything else here, which is why
it runs in an environment of its own.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE / "featurestore_protos"
RECORD = TARGET / "generated.sha256"
DOCSTRING = '"""Generated from protos/featurestore by `make protos`. Do not edit."""\n'
# protoc derives import paths from file paths; ours would shadow the core package.
REWRITES = [
    (re.compile(r"\bfrom featurestore((?:\.\w+)+) import"), r"from featurestore_protos\1 import"),
    (re.compile(r"\bfeaturestore((?:\.\w+)+_pb2)\b"), r"featurestore_protos\1"),
]


def main(arguments: list[str]) -> int:
    """Generate or check; return the exit code."""
    if arguments == ["--check"]:
        return check()
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    return generate()


def check() -> int:
    """Compare the recorded hashes of the .proto files and of the generated code with the files."""
    recorded = _read_record()
    actual = _hashes()
    changed = sorted(p for p in recorded.keys() | actual if recorded.get(p) != actual.get(p))
    for path in changed:
        print(f"protos/{path}: differs from what was generated; run `make protos`", file=sys.stderr)
    return 1 if changed else 0


def generate() -> int:
    """Replace the generated package with a fresh one."""
    sources = _sources()
    if not sources:
        print(f"no .proto files below {HERE / 'featurestore'}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as made:
        status = _compile(sources, Path(made))
        if status:
            return status
        shutil.rmtree(TARGET, ignore_errors=True)
        _adopt(Path(made, "featurestore"))
    lines = [f"{digest}  {path}\n" for path, digest in sorted(_hashes().items())]
    RECORD.write_text("".join(lines), encoding="utf-8")
    return 0


def _compile(sources: list[Path], out: Path) -> int:
    from grpc_tools import protoc  # only in the environment that generates

    outputs = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
    # Types for the stubs come from mypy-protobuf: protoc itself makes none for services.
    typed = f"--mypy_grpc_out=quiet:{out}"
    arguments = ["protoc", f"-I{HERE}", *outputs, typed, *map(str, sources)]
    status: int = protoc.main(arguments)
    return status


def _adopt(made: Path) -> None:
    for source in sorted(made.rglob("*.py*")):
        text = source.read_text(encoding="utf-8")
        if "_pb2_grpc.py" in source.name and "\nclass " not in _stub_text(source):
            continue  # a file without a service has no stub worth importing
        for pattern, replacement in REWRITES:
            text = pattern.sub(replacement, text)
        path = TARGET / source.relative_to(made)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    folders = {folder for path in TARGET.rglob("*.py") for folder in path.parents}
    for folder in filter(lambda folder: folder.is_relative_to(TARGET), folders):
        (folder / "__init__.py").write_text(DOCSTRING, encoding="utf-8")
    (TARGET / "py.typed").touch()


def _stub_text(stub: Path) -> str:
    return stub.with_suffix(".py").read_text(encoding="utf-8")


def _sources() -> list[Path]:
    return sorted((HERE / "featurestore").rglob("*.proto"))


def _hashes() -> dict[str, str]:
    generated = [p for p in TARGET.rglob("*.py*") if p.suffix in {".py", ".pyi"}]
    return {
        path.relative_to(HERE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in [*_sources(), *generated]
    }


def _read_record() -> dict[str, str]:
    if not RECORD.exists():
        return {}
    lines = RECORD.read_text(encoding="utf-8").splitlines()
    return {path: digest for digest, path in (line.split("  ", 1) for line in lines)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

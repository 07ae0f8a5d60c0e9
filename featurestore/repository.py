"""Definitions in a repository's Python files: found by running them."""

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurestore.config import RepoConfig
from featurestore.definitions import Definition
from featurestore.errors import DefinitionError, FeatureStoreError


def load_definitions(config: RepoConfig) -> list[Definition]:
    """Run the repository's definition files and return the objects they define, in order.

    This runs users' own code; it happens in the process of the person who plans or applies, never
    in a server.

    Raises:
        DefinitionError: There is no such file, or one of them fails; it names file and line.
    """
    files = _files(config)
    found: dict[int, Definition] = {}
    with _importable(config.root):
        for file in files:
            for value in _run(file).values():
                if isinstance(value, Definition):
                    found.setdefault(id(value), value)
    return list(found.values())


def _files(config: RepoConfig) -> list[Path]:
    patterns = config.settings.definitions
    files = sorted({file for pattern in patterns for file in config.root.glob(pattern)})
    if not files:
        raise DefinitionError(
            f"No definitions in {config.root}: nothing matches {', '.join(patterns)}.",
            hint="write features.py, or set 'definitions' in feature_store.yaml",
        )
    return [file for file in files if file.is_file()]


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """Let definition files import modules that lie beside them."""
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and Path(origin).is_relative_to(root):
                del sys.modules[name]


def _run(file: Path) -> dict[str, object]:
    try:
        return runpy.run_path(str(file), run_name="features")
    except FeatureStoreError as error:
        line = _line(error, file)
        raise DefinitionError(f"{file}{line}: {error.message}", hint=error.hint) from error
    except SyntaxError as error:
        raise DefinitionError(f"{file}, line {error.lineno}: {error.msg}.") from error
    except (Exception, SystemExit) as error:
        line = _line(error, file)
        reason = f"{type(error).__name__}: {error}"
        raise DefinitionError(f"{file}{line}: {reason}") from error


def _line(error: BaseException, file: Path) -> str:
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""

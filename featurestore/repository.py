"""Definitions in a repository's Python files: found by running them."""

import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from featurestore.config import RepoConfig
from featurestore.definitions import Definition
from featurestore.errors import ConfigError, DefinitionError, FeatureStoreError, shown


def load_definitions(config: RepoConfig) -> list[Definition]:
    """Run the repository's definition files and return the objects they define, in order.

    An object counts if a module-level name stands for it. This runs users' own code; it happens in
    the process of the person who plans or applies, never in a server.

    Raises:
        DefinitionError: There is no such file, one of them fails (it names file and line), or they
            define nothing at all.
    """
    files = _files(config)
    found: dict[int, Definition] = {}
    roots = [config.path(root) for root in config.settings.functions.roots]
    with _importable(config.root, roots):
        for file in files:
            for value in _run(file).values():
                if isinstance(value, Definition):
                    found.setdefault(id(value), value)
    if not found:
        raise DefinitionError(
            f"Nothing is defined in {', '.join(map(str, files[:3]))}.",
            hint="give each entity, source, view and service a name of its own in the file:"
            " user = Entity(...)",
        )
    return list(found.values())


def _files(config: RepoConfig) -> list[Path]:
    patterns = config.settings.definitions
    try:
        found = {file for pattern in patterns for file in config.root.glob(pattern)}
    except (NotImplementedError, ValueError, OSError) as error:
        raise ConfigError(
            f"definitions: {_shown(patterns)} cannot be used: {error}.",
            hint="they are globs relative to the repository, such as features/**/*.py",
        ) from None
    files = sorted(file for file in found if file.is_file())
    if not files:
        raise DefinitionError(
            f"No definitions in {config.root}: no file matches {_shown(patterns)}.",
            hint="write features.py, or set 'definitions' in feature_store.yaml",
        )
    return files


def _shown(patterns: tuple[str, ...]) -> str:
    return ", ".join(p if p.isprintable() and p else shown(p) for p in patterns)


@contextmanager
def _importable(root: Path, functions: Sequence[Path]) -> Iterator[None]:
    """Let definition files import modules that lie beside them, and modules of functions.

    The latter come last on the path, where they hide nothing.
    """
    before = set(sys.modules)
    sys.path.insert(0, str(root))
    last = [str(folder) for folder in functions if str(folder) not in sys.path]
    sys.path.extend(last)
    try:
        yield
    finally:
        for added in (str(root), *last):
            with suppress(ValueError):
                sys.path.remove(added)
        for name in set(sys.modules) - before:
            origin = getattr(sys.modules[name], "__file__", None)
            if origin and any(_is_below(Path(origin), r) for r in (root, *functions)):
                del sys.modules[name]


def _is_below(file: Path, root: Path) -> bool:
    """Whether a module is the user's own: a virtual environment often lies in the repository."""
    return file.is_relative_to(root) and "site-packages" not in file.parts


def _run(file: Path) -> dict[str, object]:
    try:
        return runpy.run_path(str(file), run_name="features")
    except SystemExit as error:
        line = _line(error, file)
        raise DefinitionError(
            f"{file}{line}: definitions call sys.exit({error.code!r})."
        ) from error
    except FeatureStoreError as error:
        line = _line(error, file)
        raise DefinitionError(f"{file}{line}: {error.message}", hint=error.hint) from error
    except SyntaxError as error:
        at = f", line {error.lineno}" if error.lineno else ""
        raise DefinitionError(f"{error.filename or file}{at}: {error.msg}.") from error
    except Exception as error:
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

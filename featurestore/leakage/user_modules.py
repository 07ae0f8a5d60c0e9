"""Lets a shadow of a repository import modules of its own, and puts the real ones back."""

import contextlib
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from os.path import normcase
from pathlib import Path
from types import ModuleType
from typing import Final

from featurestore.leakage.imports import is_below

LOADED: Final = "_featurestore_function_"
"""What the names of modules of functions begin with, once they are loaded."""
KEPT: Final = frozenset({"__main__", "featurestore"})
"""Packages that stay as they are, wherever they lie: what runs is among them."""
INSTALLED: Final = tuple(
    Path(path) for name, path in sysconfig.get_paths().items() if name in {"stdlib", "platstdlib"}
)


@contextlib.contextmanager
def own_modules(root: Path, roots: Sequence[Path], repository: Path) -> Iterator[set[str]]:
    """Forget the user's modules meanwhile, and import them from a shadow of the repository.

    So a helper beside a function's module finds the shadow's files beside itself. The path keeps
    its order: a folder of the repository on it is the shadow's, and nothing hides what it did not.

    Args:
        root: The real repository.
        roots: Folders of functions, which may lie elsewhere.
        repository: The shadow.

    Yields:
        At the end: the files of modules that were imported from the real folders all the same.
    """
    real = _variants([root, *roots])
    shadow = _variants([repository])
    before, path, writes = _taken(real), list(sys.path), sys.dont_write_bytecode
    outside: set[str] = set()
    sys.path[:] = [_moved(folder, _variants([root]), repository) for folder in path]
    sys.dont_write_bytecode = True  # below a link it would be the user's folder
    try:
        yield outside
    finally:
        made = _taken([*real, *shadow])
        outside |= {
            file for m in made.values() for file in _places(m) if not is_below(Path(file), shadow)
        }
        sys.modules.update(before)
        sys.path[:] = path
        sys.dont_write_bytecode = writes
        for folder in [f for f in sys.path_importer_cache if is_below(Path(f), shadow)]:
            sys.path_importer_cache.pop(folder, None)


def _taken(roots: Sequence[Path]) -> dict[str, ModuleType]:
    """Take the modules that lie below some folders out of those that are loaded."""
    begins = tuple(normcase(root) for root in roots)
    loaded = sys.modules.copy().items()
    found = {name: m for name, m in loaded if _is_users(name, m, roots, begins)}
    for name in found:
        sys.modules.pop(name, None)
    return found


def _is_users(name: str, module: object, roots: Sequence[Path], begins: tuple[str, ...]) -> bool:
    if name.startswith(LOADED):
        return True
    if name.partition(".")[0] in KEPT:
        return False
    # Of some thousand modules nearly all are installed: of the others alone paths are made.
    places = [Path(place) for place in _places(module) if _may_begin(normcase(place), begins)]
    return any(is_below(p, roots) and not is_below(p, INSTALLED) for p in places)


def _may_begin(place: str, begins: tuple[str, ...]) -> bool:
    return place.startswith(begins) or "//" in place or "/./" in place  # which a path has not


def _places(module: object) -> list[str]:
    """Return a module's file, or its folders if it is a package without one.

    What is compiled has no place: it cannot be loaded twice.
    """
    if not isinstance(module, ModuleType):
        return []
    file = vars(module).get("__file__")  # not getattr: lazy modules would load
    if isinstance(file, str):
        return [file] if file.endswith((".py", ".pyc")) else []
    try:
        return [str(folder) for folder in vars(module).get("__path__") or ()]
    except (TypeError, KeyError):  # KeyError: a namespace whose parent is gone
        return []


def _variants(folders: Sequence[Path]) -> list[Path]:
    return [*dict.fromkeys(v for f in folders for v in (f.absolute(), f.resolve()))]


def _moved(folder: str, root: Sequence[Path], repository: Path) -> str:
    """Return the folder that stands for one on the path."""
    place = Path(folder).absolute()  # "" is the working directory
    for variant in root:
        if is_below(place, [variant]) and not is_below(place, INSTALLED):
            return str(repository / place.relative_to(variant))
    return folder

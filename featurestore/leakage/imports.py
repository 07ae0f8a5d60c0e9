"""Which of a user's own modules a module imports, as far as its text says."""

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

MAX_MODULES: Final = 200
"""Modules of one function that are followed."""
MAX_BYTES: Final = 1 << 20
IMPORTERS: Final = frozenset({"import_module", "__import__"})
"""Calls that import what their first argument names."""


def with_imported(file: Path, roots: Sequence[Path]) -> dict[Path, ast.Module]:
    """Return the text of a module and of the modules below some folders that it imports.

    Args:
        file: The module.
        roots: The folders; what is imported from elsewhere is not followed.

    Returns:
        File -> its syntax tree, `file` first; without files that cannot be read or parsed, and of
        at most `MAX_MODULES` modules.
    """
    roots = [*dict.fromkeys(variant for r in roots for variant in (r.absolute(), r.resolve()))]
    starts = [*roots, *(Path(p) for p in sys.path if p and is_below(Path(p), roots))]
    found: dict[Path, ast.Module] = {}
    waiting = [file]
    while waiting and len(found) < MAX_MODULES:
        path = waiting.pop(0)
        if path in found or (tree := _parsed(path)) is None:
            continue
        found[path] = tree
        for level, name in _imports(tree):
            above = path.parents[level - 1] if 0 < level <= len(path.parents) else None
            folders = [*starts, path.parent] if above is None else [above]
            waiting += [f for f in _files(name, folders) if is_below(f, roots)]
    return found


def is_below(file: Path, roots: Sequence[Path]) -> bool:
    """Whether a module is a user's own: a virtual environment often lies in the repository.

    A path that goes up again (`..`) is below nothing: where it leads its parts do not say.
    """
    below = [set(file.relative_to(root).parts) for root in roots if file.is_relative_to(root)]
    return any(not {"site-packages", "dist-packages", ".."} & parts for parts in below)


def called(function: ast.expr) -> str:
    """Return the last part of the name of what is called; "" if it has none."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def imported_by_call(call: ast.Call) -> str | None:
    """Return the module that a call imports by its written name; None if it is computed."""
    first = call.args[0] if call.args else None
    text = first.value if isinstance(first, ast.Constant) else None
    return text if isinstance(text, str) and not text.startswith(".") else None


def _parsed(file: Path) -> ast.Module | None:
    try:
        if file.stat().st_size > MAX_BYTES:
            return None
        return ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None  # running it says so


def _imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield how many folders up an import starts, 0 for the path, and the module's name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = [node.module] if node.module else []
            yield node.level, ".".join(module)
            yield from ((node.level, ".".join([*module, alias.name])) for alias in node.names)
        elif isinstance(node, ast.Call) and called(node.func) in IMPORTERS:
            name = imported_by_call(node)
            yield from [(0, name)] if name else []


def _files(name: str, folders: Sequence[Path]) -> list[Path]:
    """Return the files of a module and its packages, in the first folder that has any."""
    parts = name.split(".") if name else []
    for folder in folders:
        packages = [
            folder.joinpath(*parts[:n]) for n in range(0 if not parts else 1, len(parts) + 1)
        ]
        files = [package / "__init__.py" for package in packages]
        if parts:
            files.append(packages[-1].with_name(f"{parts[-1]}.py"))
        if found := [file for file in files if file.is_file()]:
            return found
    return []

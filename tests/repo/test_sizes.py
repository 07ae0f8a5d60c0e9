"""Functions and classes stay small. The list of exceptions in sizes.toml only shrinks."""

import ast
import tomllib
from collections.abc import Iterator
from functools import cache

from .tree import ROOT, modules

FOLDERS = ("benchmarks", "featurestore", "protos", "sdk", "server")
MAX_FUNCTION_LINES = 60
MAX_CLASS_LINES = 300

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(tree: ast.Module, prefix: str) -> Iterator[tuple[str, Definition]]:
    stack: list[tuple[str, ast.AST]] = [(prefix, tree)]
    while stack:
        name, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Definition):
                yield f"{name}.{child.name}", child
                stack.append((f"{name}.{child.name}", child))
            else:
                stack.append((name, child))


def _lines(node: ast.AST) -> int:
    """The lines of a definition without its docstrings and those of everything inside."""
    assert isinstance(node, Definition)
    inside = [n for n in ast.walk(node) if isinstance(n, Definition)]
    documented = [n for n in inside if ast.get_docstring(n, clean=False) is not None]
    docstrings = sum(_span(n.body[0]) for n in documented)
    return _span(node) - docstrings


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


@cache
def _too_large() -> dict[str, int]:
    found = {}
    for path, tree in modules(*FOLDERS):
        for name, node in _definitions(tree, f"{path}:"):
            lines = _lines(node)
            limit = MAX_CLASS_LINES if isinstance(node, ast.ClassDef) else MAX_FUNCTION_LINES
            if lines > limit:
                found[name.replace(":.", ":")] = lines
    return found


def _allowed() -> dict[str, int]:
    text = (ROOT / "tests/repo/sizes.toml").read_text(encoding="utf-8")
    allowed: dict[str, int] = tomllib.loads(text)["lines"]
    return allowed


def test_functions_and_classes_stay_within_their_limits() -> None:
    allowed = _allowed()
    assert {n: lines for n, lines in _too_large().items() if lines > allowed.get(n, 0)} == {}


def test_an_exception_that_is_no_longer_needed_leaves_the_list() -> None:
    found = _too_large()
    assert {n: lines for n, lines in _allowed().items() if found.get(n) != lines} == {}


def test_docstrings_do_not_count() -> None:
    tree = ast.parse(
        'class A:\n    """One\n    two."""\n    def f():\n        """Three."""\n        return 1'
    )
    assert [(name, _lines(node)) for name, node in _definitions(tree, "m")] == [
        ("m.A", 3),
        ("m.A.f", 2),
    ]

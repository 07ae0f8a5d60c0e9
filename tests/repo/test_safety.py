"""Nothing is pickled, and no text becomes code."""

import ast
from functools import cache

from .tree import modules

SHIPPED = ("featurestore", "protos", "sdk", "server")
CODE_FROM_TEXT = {"compile", "eval", "exec"}
CODE_FROM_BYTES = {"cloudpickle", "dill", "jsonpickle", "marshal", "pickle", "shelve"}
MACHINERY_THAT_RUNS_MODULES = {
    "exec_module",
    "get_code",
    "import_module",
    "load_module",
    "run_code",
    "run_module",
    "run_path",
    "source_to_code",
}
RUN_MODULES = {
    "featurestore/cli/start.py",  # what our own templates bring
    "featurestore/repository.py",  # definitions, of whoever plans and applies
    "featurestore/functions/modules.py",  # functions, below configured roots and with their hash
    "featurestore/testing/oracle_functions.py",  # those of a test's scenarios
}
YAML_WITHOUT_OBJECTS = {
    *("safe_load", "safe_dump", "YAMLError"),
    *("compose", "SafeLoader", "MappingNode", "SequenceNode"),  # a tree of texts
}


@cache
def _nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """All of a module: to collect them takes longer than to look through them."""
    return tuple(ast.walk(tree))


def _calls_of_text_as_code(tree: ast.Module) -> list[int]:
    calls = (n for n in _nodes(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name))
    return [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id in CODE_FROM_TEXT]


def _imports_of_bytes_as_code(tree: ast.Module) -> list[int]:
    found = []
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        found += [node.lineno for name in names if name.split(".")[0] in CODE_FROM_BYTES]
    return found


def _other_uses_of_yaml(tree: ast.Module) -> list[int]:
    uses = (n for n in _nodes(tree) if isinstance(n, ast.Attribute))
    of_yaml = (u for u in uses if isinstance(u.value, ast.Name) and u.value.id == "yaml")
    return [use.lineno for use in of_yaml if use.attr not in YAML_WITHOUT_OBJECTS]


def _uses_of_machinery(tree: ast.Module) -> list[int]:
    uses = (n for n in _nodes(tree) if isinstance(n, ast.Attribute))
    return [use.lineno for use in uses if use.attr in MACHINERY_THAT_RUNS_MODULES]


def test_modules_run_by_path_in_these_places_alone() -> None:
    found = {str(path) for path, tree in modules(*SHIPPED) if _uses_of_machinery(tree)}
    assert found == RUN_MODULES


def test_no_package_turns_text_or_bytes_into_code() -> None:
    found = [
        f"{path}:{line}"
        for path, tree in modules(*SHIPPED)
        for search in (_calls_of_text_as_code, _imports_of_bytes_as_code, _other_uses_of_yaml)
        for line in search(tree)
    ]
    assert found == []


def test_the_search_finds_what_it_is_for() -> None:
    bad = ast.parse(
        "import pickle\nfrom dill import x\neval('1')\nyaml.load('')\nyaml.safe_load('')"
    )
    assert _imports_of_bytes_as_code(bad) == [1, 2]
    assert _calls_of_text_as_code(bad) == [3]
    assert _other_uses_of_yaml(bad) == [4]
    assert _uses_of_machinery(ast.parse("import runpy\nrunpy.run_path('x')")) == [2]

"""What users may import is written down, so that it changes on purpose only."""

import ast
import importlib
import tomllib

import pytest

from .tree import DISTRIBUTIONS, ROOT, modules

PINS = tomllib.loads((ROOT / "tests/repo/exports.toml").read_text(encoding="utf-8"))
PACKAGES = {name.replace("-", "_") for name in DISTRIBUTIONS}


def _exports(tree: ast.Module) -> bool:
    targets = [t for n in tree.body if isinstance(n, ast.Assign) for t in n.targets]
    return any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets)


def _packages_with_exports() -> set[str]:
    inits = (
        (path.removesuffix("/__init__.py").split("/"), tree)
        for path, tree in modules("featurestore", "sdk", "server", end="/__init__.py")
    )
    return {".".join(parts[parts[0] not in PACKAGES :]) for parts, tree in inits if _exports(tree)}


def test_every_package_that_exports_is_pinned() -> None:
    assert _packages_with_exports() == set(PINS)


@pytest.mark.parametrize("package", PINS)
def test_a_package_exports_what_is_pinned(package: str) -> None:
    module = importlib.import_module(package)
    # ruff sorts __all__ itself.
    assert sorted(module.__all__) == PINS[package]["exports"]
    assert [name for name in module.__all__ if not hasattr(module, name)] == []

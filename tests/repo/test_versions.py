"""Four distributions, one version, one file of tried versions."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement

from .tree import DISTRIBUTIONS, ROOT, project

CONSTRAINT = re.compile(r"([a-z0-9][a-z0-9-]*)==([0-9][A-Za-z0-9.]*)( ; .+)?")


def _requirements(distribution: str) -> list[Requirement]:
    table = project(distribution)
    extras = table.get("optional-dependencies", {}).values()
    return [Requirement(r) for r in [*table["dependencies"], *(r for e in extras for r in e)]]


def _dev_requirements() -> list[Requirement]:
    manifest = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(r) for r in manifest["dependency-groups"]["dev"]]


def _constraints() -> list[str]:
    return (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()


def test_all_distributions_carry_one_version() -> None:
    assert len({project(name)["version"] for name in DISTRIBUTIONS}) == 1


def test_the_changelog_has_a_section_for_the_version() -> None:
    version = re.escape(project("featurestore")["version"])
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## \[?{version}\]?", changelog, re.MULTILINE)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_a_distribution_demands_its_siblings_in_its_own_version(distribution: str) -> None:
    version = project(distribution)["version"]
    siblings = [r for r in _requirements(distribution) if r.name in DISTRIBUTIONS]
    wrong = [
        str(r) for r in siblings if r.name != distribution and str(r.specifier) != f"=={version}"
    ]
    assert wrong == []


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_every_dependency_has_a_floor_and_a_ceiling(distribution: str) -> None:
    # tzdata counts years, and only ever gets better.
    outside = [r for r in _requirements(distribution) if r.name not in {*DISTRIBUTIONS, "tzdata"}]
    operators = {r.name: {s.operator for s in r.specifier} for r in outside}
    assert {name: found for name, found in operators.items() if found != {">=", "<"}} == {}


def test_constraints_hold_versions_and_nothing_else() -> None:
    assert [line for line in _constraints() if not CONSTRAINT.fullmatch(line)] == []


def test_constraints_fit_every_declared_dependency() -> None:
    pins = {m[1]: m[2] for m in map(CONSTRAINT.fullmatch, _constraints()) if m}
    declared = [r for name in DISTRIBUTIONS for r in _requirements(name)] + _dev_requirements()
    outside = [r for r in declared if r.name not in DISTRIBUTIONS]
    unfit = [str(r) for r in outside if not r.specifier.contains(pins.get(r.name, "0"))]
    assert unfit == [], "run `make constraints`"

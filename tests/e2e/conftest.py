"""Repositories that many tests begin with, which one worker makes once and tests copy."""

import pytest

from .command_line import Repository, make_repository


@pytest.fixture(scope="session")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that was applied; tests only read it."""
    made = make_repository(tmp_path_factory.mktemp("applied") / "repo")
    made.succeed("apply")
    return made


@pytest.fixture(scope="session")
def filled(applied: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that was applied and materialized; tests only read it."""
    made = applied.copied(tmp_path_factory.mktemp("filled") / "repo")
    made.succeed("materialize")
    return made

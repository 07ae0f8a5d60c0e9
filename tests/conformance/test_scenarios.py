"""The headline test: hand-written scenarios, played by everybody who must agree."""

import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from featurestore.testing.oracle_runner import OracleRunner
from featurestore.testing.runners import play
from featurestore.testing.scenario import Scenario
from featurestore.testing.scenarios import read_scenarios
from featurestore.testing.store_runner import StoreRunner
from tests.conformance.served import ServedRunner

SCENARIOS = read_scenarios(Path(__file__).parents[1] / "scenarios")

# Configurations of the online store.
STORES: dict[str, Callable[[pytest.FixtureRequest], dict[str, Any]]] = {
    "memory": lambda _: {"type": "memory"},
    "lmdb": lambda _: {"type": "lmdb"},
    "redis": lambda request: {"type": "redis", "url": request.getfixturevalue("redis_url")},
}

ENGINES = ("duckdb", "polars")


@pytest.fixture(params=SCENARIOS, ids=[scenario.id for scenario in SCENARIOS])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    wanted: Scenario = request.param
    return wanted


@pytest.fixture(params=list(STORES.values()), ids=list(STORES))
def online_store(request: pytest.FixtureRequest) -> dict[str, Any]:
    configuration: dict[str, Any] = request.param(request)
    return configuration


def test_the_oracle_answers_as_the_scenario_says(scenario: Scenario) -> None:
    play(scenario, OracleRunner())


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_and_store_answer_as_the_scenario_says(
    scenario: Scenario, engine: str, online_store: dict[str, Any], tmp_path: Path
) -> None:
    # Projects keep their rows apart, so that tests can share a server.
    settings = {
        "project": f"p{uuid.uuid4().hex}",
        "offline_store": engine,
        "online_store": online_store,
    }
    with closing(StoreRunner(tmp_path, settings)) as runner:
        play(scenario, runner)


def test_server_and_sdk_answer_as_the_scenario_says(scenario: Scenario, tmp_path: Path) -> None:
    with closing(ServedRunner(tmp_path, {"online_store": "lmdb"})) as runner:
        play(scenario, runner)

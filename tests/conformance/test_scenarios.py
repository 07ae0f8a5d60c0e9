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
from tests.depth import every_run

SCENARIOS = read_scenarios(Path(__file__).parents[1] / "scenarios")

# Configurations of the online store.
STORES: dict[str, Callable[[pytest.FixtureRequest], dict[str, Any]]] = {
    "memory": lambda _: {"type": "memory"},
    "lmdb": lambda _: {"type": "lmdb"},
    "redis": lambda request: {"type": "redis", "url": request.getfixturevalue("redis_url")},
}

# Stores are given encoded bytes and never learn which engine found the rows: every run plays each
# scenario with every engine and every store, Polars and Redis through the server
# (`tests/server/test_scenarios.py`); `test_the_law` has other pairs. The proof crosses them all.
IN_EVERY_RUN = {("duckdb", "lmdb"), ("polars", "memory")}
PLAYERS = [
    pytest.param(engine, store, marks=every_run(when=(engine, store) in IN_EVERY_RUN))
    for engine in ("duckdb", "polars")
    for store in STORES
]


@pytest.fixture(params=SCENARIOS, ids=[scenario.id for scenario in SCENARIOS])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    wanted: Scenario = request.param
    return wanted


def test_the_oracle_answers_as_the_scenario_says(scenario: Scenario) -> None:
    play(scenario, OracleRunner())


@pytest.mark.parametrize(("engine", "store"), PLAYERS)
def test_every_engine_and_store_answer_as_the_scenario_says(
    scenario: Scenario, engine: str, store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    # Projects keep their rows apart, so that tests can share a server.
    settings = {
        "project": f"p{uuid.uuid4().hex}",
        "offline_store": engine,
        "online_store": STORES[store](request),
    }
    with closing(StoreRunner(tmp_path, settings)) as runner:
        play(scenario, runner)

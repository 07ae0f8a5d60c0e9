"""The hand-written scenarios through the server: looked up, trained and pushed; and over HTTP."""

import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from featurestore.testing.runners import play
from featurestore.testing.scenario import LookUp, Scenario, Train
from featurestore.testing.scenarios import read_scenarios
from tests.depth import every_run

from .http_runner import HttpRunner
from .served_runner import ServedRunner

SCENARIOS = read_scenarios(Path(__file__).parents[1] / "scenarios")


# What the server is given does not tell which engine found it: in every run the one plays that does
# not in `tests/conformance/test_scenarios.py`, and that store.
ENGINES = ["polars", pytest.param("duckdb", marks=pytest.mark.proof)]
STORES = ["redis", pytest.param("lmdb", marks=pytest.mark.proof)]


def _without_training(scenario: Scenario) -> Scenario:
    steps = tuple(step for step in scenario.steps if not isinstance(step, Train))
    return replace(scenario, steps=steps)


LOOKED_UP = [
    _without_training(scenario)
    for scenario in SCENARIOS
    if any(isinstance(step, LookUp) for step in scenario.steps)
]

# Both roads end in one place, and `test_same_answers` sets them beside each other for every type
# and status: every run plays some scenarios over HTTP, the proof all of them.
OVER_HTTP = [
    pytest.param(scenario, id=scenario.id, marks=every_run(when=number % 4 == 0))
    for number, scenario in enumerate(LOOKED_UP)
]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.id for scenario in SCENARIOS])
def test_the_server_answers_as_the_scenario_says(
    scenario: Scenario, engine: str, store: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    online: dict[str, Any] = {"type": store}
    if store == "redis":
        online["url"] = request.getfixturevalue("redis_url")
    # Projects keep their rows apart, so that tests can share a server.
    settings = {
        "project": f"p{uuid.uuid4().hex}",
        "offline_store": engine,
        "online_store": online,
    }
    with closing(ServedRunner(tmp_path, settings)) as runner:
        play(scenario, runner)


@pytest.mark.parametrize("scenario", OVER_HTTP)
def test_lookups_over_http_are_answered_as_the_scenario_says(
    scenario: Scenario, tmp_path: Path
) -> None:
    settings = {"online_store": {"type": "lmdb"}, "offline_store": "polars"}
    with closing(HttpRunner(tmp_path, settings)) as runner:
        play(scenario, runner)

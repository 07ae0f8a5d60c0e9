"""The hand-written scenarios through the server: looked up, trained and pushed; and over HTTP."""

from contextlib import closing
from pathlib import Path

import pytest

from featurestore.testing.runners import play
from featurestore.testing.scenario import Scenario
from featurestore.testing.scenarios import read_scenarios
from featurestore.testing.store_runner import StoreRunner

from .http_runner import HttpRunner
from .served_runner import ServedRunner

SCENARIOS = read_scenarios(Path(__file__).parents[1] / "scenarios")


@pytest.mark.parametrize("kind", [ServedRunner, HttpRunner])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.id for scenario in SCENARIOS])
def test_the_server_answers_as_the_scenario_says(
    scenario: Scenario, kind: type[StoreRunner], tmp_path: Path
) -> None:
    settings = {"online_store": {"type": "lmdb"}}
    with closing(kind(tmp_path, settings)) as runner:
        play(scenario, runner)

"""The hand-written scenarios, looked up, trained and pushed through the server."""

from contextlib import closing
from pathlib import Path

import pytest

from featurestore.testing.runners import play
from featurestore.testing.scenario import Scenario
from featurestore.testing.scenarios import read_scenarios

from .served_runner import ServedRunner

SCENARIOS = read_scenarios(Path(__file__).parents[1] / "scenarios")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=[scenario.id for scenario in SCENARIOS])
def test_the_server_answers_as_the_scenario_says(scenario: Scenario, tmp_path: Path) -> None:
    settings = {"online_store": {"type": "memory"}}
    with closing(ServedRunner(tmp_path, settings)) as runner:
        play(scenario, runner)

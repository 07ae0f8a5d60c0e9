"""The headline test: hand-written scenarios, played by everybody who must agree."""

from pathlib import Path

import pytest

from featurestore.testing.oracle_runner import OracleRunner
from featurestore.testing.runners import play
from featurestore.testing.scenario import Scenario
from featurestore.testing.scenarios import read_scenarios

SCENARIOS = read_scenarios(Path(__file__).parents[1] / "scenarios")


@pytest.fixture(params=SCENARIOS, ids=[scenario.id for scenario in SCENARIOS])
def scenario(request: pytest.FixtureRequest) -> Scenario:
    wanted: Scenario = request.param
    return wanted


def test_the_oracle_answers_as_the_scenario_says(scenario: Scenario) -> None:
    play(scenario, OracleRunner())

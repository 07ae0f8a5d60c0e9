"""Any history, any windows: the engine answers as the oracle does."""

import pytest
from hypothesis import given, settings

from featurestore.testing.offline import check_windows
from featurestore.testing.strategies import TrainingCase
from featurestore.testing.window_strategies import window_cases
from tests.engines import ENGINES


@given(case=window_cases())
def test_windows_are_the_oracles(case: TrainingCase) -> None:
    for engine in ENGINES.values():
        check_windows(engine, case)


@pytest.mark.proof
@settings(max_examples=4 * settings().max_examples)
@given(case=window_cases(max_rows=40, max_spine_rows=20))
def test_four_times_as_many_windows_are_the_oracles(case: TrainingCase) -> None:
    for engine in ENGINES.values():
        check_windows(engine, case)

"""Any history, any windows: the engine answers as the oracle does."""

import pytest
from hypothesis import given, settings

from featurestore.testing.strategies import TrainingCase
from featurestore.testing.window_cases import check_windows_of_each
from featurestore.testing.window_strategies import window_cases
from tests.engines import ENGINES, NOT_IN_EVERY_RUN


# `tests/conformance/test_offline_engines.py` asks the other engines the same in every run.
@given(case=window_cases())
def test_windows_are_the_oracles(case: TrainingCase) -> None:
    check_windows_of_each(NOT_IN_EVERY_RUN, case)


@pytest.mark.proof
@settings(max_examples=4 * settings().max_examples)
@given(case=window_cases(max_rows=40, max_spine_rows=20))
def test_four_times_as_many_windows_are_the_oracles(case: TrainingCase) -> None:
    check_windows_of_each(ENGINES.values(), case)

"""Any history, any spine: the engine answers as the oracle does, on every plan it may choose."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from featurestore.testing.offline_cases import (
    check_training_sets,
    crowded_history,
    crowded_spine,
    expected_training_set,
    training_set,
)
from featurestore.testing.oracle_rows import Mode
from featurestore.testing.plain import difference
from featurestore.testing.strategies import TrainingCase, training_cases
from tests.engines import ENGINES, IN_EVERY_RUN, NOT_IN_EVERY_RUN


# `tests/conformance/test_offline_engines.py` asks the other engines the same in every run.
@given(case=training_cases())
def test_a_training_set_is_the_oracles_on_every_plan(case: TrainingCase) -> None:
    check_training_sets(NOT_IN_EVERY_RUN, case)


@pytest.mark.proof
@settings(max_examples=4 * settings().max_examples)
@given(case=training_cases(max_spine_rows=20))
def test_four_times_as_many_training_sets_are_the_oracles(case: TrainingCase) -> None:
    check_training_sets(ENGINES.values(), case)


@pytest.mark.parametrize("mode", ["complete", "as_served"])
def test_a_crowd_of_ties_has_one_answer_however_often_it_is_asked(mode: Mode) -> None:
    history = crowded_history(rows=3_000, users=15)
    spine = crowded_spine(rows=150, users=18)
    case = TrainingCase(history=history, spine=spine, timezone="UTC", mode=mode)
    expected = expected_training_set(case)
    with TemporaryDirectory() as folder:
        # Small row groups, so that threads share a file.
        history.write(Path(folder), row_group_rows=100)
        for name in 5 * IN_EVERY_RUN:
            found = training_set(ENGINES[name], case, root=Path(folder))
            assert (text := difference(found, expected)) is None, f"{name}: {text}"

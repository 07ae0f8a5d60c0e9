"""Any history, any spine: the engine answers as the oracle does, on every plan it may choose."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from featurestore.offline.engine import OfflineEngine
from featurestore.testing.offline import check_training_set
from featurestore.testing.offline_cases import (
    crowded_history,
    crowded_spine,
    expected_training_set,
    training_set,
)
from featurestore.testing.oracle_rows import Mode
from featurestore.testing.plain import difference
from featurestore.testing.strategies import TrainingCase, training_cases
from tests.engines import ENGINES, IN_EVERY_RUN


@given(case=training_cases())
def test_a_training_set_is_the_oracles_on_every_plan(case: TrainingCase) -> None:
    for engine in ENGINES.values():
        check_training_set(engine, case)


@pytest.mark.proof
@settings(max_examples=4 * settings().max_examples)
@given(case=training_cases(max_spine_rows=20))
def test_four_times_as_many_training_sets_are_the_oracles(case: TrainingCase) -> None:
    for engine in ENGINES.values():
        check_training_set(engine, case)


@pytest.mark.parametrize("mode", ["complete", "as_served"])
@pytest.mark.parametrize("engine", [ENGINES[name] for name in IN_EVERY_RUN], ids=IN_EVERY_RUN)
def test_a_crowd_of_ties_has_one_answer_however_often_it_is_asked(
    mode: Mode, engine: OfflineEngine
) -> None:
    history = crowded_history(rows=6_000, users=15)
    spine = crowded_spine(rows=300, users=18)
    case = TrainingCase(history=history, spine=spine, timezone="UTC", mode=mode)
    expected = expected_training_set(case)
    with TemporaryDirectory() as folder:
        # Small row groups, so that threads share a file.
        history.write(Path(folder), row_group_rows=200)
        for _ in range(5):
            found = training_set(engine, case, root=Path(folder))
            assert (text := difference(found, expected)) is None, text

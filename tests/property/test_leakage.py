"""Whatever the history: what a spine row must not see moves nothing, and what it sees does."""

from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from featurestore.errors import SumOverflowError
from featurestore.functions import FunctionLoader
from featurestore.leakage.check import Settings, check_leakage
from featurestore.leakage.report import LeakageReport
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.polars import PolarsEngine
from featurestore.registry.state import RegistryState
from featurestore.testing.strategies import TrainingCase, training_cases
from featurestore.testing.window_strategies import window_cases
from tests.property.test_transform_joins import join_cases

ENGINES: dict[str, OfflineEngine] = {
    kind.name: kind(threads=1) for kind in (DuckDBEngine, PolarsEngine)
}
SEEDS = st.integers(0, 2**32)
_DEPTH = settings().max_examples
fewer = settings(max_examples=_DEPTH // 2 if _DEPTH < 1_000 else _DEPTH)
"""An example is a whole leak test, of some dozens of computations: half as many in every run."""


def leakage(engine: OfflineEngine, case: TrainingCase, seed: int) -> LeakageReport:
    """Return the outcome of a leak test of a case's view, at its spine."""
    with TemporaryDirectory() as folder:
        case.history.write(Path(folder))
        return check_leakage(
            [case.history.view],
            spine=case.spine.to_arrow(),
            settings=Settings(
                points=20, rounds=2, seed=seed, mode=case.mode, timezone=case.timezone
            ),
            state=RegistryState(project="property"),
            engine=engine,
            functions=FunctionLoader(),
            root=Path(folder),
        )


@fewer
@given(case=training_cases(), engine=st.sampled_from(sorted(ENGINES)), seed=SEEDS)
def test_newest_values_move_with_what_they_see_alone(
    case: TrainingCase, engine: str, seed: int
) -> None:
    assume(case.spine.rows)
    report = leakage(ENGINES[engine], case, seed)
    assert not report.leaks
    assert all(c.moved == c.tried for c in report.controls if c.certain)


@fewer
@given(case=window_cases(), engine=st.sampled_from(sorted(ENGINES)), seed=SEEDS)
def test_windows_move_with_what_they_hold_alone(case: TrainingCase, engine: str, seed: int) -> None:
    assume(case.spine.rows)
    with suppress(SumOverflowError):
        report = leakage(ENGINES[engine], case, seed)
        assert not report.leaks
        assert not report.blind


@fewer
@given(
    case=join_cases(windows=False) | join_cases(windows=True),
    engine=st.sampled_from(sorted(ENGINES)),
    seed=SEEDS,
)
def test_joins_of_transforms_see_nothing_later(case: TrainingCase, engine: str, seed: int) -> None:
    assume(case.spine.rows)
    assert not leakage(ENGINES[engine], case, seed).leaks

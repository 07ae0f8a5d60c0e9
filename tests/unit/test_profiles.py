"""Profiles of training sets while they are computed, and of views and sources."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.definitions import Aggregation, Field
from featurestore.errors import JobCancelledError, NotFoundError, RequestError
from featurestore.statistics import MissingRows, Profile, profile
from featurestore.store import FeatureStore
from featurestore.training.job import RetrievalJob
from featurestore.types import Float64
from tests.unit.projects import FILE, UTC_US, project, rows, source, view, write

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
HISTORY = {
    "k": [1, 1, 2, 3, 4, None],
    "t": pa.array([START + n * HOUR for n in (0, 5, 0, 90, 1, 1)], UTC_US),
    "c": pa.array([START + n * HOUR for n in (0, 8, 0, 90, 1, 1)], UTC_US),
    "x": [1.0, 2.0, None, 4.0, 5.0, 6.0],
}
AT = START + 6 * HOUR
SPINE = pa.table(
    {
        "k": [1, 1, 2, 3, 9, None, 4, 1],
        "event_timestamp": pa.array([*[AT] * 6, START + 30 * HOUR, None], UTC_US),
    }
)
WINDOWS = [
    Aggregation("x", ["sum"], windows=["3h"]),
    Aggregation("*", ["count"], windows=["6h"]),
    Aggregation("x", ["max"], windows=["6h"], where="x > 1.5", name="large"),
]


@pytest.fixture(params=["duckdb", "polars"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / FILE, HISTORY)
    with project(tmp_path, offline_store={"type": request.param}) as opened:
        yield opened


def latest_job(store: FeatureStore, **asked: Any) -> RetrievalJob:
    reads = {"created_timestamp_column": "c"}
    store.apply([view(ttl=timedelta(hours=24), reads=reads)])
    return store.get_historical_features(SPINE, ["reading:x"], **asked)


def windows_job(store: FeatureStore) -> RetrievalJob:
    store.apply([view(schema=[], aggregations=WINDOWS)])
    return store.get_historical_features(SPINE, [store.get_feature_view("reading")])


# --- training sets -------------------------------------------------------------------------------


def test_a_profile_is_that_of_the_result(store: FeatureStore) -> None:
    job = latest_job(store)
    assert job.profile() == profile([job.to_arrow()], job.schema)


def test_a_profile_is_gathered_while_the_result_is_written(
    store: FeatureStore, tmp_path: Path
) -> None:
    job = latest_job(store)
    profiler = job.profiler(coverage=True)
    file = job.write_parquet(tmp_path / "out.parquet", profiler=profiler)
    assert profiler.finish() == job.profile(coverage=True)
    assert pq.read_table(file).equals(job.to_arrow())


def test_a_profile_is_gathered_while_batches_are_taken(store: FeatureStore) -> None:
    job = latest_job(store)
    profiler = job.profiler()
    batches = list(job.to_batches(3, profiler=profiler))
    assert pa.Table.from_batches(batches) == job.to_arrow()
    assert profiler.finish() == job.profile()


def test_coverage_does_not_change_the_profile(store: FeatureStore) -> None:
    for job in (latest_job(store), windows_job(store)):
        assert replace(job.profile(coverage=True), coverage=None) == job.profile()


def test_latest_coverage_says_what_was_found_and_why_nothing_was(store: FeatureStore) -> None:
    covered = latest_job(store).profile(coverage=True).coverage
    assert covered is not None
    found = covered["reading"]
    # Twice k=1 at 5h, k=2 whose value is null; k=3 only comes later, 9 never; 4 is too old.
    assert (found.rows, found.null_keys, found.found) == (8, 2, 3)
    assert found.missing == MissingRows(expired=1, not_yet=1, unknown_key=1)
    assert (found.features["x"].found, found.features["x"].values) == (3, 2)
    assert found.age is not None
    assert found.age.quantiles is not None
    assert (found.age.min, found.age.max) == (3_600.0, 6 * 3_600.0)
    assert found.age.quantiles.values[0.5] == 3_600.0
    assert found.age.mean == pytest.approx(8 * 3_600 / 3)


def test_coverage_as_served_sees_what_had_been_written(store: FeatureStore) -> None:
    covered = latest_job(store, mode="as_served").profile(coverage=True).coverage
    assert covered is not None
    found = covered["reading"]
    assert (found.found, found.missing) == (3, MissingRows(expired=1, not_yet=1, unknown_key=1))
    assert found.age is not None
    assert (found.age.min, found.age.max) == (6 * 3_600.0, 6 * 3_600.0)


def test_window_coverage_counts_rows_with_events(store: FeatureStore) -> None:
    covered = windows_job(store).profile(coverage=True).coverage
    assert covered is not None
    found = covered["reading"]
    assert (found.rows, found.null_keys, found.found, found.age) == (8, 2, None, None)
    counts = {name: (f.found, f.values) for name, f in found.features.items()}
    assert counts == {"x_sum_3h": (2, 2), "count_6h": (3, 8), "large_max_6h": (2, 2)}


def test_coverage_survives_its_document(store: FeatureStore) -> None:
    for job in (latest_job(store), windows_job(store)):
        found = job.profile(coverage=True)
        document = json.loads(json.dumps(found.to_document(), allow_nan=False))
        assert Profile.from_document(document) == found
        assert "coverage" in str(found)


def test_an_empty_spine_has_a_profile(store: FeatureStore) -> None:
    store.apply([view()])
    job = store.get_historical_features(SPINE.slice(0, 0), ["reading:x"])
    found = job.profile(coverage=True)
    assert found.rows == 0
    assert found.columns["x"].mean is None
    assert found.coverage is not None
    assert found.coverage["reading"].found == 0


def test_progress_tells_of_profiling(store: FeatureStore) -> None:
    told: list[tuple[str, int, int]] = []
    latest_job(store, progress=lambda *step: told.append(step)).profile()
    assert ("profiling", 8, 8) in told


def test_a_cancelled_job_has_no_profile(store: FeatureStore) -> None:
    job = latest_job(store)
    profiler = job.profiler()
    job.cancel()
    with pytest.raises(JobCancelledError):
        list(job.to_batches(profiler=profiler))
    with pytest.raises(RequestError, match="has not seen the whole result"):
        profiler.finish()


def test_a_profiler_serves_one_computation_of_its_job(store: FeatureStore) -> None:
    job = latest_job(store)
    profiler = job.profiler()
    list(job.to_batches(profiler=profiler))
    with pytest.raises(RequestError, match="used before"):
        list(job.to_batches(profiler=profiler))
    with pytest.raises(RequestError, match="another job"):
        list(job.to_batches(profiler=windows_job(store).profiler()))


# --- views and sources ---------------------------------------------------------------------------


def test_a_views_profile_is_over_keys_times_and_features(store: FeatureStore) -> None:
    store.apply([view(reads={"created_timestamp_column": "c"})])
    found = store.profile("reading")
    assert list(found.columns) == ["k", "t", "c", "x"]
    assert found.rows == 6
    assert found.columns["k"].nulls == found.columns["x"].nulls == 1
    assert found.columns["t"].max == START + 90 * HOUR
    assert found.columns["x"].mean == 3.6


def test_a_transforms_result_is_what_is_told_of(store: FeatureStore) -> None:
    schema = [Field(name="twice", dtype=Float64)]
    transform = "SELECT k, t, x * 2 AS twice FROM readings WHERE x > 1.5"
    store.apply([view(schema=schema, transform=transform)])
    found = store.profile("reading")
    assert found.rows == 4
    assert (found.columns["twice"].min, found.columns["twice"].max) == (4.0, 12.0)


def test_a_windowed_views_profile_is_over_what_it_aggregates(store: FeatureStore) -> None:
    store.apply([view(schema=[], aggregations=WINDOWS)])
    found = store.profile("reading")
    assert list(found.columns) == ["k", "t", "x"]
    assert found.rows == 6


def test_a_sources_profile_is_over_all_of_its_columns(store: FeatureStore) -> None:
    table = pa.table(HISTORY).append_column("part", pa.array(list("aabbbb")))
    write(store.config.root / "more/day=1/a.parquet", table)
    write(store.config.root / "more/day=2/b.parquet", table)
    store.apply(
        [view("more/", reads={"field_mapping": {"x": "value"}}, features={"value": Float64})]
    )
    found = store.profile("readings")
    assert set(found.columns) == {"k", "t", "c", "value", "part", "day"}
    assert found.rows == 12
    assert found.columns["day"].top is not None
    assert dict(found.columns["day"].top.counts) == {"1": 6, "2": 6}


def test_bounds_choose_rows_by_event_time(store: FeatureStore) -> None:
    store.apply([view()])
    found = store.profile("reading", start=START, end=START + 5 * HOUR)
    assert (found.rows, found.columns["t"].min) == (3, START + HOUR)
    with pytest.raises(RequestError, match="not before the end"):
        store.profile("reading", start=AT, end=START)


def test_edges_make_two_profiles_comparable(store: FeatureStore) -> None:
    store.apply([view()])
    edges = store.profile("reading").edges
    found = store.profile("reading", start=START + 5 * HOUR, edges=edges)
    assert found.edges == edges
    assert found.columns["x"].histogram is not None
    assert sum(found.columns["x"].histogram.counts) == 1
    narrow = store.profile("reading", edges={"x": [2.0, 4.0, 5.0]}).columns["x"].histogram
    assert narrow is not None
    assert (narrow.counts, narrow.below, narrow.above) == ((1, 2), 1, 1)
    for wrong in ({"x": [2.0]}, {"x": [2.0, 1.0]}, {"x": ["a", "b"]}, {"z": [1.0, 2.0]}):
        with pytest.raises(RequestError):
            store.profile("reading", edges=wrong)


def test_an_unknown_name_is_told_with_what_looks_alike(store: FeatureStore) -> None:
    store.apply([view()])
    with pytest.raises(NotFoundError, match="reading"):
        store.profile("readin")


def test_sources_of_many_rows_are_profiled_in_parts(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(200_000), row_group_size=7_000)
    with project(tmp_path) as store:
        store.apply([view(source=source())])
        told: list[tuple[str, int, int]] = []
        found = store.profile("reading", progress=lambda *step: told.append(step))
    assert found.rows == 200_000
    assert told[-1] == ("reading", 200_000, 200_000)
    column = found.columns["x"]
    assert (column.min, column.max, column.mean) == (1.0, 200_000.0, 100_000.5)
    assert column.quantiles is not None
    assert abs(column.quantiles.values[0.5] - 100_000) <= column.quantiles.error * 200_000

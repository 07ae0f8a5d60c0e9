"""What a run would do is estimated well enough to decide by, and nothing is written."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation, FeatureView
from featurestore.errors import RequestError, SourceError
from featurestore.materialize.estimate import RunEstimate
from featurestore.online.memory import MemoryOnlineStore
from featurestore.store import FeatureStore
from featurestore.time import format_instant, to_micros
from featurestore.types import Float64, String
from tests.unit.projects import THEN, UTC_US, project, source, view, write

ROWS = 40_000
MINUTE_US = 60_000_000
VIEW = view("data", features={"x": Float64, "s": String}, reads={"created_timestamp_column": "c"})
FIRST_US = to_micros(THEN)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    """A source of two files, a row every minute, in order; each key in about ten of them."""
    draw = np.random.default_rng(1)
    for number in (0, 1):
        events = FIRST_US + np.arange(ROWS * number, ROWS * (number + 1)) * MINUTE_US
        columns = {
            "k": draw.integers(0, 2 * ROWS // 10, ROWS),
            "t": pa.array(events, UTC_US),
            "c": pa.array(events + 1, UTC_US),
            "x": draw.random(ROWS),
            "s": [f"text {n % 1000:04}" for n in range(ROWS)],
        }
        write(tmp_path / "data" / f"{number}.parquet", columns, row_group_size=4_000)
    with project(tmp_path) as opened:
        opened.apply([VIEW])
        yield opened


def estimate(store: FeatureStore, **options: Any) -> RunEstimate:
    [found] = store.estimate_materialization(**options)
    return found


def at(minutes: int) -> str:
    return format_instant(THEN + timedelta(minutes=minutes))


def assert_near(store: FeatureStore, found: RunEstimate, **options: Any) -> None:
    """Make sure that the run does what was estimated, about."""
    [report] = store.materialize(**options)
    assert found.rows == pytest.approx(report.rows_read, rel=0.02)
    assert found.entities == pytest.approx(report.entities, rel=0.15)


def test_a_full_run_is_estimated(store: FeatureStore) -> None:
    found = estimate(store)
    assert (found.kind, found.files, found.file_rows) == ("full", 2, 2 * ROWS)
    online = store.online_store
    assert isinstance(online, MemoryOnlineStore)
    assert_near(store, found)
    stored = [pair for table in online._tables.values() for pair in table.items()]
    size = sum(len(key) + len(value) for key, value in stored)
    assert found.online_bytes == pytest.approx(size, rel=0.15)


def test_an_interval_is_estimated_from_the_times_of_row_groups(store: FeatureStore) -> None:
    bounds = {"start": at(ROWS // 2), "end": at(ROWS + 1_000)}
    found = estimate(store, **bounds)
    whole = estimate(store)
    assert found.kind == "window"
    assert found.file_bytes < whole.file_bytes * 0.4
    assert_near(store, found, **bounds)


def test_what_is_new_is_estimated_from_event_and_created_times(store: FeatureStore) -> None:
    store.materialize(end=at(2 * ROWS - 6_001))
    found = estimate(store, incremental=True)
    [report] = store.materialize_incremental()
    assert (found.kind, report.rows_read) == ("incremental", 6_000)
    assert found.rows == pytest.approx(6_000, rel=0.02)


def test_nothing_is_nothing(store: FeatureStore) -> None:
    found = estimate(store, end=at(-1))
    assert (found.rows, found.entities, found.online_bytes, found.file_bytes) == (0, 0, 0, 0)


def test_nothing_is_written(tmp_path: Path, store: FeatureStore) -> None:
    with project(tmp_path, online_store="lmdb") as other:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        estimate(other)
        estimate(other, incremental=True)
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before
    assert (store.registry.tasks("plant"), store.registry.runs("plant")) == ([], [])


def test_windows_have_the_width_of_their_types(tmp_path: Path, store: FeatureStore) -> None:
    del store
    windows = FeatureView(
        name="sums",
        entities=VIEW.entities,
        source=source("data", created_timestamp_column="c"),
        aggregations=[Aggregation("x", ["sum", "count"], windows=["1h"])],
    )
    with project(tmp_path) as other:
        other.apply([windows])
        found = estimate(other, views=["sums"])
        assert found.online_bytes == pytest.approx(found.entities * (9 + 19 + 1 + 16), rel=0.1)
        with pytest.raises(RequestError, match="there is no start"):
            estimate(other, start=at(0), views=["sums"])


def test_keys_that_occur_once_are_as_many_as_rows(tmp_path: Path) -> None:
    columns = {"k": range(5_000), "t": pa.array([THEN] * 5_000, UTC_US), "x": [1.0] * 5_000}
    write(tmp_path / "data" / "0.parquet", {**columns, "k": list(range(5_000))})
    with project(tmp_path) as store:
        store.apply([view("data")])
        found = estimate(store)
        assert (found.rows, found.entities) == (5_000, 5_000)


def test_a_view_without_keys_has_one_entity(tmp_path: Path) -> None:
    write(tmp_path / "data" / "0.parquet", {"t": pa.array([THEN] * 50, UTC_US), "x": [1.0] * 50})
    with project(tmp_path) as store:
        store.apply([view("data", keys={})])
        assert (estimate(store).rows, estimate(store).entities) == (50, 1)


def test_a_file_that_is_gone_is_an_error(tmp_path: Path, store: FeatureStore) -> None:
    for number in (0, 1):
        (tmp_path / "data" / f"{number}.parquet").unlink()
    with pytest.raises(SourceError):
        estimate(store)

"""Events that come again: what `dedup_keys` may be, what a change of them means, what they cost."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation, FeatureView, FileSource
from featurestore.errors import DefinitionError, SourceSchemaError
from featurestore.offline.dedup import NEVER, Survivors, repeated
from featurestore.offline.spine_keys import number_keys
from featurestore.registry import ObjectRef, Plan, RegistryState, make_plan
from featurestore.types import Int64
from tests.unit.projects import (
    THEN,
    UTC_US,
    everywhere,
    project,
    rows,
    says,
    source,
    spine,
    train,
    view,
    write,
)
from tests.unit.test_plan import after

EMPTY = RegistryState(project="plant")
HOUR = timedelta(hours=1)


def windowed(path: str = "data.parquet", **reads: Any) -> FeatureView:
    counted = Aggregation("*", ["count"], ["365d"])
    return view(path, name="windowed", schema=(), aggregations=[counted], reads=reads)


def both(**reads: Any) -> list[FeatureView]:
    """Return a view with windows and one with a schema over one source."""
    return [view(reads=reads), windowed(**reads)]


def plan(desired: list[FeatureView], state: RegistryState) -> Plan:
    return make_plan(desired, state, full=True)


def times(*values: datetime) -> pa.Array:
    return pa.array(values, UTC_US)


# Definitions


def test_dedup_keys_are_a_set_of_columns_and_read_back() -> None:
    of = source(dedup_keys=["event_id", "at"])
    assert of == source(dedup_keys=("at", "event_id"))
    assert of.to_document()["dedup_keys"] == ["at", "event_id"]
    assert FileSource.from_document(of.to_document()) == of


def test_a_source_that_was_registered_before_there_were_dedup_keys_has_none() -> None:
    document = source().to_document()
    del document["dedup_keys"]
    assert FileSource.from_document(document) == source()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: source(dedup_keys=[]), "no column is named; leave it out"),
        (lambda: source(dedup_keys="event_id"), "dedup_keys"),
        (lambda: source(dedup_keys=["a", "A"]), "'A' (case is ignored)"),
        (lambda: source(dedup_keys=["a:b"]), "cannot name a column"),
        (
            lambda: source(dedup_keys=["c"], created_timestamp_column="c"),
            "is the created_timestamp_column",
        ),
        (
            lambda: source(dedup_keys=["id"], field_mapping={"id": "event_id"}),
            "'id' is called 'event_id' here",
        ),
    ],
)
def test_dedup_keys_that_mean_nothing_are_refused(
    make: Callable[[], FileSource], reason: str
) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert reason in str(caught.value)


# Plans


@pytest.mark.parametrize(
    ("before", "now"), [(None, ["id"]), (["id"], ["id", "x"]), (["id"], ["t"]), (["id"], None)]
)
def test_other_dedup_keys_give_windows_a_new_generation_and_leave_newest_rows_alone(
    before: list[str] | None, now: list[str] | None
) -> None:
    state = after(plan(both(dedup_keys=before), EMPTY))
    found = plan(both(dedup_keys=now), state)
    assert found.new_generations == ("windowed",)
    told = {change.ref: change for change in found.changes}
    assert set(told) == {ObjectRef("source", "readings"), ObjectRef("feature view", "windowed")}
    assert told[ObjectRef("source", "readings")].impact == "breaking"
    assert told[ObjectRef("feature view", "windowed")].through == (ObjectRef("source", "readings"),)
    assert after(found, state).view("reading").generation == 1
    assert after(found, state).view("windowed").generation == 2


def test_the_order_of_dedup_keys_says_nothing() -> None:
    state = after(plan(both(dedup_keys=["id", "t"]), EMPTY))
    assert not plan(both(dedup_keys=["t", "id"]), state).changes


def test_a_plan_names_a_column_that_is_not_in_a_file(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(event_id=[1]))
    for of in both(dedup_keys=["event_idd"]):
        with project(tmp_path) as store, pytest.raises(SourceSchemaError) as caught:
            store.plan([of])
        assert says(caught.value, "has no column 'event_idd'", "did you mean 'event_id'")
        assert caught.value.column == "event_idd"


@pytest.mark.parametrize("dtype", [pa.float32(), pa.list_(pa.int64()), pa.null()])
def test_a_plan_refuses_columns_that_cannot_tell_events_apart(
    dtype: pa.DataType, tmp_path: Path
) -> None:
    write(tmp_path / "data.parquet", rows(event_id=pa.array([None], dtype)))
    for of in both(dedup_keys=["event_id"]):
        with project(tmp_path) as store, pytest.raises(SourceSchemaError) as caught:
            store.plan([of])
        assert says(caught.value, "event_id", "readings")


# Values


def test_a_folder_of_a_partitioned_source_may_tell_events_apart(tmp_path: Path) -> None:
    for shop, key in (("a", 1), ("b", 1), ("b", 2)):
        path = tmp_path / "data" / f"shop={shop}" / f"{key}.parquet"
        write(path, rows(k=[key], event_id=[7]))
    of = windowed("data", dedup_keys=["shop", "event_id"])
    with project(tmp_path) as store:
        assert everywhere(store, of, spine(1, 2)) == [1, 1]


def test_a_correction_leaves_online_what_training_says_and_verify_agrees(tmp_path: Path) -> None:
    reads = {"dedup_keys": ["event_id"], "created_timestamp_column": "c"}
    of = windowed("data", **reads)
    first = rows(2, event_id=["a", "b"], c=times(THEN, THEN))
    write(tmp_path / "data" / "1.parquet", first)
    with project(tmp_path) as store:
        assert everywhere(store, of, spine(1, 2, 3)) == [1, 1, 0]
        moved = rows(1, k=[3], event_id=["a"], c=times(THEN + HOUR))
        write(tmp_path / "data" / "2.parquet", moved)
        assert everywhere(store, of, spine(1, 2, 3)) == [0, 1, 1]
        asked = spine(1, 3, at=times(THEN + HOUR - timedelta.resolution, THEN + HOUR))
        assert train(store, of, asked, mode="as_served") == [1, 1]


def test_explain_says_which_rows_give_way(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(event_id=[1]))
    for engine, words in {
        "duckdb": "PARTITION BY d0",
        "polars": "latest version of each event_id",
    }.items():
        with project(tmp_path, offline_store=engine) as store:
            for of, is_said in ((windowed(), False), (windowed(dedup_keys=["event_id"]), True)):
                text = store.get_historical_features(spine(1), [of]).explain()
                assert (words in text) is is_said


# Shared parts


@pytest.mark.parametrize("memory_bytes", [1, 100, 10_000, 10**9])
def test_repeated_hashes_are_the_same_however_little_memory_there_is(memory_bytes: int) -> None:
    hashes = np.random.default_rng(3).integers(0, 60, 100).astype(np.uint64)
    known, counts = np.unique(hashes, return_counts=True)
    calls = []

    def read(parts: int, part: int) -> list[Any]:
        calls.append(parts)
        some = hashes[hashes % np.uint64(parts) == part]
        return [some[:7], some[7:]]

    found = repeated(read, row_count=len(hashes), memory_bytes=memory_bytes)
    assert found.tolist() == known[counts > 1].tolist()
    assert len(calls) == calls[0]
    assert (len(calls) == 1) is (memory_bytes > 6_400)


@pytest.mark.parametrize(
    ("event", "created", "until", "counts"),
    [
        (5, 5, 10, False),  # asked at 10: it has just been superseded
        (5, 5, 11, True),
        (5, 10, 11, True),
        (5, 11, 20, False),
        (11, 5, 20, False),  # it had not taken place when somebody asked
        (5, None, 20, False),
        (5, 5, 5, False),
        (5, 5, NEVER, True),
        (5, 20, NEVER, True),  # the windows leave it out: nothing stands for it
    ],
)
def test_a_row_that_no_question_counted_before_it_was_superseded_is_left_out(
    event: int, created: int | None, until: int, *, counts: bool
) -> None:
    asked = number_keys(pa.table({"q": [10, 30, 7], "k0": pa.array([1, 1, 2], Int64)}))
    group = asked.table["k0"].to_pylist().index(1)
    columns = {
        "g": pa.array([group], pa.int32()),
        "e": pa.array([event], Int64),
        "c": pa.array([created], Int64),
        "s": pa.array([until], Int64),
    }
    row = pa.record_batch(list(columns.values()), names=list(columns))
    assert Survivors(asked, is_served=True).of(row).num_rows == counts
    assert Survivors(asked, is_served=False).of(row).num_rows == (until == NEVER)

"""Pushes over gRPC: the rows that a file would have, whatever their types."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from featurestore_protos.v1.values_pb2 import Lists, Values
from featurestore_protos.v1.writing_pb2 import PushRequest
from featurestore_protos.v1.writing_pb2_grpc import WritingServiceStub
from featurestore_server.requests import read_values

from featurestore.store import FeatureStore
from featurestore.types import parse_type
from tests.unit.projects import NAIVE_US, THEN, project, rows, view, write

from .backend_calls import push, served, values_of
from .calls import Dial, fails
from .shop import VALUES, arrow

ZONE: Final = "America/New_York"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / "data/first.parquet", rows(1))
    with project(tmp_path, offline_store="polars") as opened:
        opened.apply([view("data")])
        yield opened


def _looked_up(store: FeatureStore, *keys: int) -> list[object]:
    found = store.get_online_features(["reading:x"], {"k": list(keys)})
    return list(found.to_arrow()["x"].to_pylist())


def test_a_pushed_row_is_served_and_an_older_one_is_kept_out(
    store: FeatureStore, dial: Dial
) -> None:
    with served(store) as address:
        channel = dial(address)
        first = push(channel, "reading", pa.table(rows(2)))
        assert (first.rows, first.written, first.kept) == (2, 2, 0)
        older = rows(2, t=pa.array([datetime(2023, 1, 1, tzinfo=UTC)] * 2), x=[8.0, 9.0])
        second = push(channel, "reading", pa.table(older))
        assert (second.rows, second.written, second.kept) == (2, 0, 2)
    assert _looked_up(store, 1, 2, 3) == [1.0, 2.0, None]


def test_rows_can_be_added_to_the_source(store: FeatureStore, dial: Dial) -> None:
    with served(store) as address:
        push(dial(address), "reading", pa.table(rows(3)), append=True)
    [added] = (store.config.root / "data").glob("pushed-*.parquet")
    assert pq.read_table(added)["k"].to_pylist() == [1, 2, 3]


def test_instants_are_added_as_the_local_times_that_the_files_have(
    tmp_path: Path, dial: Dial
) -> None:
    write(tmp_path / "data/first.parquet", rows(1, t=pa.array([THEN]).cast(NAIVE_US)))
    with project(tmp_path) as store:
        store.apply([view("data", reads={"timezone": ZONE})])
        with served(store) as address:
            channel = dial(address)
            push(channel, "reading", pa.table(rows(1)), append=True)
            twice = pa.array([datetime(2023, 11, 5, 5, 30, tzinfo=UTC)])
            failure = fails(
                lambda: push(channel, "reading", pa.table(rows(1, t=twice)), append=True)
            )
        assert (failure.reason, failure.fields) == ("ROWS_INVALID", ["columns.t[0]"])
        [added] = (tmp_path / "data").glob("pushed-*.parquet")
    assert pq.read_table(added)["t"].to_pylist() == [datetime(2023, 12, 31, 19)]  # noqa: DTZ001


@pytest.mark.parametrize("dtype", VALUES)
def test_every_type_arrives_bit_for_bit(dtype: str, tmp_path: Path, dial: Dial) -> None:
    values = arrow(dtype, [*VALUES[dtype], None])
    features = {"x": parse_type(dtype)}
    write(tmp_path / "data/first.parquet", rows(3, x=values))
    with project(tmp_path) as store:
        store.apply([view("data", features=features)])
        with served(store) as address:
            push(dial(address), "reading", pa.table(rows(3, x=values)))
        pushed = store.get_online_features(["reading:x"], {"k": [1, 2, 3]}).to_arrow()["x"]
        store.materialize(overwrite=True)
        stored = store.get_online_features(["reading:x"], {"k": [1, 2, 3]}).to_arrow()["x"]
    assert str(pushed) == str(stored)  # as text, because a NaN is unlike itself
    assert pushed.type == values.type


def test_the_tests_own_columns_are_read_as_they_were_written() -> None:
    for dtype, values in VALUES.items():
        column = arrow(dtype, values)
        assert len(read_values(values_of(column), dtype)) == len(column)


WRONG: Final[dict[str, tuple[dict[str, Values], str, str]]] = {
    "no column": ({"k": Values(int64s=[1])}, "ROWS_INVALID", "columns.t"),
    "a null key": (
        {"k": Values(int64s=[1, 0], nulls=b"\0\1"), "t": Values(timestamps_us=[0, 0])},
        "ROWS_INVALID",
        "columns.k[1]",
    ),
    "text for a number": (
        {"k": Values(strings=["a"]), "t": Values(timestamps_us=[0])},
        "ROWS_INVALID",
        "columns.k[0]",
    ),
    "the future": (
        {"k": Values(int64s=[1]), "t": Values(timestamps_us=[2**53])},
        "ROWS_INVALID",
        "columns.t[0]",
    ),
    "two lists in a column": (
        {"k": Values(int64s=[1], strings=["a"])},
        "MESSAGE_MALFORMED",
        "columns.k",
    ),
    "nulls of another length": (
        {"k": Values(int64s=[1], nulls=b"\0\1")},
        "MESSAGE_MALFORMED",
        "columns.k",
    ),
    "no decimal": (
        {"k": Values(int64s=[1]), "x": Values(decimals=["one"])},
        "MESSAGE_MALFORMED",
        "columns.x[0]",
    ),
    "lists that do not add up": (
        {"x": Values(lists=Lists(lengths=[3], elements=Values(int64s=[1])))},
        "MESSAGE_MALFORMED",
        "columns.x",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_told_by_column_and_row(
    case: str, store: FeatureStore, dial: Dial
) -> None:
    columns, reason, field = WRONG[case]
    count = max(len(values.nulls) or 1 for values in columns.values())
    columns = {"x": Values(float64s=[1.0] * count), **columns}
    request = PushRequest(view="reading", columns=columns)
    with served(store) as address:
        failure = fails(lambda: WritingServiceStub(dial(address)).Push(request, timeout=20))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (failure.reason, failure.fields) == (reason, [field])
    assert _looked_up(store, 1) == [None]


def test_columns_of_different_lengths_are_refused(store: FeatureStore, dial: Dial) -> None:
    columns: dict[str, Any] = {"k": Values(int64s=[1, 2]), "t": Values(timestamps_us=[0])}
    request = PushRequest(view="reading", columns=columns | {"x": Values(float64s=[1])})
    with served(store) as address:
        failure = fails(lambda: WritingServiceStub(dial(address)).Push(request, timeout=20))
    assert failure.reason == "ROWS_INVALID"
    assert "equally long" in failure.message


def test_a_source_that_cannot_grow_is_said_without_its_path(tmp_path: Path, dial: Dial) -> None:
    write(tmp_path / "secret.parquet", rows(1))
    with project(tmp_path) as store:
        store.apply([view("secret.parquet")])
        with served(store) as address:
            failure = fails(lambda: push(dial(address), "reading", pa.table(rows(1)), append=True))
    assert failure.reason == "SOURCE_NOT_APPENDABLE"
    assert "secret" not in failure.everything


def test_an_unknown_view_is_not_found(store: FeatureStore, dial: Dial) -> None:
    with served(store) as address:
        failure = fails(lambda: push(dial(address), "readin", pa.table(rows(1))))
    assert failure.reason == "FEATURE_VIEW_NOT_FOUND"
    assert "'reading'" in failure.message

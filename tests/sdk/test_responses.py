"""What a reply is to Python, Arrow, Polars, pandas and numpy."""

from datetime import UTC, date, datetime
from decimal import Decimal
from math import isnan, nan
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from featurestore_protos.v1.serving_pb2 import (
    EntityColumn,
    FeatureColumn,
    GetOnlineFeaturesResponse,
    ViewTimes,
)
from featurestore_protos.v1.values_pb2 import Lists, Values
from featurestore_sdk import OnlineFeatures, Status

NULL = b"\0\1"
PRESENT_AND_NULL = b"\1\2"

# dtype, the message of a value and a null, the value in Python, the Arrow type.
TYPES: list[tuple[str, Values, Any, pa.DataType]] = [
    ("bool", Values(bools=[True, False], nulls=NULL), True, pa.bool_()),
    ("int8", Values(int32s=[-128, 0], nulls=NULL), -128, pa.int8()),
    ("int16", Values(int32s=[-(2**15), 0], nulls=NULL), -(2**15), pa.int16()),
    ("int32", Values(int32s=[-(2**31), 0], nulls=NULL), -(2**31), pa.int32()),
    ("int64", Values(int64s=[2**53 + 1, 0], nulls=NULL), 2**53 + 1, pa.int64()),
    ("uint8", Values(uint32s=[255, 0], nulls=NULL), 255, pa.uint8()),
    ("uint16", Values(uint32s=[2**16 - 1, 0], nulls=NULL), 2**16 - 1, pa.uint16()),
    ("uint32", Values(uint32s=[2**32 - 1, 0], nulls=NULL), 2**32 - 1, pa.uint32()),
    ("uint64", Values(uint64s=[2**64 - 1, 0], nulls=NULL), 2**64 - 1, pa.uint64()),
    ("float32", Values(float32s=[0.1, 0], nulls=NULL), float(np.float32(0.1)), pa.float32()),
    ("float64", Values(float64s=[5e-324, 0], nulls=NULL), 5e-324, pa.float64()),
    ("string", Values(strings=["ü\0", ""], nulls=NULL), "ü\0", pa.string()),
    ("binary", Values(binaries=[b"\0\xff", b""], nulls=NULL), b"\0\xff", pa.binary()),
    (
        "decimal128(38, 2)",
        Values(decimals=["123456789012345678901234567890123456.78", "0"], nulls=NULL),
        Decimal("123456789012345678901234567890123456.78"),
        pa.decimal128(38, 2),
    ),
    ("date32", Values(dates=[-719162, 0], nulls=NULL), date(1, 1, 1), pa.date32()),
    (
        "timestamp[us, UTC]",
        Values(timestamps_us=[-1, 0], nulls=NULL),
        datetime(1969, 12, 31, 23, 59, 59, 999999, UTC),
        pa.timestamp("us", "UTC"),
    ),
    (
        "list<float32>",
        Values(
            lists=Lists(lengths=[2, 0], elements=Values(float32s=[0, 0.5], nulls=b"\1\0")),
            nulls=NULL,
        ),
        [None, 0.5],
        pa.list_(pa.float32()),
    ),
    ("list<string>", Values(lists=Lists(lengths=[0, 0]), nulls=NULL), [], pa.list_(pa.string())),
    (
        "list<decimal128(5, 2)>",
        Values(lists=Lists(lengths=[1, 0], elements=Values(decimals=["1.50"])), nulls=NULL),
        [Decimal("1.50")],
        pa.list_(pa.decimal128(5, 2)),
    ),
    (
        "list<date32>",
        Values(lists=Lists(lengths=[1, 0], elements=Values(dates=[1])), nulls=NULL),
        [date(1970, 1, 2)],
        pa.list_(pa.date32()),
    ),
    (
        "list<timestamp[us, UTC]>",
        Values(lists=Lists(lengths=[1, 0], elements=Values(timestamps_us=[5])), nulls=NULL),
        [datetime(1970, 1, 1, 0, 0, 0, 5, UTC)],
        pa.list_(pa.timestamp("us", "UTC")),
    ),
]


def _reply(*features: FeatureColumn) -> OnlineFeatures:
    return OnlineFeatures(
        GetOnlineFeaturesResponse(
            project="shop",
            revision=7,
            request_timestamp_us=1_000_000,
            entities=[EntityColumn(name="id", dtype="int64", values=Values(int64s=[2, 1]))],
            features=features,
            views=[ViewTimes(name="items", event_timestamps_us=[5, 0], found=b"\1\0")],
        )
    )


@pytest.fixture(params=TYPES, ids=[case[0] for case in TYPES])
def typed(request: pytest.FixtureRequest) -> tuple[OnlineFeatures, Any, pa.DataType]:
    dtype, values, expected, arrow = request.param
    column = FeatureColumn(name="f", dtype=dtype, values=values, statuses=PRESENT_AND_NULL)
    return _reply(column), expected, arrow


Typed = tuple[OnlineFeatures, Any, pa.DataType]


def test_a_value_and_a_null_in_python(typed: Typed) -> None:
    reply, expected, _ = typed
    assert reply.to_dict() == {"id": [2, 1], "f": [expected, None]}
    assert reply.to_rows() == [{"id": 2, "f": expected}, {"id": 1, "f": None}]


def test_a_value_and_a_null_in_arrow(typed: Typed) -> None:
    reply, expected, arrow = typed
    table = reply.to_arrow()
    table.validate(full=True)
    assert table.schema == pa.schema({"id": pa.int64(), "f": arrow})
    assert table.to_pydict() == {"id": [2, 1], "f": [expected, None]}


def test_a_value_and_a_null_in_polars(typed: Typed) -> None:
    reply, expected, _ = typed
    frame = reply.to_polars()
    assert frame.to_dict(as_series=False) == {"id": [2, 1], "f": [expected, None]}
    assert frame.schema == pl.DataFrame(reply.to_arrow()).schema


def test_a_value_and_a_null_in_pandas(typed: Typed) -> None:
    reply, _, arrow = typed
    frame = reply.to_pandas()
    assert list(frame.columns) == ["id", "f"]
    assert frame["f"].dtype == pd.ArrowDtype(arrow)
    assert frame["f"].isna().tolist() == [False, True]


def _feature(name: str, dtype: str, values: Values, statuses: bytes = b"\1\1") -> FeatureColumn:
    return FeatureColumn(name=name, dtype=dtype, values=values, statuses=statuses)


def test_numbers_become_a_matrix_with_nan_for_null() -> None:
    reply = _reply(
        _feature("a", "float64", Values(float64s=[1.5, 0], nulls=NULL), PRESENT_AND_NULL),
        _feature("b", "int64", Values(int64s=[3, 4])),
        _feature("c", "bool", Values(bools=[True, False])),
        _feature("d", "decimal128(5, 2)", Values(decimals=["1.25", "-2.50"])),
    )
    matrix = reply.to_numpy()
    assert matrix.dtype == np.float64
    np.testing.assert_array_equal(matrix, [[1.5, 3, 1, 1.25], [nan, 4, 0, -2.5]])
    single = reply.to_numpy(["b", "a"], dtype="float32")
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, [[3, 1.5], [4, nan]])


def test_a_matrix_holds_no_text() -> None:
    reply = _reply(_feature("name", "string", Values(strings=["a", "b"])))
    with pytest.raises(TypeError, match="'name' is a string"):
        reply.to_numpy()


def test_a_matrix_of_what_is_not_there_is_refused() -> None:
    reply = _reply(_feature("a", "float64", Values(float64s=[1, 2])))
    with pytest.raises(KeyError, match="b"):
        reply.to_numpy(["b"])


def test_a_nan_is_no_null() -> None:
    reply = _reply(_feature("a", "float64", Values(float64s=[nan, 1])))
    assert isnan(reply.to_dict()["a"][0])
    assert reply.to_arrow()["a"].null_count == 0
    assert reply.to_polars()["a"].null_count() == 0


def test_what_is_known_about_the_values() -> None:
    reply = _reply(_feature("a", "float64", Values(float64s=[1, 0], nulls=NULL), b"\1\4"))
    assert reply.statuses == {"a": [Status.PRESENT, Status.OUTSIDE_MAX_AGE]}
    assert reply.event_timestamps == {"items": [datetime(1970, 1, 1, 0, 0, 0, 5, UTC), None]}
    assert reply.request_timestamp == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert reply.feature_views == {"a": "items"}
    assert reply.dtypes == {"id": "int64", "a": "float64"}
    assert (reply.project, reply.revision, len(reply)) == ("shop", 7, 2)
    assert (reply.entity_names, reply.feature_names) == (("id",), ("a",))
    assert repr(reply).startswith("<OnlineFeatures: 2 entities x 1 features of shop")


def test_statuses_and_event_times_beside_the_values() -> None:
    reply = _reply(_feature("a", "float64", Values(float64s=[1, 0], nulls=NULL), PRESENT_AND_NULL))
    assert reply.to_dict(include_statuses=True, include_event_timestamps=True) == {
        "id": [2, 1],
        "a": [1.0, None],
        "a__status": ["PRESENT", "NULL_VALUE"],
        "a__event_timestamp": [datetime(1970, 1, 1, 0, 0, 0, 5, UTC), None],
    }


def test_a_date_that_python_lacks_is_in_arrow() -> None:
    reply = _reply(_feature("a", "date32", Values(dates=[2**31 - 1, 0])))
    with pytest.raises(OverflowError):
        reply.to_dict()
    assert reply.to_arrow()["a"].cast(pa.int32()).to_pylist() == [2**31 - 1, 0]

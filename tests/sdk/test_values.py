"""Between lists of Python values and messages."""

import enum
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from featurestore_protos.v1.values_pb2 import Values
from featurestore_sdk import InvalidRequestError
from featurestore_sdk.values import encode
from hypothesis import given
from hypothesis import strategies as st


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("column", "field", "expected"),
    [
        ([1, -(2**63), 2**63 - 1], "int64s", [1, -(2**63), 2**63 - 1]),
        ([0, 2**64 - 1], "uint64s", [0, 2**64 - 1]),
        ([1.5, float("inf")], "float64s", [1.5, float("inf")]),
        ([1, 2.5], "float64s", [1.0, 2.5]),
        ([True, False], "bools", [True, False]),
        (["", "ü\0"], "strings", ["", "ü\0"]),
        ([b"", b"\0"], "binaries", [b"", b"\0"]),
        ([date(1970, 1, 2), date(1, 1, 1)], "dates", [1, -719162]),
        ([Decimal("1E+2"), Decimal("-0.10")], "decimals", ["100", "-0.10"]),
        ([datetime.fromisoformat("1970-01-01T00:00:00.000005")], "timestamps_us", [5]),
        (
            [datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=1)))],
            "timestamps_us",
            [-3_600_000_000],
        ),
        ([np.int64(3), 4], "int64s", [3, 4]),
        ([np.float32(0.5)], "float64s", [0.5]),
        ([np.array([True])[0]], "bools", [True]),
        ([np.str_("a")], "strings", ["a"]),
        ([np.datetime64("1970-01-01T00:00:00.000005999", "ns")], "timestamps_us", [5]),
        ([np.datetime64("1970-01-02")], "dates", [1]),
        ([pd.Timestamp(5_999, tz=UTC)], "timestamps_us", [5]),
        ([Colour.RED], "strings", ["red"]),
        ([Level.HIGH], "int64s", [3]),
    ],
)
def test_the_type_follows_from_the_values(
    column: list[Any], field: str, expected: list[Any]
) -> None:
    message = encode("key", column)
    assert [descriptor.name for descriptor, _ in message.ListFields()] == [field]
    assert list(getattr(message, field)) == expected


@pytest.mark.parametrize("value", [7, 2**63, 1.5, True, "a", b"a", date(2024, 3, 5), Decimal(1)])
def test_none_is_marked_and_leaves_the_other_values_alone(value: Any) -> None:
    message = encode("key", [None, value])
    assert message.nulls == b"\1\0"
    plain = encode("key", [value])
    [(descriptor, values)] = plain.ListFields()
    assert getattr(message, descriptor.name)[1] == values[0]


def test_a_column_of_none_has_no_type() -> None:
    assert encode("key", [None, None]) == Values(nulls=b"\1\1")


def test_what_pandas_writes_for_missing_is_null() -> None:
    assert encode("key", [pd.NA, 7]) == encode("key", [None, 7])
    assert encode("key", [pd.NaT]) == Values(nulls=b"\1")


def test_an_empty_column_is_an_empty_message() -> None:
    assert encode("key", []) == Values()


@pytest.mark.parametrize(
    ("column", "row"),
    [
        ([1, "a"], 1),
        ([True, 1], 1),
        ([None, 1, None, True], 3),
        (["a", b"a"], 1),
        ([date(2024, 3, 5), datetime(2024, 3, 5, tzinfo=UTC)], 1),
        ([1, uuid4()], 1),
        ([[1]], 0),
        ([np.longdouble(1)], 0),
    ],
)
def test_values_without_a_common_type_are_refused_by_row(column: list[Any], row: int) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        encode("key", column)
    assert [v.field for v in caught.value.violations] == [f"entities.key[{row}]"]


@pytest.mark.parametrize(
    "column",
    [[2**64], [-1, 2**63], [-(2**63) - 1], [2**53 + 1, 0.5], ["\ud800"], [Decimal("NaN")]],
)
def test_values_that_no_type_holds_are_refused(column: list[Any]) -> None:
    with pytest.raises(InvalidRequestError, match="'key' cannot be sent") as caught:
        encode("key", column)
    assert [v.field for v in caught.value.violations] == ["entities.key"]


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)))
def test_integers_survive(column: list[int | None]) -> None:
    message = Values.FromString(encode("key", column).SerializeToString())
    nulls = message.nulls or bytes(len(column))
    values = message.int64s or [0] * len(column)
    assert [None if null else v for v, null in zip(values, nulls, strict=True)] == column

"""What callers may pass as entities, and what becomes of it."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from featurestore_sdk import InvalidRequestError
from featurestore_sdk.entities import columns_of

COLUMNS = {"user_id": [3, 1, 1], "country": ["AT", None, "CH"]}


@pytest.mark.parametrize(
    "make",
    [
        dict,
        lambda columns: [
            dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
        ],
        pa.table,
        lambda columns: pa.table(columns).to_reader(),
        pl.DataFrame,
        pl.LazyFrame,
        lambda columns: pd.DataFrame(columns, dtype=object),
        lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    ],
    ids=["dict", "rows", "arrow", "arrow_reader", "polars", "lazy", "pandas", "pandas_arrow"],
)
def test_every_form_of_entities_means_the_same(make: Callable[[Any], Any]) -> None:
    assert columns_of(make(COLUMNS)) == COLUMNS


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        (np.array([2**62, 1]), [2**62, 1]),
        (np.array(["a", "bc"]), ["a", "bc"]),
        (np.array(["2024-03-05"], "datetime64[D]"), [date(2024, 3, 5)]),
        (
            np.array(["2024-03-05T01:02:03.000000999"], "datetime64[ns]"),
            [datetime.fromisoformat("2024-03-05T01:02:03")],
        ),
        (pd.Series([1.0, float("nan")]), [1.0, None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pl.Series([1, None]), [1, None]),
        (pa.array([1, None]), [1, None]),
        (pa.chunked_array([[1], [None]]), [1, None]),
        (
            pa.array([-1], pa.timestamp("ns", "UTC")),
            [datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)],
        ),
        (pa.array([1_999], pa.timestamp("ns", "UTC")), [datetime(1970, 1, 1, 0, 0, 0, 1, UTC)]),
    ],
)
def test_a_column_may_be_of_any_library(column: Any, expected: list[Any]) -> None:
    found = columns_of({"key": column})["key"]
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_a_nan_outside_pandas_is_a_value() -> None:
    [value] = columns_of({"key": [float("nan")]})["key"]
    assert value != value  # noqa: PLR0124 - only a NaN is unlike itself


def test_rows_with_different_keys_are_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match=r"entities\[1\].*'country'") as caught:
        columns_of([{"user_id": 1, "country": "AT"}, {"user_id": 2}])
    assert caught.value.violations[0].field == "entities.country[1]"


@pytest.mark.parametrize("entities", ["user_id", 42, None, [], [1, 2], [["user_id", 1]]])
def test_what_is_no_form_of_entities_is_refused(entities: Any) -> None:
    with pytest.raises(InvalidRequestError):
        columns_of(entities)


@pytest.mark.parametrize("column", ["AT", b"AT", 42, {"a": 1}, None, np.int64(3), pd.Timestamp(0)])
def test_a_single_value_is_no_column(column: Any) -> None:
    with pytest.raises(InvalidRequestError, match="'key' are a single") as caught:
        columns_of({"key": column})
    assert caught.value.violations[0].field == "entities.key"


def test_a_column_whose_name_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="names of columns"):
        columns_of({1: [2]})

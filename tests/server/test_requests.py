"""From messages to columns."""

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from featurestore_protos.v1.serving_pb2 import FeatureList, GetOnlineFeaturesRequest
from featurestore_protos.v1.values_pb2 import Lists, Values
from featurestore_server.errors import LimitExceededError, MalformedMessageError
from featurestore_server.options import Limits
from featurestore_server.requests import read_selection, read_values


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (Values(int32s=[-5]), "int32", [-5]),
        (Values(int64s=[2**62, -1]), "int64", [2**62, -1]),
        (Values(uint32s=[2**32 - 1]), "uint32", [2**32 - 1]),
        (Values(uint64s=[2**64 - 1]), "uint64", [2**64 - 1]),
        (Values(float32s=[0.5]), "float32", [0.5]),
        (Values(float64s=[0.1]), "float64", [0.1]),
        (Values(dates=[19_787]), "datetime64[D]", [date(2024, 3, 5)]),
        (Values(timestamps_us=[5]), "datetime64[us]", np.array([5], "datetime64[us]").tolist()),
    ],
)
def test_values_of_fixed_width_become_an_array(
    values: Values, dtype: str, expected: list[Any]
) -> None:
    column = read_values(values, "key")
    assert isinstance(column, np.ndarray)
    assert (column.dtype, column.tolist()) == (np.dtype(dtype), expected)
    values.nulls = b"\1" + bytes(len(expected) - 1)
    masked = read_values(values, "key")
    assert isinstance(masked, np.ma.MaskedArray)
    assert masked.tolist() == [None, *expected[1:]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (Values(bools=[True, False], nulls=b"\0\1"), [True, None]),
        (Values(strings=["a", ""]), ["a", ""]),
        (Values(strings=["a", ""], nulls=b"\0\1"), ["a", None]),
        (Values(binaries=[b"\0"]), [b"\0"]),
        (Values(decimals=["-1.50", "1e2"]), [Decimal("-1.50"), Decimal("1e2")]),
        (Values(lists=Lists(lengths=[2, 0], elements=Values(int64s=[1, 2]))), [[1, 2], []]),
        (
            Values(lists=Lists(lengths=[1, 0], elements=Values(strings=["a"])), nulls=b"\0\1"),
            [["a"], None],
        ),
        (Values(), []),
        (Values(nulls=b"\1\1"), [None, None]),
    ],
)
def test_other_values_become_a_list(values: Values, expected: list[Any]) -> None:
    assert read_values(values, "key") == expected


@pytest.mark.parametrize(
    ("values", "words", "field"),
    [
        (Values(int64s=[1], strings=["a"]), "several lists: int64s, strings", "key"),
        (Values(int64s=[1, 2], nulls=b"\0"), "2 values and 1 null marks", "key"),
        (Values(nulls=b"\1\0"), "not all of them are null", "key"),
        (Values(decimals=["1", "x"]), "no decimal", "key[1]"),
        (Values(decimals=["1" * 101]), "no decimal", "key[0]"),
        (Values(lists=Lists(lengths=[2], elements=Values(int64s=[1]))), "1 elements", "key"),
        (
            Values(lists=Lists(lengths=[1], elements=Values(lists=Lists(lengths=[0])))),
            "lists of lists",
            "key",
        ),
    ],
)
def test_a_column_that_contradicts_itself_is_refused(
    values: Values, words: str, field: str
) -> None:
    with pytest.raises(MalformedMessageError, match=words) as caught:
        read_values(values, "key")
    assert caught.value.field == field


def test_a_request_names_a_service_or_features() -> None:
    by_service = GetOnlineFeaturesRequest(feature_service="checkout")
    assert read_selection(by_service, Limits()) == "checkout"
    by_name = GetOnlineFeaturesRequest(features=FeatureList(names=["a:b", "a:c"]))
    assert read_selection(by_name, Limits()) == ("a:b", "a:c")


def test_a_request_that_names_nothing_is_refused() -> None:
    with pytest.raises(MalformedMessageError, match="names no features"):
        read_selection(GetOnlineFeaturesRequest(), Limits())


def test_a_request_that_names_too_many_features_is_refused() -> None:
    request = GetOnlineFeaturesRequest(features=FeatureList(names=["a:b", "a:c", "a:d"]))
    assert len(read_selection(request, Limits(max_features=3))) == 3
    with pytest.raises(LimitExceededError, match="names 3 features; 2 are the limit"):
        read_selection(request, Limits(max_features=2))

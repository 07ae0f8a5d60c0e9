"""Values of features and keys as JSON and as text, and back."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.cli.features import feature_request
from featurestore.cli.online import age_text
from featurestore.cli.values import entity_row, entity_value, json_column, text
from featurestore.errors import EntityValueError, RequestError
from featurestore.time import instant_text


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        (pa.int64(), [2**63 - 1, -1, None], ["9223372036854775807", "-1", None]),
        (pa.uint64(), [2**64 - 1], ["18446744073709551615"]),
        (pa.int32(), [7], [7]),
        (pa.bool_(), [True, None], [True, None]),
        (pa.float64(), [0.1, float("nan"), float("inf")], [0.1, "NaN", "Infinity"]),
        (pa.float64(), [float("-inf"), -0.0], ["-Infinity", -0.0]),
        (pa.string(), ["a\x00\n"], ["a\x00\n"]),
        (pa.binary(), [b"\x00\xff", b""], ["AP8=", ""]),
        (pa.date32(), [date(2026, 1, 31)], ["2026-01-31"]),
        (pa.decimal128(5, 2), [Decimal("1.50")], ["1.50"]),
        (pa.list_(pa.int64()), [[1, None], []], [["1", None], []]),
        (pa.list_(pa.float64()), [[float("nan")]], [["NaN"]]),
        (pa.list_(pa.binary()), [[b"a"]], [["YQ=="]]),
        (pa.dictionary(pa.int8(), pa.string()), ["x"], ["x"]),
        (pa.null(), [None], [None]),
    ],
)
def test_a_column_follows_proto3_json(
    dtype: pa.DataType, values: list[Any], expected: list[Any]
) -> None:
    assert json_column(pa.array(values, dtype)) == expected


@pytest.mark.parametrize(
    ("dtype", "ticks", "expected"),
    [
        (pa.timestamp("us", "UTC"), 1, "1970-01-01T00:00:00.000001Z"),
        (pa.timestamp("ns", "UTC"), -1, "1969-12-31T23:59:59.999999999Z"),
        (pa.timestamp("ms", "America/New_York"), 1_500, "1970-01-01T00:00:01.5Z"),
        (pa.timestamp("s"), 86_400, "1970-01-02T00:00:00"),
        (pa.timestamp("s", "UTC"), 2**61, f"{2**61} s since 1970"),
    ],
)
def test_a_time_loses_nothing_whatever_its_unit(
    dtype: pa.DataType, ticks: int, expected: str
) -> None:
    assert json_column(pa.array([ticks, None], pa.int64()).cast(dtype)) == [expected, None]


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_reads_back_as_it_was(instant: datetime) -> None:
    micros = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // (instant.resolution)
    assert datetime.fromisoformat(instant_text(micros, "us", aware=True)) == instant


def test_text_is_json_but_for_strings() -> None:
    assert [text(v) for v in (None, "a", 1.5, True, ["1", None])] == [
        "null",
        "a",
        "1.5",
        "true",
        '["1", null]',
    ]


@pytest.mark.parametrize(
    ("dtype", "written", "value"),
    [
        ("int64", "-42", -42),
        ("uint8", "7", 7),
        ("string", "007", "007"),
        ("string", "", ""),
        ("bool", "True", True),
        ("bool", "false", False),
        ("binary", "AP8=", b"\x00\xff"),
        ("date32", "2026-01-31", date(2026, 1, 31)),
        ("float64", "1.5", 1.5),
        ("decimal128(5, 2)", "1.50", Decimal("1.50")),
        ("timestamp[us, UTC]", "2026-01-31T01:00:00+01:00", datetime(2026, 1, 31, tzinfo=UTC)),
        (None, "as it is", "as it is"),
        ("int64", 42, 42),
        ("int64", None, None),
    ],
)
def test_what_is_written_becomes_a_value_of_the_keys_type(
    dtype: str | None, written: object, value: object
) -> None:
    assert entity_value(written, dtype, field="k", row=0) == value


@pytest.mark.parametrize(
    ("dtype", "written"),
    [
        ("int64", "1.5"),
        ("int64", ""),
        ("bool", "yes"),
        ("binary", "%"),
        ("date32", "31.1.2026"),
        ("float32", "x"),
        ("decimal128(5, 2)", "x"),
        ("timestamp[us, UTC]", "now"),
    ],
)
def test_what_is_no_value_of_the_keys_type_is_refused_by_name(dtype: str, written: str) -> None:
    with pytest.raises(EntityValueError, match="in entity 3 is not of type") as caught:
        entity_value(written, dtype, field="k", row=3)
    assert (caught.value.field, caught.value.row) == ("k", 3)


@pytest.mark.parametrize(
    ("argument", "entity"),
    [
        ("user_id=42", {"user_id": 42}),
        ("user_id=42,name=a=b", {"user_id": 42, "name": "a=b"}),
        ('{"user_id": "42", "name": "a,b"}', {"user_id": 42, "name": "a,b"}),
        ('  {"user_id": 42}', {"user_id": 42}),
        ("", {}),
        ("{}", {}),
    ],
)
def test_an_entity_is_written_as_pairs_or_as_json(argument: str, entity: dict[str, object]) -> None:
    assert entity_row(argument, {"user_id": "int64", "name": "string"}, row=0) == entity


@pytest.mark.parametrize("argument", ["user_id", "=1", "a=1,", "{", '{"a": 1} x', "{" * 99_999])
def test_what_is_no_entity_is_refused(argument: str) -> None:
    with pytest.raises(RequestError, match="--entity"):
        entity_row(argument, {}, row=0)


@pytest.mark.parametrize(
    ("arguments", "request_"),
    [
        (["scoring"], "scoring"),
        (["v:a"], ["v:a"]),
        (["v:a,w:b"], ["v:a", "w:b"]),
        (["v:a", "w:b, w:c"], ["v:a", "w:b", "w:c"]),
        (["v:a,b"], ["v:a,b"]),
        (["one,two"], ["one", "two"]),
        ([""], []),
    ],
)
def test_features_are_a_service_or_references(
    arguments: list[str], request_: str | list[str]
) -> None:
    assert feature_request(arguments) == request_


@pytest.mark.parametrize(
    ("micros", "said"),
    [
        (250_000, "250ms"),
        (12_999_999, "12s"),
        (125 * 10**6, "2m 5s"),
        (3_600 * 10**6, "1h"),
        (93_784 * 10**6, "1d 2h"),
        (-5 * 10**6, "-5s"),
        (0, "0ms"),
    ],
)
def test_an_age_is_told_in_its_two_largest_units(micros: int, said: str) -> None:
    assert age_text(micros) == said

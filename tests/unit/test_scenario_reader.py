"""Scenario files say what they mean, or are refused with a place."""

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from featurestore.errors import FeatureStoreError
from featurestore.testing.oracle_runner import OracleRunner
from featurestore.testing.plain import (
    PlainTable,
    RawTime,
    difference,
    from_array,
    parse_physical,
    parse_time,
    same_value,
    to_array,
)
from featurestore.testing.runners import play
from featurestore.testing.scenarios import ScenarioError, read_scenario
from featurestore.testing.text_tables import TextTableError, read_table, split_row

SCENARIO = """
name = "A row answers."
day = "2024-03-05"
[entities.user]
user_id = "int64"
[sources.profiles]
timestamp_field = "at"
[sources.profiles.files]
"a.parquet" = '''
user_id: int64 | at: time | score: float64
1              | 10:00    | 1.5
'''
[views.profile]
entities = ["user"]
source = "profiles"
schema = { score = "float64" }
[[step]]
train = ["profile:score"]
rows = '''
user_id: int64 | event_timestamp: time || score: float64
1              | 11:00                 || 1.5
'''
[[step]]
materialize = { end = "12:00Z" }
[[step]]
look_up = ["profile:score"]
rows = '''
user_id: int64 || score: float64 | @profile: time
1              || 1.5            | 10:00
2              || NOT_FOUND      | null
'''
[[step]]
train = ["profile:scores"]
error = { type = "NotFoundError", words = ["scores"] }
rows = '''
user_id: int64 | event_timestamp: time
1              | 11:00
'''
"""


def play_text(text: str, folder: Path) -> None:
    path = folder / "scenario.toml"
    path.write_text(text, encoding="utf-8")
    play(read_scenario(path), OracleRunner())


def test_a_scenario_that_is_right_passes(tmp_path: Path) -> None:
    play_text(SCENARIO, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("|| 1.5\n'''\n[[step]]\nmat", "|| 1.25\n'''\n[[step]]\nmat", "expected 1.25"),
        ("|| score: float64\n1", "|| score: float32\n1", "expected float"),
        ("11:00                 || 1.5", "09:00                 || 1.5", "expected 1.5"),
        ("|| 1.5            | 10:00", "|| NULL_VALUE     | 10:00", "expected None"),
        ("|| NOT_FOUND ", "|| OUTSIDE_MAX_AGE ", "OUTSIDE_MAX_AGE"),
        ("|| 1.5            | 10:00", "|| 1.5            | 10:01", "event times of 'profile'"),
        ('["scores"]', '["scores", "did you mean \'name\'"]', "does not say"),
        ('"NotFoundError"', '"SpineError"', "scores"),
        ('train = ["profile:scores"]', 'train = ["profile:score"]', "no error"),
    ],
)
def test_a_scenario_that_is_wrong_fails_and_says_why(
    tmp_path: Path, right: str, wrong: str, says: str
) -> None:
    assert SCENARIO.count(right) == 1
    with pytest.raises((AssertionError, FeatureStoreError)) as caught:
        play_text(SCENARIO.replace(right, wrong), tmp_path)
    notes = " ".join(getattr(caught.value, "__notes__", []))
    assert says in f"{caught.value} {notes}"
    assert "scenario, step" in notes


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("name =", "nam =", "the scenario has no nam"),
        ("timestamp_field", "time_field", "there is no argument time_field"),
        ('materialize = { end = "12:00Z" }', "", "needs exactly one of"),
        ('{ end = "12:00Z" }', '{ end = "12:00" }', "needs an offset"),
        ('{ end = "12:00Z" }', '{ until = "12:00Z" }', "materialize has no until"),
        ("1              | 11:00                 || 1.5", "1 | 11:00 | 1.5", "needs one '||'"),
        ("1              | 11:00                 || 1.5", "1 || 1.5", "has 1 cells for 2 columns"),
        ("|| 1.5            | 10:00", "|| null | 10:00", "write NULL_VALUE"),
        ("| 1.5\n'''\n[views", "| one\n'''\n[views", "'one' is not a value of double"),
        ('source = "profiles"\n', 'source = "profile"\n', "KeyError"),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_with_the_place(
    tmp_path: Path, right: str, wrong: str, says: str
) -> None:
    assert SCENARIO.count(right) == 1
    with pytest.raises(ScenarioError) as caught:
        play_text(SCENARIO.replace(right, wrong), tmp_path)
    assert str(caught.value).startswith("scenario.toml: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01 00:00:00.000000001Z", RawTime(1)),
        ("1969-12-31T23:59:59.999999999", RawTime(-1, aware=False)),
        ("1970-01-01 01:00+01:00", RawTime(0)),
        ("1969-12-31 18:30-05:30", RawTime(0)),
        ("1970-01-02 00:00:00.5", RawTime(86_400_500_000_000, aware=False)),
    ],
)
def test_times_are_exact(text: str, expected: RawTime) -> None:
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text", ["", "12:00", "2024-03-05", "2024-02-30 12:00", "2024-03-05 25:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time|must be in|out of range"):
        parse_time(text)


@pytest.mark.parametrize(
    ("dtype", "cell", "expected"),
    [
        ("int64", "-9223372036854775808", -(2**63)),
        ("string", "null", None),
        ("string", '"null"', "null"),
        ("string", '" a | \\"b\\" "', ' a | "b" '),
        ("string", "it's", "it's"),
        ("binary", "0x00ff", b"\x00\xff"),
        ("bool", "false", False),
        ("float32", "0.1", 0.10000000149011612),
        ("float64", "-0.0", -0.0),
        ("decimal128(5, 2)", "1.5", Decimal("1.50")),
        ("list<string>", '["a", null, "NaN"]', ["a", None, "NaN"]),
        ("list<float64>", "[NaN, 1]", [float("nan"), 1.0]),
        ("list<decimal128(5, 2)>", '["1.5"]', [Decimal("1.50")]),
        (
            "timestamp[ns]",
            "2024-03-05 00:00:00.000000001",
            RawTime(1_709_596_800_000_000_001, aware=False),
        ),
        ("timestamp[s, America/New_York]", "1969-12-31 19:00-05:00", RawTime(0)),
    ],
)
def test_a_cell_is_read_by_the_type_of_its_column(dtype: str, cell: str, expected: object) -> None:
    table = read_table(f"x: {dtype}\n{cell}")
    assert same_value(table.rows[0]["x"], expected)
    assert table.to_arrow().schema.field("x").type == parse_physical(dtype)


@pytest.mark.parametrize(
    ("dtype", "cell"),
    [
        ("int64", "1.5"),
        ("bool", "yes"),
        ("binary", "ff"),
        ("timestamp[us]", "2024-03-05 12:00Z"),
        ("timestamp[us, America/New_York]", "2024-03-05 12:00"),
        ("date32", "2024-02-30"),
        ("string", '"open'),
    ],
)
def test_a_cell_that_its_column_cannot_hold_is_refused(dtype: str, cell: str) -> None:
    with pytest.raises(TextTableError):
        read_table(f"x: {dtype}\n{cell}")


def test_bars_split_cells_and_double_bars_split_sides() -> None:
    assert split_row(' a | "b | c" || d ') == [["a", '"b | c"'], ["d"]]
    assert split_row("|| d | e") == [[], ["d", "e"]]
    assert split_row("a | | b") == [["a", "", "b"]]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (None, float("nan")),
        ("a", b"a"),
        ([], None),
        ([1], [1, None]),
        (RawTime(0), RawTime(0, aware=False)),
    ],
)
def test_values_that_only_seem_equal_differ(left: object, right: object) -> None:
    assert not same_value(left, right)
    assert same_value(left, left)
    assert same_value(right, right)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (pa.table({"b": [1, 2]}), "columns are ['b']"),
        (pa.table({"a": pa.array([1, 2], pa.int32())}), "column 'a' is int32"),
        (pa.table({"a": [1]}), "1 rows, expected 2"),
        (pa.table({"a": [2, 1]}), "row 0, column 'a' is 2, expected 1"),
        (pa.table({"a": [1, None]}), "row 1, column 'a' is None, expected 2"),
    ],
)
def test_tables_differ_by_name_type_number_order_and_value(found: pa.Table, says: str) -> None:
    expected = pa.table({"a": [1, 2]})
    assert difference(expected, expected) is None
    assert says in str(difference(found, expected))


def test_plain_values_survive_arrow() -> None:
    values = [RawTime(1_000), None, RawTime(-1_000)]
    assert from_array(to_array(values, pa.timestamp("us", tz="UTC"))) == values
    nested = [[RawTime(1_000)], [], None, [None]]
    assert from_array(to_array(nested, pa.list_(pa.timestamp("us", tz="UTC")))) == nested
    with pytest.raises(ValueError, match="cannot be held"):
        to_array([RawTime(1)], pa.timestamp("us", tz="UTC"))


def test_a_table_without_columns_still_has_rows() -> None:
    assert len(PlainTable({}, [{}, {}]).rows) == 2


WINDOWS = """
name = "Windows."
day = "2024-03-05"
[sources.payments]
timestamp_field = "at"
[sources.payments.files]
"a.parquet" = '''
user_id: int64 | at: time | x: int64
1              | 10:00    | 5
'''
[entities.user]
user_id = "int64"
[views.spend]
entities = ["user"]
source = "payments"
aggregations = [{ column = "x", functions = ["count", "sum"], windows = ["1h", "all"] }]
[services]
spend = ["spend"]
[[step]]
materialize = { end = "11:30Z" }
[[step]]
look_up = "spend"
rows = '''
user_id: int64 || x_count_1h: int64 | x_count_all: int64 | x_sum_1h: int64 | x_sum_all: int64
1              || 0                 | 1                  | NULL_VALUE      | 5
2              || NOT_FOUND 0       | NOT_FOUND 0        | NOT_FOUND       | NOT_FOUND
'''
"""


def test_a_scenario_of_windows_that_is_right_passes(tmp_path: Path) -> None:
    play_text(WINDOWS, tmp_path)


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ("|| NOT_FOUND 0 ", "|| NOT_FOUND 1 ", "expected 1"),
        ("|| NOT_FOUND 0 ", "|| NOT_FOUND ", "expected None"),
        ("|| NOT_FOUND 0 ", "|| 0 ", "statuses of 'x_count_1h'"),
        ("| NULL_VALUE ", "| NOT_FOUND ", "statuses of 'x_sum_1h'"),
    ],
)
def test_a_scenario_of_windows_that_is_wrong_fails_and_says_why(
    tmp_path: Path, right: str, wrong: str, says: str
) -> None:
    assert WINDOWS.count(right) == 1
    with pytest.raises(AssertionError, match=says):
        play_text(WINDOWS.replace(right, wrong), tmp_path)


def test_an_aggregation_that_breaks_a_rule_is_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"scenario\.toml.*no aggregate function"):
        play_text(WINDOWS.replace('"sum"', '"summ"'), tmp_path)

"""The oracle's windows say what was worked out by hand."""

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation
from featurestore.errors import RequestError, SumOverflowError
from featurestore.testing.offline_cases import DAY, history
from featurestore.testing.oracle import OnlineOracle, historical
from featurestore.testing.oracle_rows import Mode, read_source
from featurestore.testing.oracle_windows import Cell, window_cells, with_types_of
from featurestore.testing.plain import RawTime, parse_time, same_value
from featurestore.testing.predicates import holds
from featurestore.testing.text_tables import read_table
from featurestore.testing.window_cases import ExpectedWindows, is_as_good, window_difference

HEADER = "user_id: int64 | at: time | created: time | x: {}\n"
ROWS = """
user_id: int64 | at: time | created: time | x: int64 | state: string
1              | 10:00    | 10:05         | 1        | ok
1              | 11:00    | 11:30         | null     | ok
1              | 12:00    | null          | 4        | null
1              | 12:00    | 12:05         | 2        | bad
2              | 11:00    | 11:00         | 7        | ok
null           | 11:00    | 11:00         | 100      | ok
1              | null     | 11:00         | 100      | ok
"""


def us(clock: str) -> int:
    return parse_time(clock + "Z", day=DAY).ns // 1_000


def cells(
    rows: str, aggregation: Aggregation, at: str | None, *, key: int | None = 1, mode: Mode
) -> list[Cell]:
    of = history(rows, aggregations=[aggregation])
    view = with_types_of(of.view, of.files)
    read = read_source(view, of.rows)
    at_us = None if at is None else us(at)
    found = window_cells(view, read, None if key is None else (key,), at_us, mode=mode)
    return list(found.values())


def answers(
    aggregation: Aggregation,
    at: str | None,
    *,
    rows: str = ROWS,
    key: int | None = 1,
    mode: Mode = "complete",
) -> list[object]:
    return [cell.value for cell in cells(rows, aggregation, at, key=key, mode=mode)]


def of_values(values: Sequence[str], dtype: str, *functions: str) -> list[Cell]:
    """Return functions of these values, one a minute from 10:00 on, as the day ends."""
    lines = [f"1 | 10:{n:02} | null | {value}" for n, value in enumerate(values)]
    rows = HEADER.format(dtype) + "\n".join(lines)
    return cells(rows, Aggregation("x", functions, [None]), "23:59", mode="complete")


def values_of(values: Sequence[str], dtype: str, *functions: str) -> list[object]:
    return [cell.value for cell in of_values(values, dtype, *functions)]


def count(closed: Any, window: str | None, at: str) -> object:
    (found,) = answers(Aggregation("*", ["count"], [window], closed=closed), at)
    return found


@pytest.mark.parametrize(
    ("closed", "expected"),
    [
        ("left", [1, 1, 1, 2]),
        ("right", [1, 0, 2, 3]),
        ("both", [2, 1, 3, 4]),
        ("neither", [0, 0, 0, 1]),
    ],
)
def test_closed_says_which_ends_belong_to_a_window(closed: Any, expected: list[int]) -> None:
    found = [
        count(closed, "1h", "11:00"),  # one row at either end
        count(closed, "30m", "11:30"),  # one at the start
        count(closed, "1h", "12:00"),  # one at the start, two at the end
        count(closed, "2h", "12:00"),  # and one inside
    ]
    assert found == expected


@pytest.mark.parametrize(
    ("closed", "counted"), [("left", 0), ("neither", 0), ("right", 1), ("both", 1)]
)
def test_the_end_of_all_history_follows_closed(closed: Any, counted: int) -> None:
    assert count(closed, None, "09:59:59.999999") == 0
    assert count(closed, None, "10:00") == counted
    assert count(closed, None, "10:00:00.000001") == 1


def test_a_row_leaves_a_window_to_the_microsecond() -> None:
    found = {
        closed: [count(closed, "1h", at) for at in ("10:59:59.999999", "11:00", "11:00:00.000001")]
        for closed in ("left", "right")
    }
    # At 11:00 the row of 10:00 leaves on the right-closed side just as that of 11:00 comes.
    assert found == {"left": [1, 1, 1], "right": [1, 1, 1]}
    assert count("left", "30m", "10:30") == 1
    assert count("left", "30m", "10:30:00.000001") == 0
    assert count("right", "30m", "10:29:59.999999") == 1
    assert count("right", "30m", "10:30") == 0


def test_nulls_are_skipped_but_rows_are_counted() -> None:
    assert answers(Aggregation("x", ["count", "sum"], [None]), "11:30") == [1, 1]
    assert answers(Aggregation("*", ["count"], [None]), "11:30") == [2]


def test_rows_without_a_value_leave_a_window_as_empty_as_no_rows() -> None:
    wanted = Aggregation("x", ["count", "sum", "last", "last_2"], ["30m"])
    assert answers(wanted, "11:15") == [0, None, None, None]
    assert answers(wanted, "09:00") == [0, None, None, None]


def test_an_empty_window_has_what_empty_says() -> None:
    wanted = Aggregation("x", ["count", "sum", "mean"], ["30m"], empty=-1)
    expected: list[object] = [-1, -1, -1.0]
    assert all(map(same_value, answers(wanted, "11:15"), expected))
    assert all(map(same_value, answers(wanted, None), expected))
    assert all(map(same_value, answers(wanted, "12:15", key=3), expected))
    assert all(map(same_value, answers(wanted, "12:15", key=None), expected))


def test_a_predicate_that_is_null_does_not_hold() -> None:
    wanted = Aggregation("*", ["count"], [None], where="state <> 'ok'", name="odd")
    assert answers(wanted, "13:00") == [1]
    assert answers(wanted.model_copy(update={"where": "NOT (state = 'ok')"}), "13:00") == [1]


def test_ties_are_broken_by_created_time_then_ordinal() -> None:
    wanted = Aggregation("x", ["first", "last", "last_2", "first_2", "last_9"], [None])
    # At 12:00 the 4 has no created time, so it is the older row.
    assert answers(wanted, "13:00") == [1, 2, [2, 4], [1, 4], [2, 4, 1]]


def test_as_served_counts_rows_created_by_then() -> None:
    wanted = Aggregation("*", ["count"], [None])
    times = ["10:04:59.999999", "10:05", "11:29", "11:30", "12:05", "23:00"]
    found = [answers(wanted, at, mode="as_served") for at in times]
    assert found == [[0], [1], [1], [2], [3], [3]]
    assert answers(wanted, "23:00") == [4]


def test_as_served_the_ends_of_a_window_count_too() -> None:
    wanted = Aggregation("x", ["sum"], ["1h"])
    rows = HEADER.format("int64") + "1 | 10:00 | 10:00 | 5\n1 | 11:00 | 10:00 | 6"
    assert answers(wanted, "11:00", rows=rows, mode="as_served") == [5]
    assert answers(wanted, "11:00:00.000001", rows=rows, mode="as_served") == [6]


def test_var_and_stddev_are_those_of_a_sample() -> None:
    assert values_of(["1", "3", "5"], "int64", "mean", "var", "stddev") == [3.0, 4.0, 2.0]
    assert values_of(["7"], "float64", "mean", "var", "stddev") == [7.0, None, None]
    assert values_of(["nan"], "float64", "var") == [None]
    assert values_of(["0.1", "0.1", "0.1"], "float64", "var", "stddev") == [0.0, 0.0]
    shifted = [str(10**15 + n) for n in (1, 3, 5)]
    assert values_of(shifted, "float64", "var", "stddev") == [4.0, 2.0]


def test_percentiles_are_linear_between_neighbours() -> None:
    assert values_of(["4", "1", "2"], "int64", "median", "p25", "p0", "p100") == [2.0, 1.5, 1, 4]
    assert values_of(["10", "20"], "int8", "p95", "median") == [10 + 10 * 0.95, 15.0]
    # (n - 1) * p = 1.5, between the second and the third.
    assert values_of(["1", "2", "4", "8"], "float64", "median", "p50") == [3.0, 3.0]
    assert values_of(["-inf", "1", "inf"], "float64", "median") == [1.0]
    assert values_of(["inf", "inf"], "float64", "median") == [math.inf]
    assert values_of(["1", "inf"], "float64", "p10", "p0") == [math.inf, 1.0]


def test_nan_in_a_window_makes_numbers_of_it_nan() -> None:
    names = ("sum", "mean", "min", "max", "var", "stddev", "median", "p95")
    found = values_of(["1", "nan", "2"], "float64", *names)
    assert all(isinstance(value, float) and math.isnan(value) for value in found)
    others = values_of(["nan", "1", "nan"], "float64", "count", "count_distinct", "first_2")
    assert all(map(same_value, others, [3, 2, [math.nan, 1.0]]))


def test_nan_does_not_leak_into_other_windows() -> None:
    rows = HEADER.format("float64") + "1 | 10:00 | null | nan\n1 | 11:00 | null | 5"
    assert answers(Aggregation("x", ["sum"], ["1h"]), "11:30", rows=rows) == [5.0]


def test_both_zeros_are_one_value() -> None:
    assert values_of(["0.0", "-0.0"], "float64", "count_distinct", "max") == [1, 0.0]


def test_infinities_follow_ieee() -> None:
    functions = ("sum", "mean", "min", "max", "count_distinct")
    assert values_of(["1", "inf"], "float64", *functions) == [math.inf, math.inf, 1, math.inf, 2]
    opposite = values_of(["inf", "-inf"], "float64", "sum", "mean", "var")
    assert all(isinstance(value, float) and math.isnan(value) for value in opposite)
    (var,) = values_of(["1", "inf"], "float64", "var")
    assert isinstance(var, float)
    assert math.isnan(var)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("int64", ["9223372036854775807", "1", "-1"], 9_223_372_036_854_775_807),
        ("int64", ["9223372036854775807", "1"], None),
        ("int64", ["-9223372036854775808", "-1"], None),
        ("int8", ["127", "127"], 254),
        ("uint64", ["18446744073709551615", "0"], 18_446_744_073_709_551_615),
        ("uint64", ["18446744073709551615", "1"], None),
        ("decimal128(5, 2)", ["999.99", "0.02"], Decimal("1000.01")),
        ("decimal128(38, 2)", ["9" * 36 + ".99", "0.00"], Decimal("9" * 36 + ".99")),
        ("decimal128(38, 2)", ["9" * 36 + ".99", "0.01"], None),
    ],
)
def test_sums_of_integers_and_decimals_are_exact_or_overflow(
    dtype: str, values: list[str], expected: object
) -> None:
    (found,) = of_values(values, dtype, "sum")
    assert (found.value, found.overflows, found.slack) == (expected, expected is None, 0.0)


def test_means_of_integers_do_not_overflow() -> None:
    big = "9223372036854775807"
    assert values_of([big, big], "int64", "mean", "median") == [2.0**63, 2.0**63]


def test_a_sum_of_floats_may_be_off_by_its_magnitudes() -> None:
    total, mean = of_values(["1e15", "-1e15", "1e-3"], "float64", "sum", "mean")
    assert (total.value, mean.value) == (1e-3, 1e-3 / 3)
    assert total.slack == pytest.approx(2e6)
    assert mean.slack == pytest.approx(2e6 / 3)
    assert is_as_good(1e6, total)
    assert not is_as_good(3e6, total)


def test_a_variance_may_be_off_by_its_own_size_but_never_below_zero() -> None:
    (near,) = of_values(["1", "3", "5"], "float64", "var")
    assert is_as_good(4 * (1 + 0.9e-9), near)
    assert not is_as_good(4 * (1 + 1.1e-9), near)
    (far,) = of_values(["1e15", "1e15"], "float64", "var")
    assert is_as_good(0.0, far)
    assert is_as_good(1e-3, far)
    assert not is_as_good(-1e-3, far)
    (small,) = of_values(["1e-3", "1e-3"], "float64", "var")
    assert not is_as_good(1e-3, small)


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("bool", ["true", "false", "true"], [False, True, True, True, 2]),
        ("string", ["b", "é", '""'], ["", "é", "b", "", 3]),
        ("binary", ["0x00", "0xff", "0x"], [b"", b"\xff", b"\0", b"", 3]),
        (
            "time",
            ["11:00", "10:00", "11:00"],
            [*(RawTime(us(t) * 1_000) for t in ("10:00", "11:00", "11:00", "11:00")), 2],
        ),
    ],
)
def test_values_of_any_order_have_a_least_and_a_greatest(
    dtype: str, values: list[str], expected: list[object]
) -> None:
    functions = ("min", "max", "first", "last", "count_distinct")
    assert values_of(values, dtype, *functions) == expected


def test_a_column_is_read_as_the_type_that_its_files_widen_to() -> None:
    tables = {
        "a": HEADER.format("int8") + "1 | 10:00 | null | 100",
        "b": HEADER.format("int64") + "1 | 11:00 | null | 1099511627776",
        "c": HEADER.format("null"),
    }
    of = history(tables, aggregations=[Aggregation("x", ["sum", "last", "mean"], ["7d"])])
    view = with_types_of(of.view, of.files)
    assert [str(f.dtype) for f in view.fields] == ["int64", "int64", "double"]
    found = window_cells(view, read_source(view, of.rows), (1,), us("12:00"))
    assert [cell.value for cell in found.values()] == [2**40 + 100, 2**40, (2**40 + 100) / 2]


def test_the_historical_answer_names_feature_and_row_of_an_overflow() -> None:
    rows = HEADER.format("int64") + f"1 | 10:00 | null | {2**63 - 1}\n1 | 11:00 | null | 1"
    of = history(rows, aggregations=[Aggregation("x", ["count", "sum"], [None])])
    view = with_types_of(of.view, of.files)
    spine = read_table("user_id: int64 | event_timestamp: time\n1 | 10:30\n1 | 11:30", day=DAY)
    files = {"profiles": of.rows}
    with pytest.raises(SumOverflowError, match="'x_sum_all', spine row 1") as caught:
        historical([view.select()], files, spine)
    assert (caught.value.feature, caught.value.row) == ("x_sum_all", 1)
    assert [row["x_count_all"] for row in historical([view["x_count_all"]], files, spine)] == [1, 2]


def test_a_view_without_keys_has_one_window_for_everybody() -> None:
    rows = "at: time | x: int64\n10:00 | 1\n11:00 | 2"
    of = history(rows, keys={}, aggregations=[Aggregation("x", ["sum"], [None])])
    view = with_types_of(of.view, of.files)
    read = read_source(view, of.rows)
    found = [window_cells(view, read, (), us(at)) for at in ("10:30", "11:30")]
    assert [cells["x_sum_all"].value for cells in found] == [1, 3]


def online(ttl: str | None = None) -> tuple[OnlineOracle, Any]:
    of = history(ROWS, aggregations=[Aggregation("x", ["count", "sum"], ["1h"])], ttl=ttl)
    return OnlineOracle(with_types_of(of.view, of.files)), of.rows


def test_a_run_writes_the_answer_at_its_end_for_every_key_with_history() -> None:
    store, files = online()
    store.materialize(files, end_us=us("11:30"))
    for key, values in {1: (0, None), 2: (1, 7)}.items():
        found = store.look_up((key,), now_us=us("12:00"))
        assert tuple(found.values.values()) == values
        assert found.event_us == us("11:30")
    assert store.look_up((1,), now_us=us("12:00")).statuses == {
        "x_count_1h": "PRESENT",
        "x_sum_1h": "NULL_VALUE",
    }
    store.materialize_incremental(files, end_us=us("12:30"))
    assert store.look_up((1,), now_us=us("12:30")).values == {"x_count_1h": 2, "x_sum_1h": 6}
    store.materialize(files, end_us=us("11:30"))
    assert store.look_up((1,), now_us=us("12:30")).event_us == us("12:30")


def test_a_key_without_history_is_not_found_and_has_an_empty_window() -> None:
    store, files = online()
    store.materialize(files, end_us=us("10:30"))
    for key in ((2,), (3,), None):
        found = store.look_up(key, now_us=us("12:00"))
        assert set(found.statuses.values()) == {"NOT_FOUND"}
        assert (found.values, found.event_us) == ({"x_count_1h": 0, "x_sum_1h": None}, None)


def test_a_ttl_counts_from_the_end_of_the_run_and_acts_online_only() -> None:
    store, files = online(ttl="1m")
    store.materialize(files, end_us=us("11:30"))
    assert store.look_up((2,), now_us=us("11:31")).values == {"x_count_1h": 1, "x_sum_1h": 7}
    late = store.look_up((2,), now_us=us("11:31:00.000001"))
    assert set(late.statuses.values()) == {"OUTSIDE_MAX_AGE"}
    assert set(late.values.values()) == {None}
    assert window_cells(store.view, read_source(store.view, files), (2,), us("11:59"))[
        "x_sum_1h"
    ] == Cell(7)


def test_a_run_over_windows_refuses_a_start() -> None:
    store, files = online()
    with pytest.raises(RequestError, match="start"):
        store.materialize(files, start_us=us("10:00"), end_us=us("11:00"))


@pytest.mark.parametrize(
    ("predicate", "expected"),
    [
        ("a = 1", True),
        ("a <> 1 OR b = 'x'", True),
        ("a = 1 AND n = 1", False),
        ("NOT n = 1", False),
        ("NOT (a = 2)", True),
        ("n IS NULL AND a IS NOT NULL", True),
        ("n = NULL OR a > 0", True),
        ("n = 1 OR FALSE", False),
        ("a = 2 OR b = 'x' AND a = 1", True),
        ("(a = 2 OR b = 'x') AND a = 2", False),
        ("\"odd name\" >= 2.5 AND b < 'y'", True),
        ("b = 'it''s'", False),
        ("flag", True),
        ("NOT flag", False),
        ("nan = nan AND nan > 1 AND NOT 1 > nan", True),
        ("a <= -1", False),
        ("and_ = 5", True),
    ],
)
def test_a_predicate_has_three_values_and_only_true_counts(
    predicate: str, *, expected: bool
) -> None:
    row = {"a": 1, "b": "x", "n": None, "odd name": 2.5, "flag": True, "nan": math.nan, "and_": 5}
    assert holds(predicate, row) is expected


@pytest.mark.parametrize("predicate", ["a =", "a = 1 b", "(a = 1", "a = 'x", "a ; b", "lower(a)"])
def test_a_predicate_beyond_the_subset_is_refused(predicate: str) -> None:
    with pytest.raises(ValueError, match="a"):
        holds(predicate, {"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ([2.0, None], None),
        ([2.0 + 1e-9, None], None),
        ([2.0 + 1e-8, None], "row 0, column 'x' is 2.00000001"),
        ([2.0, 0.0], "row 1, column 'x' is 0.0"),
    ],
)
def test_tables_differ_where_a_value_is_beyond_its_slack(
    values: list[float | None], says: str | None
) -> None:
    spine = read_table("user_id: int64\n1\n2")
    expected = ExpectedWindows(
        spine=spine, types={"x": pa.float64()}, cells={"x": [Cell(2.0, slack=2e-9), Cell(None)]}
    )
    found = spine.to_arrow().append_column("x", pa.array(values, pa.float64()))
    text = window_difference(found, expected)
    assert text is None if says is None else says in (text or "")
    as_integers = spine.to_arrow().append_column("x", pa.array([2, None], pa.int64()))
    assert "expected double" in (window_difference(as_integers, expected) or "")

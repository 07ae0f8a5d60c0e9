"""What every offline engine promises about windows: what is computed of rows (SEMANTICS, 4)."""

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given

from featurestore.definitions import Aggregation
from featurestore.errors import SumOverflowError
from featurestore.offline.engine import OfflineEngine
from featurestore.testing.offline_cases import FIXTURE_IS_SHARED, training_set
from featurestore.testing.strategies import TrainingCase
from featurestore.testing.window_cases import (
    ALL_NUMBERS,
    around,
    case_of,
    check_tables,
    check_windows,
    expected_windows,
    numbered,
    spine_of,
)
from featurestore.testing.window_strategies import window_cases

ALL_VALUES: Final = ("count", "min", "max", "first", "last", "count_distinct", "last_3", "first_2")


class AggregateConformance:
    """What is computed of the rows in a window."""

    def test_ties_follow_created_time_then_file_and_row(self, engine: OfflineEngine) -> None:
        header = "user_id: int64 | at: time | created: time | x: string\n"
        files = {
            "b.parquet": header + "1 | 10:00 | 10:05 | b1\n1 | 10:00 | 10:01 | b2",
            "a.parquet": header + "1 | 10:00 | 10:05 | a1\n1 | 10:00 | null | a2\n"
            "1 | 10:00 | 10:05 | a3\n1 | 10:00 | 10:05 | null",
        }
        functions = ("first", "last", "last_1", "last_3", "last_1000", "first_1", "first_4")
        wanted = Aggregation("x", functions, ["1h", None])
        check_tables(engine, files, around("10:00", "10:01", "10:05", "11:00"), wanted)
        check_tables(engine, files, around("10:01", "10:05", "11:00"), wanted, mode="as_served")

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_nan_and_infinities_stay_in_their_windows(
        self, engine: OfflineEngine, dtype: str
    ) -> None:
        values = ["1", "nan", "2", "inf", "3", "-inf", "inf", "4", "nan", "nan", "0.0", "-0.0", "5"]
        times = [f"10:{minute:02}" for minute in range(20)]
        wanted = Aggregation("x", ALL_NUMBERS, ["1m", "2m", "3m", "4m", None])
        check_tables(engine, numbered(values, dtype), spine_of(times), wanted)

    def test_a_great_value_before_a_window_leaves_no_trace_in_it(
        self, engine: OfflineEngine
    ) -> None:
        values = ["1e15", "-3e15", "1e100", *(f"{n}e-3" for n in (1, 2, 3, 3, 3, 7))]
        times = [f"10:{minute:02}" for minute in range(1, 12)]
        wanted = Aggregation("x", ["sum", "mean", "var", "stddev"], ["2m", "3m", "4m"])
        check_tables(engine, numbered(values, "float64"), spine_of(times), wanted)

    def test_the_variance_of_a_drifting_series_is_its_own(self, engine: OfflineEngine) -> None:
        for offset, step in ((1e3, 0.1), (1e6, 100.0), (1e9, 1e-3), (0.1, 0.0)):
            values = [offset + step * n for n in range(40)]
            times = [f"10:{minute:02}" for minute in range(0, 60, 7)]
            wanted = Aggregation("x", ["mean", "var", "stddev"], ["2m", "16m", None])
            check_tables(engine, numbered(values, "float64"), spine_of(times), wanted)

    def test_the_variance_of_one_value_is_null(self, engine: OfflineEngine) -> None:
        rows = numbered(["5", "null", "7"], "float64")
        wanted = Aggregation("x", ["var", "stddev"], ["1m", "2m", "3m"], empty=-1)
        check_tables(engine, rows, spine_of(["10:00", "10:01", "10:02", "10:03", "10:04"]), wanted)

    @pytest.mark.parametrize(
        ("dtype", "values"),
        [
            ("int64", [2**63 - 1, -(2**63), 2**53 + 1, 1, -1, 2**63 - 2, -(2**63 - 1)]),
            ("uint64", [2**64 - 1, 0, "null", 2**63]),
            ("int8", [127, 127, -128, -128]),
            ("uint8", [255, 255, 1]),
            ("decimal128(5, 2)", ["999.99", "0.02", "-999.99"]),
            ("decimal128(38, 2)", ["9" * 36 + ".99", "-0.01", "-" + "9" * 36 + ".99", "0.01"]),
        ],
    )
    def test_integers_and_decimals_are_exact_in_the_wider_type(
        self, engine: OfflineEngine, dtype: str, values: list[object]
    ) -> None:
        rows = numbered(values, dtype)
        times = [f"10:{minute:02}" for minute in range(1, 4 + len(values))]
        wanted = Aggregation("x", [f for f in ALL_NUMBERS if f != "sum"], ["2m", None])
        check_tables(engine, rows, spine_of(times), wanted)
        summed = Aggregation("x", ["sum", "mean"], ["2m"])
        fitting = [
            time
            for time in times
            if not expected_windows(case_of(rows, spine_of([time]), summed)).overflows
        ]
        assert fitting
        check_tables(engine, rows, spine_of(fitting), summed)

    @pytest.mark.parametrize(
        ("dtype", "values"),
        [
            ("int64", [2**62, 2**62 - 1, 1]),
            ("int64", [-(2**62), -(2**62), -1]),
            ("uint64", [2**63, 2**63 - 1, 1]),
            ("decimal128(38, 2)", ["4" * 36 + ".50", "5" * 36 + ".49", "0.01"]),
        ],
    )
    def test_a_sum_beyond_its_type_is_an_error_that_names_feature_and_row(
        self, engine: OfflineEngine, tmp_path: Path, dtype: str, values: list[object]
    ) -> None:
        rows = numbered(values, dtype)
        wanted = Aggregation("x", ["count", "sum"], ["3m", "2m"])
        # Two of the values fit, all three do not.
        check_tables(engine, rows, spine_of(["10:02", "10:04"]), Aggregation("x", ["sum"], ["2m"]))
        case = case_of(rows, spine_of(["10:02", "10:03", "10:30"]), wanted)
        assert expected_windows(case).overflows == {("x_sum_3m", 1)}
        check_windows(engine, case)
        case.history.write(tmp_path)
        with pytest.raises(SumOverflowError, match=r"x_sum_3m.*row 1"):
            training_set(engine, case, root=tmp_path)

    def test_an_overflow_among_rows_written_late_names_the_spines_row(
        self, engine: OfflineEngine
    ) -> None:
        great = 2**62
        rows = f"""
        user_id: int64 | at: time | created: time | x: int64
        1              | 10:00    | 10:00         | {great}
        1              | 10:01    | 10:01         | {great}
        1              | 10:02    | 10:30         | {great}
        2              | 10:00    | 10:00         | 1
        2              | 10:01    | 10:30         | {great}
        """
        spine = """
        user_id: int64 | event_timestamp: time
        2              | 10:05
        1              | 10:01
        2              | 10:01
        1              | 10:05
        """
        # Row 3 alone overflows, and its window holds a row that was not written yet.
        check_tables(engine, rows, spine, Aggregation("x", ["sum"], ["1h"]), mode="as_served")

    def test_a_sum_that_overflows_under_way_but_fits_is_the_sum(
        self, engine: OfflineEngine
    ) -> None:
        rows = numbered([2**63 - 1, 2**63 - 1, -(2**63), -(2**63), 5], "int64")
        check_tables(engine, rows, spine_of(["10:05"]), Aggregation("x", ["sum", "mean"], [None]))

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 20])
    def test_percentiles_are_linear_between_neighbours(
        self, engine: OfflineEngine, count: int
    ) -> None:
        functions = ("median", "p0", "p1", "p12.5", "p25", "p33", "p75", "p95", "p99.9", "p100")
        header = "user_id: int64 | at: time | i: int32 | f: float64 | g: float32"
        lines = [
            f"1 | 10:{n:02} | {whole} | {whole}.25 | {whole}.25 | {whole}.25"
            for n, whole in ((n, n * 7 % 11) for n in range(count))
        ]
        rows = "\n".join([f"{header} | d: decimal128(10, 2)", *lines])
        wanted = [Aggregation(column, functions, [None]) for column in "ifgd"]
        check_tables(engine, rows, spine_of(["10:02", "11:00"]), *wanted)

    @pytest.mark.parametrize(
        ("dtype", "values"),
        [
            ("bool", ["true", "false", "null", "true"]),
            ("string", ["b", "é", '""', '"e\\u0301"', "🛫", "null", "a", "a"]),
            ("dictionary<string>", ["b", "a", "null", "b"]),
            ("binary", ["0xff", "0x", "0x00", "null", "0x0000"]),
            ("date32", ["2024-02-29", "0001-01-01", "9999-12-31", "null", "1969-12-31"]),
            ("time", ["2300-01-01 00:00:00.000001", "1969-12-31 23:59", "null", "10:00"]),
            ("timestamp[ns, UTC]", ["10:00:00.000000999", "10:00:00.000000001", "null", "09:00"]),
        ],
    )
    def test_values_of_every_type_are_ordered_kept_and_told_apart(
        self, engine: OfflineEngine, dtype: str, values: list[str]
    ) -> None:
        times = [f"10:{minute:02}" for minute in range(len(values) + 3)]
        wanted = Aggregation("x", ALL_VALUES, ["2m", "4m", None])
        check_tables(engine, numbered(values, dtype), spine_of(times), wanted)

    def test_distinct_values_are_counted_in_every_window(self, engine: OfflineEngine) -> None:
        values = [n * n % 7 for n in range(40)]
        times = [f"10:{minute:02}" for minute in range(0, 50, 3)]
        wanted = Aggregation("x", ["count_distinct", "count"], ["2m", "5m", "16m", None])
        check_tables(engine, numbered(values, "int16"), spine_of(times), wanted)

    @FIXTURE_IS_SHARED
    @given(case=window_cases())
    def test_any_history_has_the_oracles_windows(
        self, engine: OfflineEngine, case: TrainingCase
    ) -> None:
        if case.mode == "complete" or engine.capabilities.as_served:
            check_windows(engine, case)

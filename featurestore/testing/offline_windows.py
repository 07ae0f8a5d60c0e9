"""What every offline engine promises about windows: which rows are in them (SEMANTICS, 4)."""

from typing import Any, Final

import pytest

from featurestore.definitions import Aggregation
from featurestore.errors import RequestError
from featurestore.offline.engine import OfflineEngine
from featurestore.testing.window_cases import (
    ALL_NUMBERS,
    around,
    case_of,
    check_tables,
    check_windows,
    numbered,
    spine_of,
)

EDGES: Final = """
user_id: int64 | at: time | x: int64
1              | 12:00    | 4
1              | 10:00    | 1
2              | 11:00    | 8
1              | 11:00    | 2
"""
CREATED: Final = """
user_id: int64 | at: time        | created: time | x: int64
1              | 10:00           | 10:05         | 1
1              | 09:50           | 11:00         | 2
1              | 10:30           | 10:30         | 4
1              | 10:40           | null          | 8
1              | 12:00           | 09:00         | 16
1              | 10:30           | 10:29         | 32
"""
CLOSED: Final = ("left", "right", "both", "neither")


class WindowConformance:
    """Which rows are in a window."""

    @pytest.mark.parametrize("closed", CLOSED)
    def test_both_ends_of_a_window_are_exact_to_the_microsecond(
        self, engine: OfflineEngine, closed: Any
    ) -> None:
        wanted = Aggregation("x", ["sum", "count"], ["1h", "2h", "1us"], closed=closed)
        check_tables(engine, EDGES, around("10:00", "11:00", "12:00", "13:00", "14:00"), wanted)

    @pytest.mark.parametrize("closed", CLOSED)
    def test_all_history_ends_where_closed_says(self, engine: OfflineEngine, closed: Any) -> None:
        wanted = Aggregation("x", ["sum", "count"], [None], closed=closed)
        check_tables(engine, EDGES, around("10:00", "11:00", "12:00"), wanted)

    def test_several_aggregations_of_a_view_may_be_closed_differently(
        self, engine: OfflineEngine
    ) -> None:
        wanted = [
            Aggregation("x", ["sum", "last_3"], ["1h", None], closed=closed, name=closed)
            for closed in CLOSED
        ]
        check_tables(engine, EDGES, around("10:00", "11:00", "12:00", "13:00"), *wanted)

    def test_a_window_holds_rows_of_its_own_key_only(self, engine: OfflineEngine) -> None:
        spine = "user_id: int64 | event_timestamp: time\n2 | 12:30\n1 | 12:30\n3 | 12:30\n2 | 10:30"
        check_tables(engine, EDGES, spine, Aggregation("x", ALL_NUMBERS, ["2h", None]))

    def test_unknown_and_null_keys_and_null_times_have_empty_windows(
        self, engine: OfflineEngine
    ) -> None:
        spine = "user_id: int64 | event_timestamp: time\n9 | 12:30\nnull | 12:30\n1 | null"
        rows = EDGES + "null | 11:00 | 99\n1 | null | 99"
        wanted = Aggregation("x", ALL_NUMBERS, ["2h", None])
        check_tables(
            engine, rows, spine, wanted, Aggregation("x", ["sum"], ["7d"], empty=7, name="seven")
        )

    def test_an_empty_spine_and_an_empty_source_have_their_columns(
        self, engine: OfflineEngine
    ) -> None:
        wanted = Aggregation("x", ALL_NUMBERS, ["1h", None])
        check_tables(engine, EDGES, "user_id: int64 | event_timestamp: time", wanted)
        check_tables(engine, EDGES.strip().splitlines()[0], around("10:00"), wanted)

    def test_duplicate_and_unordered_spine_rows_keep_their_places(
        self, engine: OfflineEngine
    ) -> None:
        spine = spine_of(["12:30", "10:30", "12:30", "11:30", "10:30"])
        check_tables(engine, EDGES, spine, Aggregation("x", ["sum", "last_2"], ["1h", None]))

    def test_an_empty_window_has_what_empty_says(self, engine: OfflineEngine) -> None:
        rows = numbered(["5", "null", "null"], "int32")
        functions = ("count", "sum", "mean", "min", "var", "last", "count_distinct", "median")
        wanted = Aggregation("x", functions, ["1m", "2m"], empty=-1)
        check_tables(engine, rows, spine_of(["09:00", "10:01", "10:02", "10:03", "10:30"]), wanted)

    def test_an_empty_window_of_any_type_may_have_a_value(self, engine: OfflineEngine) -> None:
        rows = "user_id: int64 | at: time | name: string | flag: bool\n1 | 10:00 | a | false"
        wanted = [
            Aggregation("name", ["last", "max"], ["1h"], empty="nobody"),
            Aggregation("flag", ["last", "min"], ["1h"], empty=True),
        ]
        check_tables(engine, rows, spine_of(["10:30", "11:30"]), *wanted)

    def test_nulls_are_skipped_and_star_counts_rows(self, engine: OfflineEngine) -> None:
        rows = numbered(["null", "1", "null", "3", "null"], "int64")
        wanted = [Aggregation("x", ALL_NUMBERS, ["3m", None]), Aggregation("*", ["count"], ["3m"])]
        times = ["10:00", "10:01", "10:02", "10:03", "10:04", "10:05", "10:06", "10:30"]
        check_tables(engine, rows, spine_of(times), *wanted)

    def test_a_column_of_nulls_alone_has_empty_windows(self, engine: OfflineEngine) -> None:
        for dtype in ("int64", "float64", "string"):
            rows = numbered(["null", "null"], dtype)
            wanted = Aggregation("x", ["count", "min", "last", "last_3"], ["1h"])
            check_tables(engine, rows, spine_of(["10:30"]), wanted)

    @pytest.mark.parametrize(
        "where",
        [
            "state = 'ok'",
            "state <> 'ok'",
            "NOT (state = 'ok')",
            "state IS NULL OR n > 1",
            "state IS NOT NULL AND (n = 2 OR n < 1)",
            "n = NULL",
            "state = 'it''s'",
        ],
    )
    def test_a_row_counts_only_where_the_predicate_is_true(
        self, engine: OfflineEngine, where: str
    ) -> None:
        rows = """
        user_id: int64 | at: time | x: int64 | state: string | n: int32
        1              | 10:00    | 1        | ok            | 1
        1              | 10:01    | 2        | null          | 2
        1              | 10:02    | 4        | it's          | null
        1              | 10:03    | 8        | ok            | 0
        1              | 10:04    | null     | bad           | 2
        """
        wanted = [
            Aggregation("x", ["sum", "last", "count"], ["1h", "2m"], where=where, name="some"),
            Aggregation("*", ["count"], ["1h"], where=where, name="rows"),
            Aggregation("x", ["sum"], ["1h"]),
        ]
        check_tables(engine, rows, spine_of(["10:00", "10:02", "10:03", "10:05", "11:02"]), *wanted)

    def test_a_predicate_reads_columns_by_the_names_they_have_here(
        self, engine: OfflineEngine
    ) -> None:
        rows = "user_id: int64 | at: time | amt: int64 | st: string\n1 | 10:00 | 1 | ok"
        wanted = Aggregation("x", ["sum"], ["1h"], where="state = 'ok' AND x > 0", name="fine")
        mapping = {"amt": "x", "st": "state"}
        check_tables(engine, rows, spine_of(["10:30"]), wanted, field_mapping=mapping)

    @pytest.mark.parametrize("closed", CLOSED)
    def test_as_served_only_rows_created_by_then_count(
        self, engine: OfflineEngine, closed: Any
    ) -> None:
        wanted = Aggregation("x", ["sum", "last", "last_3"], ["1h", None], closed=closed)
        times = ("10:00", "10:05", "10:29", "10:30", "10:40", "11:00", "12:00", "13:00")
        check_tables(engine, CREATED, around(*times), wanted, mode="as_served")
        check_tables(engine, CREATED, around(*times), wanted)

    def test_as_served_needs_a_created_time(self, engine: OfflineEngine) -> None:
        case = case_of(EDGES, around("12:00"), Aggregation("x", ["sum"], ["1h"]), mode="as_served")
        with pytest.raises(RequestError, match="created_timestamp_column"):
            check_windows(engine, case)

    def test_a_view_may_have_several_keys_or_none(self, engine: OfflineEngine) -> None:
        wanted = Aggregation("x", ["sum", "count", "last_3"], ["1h", None])
        rows = """
        game: string | player: int32 | at: time | x: int64
        go           | 1             | 10:00    | 1
        go           | 2             | 10:00    | 2
        chess        | 1             | 10:00    | 4
        null         | 1             | 10:00    | 8
        go           | 1             | 10:10    | 16
        """
        spine = """
        player: int64 | event_timestamp: time | game: string
        1             | 10:30                 | go
        1             | 10:05                 | go
        2             | 10:30                 | chess
        null          | 10:30                 | go
        1             | 10:30                 | chess
        """
        check_tables(engine, rows, spine, wanted, keys={"game": "string", "player": "int32"})
        alone = "at: time | x: int64\n10:00 | 1\n11:00 | 2\nnull | 4"
        check_tables(engine, alone, around("10:00", "11:00", "12:00"), wanted, keys={})

    def test_files_count_together_whatever_types_they_hold(self, engine: OfflineEngine) -> None:
        files = {
            "b.parquet": "user_id: int64 | at: timestamp[ns] | x: int8\n1 | 10:00 | 100",
            "a.parquet": "x: int64 | user_id: int32 | at: time\n1099511627776 | 1 | 10:00",
            "c.parquet": "user_id: int64 | at: time | x: null\n1 | 10:00 | null",
        }
        wanted = Aggregation("x", ALL_NUMBERS, ["1h"])
        check_tables(engine, files, spine_of(["10:30"]), wanted)

    def test_a_column_may_be_read_as_a_wider_type(self, engine: OfflineEngine) -> None:
        rows = numbered(["1", "2", "null"], "int32")
        wanted = [
            Aggregation("x", ["sum", "max", "last_3"], ["1h"], name=dtype, dtype=dtype)
            for dtype in ("float64", "int64", "int32")
        ]
        check_tables(engine, rows, spine_of(["10:30"]), *wanted)

    def test_times_are_rounded_before_windows_are_cut(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: timestamp[ns, UTC] | x: int64
        1              | 10:00:00.000000900    | 2
        1              | 10:00:00.000000100    | 1
        1              | 10:00:00.000001000    | 4
        1              | 10:00:00.000001001    | 8
        """
        spine = """
        user_id: int64 | event_timestamp: timestamp[ns, UTC]
        1              | 10:00:00.000000999
        1              | 10:00:00.000001999
        1              | 10:00:00.000002000
        1              | 11:00:00.000001999
        1              | 11:00:00.000002000
        1              | 11:00:00.000003000
        """
        wanted = [
            Aggregation("x", ["sum", "first", "last_1000"], ["1h"], closed=closed, name=closed)
            for closed in CLOSED
        ]
        check_tables(engine, rows, spine, *wanted)

    def test_local_times_are_read_in_the_sources_zone(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: timestamp[us]   | x: int64
        1              | 2024-11-03 00:30    | 1
        1              | 2024-11-03 01:30    | 2
        1              | 2024-11-03 02:30    | 4
        """
        times = [f"2024-11-03 {hour:02}:30:00.000001" for hour in range(4, 10)]
        for ambiguous in ("earliest", "latest"):
            wanted = Aggregation("x", ["sum"], ["1h", "2h"])
            zone = "America/New_York"
            spine = spine_of(times)
            check_tables(engine, rows, spine, wanted, timezone=zone, ambiguous=ambiguous)

    def test_a_window_may_begin_before_the_first_instant(self, engine: OfflineEngine) -> None:
        rows = """
        user_id: int64 | at: time         | x: int64
        1              | 0001-01-01 00:00 | 1
        1              | 9999-12-31 23:59 | 2
        """
        times = ["0001-01-01 00:00", "0001-01-01 00:01", "9999-12-31 23:59:30"]
        wanted = [
            Aggregation("x", ["sum"], ["365000d", "1m", None], closed=closed, name=closed)
            for closed in ("left", "right")
        ]
        check_tables(engine, rows, spine_of(times), *wanted)

    def test_a_crowded_key_has_the_same_answer_on_every_plan(self, engine: OfflineEngine) -> None:
        # More spine rows than the 64 up to which an engine may choose another plan.
        values = [n * 37 % 101 - 50 for n in range(120)]
        times = [f"{10 + n % 3}:{n * 7 % 60:02}" for n in range(70)]
        wanted = Aggregation("x", ALL_NUMBERS, ["1m", "7m", "1h", None])
        check_tables(engine, numbered(values, "int64"), spine_of(times), wanted)
        check_tables(engine, numbered(values, "float64"), spine_of(times[:3]), wanted)

"""What every offline engine promises about events that come again (SEMANTICS, 4)."""

from typing import Any, Final

import pytest

from featurestore.definitions import Aggregation
from featurestore.errors import SourceSchemaError
from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.testing.offline_cases import DAY, check_latest, check_training_set, history
from featurestore.testing.strategies import TrainingCase
from featurestore.testing.text_tables import read_table
from featurestore.testing.window_cases import around, check_tables, spine_of

EVENTS: Final = """
id: string | user_id: int64 | at: time | created: time | x: int64
plain      | 1              | 10:00    | 10:01         | 1
plain      | 1              | 10:00    | 10:20         | 1
later      | 1              | 10:10    | 10:11         | 2
later      | 1              | 11:10    | 11:30         | 2
other      | 1              | 10:20    | 10:21         | 4
other      | 2              | 10:20    | 11:40         | 4
value      | 1              | 10:30    | 10:50         | 8
value      | 1              | 10:30    | 10:31         | 16
same       | 1              | 10:40    | 10:41         | 32
same       | 1              | 10:40    | 10:41         | 64
null       | 1              | 10:45    | 10:46         | 128
null       | 1              | 10:45    | 10:47         | 128
undated    | 1              | 10:50    | null          | 256
undated    | 1              | 10:50    | 10:51         | 512
undated    | 1              | 10:50    | null          | 1024
nobody     | 1              | 10:55    | 10:56         | 2048
nobody     | null           | 10:55    | 11:20         | 2048
never      | 1              | 10:58    | 10:59         | 4096
never      | 1              | null     | 11:50         | 4096
"""
TIMES: Final = ("10:01", "10:20", "10:31", "10:50", "11:00", "11:20", "11:40", "12:00", "13:00")
SPINE: Final = f"{around(*TIMES)}\n2 | 10:30\n2 | 11:39:59.999999\n2 | 11:40\n2 | 12:00"
WANTED: Final = (
    Aggregation("x", ["sum", "last_1000", "max"], ["1h", None]),
    Aggregation("x", ["sum"], ["20m"], closed="right", name="right"),
    Aggregation("*", ["count"], ["1h"]),
)
IN_EACH_MODE: Final = pytest.mark.parametrize("mode", ["complete", "as_served"])


class DedupConformance:
    """Which version of an event is in a window."""

    @IN_EACH_MODE
    def test_the_version_created_last_is_the_event_whatever_its_time_and_entity(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        check_tables(engine, EVENTS, SPINE, *WANTED, mode=mode, dedup_keys=["id"])

    @IN_EACH_MODE
    def test_versions_may_be_in_different_files_in_any_order(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        header, *rows = EVENTS.strip().splitlines()
        files = {
            name: "\n".join([header, *rows[first::3]])
            for first, name in enumerate(("b.parquet", "a/b.parquet", "a.parquet"))
        }
        check_tables(engine, files, SPINE, *WANTED, mode=mode, dedup_keys=["id"])

    @IN_EACH_MODE
    def test_an_event_may_be_told_apart_by_several_columns_and_its_time(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        for names in (["at"], ["id", "at"], ["x", "user_id"], ["at", "id", "x", "user_id"]):
            check_tables(engine, EVENTS, SPINE, *WANTED, mode=mode, dedup_keys=names)

    @IN_EACH_MODE
    def test_columns_have_the_names_that_the_source_gives_them(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        renamed = {"id": "x", "x": "id"}
        wanted = Aggregation("id", ["sum"], ["1h", None])
        check_tables(
            engine, EVENTS, SPINE, wanted, mode=mode, dedup_keys=["x"], field_mapping=renamed
        )

    @IN_EACH_MODE
    def test_a_column_may_differ_from_another_by_case_alone(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        rows = EVENTS.replace("x: int64", "ID: int64", 1)
        for name, other in (("id", "ID"), ("ID", "id")):
            wanted = Aggregation(other, ["count", "last"], ["1h", None])
            check_tables(engine, rows, SPINE, wanted, mode=mode, dedup_keys=[name])

    @IN_EACH_MODE
    def test_a_transform_filters_events_that_are_already_told_apart(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        text = "SELECT *, x * 2 AS y FROM source WHERE x <> 8 AND x <> 2"
        wanted = [Aggregation("y", ["sum", "count"], ["1h", None])]
        case: dict[str, Any] = {"mode": mode, "dedup_keys": ["id"], "transform": text}
        check_tables(engine, EVENTS, SPINE, *wanted, **case)

    @IN_EACH_MODE
    def test_a_predicate_of_an_aggregation_sees_events_that_are_already_told_apart(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        wanted = Aggregation("x", ["sum", "count"], ["1h", None], where="x <> 8", name="some")
        check_tables(engine, EVENTS, SPINE, wanted, mode=mode, dedup_keys=["id"])

    @pytest.mark.parametrize(
        ("dtype", "values"),
        [
            ("int64", ("9007199254740993", "9007199254740992")),
            ("uint64", ("18446744073709551615", "0")),
            ("decimal128(38, 2)", ("0.10", "0.11")),
            ("binary", ("0x00", "0x")),
            ("bool", ("true", "false")),
            ("date32", ("2024-03-05", "0001-01-01")),
            ("timestamp[us, UTC]", ("10:00", "10:00:00.000001")),
            ("timestamp[ns, UTC]", ("10:00:00.000000999", "10:00")),
            ("timestamp[s]", ("10:00", "10:01")),
            ("dictionary<string>", ("a", "A")),
            ("large_string", ("é", "e")),
        ],
    )
    @IN_EACH_MODE
    def test_values_of_every_type_tell_events_apart(
        self, engine: OfflineEngine, mode: Any, dtype: str, values: tuple[str, str]
    ) -> None:
        one, other = values
        rows = f"""
        id: {dtype} | user_id: int64 | at: time | created: time | x: int64
        {one}       | 1              | 10:00    | 10:00         | 1
        {other}     | 1              | 10:00    | 10:00         | 2
        {one}       | 1              | 10:00    | 10:20         | 4
        null        | 1              | 10:00    | 10:20         | 8
        null        | 1              | 10:00    | 10:20         | 16
        """
        # The values of x are powers of two: their sum tells which rows are in a window.
        wanted = Aggregation("x", ["sum", "count", "last_1000"], ["1h"])
        spine = around("10:10", "10:20", "10:30")
        check_tables(engine, rows, spine, wanted, mode=mode, dedup_keys=["id"])

    @IN_EACH_MODE
    def test_files_may_have_different_types_of_the_same_values(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        files = {
            "a.parquet": "id: int64 | user_id: int64 | at: time | created: time | x: int64"
            "\n7 | 1 | 10:00 | 10:05 | 1\n8 | 1 | 10:00 | 10:05 | 2",
            "b.parquet": "id: int8 | user_id: int64 | at: time | created: time | x: int64"
            "\n7 | 1 | 10:00 | 10:00 | 4",
        }
        wanted = Aggregation("x", ["sum"], ["1h"])
        spine = around("10:01", "10:05", "10:30")
        check_tables(engine, files, spine, wanted, mode=mode, dedup_keys=["id"])

    @IN_EACH_MODE
    def test_created_times_that_meet_after_rounding_keep_their_order(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        rows = """
        id: int64 | user_id: int64 | at: time | created: timestamp[ns, UTC] | x: int64
        1         | 1              | 10:00    | 10:05:00.000000900          | 1
        1         | 1              | 10:00    | 10:05:00.000000100          | 2
        2         | 1              | 10:00    | 10:05:00.000001000          | 4
        2         | 1              | 10:00    | 10:05:00.000000999          | 8
        3         | 1              | 10:00    | 10:05:00.000001001          | 16
        3         | 1              | 10:00    | 10:05:00.000001000          | 32
        """
        wanted = Aggregation("x", ["sum", "last_1000"], ["1h"])
        check_tables(engine, rows, around("10:05", "10:06"), wanted, mode=mode, dedup_keys=["id"])

    @IN_EACH_MODE
    def test_a_source_of_corrections_alone_has_the_same_answer_on_every_plan(
        self, engine: OfflineEngine, mode: Any
    ) -> None:
        minutes = [(n, n * 37 % 90, n * 53 % 110, n * 29 % 100) for n in range(200)]
        lines = [
            f"{n % 60} | {user % 7} | {10 + at // 60}:{at % 60:02} |"
            f" {10 + created // 60}:{created % 60:02} | {n}"
            for n, user, at, created in minutes
        ]
        header = "id: int64 | user_id: int64 | at: time | created: time | x: int64"
        # More than the 64 up to which an engine may choose another plan.
        times = [f"{10 + n % 3}:{n * 7 % 60:02}" for n in range(70)]
        wanted = Aggregation("x", ["sum", "first", "median", "last_3"], ["7m", "1h", None])
        rows = "\n".join([header, *lines])
        check_tables(engine, rows, spine_of(times), wanted, mode=mode, dedup_keys=["id"])

    def test_a_view_with_a_schema_sees_every_row(self, engine: OfflineEngine) -> None:
        of = history(EVENTS, features={"x": "int64"}, dedup_keys=["id"])
        spine = read_table(SPINE, day=DAY)
        case = TrainingCase(history=of, spine=spine, timezone="UTC", mode="complete")
        check_training_set(engine, case)
        check_latest(engine, of, RowFilter(until_us=2**60))

    @pytest.mark.parametrize("dtype", ["float64", "list<int64>"])
    def test_columns_without_a_common_sense_of_equality_are_refused(
        self, engine: OfflineEngine, dtype: str
    ) -> None:
        rows = f"""
        id: {dtype} | user_id: int64 | at: time | created: time | x: int64
        null        | 1              | 10:00    | 10:05         | 1
        """
        wanted = Aggregation("x", ["sum"], ["1h"])
        with pytest.raises(SourceSchemaError, match="dedup_keys"):
            check_tables(engine, rows, SPINE, wanted, dedup_keys=["id"])

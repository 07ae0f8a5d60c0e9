"""The oracle says what was worked out by hand."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from featurestore.definitions import Entity, FeatureView, Field, FileSource
from featurestore.errors import (
    NameCollisionError,
    RequestError,
    SourceTimeError,
    SpineError,
)
from featurestore.testing.local_time import LocalTimeError, instant_ns, round_down, round_up
from featurestore.testing.oracle import OnlineOracle, historical
from featurestore.testing.oracle_rows import Mode, count_never_visible, key_of, read_source
from featurestore.testing.plain import RawTime, parse_time
from featurestore.testing.text_tables import read_table
from featurestore.types import Float64, Int64, String

DAY = "2024-03-05"
ROWS = """
user_id: int64 | at: time | created: time | score: float64
1              | 10:00    | 10:05         | 1.0
1              | 11:00    | 11:30         | null
1              | 10:00    | 12:00         | 1.5
2              | 10:00    | null          | 2.0
null           | 10:00    | 10:05         | 9.0
1              | null     | 10:05         | 9.0
"""


def view(*, ttl: timedelta | None = None, lateness: timedelta = timedelta(0)) -> FeatureView:
    source = FileSource(
        name="profiles",
        path="profiles.parquet",
        timestamp_field="at",
        created_timestamp_column="created",
        lateness=lateness,
    )
    user = Entity(name="user", join_keys={"user_id": Int64})
    fields = [Field(name="score", dtype=Float64)]
    return FeatureView(name="profile", entities=[user], source=source, schema=fields, ttl=ttl)


def scores(
    times: Sequence[str], *, mode: Mode = "complete", ttl: timedelta | None = None, user: int = 1
) -> list[object]:
    rows = "\n".join(f"{user} | {time}" for time in times)
    spine = read_table(f"user_id: int64 | event_timestamp: time\n{rows}", day=DAY)
    files = {"profiles": {"a.parquet": read_table(ROWS, day=DAY).rows}}
    found = historical([view(ttl=ttl).select()], files, spine, mode=mode)
    return [row["score"] for row in found]


def us(clock: str) -> int:
    return round_up(parse_time(clock + "Z", day=DAY).ns)


def naive(text: str) -> RawTime:
    return parse_time(text)


def test_the_newest_row_answers_and_a_correction_wins() -> None:
    assert scores(["09:59", "10:00", "10:59", "11:00"]) == [None, 1.5, 1.5, None]


def test_as_served_a_row_counts_from_its_created_time() -> None:
    times = ["10:04:59.999999", "10:05", "11:29", "11:30", "12:00"]
    assert scores(times, mode="as_served") == [None, 1.0, 1.0, None, None]


def test_as_served_a_row_without_created_time_never_counts() -> None:
    assert scores(["23:00"], mode="as_served", user=2) == [None]
    assert scores(["23:00"], user=2) == [2.0]


def test_both_ends_of_a_ttl_are_included() -> None:
    times = ["10:00", "10:30", "10:30:00.000001"]
    assert scores(times, ttl=timedelta(minutes=30)) == [1.5, 1.5, None]


def test_the_order_of_rows_is_event_created_nanoseconds_ordinal() -> None:
    table = read_table(
        """
        user_id: int64 | at: timestamp[ns, UTC] | created: timestamp[ns, UTC] | score: float64
        1              | 10:00:00.000000001    | 10:05                       | 1
        1              | 10:00:00.000000002    | 10:05                       | 2
        1              | 10:00:00.000000001    | 10:05:00.000000001          | 3
        1              | 10:00:00.000000001    | null                        | 4
        1              | 10:00:00.000000002    | 10:05                       | 5
        1              | 10:00:00.000000001    | 10:05:00.000000002          | 6
        """,
        day=DAY,
    )
    ordered = sorted(read_source(view(), {"a": table.rows}), key=lambda row: row.rank)
    assert [row.values["score"] for row in ordered] == [4, 1, 2, 5, 3, 6]


def test_files_come_in_byte_order_of_their_paths() -> None:
    header = "user_id: int64 | at: time | created: time | score: float64\n"
    row = read_table(header + "1 | 10:00 | null | null", day=DAY).rows[0]
    files = {
        path: [dict(row) | {"score": float(number)}]
        for number, path in enumerate(["é", "a/b", "a.b", "a-b", "Z", "9", "10"])
    }
    ordered = sorted(read_source(view(), files), key=lambda row: row.rank)
    assert [row.values["score"] for row in ordered] == [6, 5, 4, 3, 2, 1, 0]


def test_rows_without_key_or_time_are_counted_and_never_visible() -> None:
    rows = read_table(ROWS, day=DAY).rows
    assert count_never_visible(view(), {"a": rows}) == 2
    assert len(read_source(view(), {"a": rows})) == 4


@pytest.mark.parametrize(
    ("local", "zone", "expected"),
    [
        ("2024-07-01 12:00", "America/New_York", ["2024-07-01 16:00Z"]),
        ("2024-11-03 00:59:59.999999999", "America/New_York", ["2024-11-03 04:59:59.999999999Z"]),
        ("2024-11-03 01:00", "America/New_York", ["2024-11-03 05:00Z", "2024-11-03 06:00Z"]),
        ("2024-11-03 01:30", "America/New_York", ["2024-11-03 05:30Z", "2024-11-03 06:30Z"]),
        ("2024-11-03 02:00", "America/New_York", ["2024-11-03 07:00Z"]),
        ("2024-04-07 01:45", "Australia/Lord_Howe", ["2024-04-06 14:45Z", "2024-04-06 15:15Z"]),
        ("1969-12-31 23:59:59.999999999", "Asia/Kathmandu", ["1969-12-31 18:29:59.999999999Z"]),
        ("2024-11-03 01:30", "UTC", ["2024-11-03 01:30Z"]),
    ],
)
def test_local_times_are_the_instants_worked_out_by_hand(
    local: str, zone: str, expected: list[str]
) -> None:
    found = {
        policy: instant_ns(naive(local), zone, ambiguous=policy)
        for policy in ("earliest", "latest")
    }
    instants = [parse_time(text).ns for text in expected]
    assert (found["earliest"], found["latest"]) == (instants[0], instants[-1])
    if len(instants) == 2:
        with pytest.raises(LocalTimeError, match="twice"):
            instant_ns(naive(local), zone)
    else:
        assert instant_ns(naive(local), zone) == instants[0]


@pytest.mark.parametrize("local", ["02:00", "02:30:00.000000001", "02:59:59.999999999"])
def test_a_local_time_that_never_occurs_is_the_moment_of_the_change(local: str) -> None:
    raw = naive(f"2024-03-10 {local}")
    change = parse_time("2024-03-10 07:00Z").ns
    assert instant_ns(raw, "America/New_York", missing="forward") == change
    with pytest.raises(LocalTimeError, match="never"):
        instant_ns(raw, "America/New_York", ambiguous="latest")


def test_source_times_round_up_and_spine_times_down() -> None:
    assert [round_up(ns) for ns in (-1_001, -1_000, -1, 0, 1, 1_000)] == [-1, -1, 0, 0, 1, 1]
    assert [round_down(ns) for ns in (-1_001, -1, 0, 999, 1_000)] == [-2, -1, 0, 0, 1]


def test_any_null_part_makes_a_key_null_and_whole_floats_are_integers() -> None:
    dtypes = {"a": Int64, "b": String}
    columns = {"a": "x", "b": "y"}
    assert key_of({"x": 1.0, "y": "1"}, dtypes, columns) == (1, "1")
    assert key_of({"x": float("nan"), "y": "1"}, dtypes, columns) is None
    assert key_of({"x": 1, "y": None}, dtypes, columns) is None
    with pytest.raises(SpineError, match=r"1\.5"):
        key_of({"x": 1.5, "y": "1"}, dtypes, columns)


def test_names_collide_whatever_their_case() -> None:
    spine = read_table("user_id: int64 | event_timestamp: time | SCORE: string")
    files = {"profiles": {"a": read_table(ROWS, day=DAY).rows}}
    with pytest.raises(NameCollisionError, match="SCORE"):
        historical([view().select()], files, spine)


def test_a_local_time_that_is_refused_is_named() -> None:
    source = view().source.model_copy(update={"timezone": "America/New_York"})
    refused = view().model_copy(update={"source": source})
    table = read_table(
        "user_id: int64 | at: timestamp[us] | created: time | score: float64\n"
        "1 | 2024-11-03 00:30 | null | 1\n1 | 2024-11-03 01:30 | null | 1"
    )
    with pytest.raises(SourceTimeError, match="row 1") as caught:
        read_source(refused, {"x/a.parquet": table.rows})
    assert (caught.value.file, caught.value.column, caught.value.row) == ("x/a.parquet", "at", 1)


def test_a_run_takes_a_range_and_keeps_what_is_newer() -> None:
    files = {"a": read_table(ROWS, day=DAY).rows}
    online = OnlineOracle(view())
    online.materialize(files, start_us=us("10:00"), end_us=us("11:00"))
    assert online.look_up((1,), now_us=us("12:00")).statuses == {"score": "NULL_VALUE"}
    assert online.look_up((2,), now_us=us("12:00")).statuses == {"score": "NOT_FOUND"}
    online.materialize(files, end_us=us("10:59"))
    assert online.look_up((1,), now_us=us("12:00")).event_us == us("11:00")
    assert online.look_up((2,), now_us=us("12:00")).values == {"score": 2.0}
    assert online.look_up(None, now_us=us("12:00")).statuses == {"score": "NOT_FOUND"}
    with pytest.raises(RequestError):
        online.materialize(files, start_us=us("11:00"), end_us=us("11:00"))


def test_a_stored_row_expires_a_microsecond_after_its_ttl() -> None:
    online = OnlineOracle(view(ttl=timedelta(hours=1)))
    online.materialize({"a": read_table(ROWS, day=DAY).rows}, end_us=us("10:30"))
    last = online.look_up((1,), now_us=us("11:00"))
    after = online.look_up((1,), now_us=us("11:00:00.000001"))
    assert (last.statuses, last.values) == ({"score": "PRESENT"}, {"score": 1.5})
    assert (after.statuses, after.values) == ({"score": "OUTSIDE_MAX_AGE"}, {"score": None})
    assert not after.may_be_gone
    assert online.look_up((1,), now_us=us("11:00") + 86_400 * 10**6 + 1).may_be_gone


def test_an_incremental_run_looks_back_by_the_lateness() -> None:
    header = "user_id: int64 | at: time | created: time | score: float64\n"
    first = read_table(header + "1 | 10:00 | 10:10 | 1", day=DAY).rows
    late = read_table(
        header + "2 | 09:00 | 10:05:00.000001 | 2\n3 | 09:00 | 10:05 | 3\n4 | 09:00 | null | 4",
        day=DAY,
    ).rows
    online = OnlineOracle(view(lateness=timedelta(minutes=5)))
    online.materialize_incremental({"a": first}, end_us=us("12:00"))
    online.materialize_incremental({"a": first, "b": late}, end_us=us("12:00"))
    assert sorted(online.stored) == [(1,), (2,), (4,)]

"""Spines and their labels, against what plain Python says of the same rows."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import Aggregation, Entity, FeatureView, Field, FileSource
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.polars import PolarsEngine
from featurestore.registry.state import RegistryState
from featurestore.spines import Spine, Spines
from featurestore.spines.context import Context
from featurestore.time import Clock, format_duration
from featurestore.training.retrieve import retrieve
from featurestore.types import Int64

ENGINES: tuple[OfflineEngine, ...] = (DuckDBEngine(threads=1), PolarsEngine(threads=1))
T0 = datetime(2026, 1, 1, tzinfo=UTC)
NOW = T0 + timedelta(seconds=40)
UTC_US = pa.timestamp("us", "UTC")
KEYS = st.sampled_from([1, 1, 1, 2, None])
# Seconds, and a microsecond beside them: the ends of windows are met and just missed.
TIMES = st.builds(
    lambda s, us: T0 + timedelta(seconds=s, microseconds=us),
    st.integers(0, 8),
    st.sampled_from([0, 0, 0, -1, 1]),
)
WINDOWS = st.sampled_from([timedelta(seconds=s) for s in (1, 2, 4)] + [timedelta(microseconds=1)])


@dataclass(frozen=True)
class Event:
    """A row of the source."""

    key: int | None
    at: datetime | None
    amount: int | None


EVENTS = st.lists(
    st.builds(
        Event, KEYS, st.one_of(st.none(), TIMES, TIMES, TIMES), st.sampled_from([None, -2, 0, 5])
    ),
    max_size=14,
)
ASKED = st.lists(st.tuples(KEYS, st.one_of(st.none(), TIMES, TIMES)), max_size=10)


@contextmanager
def spines_over(
    events: Sequence[Event], engine: OfflineEngine, *, lateness: timedelta = timedelta(0)
) -> Iterator[tuple[Spines, FileSource, Context]]:
    with tempfile.TemporaryDirectory() as folder:
        numbers = list(range(len(events)))
        columns = {
            "k": pa.array([e.key for e in events], pa.int64()),
            "at": pa.array([e.at for e in events], UTC_US),
            "amount": pa.array([e.amount for e in events], pa.int64()),
            "id": pa.array(numbers, pa.int64()),
        }
        pq.write_table(pa.table(columns), Path(folder) / "events.parquet")
        context = Context(
            state=RegistryState(project="p"),
            engine=engine,
            root=Path(folder),
            source_roots=None,
            clock=Clock(NOW),
        )
        source = FileSource(
            name="events", path="events.parquet", timestamp_field="at", lateness=lateness
        )
        yield Spines(context), source, context


def spine_of(spines: Spines, asked: Sequence[tuple[int | None, datetime | None]]) -> Spine:
    keys, times = pa.array([k for k, _ in asked], pa.int64()), [q for _, q in asked]
    table = pa.table({"k": keys, "event_timestamp": pa.array(times, UTC_US)})
    return spines.from_table(table, keys=["k"])


def horizon(events: Sequence[Event], lateness: timedelta) -> datetime | None:
    known = [e.at for e in events if e.at is not None and e.at <= NOW]
    return max(known) - lateness if known else None


def after(events: Sequence[Event], key: int | None, q: datetime, window: timedelta) -> list[int]:
    """Return the numbers of the events in (q, q + window], in order."""
    inside = [
        (event.at, number)
        for number, event in enumerate(events)
        if event.key == key and event.at is not None and q < event.at <= q + window
    ]
    return [number for _, number in sorted(inside)]


def expected(events: Sequence[Event], inside: list[int], function: str) -> Any:
    amounts = [a for n in inside if (a := events[n].amount) is not None]
    answers: dict[str, Any] = {
        "count": len(amounts),
        "sum": sum(amounts) if amounts else None,
        "max": max(amounts, default=None),
        "first": amounts[0] if amounts else None,
        "exists": bool(amounts),
        "last_2": amounts[::-1][:2] or None,
    }
    return answers[function]


@given(
    events=EVENTS,
    asked=ASKED,
    window=WINDOWS,
    function=st.sampled_from(["count", "sum", "max", "first", "exists", "last_2"]),
    lateness=st.sampled_from([timedelta(0), timedelta(seconds=3)]),
    positive=st.booleans(),
)
def test_a_label_is_what_comes_after_or_null_while_that_cannot_be_known(
    *,
    events: list[Event],
    asked: list[tuple[int | None, datetime | None]],
    window: timedelta,
    function: str,
    lateness: timedelta,
    positive: bool,
) -> None:
    complete = horizon(events, lateness)
    wanted: list[Any] = []
    counting = [
        Event(e.key, e.at, e.amount if not positive or (e.amount or 0) > 0 else None)
        for e in events
    ]
    for key, q in asked:
        is_mature = q is not None and complete is not None and q + window <= complete
        if key is None or q is None or not is_mature:
            wanted.append(None)
        else:
            wanted.append(expected(counting, after(events, key, q, window), function))
    for engine in ENGINES:
        with spines_over(events, engine, lateness=lateness) as (spines, source, _):
            spine = spine_of(spines, asked).label(
                "label",
                source,
                window=window,
                aggregation=function,
                column="amount",
                where="amount > 0" if positive else None,
            )
            assert spine.to_arrow()["label"].to_pylist() == wanted
            dropped = spine_of(spines, asked).label("label", source, window=window, immature="drop")
            step = dropped.origin["steps"][-1]
            assert step["mature"] + step["immature"] + step["without_key_or_time"] == len(asked)
            assert dropped.num_rows == len(asked) - step["immature"]
            assert dropped.num_rows - dropped.to_arrow()["label"].null_count == step["mature"]


@given(
    events=EVENTS, asked=ASKED, window=WINDOWS, closed=st.sampled_from(["left", "right", "both"])
)
def test_an_event_is_in_the_window_before_a_moment_or_in_the_label_after_it(
    events: list[Event],
    asked: list[tuple[int | None, datetime | None]],
    window: timedelta,
    closed: str,
) -> None:
    engine = ENGINES[0]
    with spines_over(events, engine) as (spines, source, context):
        everything = ["last_1000"]
        view = FeatureView(
            name="before",
            entities=[Entity(name="k", join_keys={"k": Int64})],
            source=source,
            online=False,
            aggregations=[Aggregation("id", everything, [window], closed=closed)],
        )
        newest = FeatureView(
            name="newest",
            entities=view.entities,
            source=source,
            schema=[Field(name="id", dtype=Int64)],
        )
        spine = spine_of(spines, asked).label(
            "after",
            source,
            window=window,
            aggregation=everything[0],
            column="id",
            complete_until=NOW,
        )
        found = _features(context, spine, [view, newest]).to_pylist()
    name = f"id_last_1000_{format_duration(window)}"
    for row in found:
        before, later = set(row[name] or ()), set(row["after"] or ())
        assert not before & later
        assert row["id"] is None or row["id"] not in later
        q, key = row["event_timestamp"], row["k"]
        if key is None or q is None or closed != "right":
            continue
        both = {
            n
            for n, e in enumerate(events)
            if e.key == key and e.at is not None and q - window < e.at <= q + window
        }
        assert before | later == both


def _features(context: Context, spine: object, views: list[FeatureView]) -> pa.Table:
    return retrieve(
        entity_df=spine,
        features=views,
        state=context.state,
        engine=context.engine,
        root=context.root,
        full_feature_names=False,
        timestamp_field="event_timestamp",
        timezone="UTC",
        mode="complete",
    ).to_arrow()


@given(
    events=EVENTS,
    more=st.lists(st.tuples(KEYS, st.integers(1, 2_000_000)), min_size=1, max_size=6),
    asked=ASKED,
    window=WINDOWS,
)
def test_what_comes_after_the_horizon_never_changes_a_mature_label(
    events: list[Event],
    more: list[tuple[int | None, int]],
    asked: list[tuple[int | None, datetime | None]],
    window: timedelta,
) -> None:
    until = horizon(events, timedelta(0))
    later = [Event(k, (until or T0) + timedelta(microseconds=us), 1) for k, us in more]
    labels, steps = [], []
    for rows in (events, [*events, *later]):
        with spines_over(rows, ENGINES[1]) as (spines, source, _):
            found = spine_of(spines, asked).label("n", source, window=window)
        labels.append(found.to_arrow()["n"].to_pylist())
        steps.append(found.origin["steps"][-1])
    for before, now in zip(*labels, strict=True):
        assert before is None or before == now
    assert steps[0]["mature"] <= steps[1]["mature"]


@given(
    events=EVENTS,
    span=st.tuples(st.one_of(st.none(), TIMES), st.one_of(st.none(), TIMES)),
    offset=st.sampled_from([None, timedelta(hours=-1), timedelta(seconds=1)]),
)
def test_a_spine_has_a_row_for_each_event(
    events: list[Event],
    span: tuple[datetime | None, datetime | None],
    offset: timedelta | None,
) -> None:
    start, end = span
    if start is not None and start >= (end or NOW):
        return
    wanted = (
        sorted(
            (e.at, n, e.key, e.amount)
            for n, e in enumerate(events)
            if e.key is not None
            and e.at is not None
            and (start is None or e.at > start)
            and e.at <= (end or NOW)
        )
        if events
        else []
    )
    moved = offset or timedelta(0)
    for engine in ENGINES:
        with spines_over(events, engine) as (spines, source, _):
            spine = spines.from_events(
                source,
                keys=["k"],
                columns=["id"],
                labels=["amount"],
                start=start,
                end=end,
                offset=offset,
            )
        rows = spine.to_arrow().to_pylist()
        assert [tuple(row.values()) for row in rows] == [
            (key, at + moved, number, amount) for at, number, key, amount in wanted
        ]
        assert spine.labels == ("amount",)


@given(
    rows=st.lists(st.tuples(KEYS, TIMES, st.sampled_from(["a", "b", None, "ä" * 20])), max_size=30),
    data=st.data(),
    by=st.sampled_from([(), ("k",), ("text",)]),
    seed=st.integers(0, 3),
)
def test_a_sample_is_the_same_in_whatever_order_its_rows_come(
    rows: list[tuple[int | None, datetime, str | None]],
    data: st.DataObject,
    by: tuple[str, ...],
    seed: int,
) -> None:
    size: dict[str, Any] = data.draw(
        st.sampled_from([{"n": 0}, {"n": 2}, {"fraction": 0.5}, {"fraction": 1.0}])
    )
    other = data.draw(st.permutations(rows))
    found = []
    with spines_over([], ENGINES[0]) as (spines, _, _):
        for some in (rows, other):
            table = pa.table(
                {
                    "k": pa.array([r[0] for r in some], pa.int64()),
                    "event_timestamp": pa.array([r[1] for r in some], UTC_US),
                    "text": pa.array([r[2] for r in some], pa.string()),
                }
            )
            parts = [table.slice(0, 3), table.slice(3)]
            spine = spines.from_table(pa.concat_tables(parts), keys=["k"])
            found.append(spine.sample(**size, by=list(by), seed=seed).to_arrow().to_pylist())
    taken, again = found
    assert sorted(map(repr, taken)) == sorted(map(repr, again))
    if "n" in size and not by:
        assert len(taken) == min(size["n"], len(rows))
    in_order = iter(_as_rows(rows))
    assert all(any(row == other for other in in_order) for row in taken)


def _as_rows(rows: list[tuple[int | None, datetime, str | None]]) -> list[dict[str, Any]]:
    return [dict(zip(("k", "event_timestamp", "text"), row, strict=True)) for row in rows]


@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([1, 2, None]), st.sampled_from([T0, NOW]), st.sampled_from([0, 1, None])
        ),
        max_size=10,
    ),
    keep=st.sampled_from(["first", "last"]),
    conflicts=st.sampled_from(["keep", "drop"]),
)
def test_of_duplicates_one_is_left(
    rows: list[tuple[int | None, datetime, int | None]], keep: Any, conflicts: Any
) -> None:
    groups: dict[object, list[int]] = {}
    for number, row in enumerate(rows):
        groups.setdefault(row[:2] if row[0] is not None else number, []).append(number)
    clashing = [g for g in groups.values() if len({rows[n][2] for n in g}) > 1]
    chosen = sorted(
        group[0 if keep == "first" else -1]
        for group in groups.values()
        if conflicts == "keep" or group not in clashing
    )
    table = pa.table(
        {
            "k": pa.array([r[0] for r in rows], pa.int64()),
            "event_timestamp": pa.array([r[1] for r in rows], UTC_US),
            "late": pa.array([r[2] for r in rows], pa.int64()),
            "row": pa.array(range(len(rows)), pa.int64()),
        }
    )
    with spines_over([], ENGINES[0]) as (spines, _, _):
        spine = spines.from_table(table, keys=["k"], labels=["late"])
        found = spine.deduplicate(keep=keep, conflicts=conflicts)
    assert found.to_arrow()["row"].to_pylist() == chosen
    step = found.origin["steps"][-1]
    assert (step["dropped"], step["conflicting"]) == (len(rows) - len(chosen), len(clashing))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Australia/Lord_Howe"])
@given(
    start=st.datetimes(datetime(2000, 1, 1), datetime(2020, 1, 1)),  # noqa: DTZ001 - local
    days=st.integers(1, 400),
    length=st.integers(0, 900),
)
def test_days_are_those_of_the_calendar(start: datetime, days: int, length: int, zone: str) -> None:
    tz = ZoneInfo(zone)
    start = start.replace(minute=30, second=0, microsecond=0)
    end = start.replace(tzinfo=tz).astimezone(UTC) + timedelta(days=length)
    with spines_over([], ENGINES[0]) as (spines, _, _):
        grid = spines.from_grid(
            entities={"k": [7]}, start=start, end=end, every=f"{days}d", timezone=zone
        )
    found = grid.to_arrow()["event_timestamp"].to_pylist()
    assert found == sorted(set(found))
    assert all(at <= end for at in found)
    for number, at in enumerate(found):
        local = (start + number * timedelta(days=days)).replace(tzinfo=tz)
        exists = local.astimezone(UTC).astimezone(tz).replace(tzinfo=None) == local.replace(
            tzinfo=None
        )
        assert at.astimezone(tz).date() == local.date()
        assert at == local.astimezone(UTC) or not exists
    following = (start + len(found) * timedelta(days=days)).replace(tzinfo=tz)
    assert following.astimezone(UTC) > end

"""Joins in transforms: both engines find the partners that a nested loop finds, in both modes."""

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from featurestore.definitions import Aggregation, Entity, FeatureView, Field, FileSource
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.offline.key_index import UNKNOWN, KeyIndex
from featurestore.offline.polars import PolarsEngine
from featurestore.offline.row_joins import Written
from featurestore.testing.offline_cases import check_latest_of_each, check_training_sets
from featurestore.testing.plain import PlainTable, RawTime
from featurestore.testing.strategies import FOLDER, History, TrainingCase
from featurestore.testing.window_cases import check_windows_of_each
from featurestore.types import parse_type

if TYPE_CHECKING:
    from featurestore.testing.oracle_rows import Mode

ENGINES: tuple[OfflineEngine, ...] = (DuckDBEngine(threads=2), PolarsEngine(threads=2))
_BASE = 1_709_640_000 * 10**9  # 2024-03-05 12:00 UTC
_TIME = "timestamp[us, UTC]"
_LOOKUPS = ("LEFT JOIN", "JOIN")
_AS_OF = ("ASOF LEFT JOIN", "ASOF JOIN")
_SELECTED = {
    "product": ("float64", ("a * rates.rate", "coalesce(rates.rate, 0.5) + a")),
    "category": ("string", ("m.category", "upper(m.category)", "m.category || e.s")),
    "rate": ("float64", ("rates.rate",)),
    "quoted": (_TIME, ("rates.quoted",)),
    "tags": ("list<int64>", ("m.tags",)),
    "plain": ("int64", ("a", "a + 1")),
}
_FILTERS = (
    *("m.category <> 'a'", "m.category IS NULL", "rates.rate > 0.5", "isnan(rates.rate)"),
    *("a > 0", "coalesce(rates.rate, 1.0) > 0.6 AND e.s <> 'b'"),
)
_VALUES: dict[str, tuple[object, ...]] = {
    "user_id": (1, 1, 1, 2, None),
    "a": (0, 1, 2, None),
    "s": ("a", "b", None),
    "merchant": (1, 2, 3, -4, None),
    "day": (0, 1, None),
    "rate": (0.5, 1.5, float("nan"), None),
    "category": ("a", "b", None),
}
_TAGS: tuple[object, ...] = ([], [1, None], None)


def _instants(edge: int) -> st.SearchStrategy[RawTime | None]:
    """Draw times close together, many of which tie; some at the very microsecond before another."""
    at = st.sampled_from([0, 0, 1, 1, 2, 3, edge])
    return st.none() | at.map(lambda n: RawTime(_BASE + n * 1_000))


@st.composite
def _tables(draw: st.DrawFn, types: dict[str, str], *, most: int) -> PlainTable:
    cells: dict[str, st.SearchStrategy[object]] = {
        name: _instants(4) if dtype == _TIME else st.sampled_from(_VALUES.get(name, _TAGS))
        for name, dtype in types.items()
    }
    rows = draw(st.lists(st.fixed_dictionaries(cells), max_size=most))
    return PlainTable({n: parse_type(t) for n, t in types.items()}, rows)


@st.composite
def _lookups(draw: st.DrawFn) -> dict[str, PlainTable]:
    """Draw a static source whose keys are unique, but for null ones."""
    types = {"merchant": "int64", "s": "string", "category": "string", "tags": "list<int64>"}
    table = draw(_tables(types, most=10))
    seen, rows = set(), []
    for row in table.rows:
        key = (row["merchant"], row["s"])
        if key not in seen or None in key:
            rows.append(row)
        seen.add(key)
    half = len(rows) // 2
    parts = {"1.parquet": rows[:half], "2.parquet": rows[half:]}
    return {path: PlainTable(table.columns, part) for path, part in parts.items()}


@st.composite
def join_cases(draw: st.DrawFn, *, windows: bool) -> TrainingCase:
    """Return a history whose transform joins a lookup table and rates, and a spine beside it."""
    dated = draw(st.booleans())
    created = "made" if dated else None
    small = draw(st.sampled_from(["int8", "int64"]))
    told_apart = st.sampled_from([None, ["a"], ["s", "happened"]]) if windows else st.none()
    events = FileSource(
        name="events",
        path=f"{FOLDER}/*.parquet",
        timestamp_field="happened",
        created_timestamp_column=created,
        dedup_keys=draw(told_apart),
    )
    rates = FileSource(
        name="rates",
        path="rates/*.parquet",
        timestamp_field="quoted",
        created_timestamp_column=created,
    )
    merchants = FileSource(name="merchants", path="merchants/*.parquet", static=True)
    listed = [f"{draw(st.sampled_from(texts))} AS {name}" for name, (_, texts) in _SELECTED.items()]
    where = draw(st.just("") | st.sampled_from([f" WHERE {text}" for text in _FILTERS]))
    equal = draw(
        st.sampled_from(["e.day = rates.day AND ", "", "e.s = rates.s AND e.day = rates.day AND "])
    )
    sql = (
        f"SELECT {', '.join(listed)} FROM events e"  # noqa: S608 - that is the test
        f" {draw(st.sampled_from(_LOOKUPS))} merchants m"
        " ON e.merchant = m.merchant AND e.s = m.s"
        f" {draw(st.sampled_from(_AS_OF))} rates ON {equal}e.happened >= rates.quoted{where}"
    )
    of: dict[str, Any] = {
        "schema": [Field(name=name, dtype=dtype) for name, (dtype, _) in _SELECTED.items()]
    }
    if windows:
        of = {
            "aggregations": [
                Aggregation("product", ["sum", "last"], ["2h", None]),
                Aggregation("category", ["last", "count"], [None]),
                Aggregation("*", ["count"], [None], where="rate > 0.6", name="rated"),
            ]
        }
    view = FeatureView(
        name="v",
        entities=[Entity(name="user", join_keys={"user_id": pa.int64()})],
        source=events,
        joins=[merchants, rates],
        transform=sql,
        online=False,
        **of,
    )
    own = {"user_id": "int64", "happened": _TIME, "made": _TIME, "a": "int64", "s": "string"}
    own |= {"merchant": small, "day": "date32"}
    quotes = {"day": "date32", "s": "string", "quoted": _TIME, "made": _TIME, "rate": "float64"}
    history = History(
        view=view,
        files={name: _dates(draw(_tables(own, most=7))) for name in ("1.parquet", "2.parquet")},
        joined={
            "merchants": draw(_lookups()),
            "rates": {
                name: _dates(draw(_tables(quotes, most=8))) for name in ("b.parquet", "a.parquet")
            },
        },
        moments=[_BASE],
    )
    times = [RawTime(_BASE + n * 1_000) for n in range(-1, 6)]
    spine = PlainTable(
        {"user_id": pa.int64(), "event_timestamp": parse_type(_TIME)},
        [{"user_id": key, "event_timestamp": time} for key in (1, 2, None) for time in times],
    )
    modes: list[Mode] = ["complete", "as_served"] if dated else ["complete"]
    return TrainingCase(
        history=history, spine=spine, timezone="UTC", mode=draw(st.sampled_from(modes))
    )


def _dates(table: PlainTable) -> PlainTable:
    """Return a table whose days are dates."""
    days = {0: date(1970, 1, 1), 1: date(2024, 2, 29)}
    rows: list[dict[str, object]] = [
        {**row, "day": days.get(row["day"])}  # type: ignore[call-overload]
        for row in table.rows
    ]
    return PlainTable(table.columns, rows)


@given(case=join_cases(windows=False))
def test_joined_features_are_the_oracles(case: TrainingCase) -> None:
    check_training_sets(ENGINES, case)


@given(case=join_cases(windows=True))
def test_windows_over_joined_columns_are_the_oracles(case: TrainingCase) -> None:
    check_windows_of_each(ENGINES, case)


@given(case=join_cases(windows=False), until=st.integers(-1, 5))
def test_newest_rows_with_joins_are_the_oracles(case: TrainingCase, until: int) -> None:
    check_latest_of_each(ENGINES, case.history, RowFilter(until_us=_BASE // 1_000 + until))


# --- the parts ------------------------------------------------------------------------------------

_KEYS = {
    "int64": st.sampled_from([-(2**63), -1, 0, 1, 5, 2**63 - 1, None]),
    "int32": st.integers(0, 9),
    "uint64": st.sampled_from([0, 1, 2**63, 2**64 - 1, None]),
    "string": st.sampled_from(["", "a", "é", "e\u0301", None]),
    "binary": st.sampled_from([b"", b"\0", b"a", None]),
    "bool": st.sampled_from([True, False, None]),
    "date32": st.sampled_from([None]) | st.dates(),
}


@given(data=st.data(), dtypes=st.lists(st.sampled_from(sorted(_KEYS)), max_size=3))
def test_keys_are_found_by_their_values(data: st.DataObject, dtypes: list[str]) -> None:
    rows = st.lists(st.tuples(*(_KEYS[dtype] for dtype in dtypes)), max_size=12)
    known = [row for row in data.draw(rows) if None not in row]
    asked = data.draw(rows) + known
    index = KeyIndex(_columns(dtypes, known), len(known))
    found = index.find(_columns(dtypes, asked), len(asked)).tolist()
    number = dict(zip(known, index.groups.tolist(), strict=True))
    assert found == [number.get(row, UNKNOWN) for row in asked]
    assert index.size == len(set(known))
    assert index.groups.tolist() == [number[row] for row in known]


def _columns(dtypes: list[str], rows: list[Any]) -> list[pa.Array]:
    return [pa.array([row[n] for row in rows], parse_type(t)) for n, t in enumerate(dtypes)]


@given(
    rows=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=20),
    asked=st.lists(st.tuples(st.integers(-1, 19), st.integers(-1, 6)), max_size=10),
)
def test_the_last_row_written_by_a_time_is_found(
    rows: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    groups, created = (np.array([row[n] for row in rows], dtype=np.int64) for n in (0, 1))
    asked = [(place, by) for place, by in asked if place < len(rows)]
    places, times = (np.array([a[n] for a in asked], dtype=np.int64) for n in (0, 1))
    expected = [
        max(
            (n for n in range(place + 1) if groups[n] == groups[place] and created[n] <= by),
            default=-1,
        )
        for place, by in asked
    ]
    assert Written(groups, created).last_at_most(places, times).tolist() == expected

"""Hypothesis strategies for views with aggregations, their histories, and spines at window edges.

What goes wrong seldom happens often here: one hot key, ties, rows out of order, rows a microsecond
off either end of a window, NaN and infinities in some windows only, 1e15 beside 1e-3, drifting
series, sums at the edge of overflow, nulls, rows created late, early or never, several files.

    @given(case=window_cases())
    def test_my_engine(case: TrainingCase) -> None:
        check_windows(my_engine, case)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
from hypothesis import strategies as st

from featurestore.definitions import Aggregation, Entity, FeatureView, FileSource
from featurestore.definitions.aggregation import Closed
from featurestore.definitions.functions import parse_function
from featurestore.testing.oracle_rows import Mode
from featurestore.testing.plain import PlainTable, RawTime, parse_physical, parse_time, plain_table
from featurestore.testing.strategies import (
    FILE_NAMES,
    FOLDER,
    US,
    History,
    TrainingCase,
    as_column_holds,
)
from featurestore.time import parse_duration
from featurestore.types import parse_type

_BASE: Final = parse_time("2024-03-05 12:00Z").ns
_WINDOWS: Final = ("2us", "90s", "1h", "36h", "7d", None)
_CLOSED: Final[tuple[Closed, ...]] = ("left", "left", "right", "both", "neither")

_KEYS: Final[tuple[Mapping[str, str], ...]] = (
    {"k": "int64"},
    {"k": "string"},
    {"k": "int32", "l": "string"},
    {},
)
_KEY_VALUES: Final[Mapping[str, tuple[object, ...]]] = {
    "int64": (*[7] * 10, -1, 2**53 + 1),
    "int32": (*[7] * 10, 1),
    "string": (*["a"] * 10, "", "é"),
}

_NAN: Final = float("nan")
_INF: Final = float("inf")
_TAME: Final = ((1.0, 2.5, -0.5, 0.1, 0.2), (1.0, _NAN, 2.0, 3.0, 0.5), (_INF, -_INF, 1.0, 2.0))
_WILD: Final = (
    (1e15, 1e-3, -1e15, 3e-3),
    (_NAN, 1e15, _INF, 1e-3, 2e-3),
    (-0.0, 0.0, 1.0, _NAN),
    tuple(1e9 + 1e-3 * step for step in range(12)),  # drifts: |mean| / stddev is about 1e12
    tuple(100.0 + 0.01 * step for step in range(12)),
    (5e-324, 1e-300, -1e-300),
)
_VALUES: Final[Mapping[str, tuple[tuple[object, ...], ...]]] = {
    "int64": (
        (1, 2, -3, 5),
        (2**63 - 1, 2**63 - 1, 1, -1, 0, -(2**63)),
        (2**62, 2**62 - 1, 2**62, 1, -(2**62)),
        (2**53 + 1, 2**53 + 3, 1),
    ),
    "int8": ((127, 127, -128, 1),),
    "uint32": ((2**32 - 1, 0, 1),),
    "uint64": ((2**64 - 1, 1, 0), (2**63, 2**63 - 1, 1)),
    "float64": (*_TAME, *_WILD),
    "float32": _TAME,
    "decimal128(10, 2)": ((Decimal("0.01"), Decimal("99999999.99"), Decimal("-1.50")),),
    "decimal128(38, 2)": ((Decimal("9" * 36 + ".99"), Decimal("-0.01"), Decimal("0.01")),),
    "bool": ((True, False),),
    "string": (("a", "", "é", "e\u0301", "🛫"),),
    "binary": ((b"", b"\0", b"a", b"\xff"),),
    "date32": ((date(1969, 12, 31), date(2024, 2, 29), date(9999, 12, 31)),),
    "timestamp[us, UTC]": ((RawTime(-1_000), RawTime(0), RawTime(_BASE)),),
    "timestamp[ns, UTC]": ((RawTime(_BASE + 1), RawTime(_BASE + 999), RawTime(-1)),),
}
_OFTEN: Final = ("float64",) * 8 + ("int64",) * 4 + tuple(_VALUES)
_ANY: Final = ("count", "min", "max", "first", "last", "count_distinct", "last_1", "last_3")
_ANY_TYPE: Final = (*_ANY, "first_2", "last_1000")
_NUMBERS: Final = ("sum", "mean", "var", "stddev", "median", "p0", "p25", "p95", "p99.9", "p100")
_WHERE: Final = (
    "state = 'ok'",
    "state <> 'ok'",
    "n > 1",
    "n IS NULL OR n <= 0",
    "state = 'ok' AND n >= 1",
    "NOT (state = 'ok' OR n = 2)",
    "state IS NOT NULL",
)


_EVENT_IDS: Final[Mapping[str, tuple[object, ...]]] = {
    "int64": (1, 2, 2**53 + 1),
    "string": ("a", "b", "", "é"),
    "binary": (b"", b"\0", b"a"),
    "bool": (True, False),
    "date32": (date(1969, 12, 31), date(2024, 2, 29)),
    "decimal128(10, 2)": (Decimal("0.01"), Decimal("-1.50")),
    "timestamp[us, UTC]": (RawTime(_BASE), RawTime(_BASE + US), RawTime(-US)),
    "timestamp[ns, UTC]": (RawTime(_BASE), RawTime(_BASE + 1), RawTime(_BASE + US)),
}
"""Few values each, so that events often come again, of the same entity or another."""
_EVENT_VARIANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "int64": ("int64", "int64"),
    "string": ("string", "large_string", "dictionary<string>"),
}
_DEDUP_KEYS: Final[tuple[tuple[str, ...] | None, ...]] = (
    *(None,) * 3,
    *(("id",),) * 3,
    ("id", "n"),
    ("event", "id"),
    ("event",),
    ("n", "state"),
)


@st.composite
def window_cases(draw: st.DrawFn, *, max_rows: int = 8, max_spine_rows: int = 8) -> TrainingCase:
    """Draw a history of a view with aggregations, and a spine at the edges of its windows.

    Args:
        draw: Given by Hypothesis.
        max_rows: Most rows of a file, of which there are up to three.
        max_spine_rows: Most rows of the spine.
    """
    mode: Mode = draw(st.sampled_from(("complete", "complete", "as_served")))
    setting = draw(_settings(mode))
    names = draw(st.lists(st.sampled_from(FILE_NAMES), min_size=1, max_size=3, unique=True))
    files = {name: draw(_files(setting, max_rows)) for name in names}
    history = History(view=setting.view, files=files, moments=setting.moments)
    spine = draw(_spines(setting, max_spine_rows))
    return TrainingCase(history=history, spine=spine, timezone="UTC", mode=mode)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column to aggregate: its name, its type in the files, and what it may hold."""

    name: str
    dtype: str
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What all files and the spine of a case share."""

    view: FeatureView
    columns: Sequence[_Column]
    event_id: _Column
    time_types: Mapping[str, str]
    lengths: Sequence[int]
    moments: Sequence[int]
    """When windows end."""


@st.composite
def _settings(draw: st.DrawFn, mode: Mode) -> _Setting:
    dtypes = draw(st.lists(st.sampled_from(_OFTEN), min_size=1, max_size=2))
    columns = [
        _Column(f"v{n}", dtype, draw(st.sampled_from(_VALUES[dtype])))
        for n, dtype in enumerate(dtypes)
    ]
    dated = mode == "as_served" or draw(st.booleans())
    keys = {name: parse_type(dtype) for name, dtype in draw(st.sampled_from(_KEYS)).items()}
    windows = draw(st.lists(st.sampled_from(_WINDOWS), min_size=1, max_size=3, unique=True))
    lengths = _lengths(windows)
    aggregations = [draw(_aggregations(column, n, windows)) for n, column in enumerate(columns)]
    if draw(st.booleans()):
        where, closed = draw(st.sampled_from((None, *_WHERE))), draw(st.sampled_from(_CLOSED))
        aggregations.append(
            Aggregation("*", ["count"], windows, where=where, name="rows", closed=closed)
        )
    source = FileSource(
        name="events",
        path=f"{FOLDER}/**/*.parquet",
        timestamp_field="event",
        created_timestamp_column="created" if dated else None,
        field_mapping=draw(st.sampled_from(_RENAMED)),
        dedup_keys=draw(st.sampled_from(_DEDUP_KEYS)),
    )
    id_type = draw(st.sampled_from(sorted(_EVENT_IDS)))
    time_type = st.sampled_from(("timestamp[us, UTC]", "timestamp[ns, UTC]", "timestamp[us]"))
    return _Setting(
        view=FeatureView(
            name="windowed",
            entities=[Entity(name="thing", join_keys=keys)] if keys else [],
            source=source,
            schema=(),
            aggregations=aggregations,
        ),
        columns=columns,
        event_id=_Column("id", id_type, _EVENT_IDS[id_type]),
        time_types={name: draw(time_type) for name in ("event", "created")[: 1 + dated]},
        lengths=lengths,
        moments=draw(_ends(lengths)),
    )


_RENAMED: Final[tuple[dict[str, str], ...]] = (
    {},
    {"in file v0": "v0"},
    {"in file n": "n"},
    {"in file id": "id"},
)


@st.composite
def _aggregations(
    draw: st.DrawFn, column: _Column, number: int, windows: Sequence[str | None]
) -> Aggregation:
    dtype = parse_physical(column.dtype)
    is_number = not column.dtype.startswith(("bool", "string", "binary", "date", "timestamp"))
    known = (*_NUMBERS, *_NUMBERS, *_ANY_TYPE) if is_number else _ANY_TYPE
    functions = draw(st.lists(st.sampled_from(known), min_size=3, max_size=8, unique=True))
    plain = is_number and all(parse_function(f).length is None for f in functions)
    where = draw(st.sampled_from((None, None, *_WHERE)))
    return Aggregation(
        column.name,
        functions,
        windows,
        where=where,
        name=None if where is None else f"some{number}",
        closed=draw(st.sampled_from(_CLOSED)),
        empty=draw(st.sampled_from((None, None, 0, 7))) if plain else None,
        dtype=draw(st.sampled_from((None, dtype))),
    )


@st.composite
def _ends(draw: st.DrawFn, lengths: Sequence[int]) -> list[int]:
    """Draw a few instants at which windows end; some lie a whole window apart."""
    steps = st.lists(st.sampled_from([*lengths, 60 * 10**9]), max_size=2).map(sum)
    return sorted({_BASE - ns for ns in [0, *draw(st.lists(steps, max_size=2))]})


def _lengths(windows: Sequence[str | None]) -> list[int]:
    """Return the lengths of windows in nanoseconds."""
    return [parse_duration(w) // timedelta(microseconds=1) * US for w in windows if w]


_OFF: Final = (0, 0, 0, US, -US, 1, -1, 999)
_LATE: Final = (0, 0, US, -US, 90 * 10**9, 3_600 * 10**9, -3_600 * 10**9)


def _event_times(setting: _Setting) -> list[int]:
    """Return both ends of windows, what is just beside them, and instants inside."""
    edges = [
        end - part + off
        for end in setting.moments
        for length in (0, *setting.lengths)
        for part in {0, length}
        for off in _OFF
    ]
    inside = [end - n * US for end in setting.moments for n in (1, 2, 7)]
    inside += [
        end - length * n // 7 // US * US
        for end in setting.moments
        for length in setting.lengths or [7 * US]
        for n in range(1, 7)
    ]
    return [*edges, *inside * 2]


def _times(
    instants: Sequence[int], dtype: pa.DataType, late: tuple[int, ...]
) -> st.SearchStrategy[Any]:
    """Draw one of these instants, perhaps some time later, as a column holds it, or null."""

    def held(at: int, by: int | None) -> Any:
        return None if by is None else as_column_holds(at + by, dtype, "UTC")

    return st.builds(held, st.sampled_from(instants), st.sampled_from((*late * 4, None)))


@st.composite
def _files(draw: st.DrawFn, setting: _Setting, max_rows: int) -> PlainTable:
    source = setting.view.source
    types: dict[str, pa.DataType] = dict(setting.view.join_keys)
    cells = {name: _or_null(_KEY_VALUES[str(dtype)]) for name, dtype in types.items()}
    for column in setting.columns:
        types[column.name] = parse_physical(column.dtype)
        cells[column.name] = _or_null(column.values)
    event_id = setting.event_id
    variants = _EVENT_VARIANTS.get(event_id.dtype, (event_id.dtype,))
    types |= {"state": pa.string(), "n": pa.int32()}
    types["id"] = parse_physical(draw(st.sampled_from(variants)))
    cells["id"] = _or_null(event_id.values)
    cells["state"] = st.sampled_from(("ok", "ok", "ok", "bad", None))
    cells["n"] = st.sampled_from((0, 1, 2, 2, None))
    events = _event_times(setting)
    if draw(st.booleans()):  # ties
        events = draw(st.lists(st.sampled_from(events), min_size=2, max_size=3))
    types |= {name: parse_physical(dtype) for name, dtype in setting.time_types.items()}
    cells["event"] = _times(events, types["event"], (0,) * 3)
    if "created" in types:
        # Often at the very instant at which a window ends.
        at_ends = [end + off for end in setting.moments for off in _OFF]
        cells["created"] = _times([*events, *at_ends * 5], types["created"], _LATE)
    fewest = draw(st.sampled_from((0, max_rows // 2)))
    rows = draw(st.lists(st.fixed_dictionaries(cells), min_size=fewest, max_size=max_rows))
    # Drifting series drift in the order of rows, not at random.
    if draw(st.booleans()):
        rows = [_drifted(setting, row, n) for n, row in enumerate(rows)]
    in_file = {source.column_in_file(name): dtype for name, dtype in types.items()}
    return plain_table(in_file, [[row[name] for name in types] for row in rows])


def _drifted(setting: _Setting, row: dict[str, Any], number: int) -> dict[str, Any]:
    series = {c.name: c.values[number % len(c.values)] for c in setting.columns}
    return row | {name: value for name, value in series.items() if row[name] is not None}


@st.composite
def _spines(draw: st.DrawFn, setting: _Setting, max_rows: int) -> PlainTable:
    types: dict[str, pa.DataType] = dict(setting.view.join_keys)
    cells = {
        name: _or_null((*_KEY_VALUES[str(dtype)], _UNKNOWN[str(dtype)]))
        for name, dtype in types.items()
    }
    time_type = draw(st.sampled_from(("timestamp[us, UTC]", "timestamp[ns, UTC]")))
    types["event_timestamp"] = parse_physical(time_type)
    times = [end + off for end in setting.moments for off in _OFF]
    cells["event_timestamp"] = _times(times, types["event_timestamp"], (0,) * 3)
    fewest = draw(st.sampled_from((0, max_rows // 2)))
    rows = draw(st.lists(st.fixed_dictionaries(cells), min_size=fewest, max_size=max_rows))
    return plain_table(types, [[row[name] for name in types] for row in rows])


_UNKNOWN: Final[Mapping[str, object]] = {"int64": 99, "int32": 99, "string": "nobody"}


def _or_null(values: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Draw one of these, and null about once in twelve."""
    return st.sampled_from([*(list(values) * -(-11 // len(values))), None])

"""Hypothesis strategies for views, histories and spines.

What goes wrong seldom happens often here: ties, corrections, nulls, times that meet after rounding,
edges of a ttl, clock changes, several files of several types, unknown keys.

    @given(training_cases())
    def test_my_engine(case: TrainingCase) -> None:
        with tempfile.TemporaryDirectory() as folder:
            case.history.write(Path(folder))
            ...

The first feature of every view, `row`, numbers the rows of the history: two rows never agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import pyarrow as pa
from hypothesis import strategies as st

from featurestore.definitions import Entity, FeatureView, Field, FileSource
from featurestore.testing.local_time import LocalTimeError, instant_ns
from featurestore.testing.oracle_rows import Mode
from featurestore.testing.plain import (
    NS_PER_SECOND,
    PlainTable,
    RawTime,
    Row,
    parse_physical,
    parse_time,
    plain_table,
)
from featurestore.time import parse_duration
from featurestore.types import parse_type, type_name

T = TypeVar("T")

FOLDER: Final = "data"
FILE_NAMES: Final = (
    "a.parquet",
    "a/z.parquet",
    "a-b/c.parquet",
    "B.parquet",
    "10.parquet",
    "é.parquet",
)
US: Final = 1_000
HOUR: Final = 3_600 * NS_PER_SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A view and the files of its source.

    Attributes:
        view: Its source's path is relative: `data/**/*.parquet`.
        files: Path below the folder of the source -> rows.
        moments: The instants around which everything happens, in nanoseconds.
        joined: Source that the view joins -> its files; its path is relative, `<name>/*.parquet`.
    """

    view: FeatureView
    files: Mapping[str, PlainTable]
    moments: Sequence[int]
    joined: Mapping[str, Mapping[str, PlainTable]] = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, Sequence[Row]]:
        """The files as the oracle takes them."""
        return {path: table.rows for path, table in self.files.items()}

    @property
    def joined_rows(self) -> dict[str, dict[str, Sequence[Row]]]:
        """The files of what is joined as the oracle takes them."""
        return {
            source: {path: table.rows for path, table in files.items()}
            for source, files in self.joined.items()
        }

    def write(self, root: Path, *, row_group_rows: int | None = None) -> None:
        """Write the files where the sources' paths find them from `root`."""
        for source, files in self.joined.items():
            for path, table in files.items():
                table.write_parquet(root / source / path, row_group_rows=row_group_rows)
        for path, table in self.files.items():
            table.write_parquet(root / FOLDER / path, row_group_rows=row_group_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingCase:
    """A history and a request for a training set of all its features."""

    history: History
    spine: PlainTable
    timezone: str
    mode: Mode


# Time


@dataclass(frozen=True, slots=True)
class _Place:
    """A zone, an interesting moment there, and wall-clock times that never occur around it."""

    zone: str
    moment: str
    never: str | None = None


_PLACES: Final = (
    _Place("UTC", "2024-03-05 12:00Z"),
    _Place("UTC", "1970-01-01 00:00Z"),
    _Place("America/New_York", "2024-11-03 05:59:59.999999Z"),
    _Place("America/New_York", "2024-03-10 07:00Z", "2024-03-10 02:30"),
    _Place("Europe/Vienna", "2024-10-27 01:00Z"),
    _Place("Australia/Lord_Howe", "2024-10-05 15:30Z", "2024-10-06 02:15"),
    _Place("Asia/Kathmandu", "1969-12-31 23:59:59.999999Z"),
)
_TTLS: Final = ("1us", "1s", "30m", "1h", "90m", "24h", "400d")
_STEPS: Final = (0, 1, 500, 999, 1_000, 1_001, 2_000, 1_000_000, NS_PER_SECOND, HOUR // 2, HOUR)


def to_wall_ns(ns: int, zone: str) -> int:
    """Return the wall-clock time at an instant, in nanoseconds since 1970-01-01 on that wall."""
    micros, below_micro = divmod(ns, 1_000)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    offset = at.astimezone(ZoneInfo(zone)).utcoffset() or timedelta()
    return (micros + offset // timedelta(microseconds=1)) * 1_000 + below_micro


@st.composite
def moments(draw: st.DrawFn, *, base: int, ttl_ns: int | None) -> list[int]:
    """Draw a few instants close together, some of them a ttl apart."""
    distances = {0, *_STEPS, *(-step for step in _STEPS)}
    around = [0] if ttl_ns is None else [0, 0, ttl_ns, -ttl_ns]
    drawn = draw(
        st.lists(
            st.builds(
                lambda a, b: base + a + b,
                st.sampled_from(around),
                st.sampled_from(sorted(distances, key=abs)),
            ),
            min_size=2,
            max_size=7,
        )
    )
    return sorted({base, *drawn})


_TIME_TYPES: Final = (
    "timestamp[us, UTC]",
    "timestamp[us]",
    "timestamp[ns]",
    "timestamp[ns, UTC]",
    "timestamp[us, America/New_York]",
    "timestamp[ms]",
    "timestamp[s, UTC]",
    "date32",
)
_UNIT_NS: Final = {"s": NS_PER_SECOND, "ms": 1_000_000, "us": 1_000, "ns": 1}


def as_column_holds(ns: int, dtype: pa.DataType, zone: str) -> RawTime | date:
    """Return an instant as a column of type `dtype` writes it, cut to the column's unit."""
    if pa.types.is_date(dtype):
        return date(1970, 1, 1) + timedelta(days=to_wall_ns(ns, zone) // (24 * HOUR))
    aware = dtype.tz is not None
    raw = ns if aware else to_wall_ns(ns, zone)
    unit = _UNIT_NS[dtype.unit]
    return RawTime(raw // unit * unit, aware)


# Values

_KEY_VALUES: Final[dict[str, tuple[object, ...]]] = {
    "bool": (True, False),
    "int8": (0, 1, -128, 127),
    "int16": (0, 1, -32_768),
    "int32": (1, 2, 2**31 - 1),
    "int64": (1, 2, 2**53 + 1, -(2**63)),
    "uint8": (0, 1, 255),
    "uint16": (1, 2, 65_535),
    "uint32": (1, 2, 2**32 - 1),
    "uint64": (1, 2, 2**64 - 1),
    "string": ("a", "1", "01", "", "é", "e\u0301"),
    "binary": (b"", b"\0", b"a", b"\xff"),
    "date32": (date(1970, 1, 1), date(2024, 2, 29), date(1, 1, 1)),
}
_KEY_VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "int64": ("int64", "int64", "int32", "uint32"),
    "int32": ("int32", "int32", "int16"),
    "uint64": ("uint64", "uint64", "uint32"),
    "string": ("string", "string", "large_string", "dictionary<string>", "string_view"),
    "binary": ("binary", "binary", "large_binary"),
}
_FEATURE_VARIANTS: Final[dict[str, tuple[str, ...]]] = {
    **_KEY_VARIANTS,
    "float64": ("float64", "float64", "float32"),
    "timestamp[us, UTC]": ("timestamp[us, UTC]", "timestamp[ns, UTC]", "timestamp[ns]"),
}
_FEATURE_VALUES: Final[dict[str, tuple[object, ...]]] = {
    **_KEY_VALUES,
    "float32": (0.0, -0.0, 0.1, float("nan"), float("inf")),
    "float64": (0.0, -0.0, 0.1, float("nan"), float("-inf"), 5e-324),
    "decimal128(38, 2)": (Decimal("0.00"), Decimal("-1.50"), Decimal(10**35)),
    "timestamp[us, UTC]": (RawTime(0), RawTime(-1_000), RawTime((2**63 - 1) * 1_000)),
    "list<int64>": ([], [1, None], [2**53 + 1]),
    "list<string>": ([], ["", None], ["a"]),
    "list<float32>": ([], [0.1, float("nan")], [None]),
}


@dataclass(frozen=True, slots=True)
class _Column:
    """A key or a feature: its name, its declared type, and what it may hold."""

    name: str
    dtype: str
    values: tuple[object, ...]


@st.composite
def _columns(
    draw: st.DrawFn, prefix: str, values: Mapping[str, tuple[object, ...]], most: int
) -> list[_Column]:
    dtypes = draw(st.lists(st.sampled_from(sorted(values)), max_size=most))
    return [
        _Column(f"{prefix}{n}", dtype, tuple(draw(_some(values[dtype]))))
        for n, dtype in enumerate(dtypes)
    ]


def _some(values: Sequence[T]) -> st.SearchStrategy[list[T]]:
    """Draw one or two of these, so that rows often agree."""
    return st.lists(st.sampled_from(values), min_size=1, max_size=2)


def _or_null(values: Sequence[T]) -> st.SearchStrategy[T | None]:
    """Draw one of these, and null about once in eight."""
    return st.sampled_from([*(list(values) * -(-7 // len(values))), None])


@lru_cache(maxsize=4_096, typed=True)
def _fits(value: object, dtype: pa.DataType) -> bool:
    try:
        pa.scalar(value, dtype)
    except (OverflowError, pa.ArrowException):
        return False
    return True


# Histories


@dataclass(frozen=True, slots=True, kw_only=True)
class _Setting:
    """What all files of a history share."""

    view: FeatureView
    keys: Sequence[_Column]
    features: Sequence[_Column]
    moments: Sequence[int]
    never: int | None


@st.composite
def histories(
    draw: st.DrawFn,
    *,
    max_files: int = 3,
    max_rows: int = 8,
    max_keys: int = 3,
    max_features: int = 3,
    created: bool | None = None,
) -> History:
    """Draw a view and the files of its source.

    Args:
        draw: Given by Hypothesis.
        max_files: Most files, at least one.
        max_rows: Most rows of a file.
        max_keys: Most join keys.
        max_features: Most features besides `row`.
        created: Whether the source has a created time; None for either.
    """
    keys = draw(_columns("k", _KEY_VALUES, max_keys))
    features = draw(_columns("f", _FEATURE_VALUES, max_features))
    setting = draw(_settings(keys, features, created=created))
    names = draw(st.lists(st.sampled_from(FILE_NAMES), min_size=1, max_size=max_files, unique=True))
    files: dict[str, PlainTable] = {}
    for name in names:
        first = sum(len(table.rows) for table in files.values())
        files[name] = draw(_files(setting, first_row=first, max_rows=max_rows))
    return History(view=setting.view, files=files, moments=setting.moments)


@st.composite
def _settings(
    draw: st.DrawFn,
    keys: Sequence[_Column],
    features: Sequence[_Column],
    *,
    created: bool | None,
) -> _Setting:
    place = draw(st.sampled_from(_PLACES))
    ttl = draw(st.none() | st.sampled_from(_TTLS))
    has_created = draw(st.booleans()) if created is None else created
    renamed = draw(st.sampled_from(((), ("k0",), ("event", "row"))))
    source = FileSource(
        name="events",
        path=f"{FOLDER}/**/*.parquet",
        timestamp_field="event",
        created_timestamp_column="created" if has_created else None,
        timezone=place.zone,
        ambiguous=draw(st.sampled_from(("earliest", "latest"))),
        missing="forward",
        field_mapping={f"in file {name}": name for name in renamed},
    )
    view = FeatureView(
        name="history",
        entities=_entities(keys),
        source=source,
        schema=[Field(name=c.name, dtype=c.dtype) for c in (_ROW, *features)],
        ttl=None if ttl is None else parse_duration(ttl),
    )
    base = parse_time(place.moment).ns
    ttl_ns = None if view.ttl_us is None else view.ttl_us * US
    return _Setting(
        view=view,
        keys=keys,
        features=features,
        moments=draw(moments(base=base, ttl_ns=ttl_ns)),
        never=None if place.never is None else parse_time(place.never).ns,
    )


_ROW: Final = _Column("row", "int64", ())


def _entities(keys: Sequence[_Column]) -> list[Entity]:
    """Return one entity per key but the last two, which share one."""
    groups = [keys[n : n + 1] for n in range(len(keys) - 2)] + [keys[-2:]] if keys else []
    return [
        Entity(name=f"entity{n}", join_keys={c.name: parse_type(c.dtype) for c in group})
        for n, group in enumerate(groups)
    ]


@st.composite
def _files(draw: st.DrawFn, setting: _Setting, *, first_row: int, max_rows: int) -> PlainTable:
    source = setting.view.source
    times = [t for t in (source.timestamp_field, source.created_timestamp_column) if t]
    types = {t: parse_physical(draw(st.sampled_from(_TIME_TYPES))) for t in times}
    columns = {c.name: draw(_physical(c, _KEY_VARIANTS)) for c in setting.keys} | types
    columns |= {c.name: draw(_physical(c, _FEATURE_VARIANTS)) for c in setting.features}
    columns[_ROW.name] = pa.int64()
    cells: dict[str, st.SearchStrategy[Any]] = {
        c.name: _or_null(_held(c, columns[c.name])) for c in setting.keys
    }
    cells |= {c.name: _or_null(_values(setting, c, columns[c.name])) for c in setting.features}
    cells |= {t: _or_null(_times(setting, types[t])) for t in times}
    count = draw(st.integers(0, max_rows))
    rows = [
        {name: first_row + n if name == _ROW.name else draw(cells[name]) for name in columns}
        for n in range(count)
    ]
    in_file = {source.column_in_file(name): dtype for name, dtype in columns.items()}
    return plain_table(in_file, [list(row.values()) for row in rows])


@st.composite
def _physical(
    draw: st.DrawFn, column: _Column, variants: Mapping[str, tuple[str, ...]]
) -> pa.DataType:
    dtypes = [parse_physical(name) for name in variants.get(column.dtype, (column.dtype,))]
    is_plain = len(dtypes) == 1 or pa.types.is_timestamp(dtypes[0])
    return draw(st.sampled_from([t for t in dtypes if is_plain or _held(column, t)]))


def _values(setting: _Setting, column: _Column, dtype: pa.DataType) -> Sequence[object]:
    """Return what a feature's column of this physical type may hold."""
    if dtype == parse_type(column.dtype):
        return column.values
    return _times(setting, dtype) if pa.types.is_timestamp(dtype) else _held(column, dtype)


def _held(column: _Column, dtype: pa.DataType) -> list[object]:
    """Return the values that a column of this physical type can hold."""
    return [value for value in column.values if _fits(value, dtype)]


def _times(setting: _Setting, dtype: pa.DataType) -> list[RawTime | date]:
    zone = setting.view.source.timezone
    never: list[RawTime | date] = []
    if setting.never is not None and pa.types.is_timestamp(dtype) and dtype.tz is None:
        never = [RawTime(setting.never, aware=False)]
    return [as_column_holds(moment, dtype, zone) for moment in setting.moments] + never


# Training sets

_SPINE_ZONES: Final = ("UTC", "Asia/Kathmandu", "America/New_York")
_SPINE_TIMES: Final = (
    "timestamp[us, UTC]",
    "timestamp[us, Europe/Vienna]",
    "timestamp[ns, UTC]",
    "timestamp[us]",
    "timestamp[ns]",
    "timestamp[ms]",
    "date32",
)
_EDGES: Final = (0, 0, 1, 999, 1_000, -1, -1_000, 2_000, HOUR)


@st.composite
def training_cases(draw: st.DrawFn, *, max_spine_rows: int = 10) -> TrainingCase:
    """Draw a history and a spine at the edges of its times."""
    mode: Mode = draw(st.sampled_from(("complete", "as_served")))
    history = draw(histories(created=True if mode == "as_served" else None))
    spine, timezone = draw(spines(history, max_rows=max_spine_rows))
    return TrainingCase(history=history, spine=spine, timezone=timezone, mode=mode)


@st.composite
def spines(draw: st.DrawFn, history: History, *, max_rows: int = 10) -> tuple[PlainTable, str]:
    """Draw a spine for a history, and the zone of the call: known keys, unknown ones, nulls."""
    keys = {name: type_name(dtype) for name, dtype in history.view.join_keys.items()}
    columns = [_Column(name, dtype, _KEY_VALUES[dtype]) for name, dtype in keys.items()]
    types = {c.name: draw(_spine_key_type(c)) for c in columns}
    types["label"] = pa.string()
    zone = draw(st.sampled_from(_SPINE_ZONES))
    types["event_timestamp"] = parse_physical(draw(st.sampled_from(_SPINE_TIMES)))
    order = draw(st.permutations(list(types)))
    rows = draw(st.lists(_spine_rows(history, columns, types, zone), max_size=max_rows))
    rows += draw(st.lists(st.sampled_from(rows), max_size=2)) if rows else []
    dtypes = {name: types[name] for name in order}
    return plain_table(dtypes, [[row[name] for name in order] for row in rows]), zone


@st.composite
def _spine_rows(
    draw: st.DrawFn,
    history: History,
    columns: Sequence[_Column],
    types: Mapping[str, pa.DataType],
    zone: str,
) -> dict[str, object]:
    """Draw a row: mostly with a key that the history has, if the spine's types can hold it."""
    row: dict[str, object] = {c.name: draw(_or_null(_held(c, types[c.name]))) for c in columns}
    known: list[Row] = [row for table in history.files.values() for row in table.rows]
    chosen = draw(_or_null(known)) if known else None
    if chosen is not None:
        held = {c.name: chosen[history.view.source.column_in_file(c.name)] for c in columns}
        row |= {name: value for name, value in held.items() if _fits(value, types[name])}
    row["event_timestamp"] = draw(_or_null(_spine_times(history, types["event_timestamp"], zone)))
    row["label"] = draw(st.sampled_from(("yes", "no")))
    return row


@st.composite
def _spine_key_type(draw: st.DrawFn, column: _Column) -> pa.DataType:
    name = column.dtype
    variants = _KEY_VARIANTS.get(name, (name,))
    if name in ("int8", "int16", "int32", "uint8", "uint16"):
        variants = (*variants, "float64")
    return parse_physical(draw(st.sampled_from(variants)))


def _spine_times(history: History, dtype: pa.DataType, zone: str) -> list[RawTime | date]:
    ttl_us = history.view.ttl_us
    ends = (0,) if ttl_us is None else (0, ttl_us * US)
    instants = [m + end + edge for m in history.moments for end in ends for edge in _EDGES]
    return [_clear_of_clock_changes(as_column_holds(at, dtype, zone), zone) for at in instants]


def _clear_of_clock_changes(raw: RawTime | date, zone: str) -> RawTime | date:
    """Move a time that occurs twice or never: a spine has no policy for it."""
    if isinstance(raw, date):  # a midnight
        return raw
    try:
        instant_ns(raw, zone)
    except LocalTimeError:
        return RawTime(raw.ns + 3 * HOUR, aware=False)
    return raw

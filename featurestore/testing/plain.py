"""Tables in plain Python: rows are dicts, times are exact, and every column knows its Arrow type.

The Arrow type is the physical one, as a file or a spine holds it: `timestamp[ns]`, `int32`,
`dictionary<string>`. Python values stand for its values one to one: bool, int, float (of the
column's precision), str, bytes, `Decimal`, `date`, `RawTime`, or a list of these.
"""

import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.types import parse_type

Row = Mapping[str, object]

NS_PER_SECOND: Final = 10**9
_NS_PER_UNIT: Final = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_TIME: Final = re.compile(
    r"(?:(?P<day>\d{4}-\d\d-\d\d)[T ])?(?P<clock>\d\d:\d\d(?::\d\d)?)(?:\.(?P<fraction>\d{1,9}))?"
    r"(?P<offset>Z|[+-]\d\d:\d\d)?"
)
_TIMESTAMP: Final = re.compile(r"timestamp\[(s|ms|us|ns)(?:, *([^\]]+))?\]")
_VARIANTS: Final = {
    "time": pa.timestamp("us", tz="UTC"),
    "null": pa.null(),
    "float16": pa.float16(),
    "date64": pa.date64(),
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "large_binary": pa.large_binary(),
    "dictionary<string>": pa.dictionary(pa.int32(), pa.string()),
}


@dataclass(frozen=True, slots=True)
class RawTime:
    """A timestamp as a file or a spine holds it, exactly.

    Attributes:
        ns: Nanoseconds since 1970-01-01T00:00:00, of UTC when `aware`, else of a wall clock.
        aware: Whether the column has a time zone.
    """

    ns: int
    aware: bool = True


def parse_time(text: str, *, day: str | None = None) -> RawTime:
    """Return the time that `2024-01-31 12:00:00.000000001Z` says; without an offset it is naive.

    Args:
        text: Date, `T` or a space, hours and minutes, perhaps seconds, a fraction of up to nine
            digits, and an offset.
        day: The date of a text that has none.

    Raises:
        ValueError: It is not a time.
    """
    match = _TIME.fullmatch(text)
    date = match and (match["day"] or day)
    if not match or not date:
        raise ValueError(f"{text!r} is not a time such as '2024-01-31 12:00:00.000001Z'")
    moment = datetime.fromisoformat(f"{date} {match['clock']}")
    since = moment - datetime(1970, 1, 1)  # noqa: DTZ001 - a wall clock
    ns = (since.days * 86_400 + since.seconds) * NS_PER_SECOND
    ns += int((match["fraction"] or "").ljust(9, "0"))
    return RawTime(ns - _offset_seconds(match["offset"]) * NS_PER_SECOND, bool(match["offset"]))


def _offset_seconds(offset: str | None) -> int:
    if offset in (None, "Z"):
        return 0
    assert offset is not None
    seconds = int(offset[1:3]) * 3_600 + int(offset[4:6]) * 60
    return -seconds if offset[0] == "-" else seconds


def parse_physical(name: str) -> pa.DataType:
    """Return the Arrow type called `name`: one of `featurestore.types`, or a physical variant.

    `time` is short for `timestamp[us, UTC]`.

    Raises:
        ValueError: There is none.
    """
    if match := _TIMESTAMP.fullmatch(name):
        return pa.timestamp(match[1], tz=match[2])
    if name.startswith("list<") and name.endswith(">"):
        return pa.list_(parse_physical(name[5:-1]))
    return _VARIANTS[name] if name in _VARIANTS else parse_type(name)


@dataclass(frozen=True, slots=True)
class PlainTable:
    """Rows with the physical type of every column.

    Attributes:
        columns: Column -> Arrow type, in order.
        rows: One dict per row, with exactly these columns.
    """

    columns: Mapping[str, pa.DataType]
    rows: Sequence[Row]

    def column(self, name: str) -> list[object]:
        """Return the values of a column."""
        return [row[name] for row in self.rows]

    def to_arrow(self) -> pa.Table:
        """Return the same as an Arrow table; a value that its column cannot hold is an error."""
        arrays = [to_array(self.column(name), dtype) for name, dtype in self.columns.items()]
        schema = pa.schema(list(self.columns.items()))
        return pa.Table.from_arrays(arrays, schema=schema)

    def python_rows(self) -> list[dict[str, object]]:
        """Return the rows as a caller would write them: times as datetimes in UTC."""
        return [{name: _python(value) for name, value in row.items()} for row in self.rows]

    def write_parquet(self, path: Path, *, row_group_rows: int | None = None) -> None:
        """Write the rows, in order, to one file, and make its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.to_arrow(), path, row_group_size=row_group_rows)


def _python(value: object) -> object:
    if not isinstance(value, RawTime):
        return value
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value.ns // 1_000)


def plain_table(columns: Mapping[str, pa.DataType], rows: Iterable[Sequence[object]]) -> PlainTable:
    """Return a table of rows given as sequences, each value as its column really holds it.

    0.1 in a float32 column becomes the float32 that is nearest to it.
    """
    names = list(columns)
    given = [dict(zip(names, row, strict=True)) for row in rows]
    raw = PlainTable(columns, given)
    held = {name: from_array(to_array(raw.column(name), columns[name])) for name in names}
    return PlainTable(columns, [{name: held[name][n] for name in names} for n in range(len(given))])


def to_array(values: Sequence[object], dtype: pa.DataType) -> pa.Array:
    """Return plain values as an Arrow array of type `dtype`."""
    return pa.array([_to_physical(v, dtype) for v in values], dtype)


def _to_physical(value: object, dtype: pa.DataType) -> object:
    if isinstance(value, list):
        return [_to_physical(v, dtype.value_type) for v in value]
    if isinstance(value, RawTime):
        units, rest = divmod(value.ns, _NS_PER_UNIT[dtype.unit])
        if rest or value.aware != (dtype.tz is not None):
            raise ValueError(f"{value} cannot be held by {dtype}")
        return units
    return value


def from_array(array: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return an Arrow array as plain values."""
    dtype = array.type
    if pa.types.is_timestamp(dtype):
        unit, aware = _NS_PER_UNIT[dtype.unit], dtype.tz is not None
        units = array.cast(pa.int64()).to_pylist()
        return [None if u is None else RawTime(u * unit, aware) for u in units]
    if pa.types.is_list(dtype):
        return [from_array(item.values) if item.is_valid else None for item in array]
    return list(array.to_pylist())


def same_value(left: object, right: object) -> bool:
    """Whether two plain values are the same, type by type and bit by bit; NaN is NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_value, left, right))
    if isinstance(left, float) and isinstance(right, float):
        both_nan = math.isnan(left) and math.isnan(right)
        return both_nan or struct.pack("d", left) == struct.pack("d", right)
    return left == right


def difference(found: pa.Table, expected: pa.Table) -> str | None:
    """Return the first thing in which two tables differ, or None when they are the same.

    Names, types, number and order of columns and rows, and all values count; metadata does not.
    """
    if found.schema.names != expected.schema.names:
        return f"columns are {found.schema.names}, expected {expected.schema.names}"
    for name, dtype in zip(expected.schema.names, expected.schema.types, strict=True):
        if (other := found.schema.field(name).type) != dtype:
            return f"column {name!r} is {other}, expected {dtype}"
    if found.num_rows != expected.num_rows:
        return f"{found.num_rows} rows, expected {expected.num_rows}"
    return _different_cell(found, expected)


def _different_cell(found: pa.Table, expected: pa.Table) -> str | None:
    for name in expected.schema.names:
        pairs = zip(from_array(found[name]), from_array(expected[name]), strict=True)
        for row, (value, wanted) in enumerate(pairs):
            if not same_value(value, wanted):
                return f"row {row}, column {name!r} is {value!r}, expected {wanted!r}"
    return None

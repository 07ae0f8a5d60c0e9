"""Tables as people write them in scenario files.

    user_id: int64 | at: time                   | score: float64
    1              | 2024-03-05 12:00:00.000001 | 1.5
    2              | null                       | nan

The first line names the columns and their physical types (`featurestore.testing.plain`), every
other line is a row. A cell is read by the type of its column:

- `null` is null in every column;
- strings stand as they are, or in double quotes as JSON writes them (`"null"`, `" a | b "`);
- bytes are hexadecimal (`0x00ff`), bool is `true` or `false`, floats may be `nan`, `inf`, `-0.0`;
- times have up to nine digits behind the point. In a column with a zone a time without an offset
  is UTC, which only a column in UTC may use; in a naive column there is no offset;
- lists are JSON; their times, decimals and dates are strings: `["2024-03-05"]`.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from featurestore.testing.plain import PlainTable, RawTime, parse_physical, parse_time, plain_table

_CELL: Final = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^|"])*)(\|{0,2})')


class TextTableError(ValueError):
    """A table that cannot be read; the message names line and column."""


def read_table(text: str, *, day: str | None = None) -> PlainTable:
    """Return the table that `text` writes.

    Args:
        text: Header and rows; empty lines do not count.
        day: Date of the times that have none.

    Raises:
        TextTableError: It is not a table.
    """
    (header, *lines) = [split_row(line)[0] for line in text.splitlines() if line.strip()]
    columns = read_header(header)
    return read_rows(columns, lines, day=day)


def split_row(line: str) -> list[list[str]]:
    """Return the cells of a line, in groups that `||` separates."""
    groups: list[list[str]] = [[]]
    line = line.strip()
    for match in _CELL.finditer(line):
        groups[-1].append(match[1].strip())
        if match[2] == "||":
            groups.append([])
        if not match[2]:
            if match.end() < len(line):
                raise TextTableError(f"a quote is left open in {line!r}")
            break
    return [[] if group == [""] else group for group in groups]


def read_header(cells: Sequence[str]) -> dict[str, pa.DataType]:
    """Return the columns that a header names."""
    columns: dict[str, pa.DataType] = {}
    for cell in cells:
        name, dtype = _column(cell)
        if name in columns:
            raise TextTableError(f"column {name!r} is there twice")
        columns[name] = dtype
    return columns


def _column(cell: str) -> tuple[str, pa.DataType]:
    name, colon, dtype = cell.rpartition(":")
    if not colon:
        raise TextTableError(f"{cell!r} is not a column such as 'user_id: int64'")
    name = name.strip()
    return json.loads(name) if name.startswith('"') else name, parse_physical(dtype.strip())


def read_rows(
    columns: Mapping[str, pa.DataType], lines: Sequence[Sequence[str]], *, day: str | None = None
) -> PlainTable:
    """Return rows of cells as a table."""
    rows = []
    for number, cells in enumerate(lines):
        if len(cells) != len(columns):
            raise TextTableError(f"row {number} has {len(cells)} cells for {len(columns)} columns")
        rows.append(
            [
                read_cell(cell, dtype, day=day, where=f"row {number}, column {name!r}")
                for cell, (name, dtype) in zip(cells, columns.items(), strict=True)
            ]
        )
    return plain_table(columns, rows)


def read_cell(cell: str, dtype: pa.DataType, *, day: str | None = None, where: str = "") -> object:
    """Return the plain value that a cell writes.

    Raises:
        TextTableError: The type has no such value.
    """
    if cell == "null":
        return None
    try:
        if is_list(dtype):
            return [_from_json(v, dtype.value_type, day) for v in json.loads(cell)]
        return _reader(dtype, day)(cell)
    except (ValueError, ArithmeticError) as error:
        raise TextTableError(f"{where}: {cell!r} is not a value of {dtype}: {error}") from None


def is_list(dtype: pa.DataType) -> bool:
    """Whether the type is one of lists."""
    return bool(pa.types.is_list(dtype) or pa.types.is_large_list(dtype))


def _from_json(value: Any, dtype: pa.DataType, day: str | None) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list):
        return [_from_json(v, dtype.value_type, day) for v in value]
    is_text = _reader(dtype, day) is _read_text
    return value if is_text else _reader(dtype, day)(value)


def _reader(dtype: pa.DataType, day: str | None) -> Callable[[str], object]:
    if pa.types.is_timestamp(dtype):
        return lambda cell: _read_time(cell, dtype, day)
    for matches, read in _READERS:
        if matches(dtype):
            return read
    return _read_text


def _read_time(cell: str, dtype: pa.DataType, day: str | None) -> RawTime:
    raw = parse_time(cell, day=day)
    if dtype.tz is None and raw.aware:
        raise ValueError("a naive column takes no offset")
    if dtype.tz == "UTC":
        return RawTime(raw.ns, aware=True)
    if dtype.tz is not None and not raw.aware:
        raise ValueError("say the offset, as in 12:00-05:00 or 17:00Z")
    return raw


def _read_text(cell: str) -> str:
    return str(json.loads(cell)) if cell.startswith('"') else cell


def _read_bytes(cell: str) -> bytes:
    if not cell.startswith("0x"):
        raise ValueError("bytes begin with 0x")
    return bytes.fromhex(cell[2:])


def _read_bool(cell: str) -> bool:
    if cell not in ("true", "false"):
        raise ValueError("write true or false")
    return cell == "true"


_READERS: Final[tuple[tuple[Callable[[pa.DataType], bool], Callable[[str], object]], ...]] = (
    (pa.types.is_boolean, _read_bool),
    (pa.types.is_integer, int),
    (pa.types.is_floating, float),
    (pa.types.is_decimal, Decimal),
    (pa.types.is_date, date.fromisoformat),
    (pa.types.is_binary, _read_bytes),
    (pa.types.is_large_binary, _read_bytes),
)

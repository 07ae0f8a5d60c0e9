"""Rows in files of the command line: Parquet, CSV with a header, JSON lines."""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from featurestore.cli.values import entity_value
from featurestore.errors import EntityValueError, RowsError, shown

if TYPE_CHECKING:
    import pyarrow as pa

STANDARD_INPUT: Final = Path("-")
MAX_BYTES: Final = 512 << 20
MAX_FRACTION: Final = 6
_FRACTION: Final = re.compile(r"[.,](\d+)")  # ISO 8601 has both marks, and so has fromisoformat
_LINES: Final = (".jsonl", ".ndjson", ".json")

Types = Mapping[str, "pa.DataType | None"]
"""Column -> its type; None for a column of times."""


def read_rows(file: Path, types: Types) -> object:
    """Return the rows of a file, by its name's ending, in a form that `FeatureStore.push` takes.

    Args:
        file: `.parquet`; `.csv`; `.jsonl`, `.ndjson` or `.json` with one object a line, of which
            `-` reads standard input. Values of texts are those of proto3 JSON; a time without a
            zone is in the source's.
        types: Types of the columns that are known; others stay what they are.

    Raises:
        RowsError: It has another ending, cannot be read, or a value is not of its column's type.
    """
    ending = file.suffix.lower()
    if ending == ".parquet":
        return file
    if file == STANDARD_INPUT or ending in _LINES:
        return _columns(_json_rows(_text(file)), types)
    if ending == ".csv":
        return _csv_columns(_text(file), types)
    raise RowsError(
        f"{shown(str(file))} is no file of rows.",
        hint="its name ends in .parquet, .csv, .jsonl or .ndjson; - reads JSON lines",
    )


def _text(file: Path) -> str:
    try:
        if file == STANDARD_INPUT:
            content = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with file.open("rb") as opened:
                content = opened.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise RowsError(
                f"{shown(str(file))} is larger than {MAX_BYTES:,} bytes.",
                hint="divide it, or write Parquet",
            )
        return content.decode("utf-8-sig")
    except OSError as error:
        raise RowsError(f"{shown(str(file))} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise RowsError(f"{shown(str(file))} is not UTF-8.") from None


def _json_rows(text: str) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RowsError(
                f"Line {number} is no JSON: {str(error)[:200]}.",
                hint="a file of JSON lines has one object on each line",
            ) from None
        if not isinstance(row, dict):
            raise RowsError(f"Line {number} is no JSON object.", hint='write {"user_id": 42, ...}')
        yield row


def _columns(rows: Iterator[Mapping[str, Any]], types: Types) -> list[dict[str, Any]]:
    return [
        {name: _value(value, name, types, row) for name, value in values.items()}
        for row, values in enumerate(rows)
    ]


def _csv_columns(text: str, types: Types) -> dict[str, list[Any]]:
    """Return the columns of a CSV file; a cell that is empty, and not quoted, is null."""
    import csv
    import io

    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        names = next(csv.reader(io.StringIO(text)), [])
        options = arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        table = arrow_csv.read_csv(
            io.BytesIO(text.encode()),
            parse_options=arrow_csv.ParseOptions(newlines_in_values=True),
            convert_options=options,
        )
    except (pa.ArrowException, csv.Error) as error:
        raise RowsError(f"This is no CSV with a header: {str(error)[:200]}.") from None
    for name in names:
        if names.count(name) > 1:
            raise RowsError(f"The file has two columns {shown(name)}.", column=name)
    return {
        name: [_value(v, name, types, row) for row, v in enumerate(table[name].to_pylist())]
        for name in table.column_names
    }


def _value(value: Any, name: str, types: Types, row: int) -> Any:
    if value is None or name not in types:
        return value
    dtype = types[name]
    try:
        return _time(value) if dtype is None else _typed(value, dtype, name, row)
    except EntityValueError:
        from featurestore.types import type_name

        kind = "a time" if dtype is None else type_name(dtype)
        raise RowsError(
            f"Column {shown(name)}: {shown(str(value))} in row {row} is not of type {kind}.",
            column=name,
            row=row,
        ) from None
    except ValueError:
        raise RowsError(
            f"Column {shown(name)}: {shown(str(value))} in row {row} is no time.",
            column=name,
            row=row,
            hint="write it as 2026-01-31T12:00:00Z, to the microsecond",
        ) from None


def _typed(value: Any, dtype: "pa.DataType", name: str, row: int) -> Any:
    import pyarrow as pa

    from featurestore.types import base_type, type_name

    plain = base_type(dtype)
    if pa.types.is_list(plain) and isinstance(value, list):
        items = (None if v is None else _typed(v, plain.value_type, name, row) for v in value)
        return list(items)
    if pa.types.is_timestamp(plain):
        return _time(value)
    return entity_value(value, type_name(plain), field=name, row=row)


def _time(value: Any) -> datetime:
    """Return a time as it is written, with or without a zone.

    Raises:
        ValueError: It is none, or has nanoseconds, which a datetime would cut off.
    """
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - a value of the user's, not of ours
    if any(len(digits) > MAX_FRACTION for digits in _FRACTION.findall(value)):
        raise ValueError(value)
    return datetime.fromisoformat(value.strip())

"""Rows that an application writes, as a table with the columns and types of a source's file.

A file's types must widen to those declared. Rows are in memory, so that values can be looked at: a
column of a wider type is taken, too, if each of its values is one of the narrower type. Python's
own values have no width, and its floats are rounded to float32 where that is declared.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from featurestore.definitions import FileSource
from featurestore.errors import RowsError, close_names, did_you_mean, shown
from featurestore.offline.given import GivenTables
from featurestore.types import base_type, can_widen, type_name

MAX_ROWS: Final = 1_000_000
MAX_BYTES: Final = 1 << 30

Given = Mapping[str, Any]
"""Column -> an Arrow array, or a list of Python values."""

_ROWS: Final = GivenTables(
    "rows",
    "Rows",
    RowsError,
    forms="a list of dicts, a dict of lists, pandas, Polars, Arrow, or Path('x.parquet')",
)


def given_columns(rows: object, *, times: Sequence[str]) -> Given:
    """Return rows in any form as columns, equally long.

    Args:
        rows: A list of dicts, a dict of columns, pandas, Polars, Arrow, a DuckDB relation, anything
            with the Arrow PyCapsule interface, or a `Path` to a Parquet file.
        times: Columns that are checked for naive and aware times side by side.

    Raises:
        RowsError: They are none of these, cannot be converted, do not all have the same columns, or
            are too many.
    """
    if isinstance(rows, Mapping):
        columns: Given = dict(rows)
    elif isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        columns = _columns_of(rows)
    else:
        columns = _columns_of_table(_ROWS.table(rows, times=times))
    for name, values in columns.items():
        if not isinstance(name, str):
            raise RowsError(f"A column's name is text, not {type(name).__name__}.")
        if not hasattr(values, "__len__") or isinstance(values, str | bytes):
            found = type(values).__name__
            raise RowsError(f"Column {shown(name)} is no list of values: {found}.", column=name)
    _check_lengths(columns)
    return columns


def _columns_of_table(table: pa.Table) -> Given:
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise RowsError(f"The rows have two columns {shown(name)}.", column=name)
    return dict(zip(table.column_names, table.columns, strict=True))


def _columns_of(rows: Sequence[Any]) -> dict[str, list[Any]]:
    first = rows[0] if rows else {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            found = type(row).__name__
            raise RowsError(f"Row {number} is no dict, but of type {found}.", row=number)
        if row.keys() != first.keys():
            name = str(next(iter(row.keys() ^ first.keys())))
            raise RowsError(
                f"Row {number} and row 0 do not have the same columns: {shown(name)} is in one of"
                " them.",
                column=name,
                row=number,
                hint="write None for a value that is null",
            )
    return {name: [row[name] for row in rows] for name in first}


def _check_lengths(columns: Given) -> None:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{shown(name)} {count:,}" for name, count in lengths.items())
        raise RowsError(f"The columns are not equally long: {said}.")
    if any(count > MAX_ROWS for count in lengths.values()):
        raise RowsError(
            f"There are {max(lengths.values()):,} rows; one call takes {MAX_ROWS:,}.",
            hint="write them in parts, or as a file of the source, and materialize that",
        )


def source_table(
    given: Given,
    types: Mapping[str, pa.DataType | None],
    *,
    source: str,
    exactly: bool = False,
) -> pa.Table:
    """Return the columns of a source's file that rows are to stand in.

    Args:
        given: The rows.
        types: Column -> its type; None for a column of times, which is left as it is.
        source: The source's name, for messages.
        exactly: Whether columns have to have these types and no wider nor narrower ones, and there
            may be no other columns.

    Raises:
        RowsError: A column is missing or is not of its type; it names a row that is at fault.
    """
    _check_names(given, types, source=source, no_others=exactly)
    columns = [_column(name, given[name], dtype, exactly=exactly) for name, dtype in types.items()]
    table = pa.table(columns, names=list(types))
    if table.nbytes > MAX_BYTES:
        raise RowsError(
            f"The rows have {table.nbytes:,} bytes; one call takes {MAX_BYTES:,}.",
            hint="write them in parts, or as a file of the source, and materialize that",
        )
    return table


def with_created(source: FileSource, given: Given, now_us: int) -> Given:
    """Return rows with a created time: now, if they have no column for it and the source has."""
    if source.created_timestamp_column is None:
        return given
    name = source.column_in_file(source.created_timestamp_column)
    if name in given:
        return given
    count = len(next(iter(given.values())))
    now = pa.scalar(now_us, pa.int64()).cast(pa.timestamp("us", "UTC"))
    return {**given, name: pa.repeat(now, count)}


def _check_names(given: Given, wanted: Iterable[str], *, source: str, no_others: bool) -> None:
    names = list(wanted)
    for name in names:
        if name not in given:
            raise RowsError(
                f"The rows have no column {shown(name)}, which source {source!r} has.",
                column=name,
                hint=did_you_mean(close_names(name, given))
                or "rows have the columns of the source's files, by the names these have there",
            )
    others = [name for name in given if name not in names]
    if no_others and others:
        raise RowsError(
            f"The rows have a column {shown(others[0])}, and the files of source {source!r} have"
            " none.",
            column=others[0],
            hint=did_you_mean(close_names(others[0], names)) or "leave it out",
        )


def _column(name: str, values: Any, dtype: pa.DataType | None, *, exactly: bool) -> pa.Array:
    column, is_typed = _as_arrow(name, values, dtype)
    found = base_type(column.type)
    if dtype is None or pa.types.is_timestamp(base_type(dtype)):
        if not (pa.types.is_timestamp(found) or pa.types.is_date(found) or pa.types.is_null(found)):
            raise RowsError(
                f"Column {shown(name)} is {type_name(found)}, and times are expected.",
                column=name,
                hint="pass datetimes, or parse texts first",
            )
        return column
    if column.type == dtype or (not exactly and can_widen(found, dtype)):
        return column
    return _fitted(name, column, dtype, may_round=not is_typed)


def _as_arrow(name: str, values: Any, dtype: pa.DataType | None) -> tuple[pa.Array, bool]:
    """Return a column as one array, and whether its values had a type of their own."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks(), True
    if isinstance(values, pa.Array):
        return values, True
    is_typed = hasattr(values, "dtype") or hasattr(values, "__arrow_c_stream__")
    if not is_typed:
        values = list(values)
        _ROWS.check_one_kind_of_time(values, name)
    nan_is_null = is_typed or not (dtype is not None and _holds_floats(dtype))
    try:
        array = pa.array(values, from_pandas=nan_is_null)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise RowsError(
            f"Column {shown(name)} cannot be converted to Arrow: {_brief(error)}.",
            column=name,
            row=_first_odd(values),
        ) from None
    return (array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array), is_typed


def _holds_floats(dtype: pa.DataType) -> bool:
    if pa.types.is_list(base_type(dtype)):
        return _holds_floats(base_type(dtype).value_type)
    return bool(pa.types.is_floating(dtype))


def _first_odd(values: Sequence[Any]) -> int | None:
    """Return the first row whose value is of another kind than the first one's."""
    kinds = [type(value) for value in values if value is not None]
    return next(
        (n for n, v in enumerate(values) if v is not None and type(v) is not kinds[0]), None
    )


def _fitted(name: str, column: pa.Array, dtype: pa.DataType, *, may_round: bool) -> pa.Array:
    """Return a column as a type that not every value of its own type fits, if these do."""
    if not _is_like(base_type(column.type), base_type(dtype)):
        raise RowsError(
            f"Column {shown(name)} is {type_name(base_type(column.type))}, and"
            f" {type_name(base_type(dtype))} is expected.",
            column=name,
            row=_first_valid(column),
        )
    fitted = _cast(column, dtype, may_round=may_round)
    if fitted is not None:
        return fitted
    row = first_unfit(column, dtype, may_round=may_round)
    raise RowsError(
        f"Column {shown(name)} is {type_name(base_type(dtype))}, and row {row} holds"
        f" {_shown_value(column[row])}, which is not of that type.",
        column=name,
        row=row,
    )


def _is_like(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether some values of one type can be values of another."""
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _is_like(found.value_type, wanted.value_type)
    if can_widen(found, wanted):
        return True
    numbers = [pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal]
    is_number = any(is_kind(found) for is_kind in numbers)
    if pa.types.is_decimal(wanted):
        return bool(pa.types.is_integer(found) or pa.types.is_decimal(found))
    if pa.types.is_integer(wanted) or pa.types.is_floating(wanted):
        return is_number and not pa.types.is_decimal(found)
    are_times = pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted)
    return are_times and (found.tz is None) == (wanted.tz is None)


def _cast(column: pa.Array, dtype: pa.DataType, *, may_round: bool) -> pa.Array | None:
    """Return a column as another type, or None if that changes a value."""
    try:
        if pa.types.is_integer(column.type) and pa.types.is_decimal(dtype):
            column = column.cast(pa.decimal128(20, 0))  # Arrow asks for room for every integer
        made = column.cast(dtype)
    except (pa.ArrowException, OverflowError):
        return None
    flat, wide = _elements(made), _elements(column)
    if not pa.types.is_floating(flat.type) or not pa.types.is_floating(wide.type):
        return made
    back = flat.cast(wide.type)
    if may_round:
        same = pc.equal(pc.is_inf(back), pc.is_inf(wide))
    else:
        same = pc.or_(pc.equal(back, wide), pc.and_(pc.is_nan(back), pc.is_nan(wide)))
    return made if pc.all(same, min_count=0).as_py() in (True, None) else None


def _elements(column: pa.Array) -> pa.Array:
    return column.flatten() if pa.types.is_list(column.type) else column


def first_unfit(column: pa.Array, dtype: pa.DataType, *, may_round: bool = False) -> int:
    """Return the first row whose value alone is none of a type."""
    low, high = 0, len(column)  # it is within [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        left = column.slice(low, middle - low)
        low, high = (
            (middle, high) if _cast(left, dtype, may_round=may_round) is not None else (low, middle)
        )
    return low


def _first_valid(column: pa.Array) -> int | None:
    return next((n for n, valid in enumerate(column.is_valid().to_pylist()) if valid), None)


def _shown_value(scalar: pa.Scalar) -> str:
    text = repr(scalar.as_py())
    return text if len(text) <= 80 else f"{text[:80]}..."  # noqa: PLR2004


def _brief(error: BaseException) -> str:
    line = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in line)

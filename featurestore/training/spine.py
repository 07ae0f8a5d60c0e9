"""The spine: whose features are wanted, and as of when (SEMANTICS, sections 1 and 2)."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.errors import SpineError, close_names, did_you_mean, shown
from featurestore.offline.arrow_values import in_one_piece
from featurestore.offline.given import GivenTables
from featurestore.offline.instants import DAY_US, SpanTable
from featurestore.offline.local_times import YEAR_US
from featurestore.time import LocalSpan, format_instant, from_micros, local_spans, local_year, zone
from featurestore.types import base_type, type_name

Micros = np.ndarray[tuple[int], np.dtype[np.int64]]

FIRST_US = -(2**63) + 2**56
LAST_US = 2**63 - 1
"""Spine times outside these are moved to them: the first leaves room for subtracting the greatest
ttl. That is 290,000 years from now, where no source has a row."""
MAX_SQL = 1_000_000


@dataclass(frozen=True)
class SqlSpine:
    """A query over the registered sources whose rows are the spine; see `sql()`."""

    text: str


def sql(text: str) -> SqlSpine:
    """Return a spine that is the result of one SELECT over registered sources, by their names.

    The query is run once, and its rows are taken in the order it yields them.
    """
    if not isinstance(text, str):
        raise SpineError(f"A spine's query is text, not {type(text).__name__}.")
    if not text.strip() or len(text) > MAX_SQL:
        raise SpineError(f"A spine's query has 1 to {MAX_SQL:,} characters, not {len(text):,}.")
    if not text.isascii() and any(0xD800 <= ord(c) <= 0xDFFF for c in text):  # noqa: PLR2004
        raise SpineError("A spine's query holds a lone surrogate, which is no text.")
    return SqlSpine(text)


def to_table(entity_df: object, *, timestamp_field: str) -> pa.Table:
    """Return a spine given in any supported form as an Arrow table, values and types untouched.

    Args:
        entity_df: pandas, Polars, Arrow, a DuckDB relation, anything with the Arrow PyCapsule
            interface, or a `Path` to a Parquet file.
        timestamp_field: The time column, which is checked for naive and aware times side by side.

    Raises:
        SpineError: It is none of these, or cannot be converted.
    """
    if isinstance(entity_df, str):
        raise SpineError(
            "A spine cannot be a bare string.",
            hint="use Path('spine.parquet') for a file or sql('SELECT ...') for a query",
        )
    return _SPINES.table(entity_df, times=[timestamp_field])


_SPINES = GivenTables(
    "spine",
    "A spine",
    SpineError,
    forms="pandas, Polars, Arrow, a DuckDB relation, Path('x.parquet') or sql('SELECT ...')",
)


def times_us(spine: pa.Table, timestamp_field: str, timezone: str) -> pa.Array:
    """Return the spine's times as int64 microseconds of UTC, rounded down; null stays null.

    Raises:
        SpineError: The column is missing or is not a time, there is no such zone, or a local time
            is ambiguous.
    """
    _check_zone(timezone, timestamp_field)
    column = _plain(_column(spine, timestamp_field, "its time column", "timestamp_field="))
    dtype = column.type
    if pa.types.is_null(dtype):
        return pa.nulls(spine.num_rows, pa.int64())
    if pa.types.is_date(dtype):
        column = column.cast(pa.timestamp("ms"))
        dtype = column.type
    if not pa.types.is_timestamp(dtype):
        raise SpineError(
            f"Column {timestamp_field!r} of the spine is {type_name(dtype)}, not a time.",
            column=timestamp_field,
            hint="parse it first, for instance with pandas.to_datetime or polars.str.to_datetime",
        )
    micros = _to_micros(column, dtype.unit)
    mask = np.asarray(column.is_null())
    if dtype.tz is None and timezone != "UTC":
        local, micros = micros[~mask], micros.copy()
        micros[~mask] = _from_local(local, np.flatnonzero(~mask), timezone, timestamp_field)
    return pa.array(_within(micros, FIRST_US, LAST_US), mask=mask if mask.any() else None)


def _check_zone(timezone: str, column: str) -> None:
    try:
        zone(timezone)
    except (TypeError, ValueError):
        raise SpineError(
            f"timezone={timezone!r} is not an IANA time zone such as 'America/New_York'.",
            column=column,
        ) from None


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _column(spine: pa.Table, name: str, role: str, setting: str) -> pa.Array:
    if not isinstance(name, str):
        raise SpineError(f"A column's name is text, not {type(name).__name__}.", hint=setting)
    indices = spine.schema.get_all_field_indices(name)
    if len(indices) != 1:
        problem = f"has {'two columns' if indices else 'no column'} {shown(name)}"
        guess = did_you_mean(close_names(name, spine.column_names))
        raise SpineError(
            f"The spine {problem}, {role}; it has {_listed(spine.column_names)}.",
            column=name,
            hint=guess or f"name it with {setting}",
        )
    return in_one_piece(spine.column(indices[0]))


def _listed(names: list[str]) -> str:
    text = ", ".join(shown(n) for n in names[:20])
    return text + (", ..." if len(names) > 20 else "") if names else "no columns"  # noqa: PLR2004


def _to_micros(column: pa.Array, unit: str) -> Micros:
    numbers = column.cast(pa.int64())
    raw: Micros = (numbers.fill_null(0) if numbers.null_count else numbers).to_numpy()
    if unit == "ns":
        return np.asarray(raw // 1000)
    factor = {"us": 1, "ms": 1_000, "s": 1_000_000}[unit]
    clipped = _within(raw, -(LAST_US // factor), LAST_US // factor)
    return clipped if factor == 1 else clipped * factor


def _within(values: Micros, low: int, high: int) -> Micros:
    """Return values moved into a range; most columns are inside, and need no copy."""
    is_inside = not len(values) or (values.min() >= low and values.max() <= high)
    return values if is_inside else np.clip(values, low, high)


def _from_local(local: Micros, rows: Micros, timezone: str, column: str) -> Micros:
    """Return local times as UTC; `rows` says where in the spine each is."""
    local = np.clip(local, FIRST_US, LAST_US - DAY_US)
    years = {local_year(int(part) * YEAR_US) for part in np.unique(local // YEAR_US)}
    if not years:
        return local
    table = SpanTable.of(local_spans(timezone, {y for year in years for y in (year, year + 1)}))
    index = table.index(local)
    is_plain = np.array([span.kind == "plain" for span in table.spans])
    if (bad := np.flatnonzero(~is_plain[index])).size:
        first = int(bad[0])
        span = table.spans[index[first]]
        raise _local_time_error(span, int(local[first]), int(rows[first]), timezone, column)
    return np.asarray(local - table.offsets[index])


def _local_time_error(
    span: LocalSpan, local: int, row: int, timezone: str, column: str
) -> SpineError:
    how = "occurs twice" if span.kind == "twice" else "never occurs"
    text = format_instant(from_micros(local)).removesuffix("Z")
    return SpineError(
        f"Column {column!r} of the spine: {text} in row {row} {how} in {timezone}.",
        column=column,
        row=row,
        hint="give the spine's times a zone (UTC is best)",
    )


def key_column(spine: pa.Table, column: str, dtype: pa.DataType, *, role: str) -> pa.Array:
    """Return a spine column as a join key of type `dtype`; what cannot be equal to any key is null.

    Integers of any width are compared by value; floats must be integral (NaN is null).

    Raises:
        SpineError: The column is missing, or its type cannot be compared with the key's.
    """
    values = _column(spine, column, role, "with_join_key_map() or rename it:")
    values = _storage(_plain(values))
    found = base_type(values.type)
    if pa.types.is_null(found):
        return pa.nulls(len(values), dtype)
    if pa.types.is_integer(dtype) and pa.types.is_floating(found):
        values = _integral(values, column, dtype)
        found = values.type
    if pa.types.is_integer(dtype) and pa.types.is_integer(found):
        return _fitting(values, dtype)
    if found != dtype:
        raise SpineError(
            f"Column {column!r} of the spine is {type_name(found)}, but the join key is"
            f" {type_name(dtype)}.",
            column=column,
            hint=f"cast the column to {type_name(dtype)}, or correct the entity's join_keys",
        )
    return values if values.type == dtype else values.cast(dtype)


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column.type, pa.BaseExtensionType) else column


def _integral(values: pa.Array, column: str, dtype: pa.DataType) -> pa.Array:
    floats = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = np.where(np.isnan(floats), 0.0, floats)
    bad = np.flatnonzero((np.floor(known) != known) | np.isinf(known))
    if bad.size:
        row = int(bad[0])
        raise SpineError(
            f"Column {column!r} of the spine holds {floats[row]} in row {row}, but the join key is"
            f" {type_name(dtype)}.",
            column=column,
            row=row,
            hint="float keys are accepted only if all of them are whole numbers",
        )
    wide = np.uint64 if dtype == pa.uint64() else np.int64
    bounds = np.iinfo(wide)
    fits = (known >= float(bounds.min)) & (known < float(bounds.max))
    return pa.array(np.where(fits, known, 0.0).astype(wide), mask=np.isnan(floats) | ~fits)


def _fitting(values: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Return integers as `dtype`, those that do not fit as null: no key can be equal to them."""
    if values.type == dtype:
        return values
    info = np.iinfo(dtype.to_pandas_dtype())
    own = np.iinfo(values.type.to_pandas_dtype())
    low, high = max(info.min, own.min), min(info.max, own.max)
    fits = pc.and_(
        pc.greater_equal(values, pa.scalar(low, values.type)),
        pc.less_equal(values, pa.scalar(high, values.type)),
    )
    return pc.if_else(fits, values, pa.scalar(None, values.type)).cast(dtype)

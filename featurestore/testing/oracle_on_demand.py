"""On-demand features in the plainest way: DuckDB computes each value by itself, from the text.

Nothing here is shared with the evaluator. A source is a table of one row under its own name, so
that `amount` and `user_spend.amount` mean what they mean in SQL.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any

import duckdb
import pyarrow as pa

from featurestore.definitions import (
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
    RequestSource,
)
from featurestore.errors import ComputationError, EntityValueError, FunctionCallError
from featurestore.testing.plain import PlainTable, RawTime, Row, from_array

Functions = Mapping[str, Callable[[pa.RecordBatch], Any]]
"""Reference -> function. The oracle calls it with one row, as a record batch."""
Selection = FeatureViewSelection | OnDemandSelection


def view_sources(selections: Sequence[Selection]) -> list[FeatureViewSelection]:
    """Return the views, as they are used but with all features, that others are computed from."""
    found = {
        source.name: source.model_copy(update={"features": None})
        for selection in selections
        if isinstance(selection, OnDemandSelection)
        for source in selection.view.origins
        if isinstance(source, FeatureViewSelection)
    }
    return list(found.values())


def read_by(selections: Sequence[Selection]) -> list[FeatureViewSelection]:
    """Return the views that features come from, or are computed from, in the order asked."""
    return [
        view
        for selection in selections
        for view in (
            [selection]
            if isinstance(selection, FeatureViewSelection)
            else view_sources([selection])
        )
    ]


def request_fields(selections: Sequence[Selection]) -> dict[str, pa.DataType]:
    """Return the request fields that a caller has to bring."""
    return {
        name: dtype
        for selection in selections
        if isinstance(selection, OnDemandSelection)
        for name, dtype in selection.view.request_fields.items()
    }


def request_row(row: Row, fields: Mapping[str, pa.DataType], number: int) -> dict[str, object]:
    """Return a row's request fields as values of their declared types.

    Raises:
        EntityValueError: A field is missing or of another type; it names field and row.
    """
    for name, dtype in fields.items():
        if name not in row:
            raise EntityValueError(f"The request field {name!r} is missing.", field=name)
        if not _fits(row[name], dtype):
            message = f"{name!r} is {dtype}, but row {number} holds {row[name]!r}."
            raise EntityValueError(message, field=name, row=number)
    return {name: _declared(row[name], dtype) for name, dtype in fields.items()}


def _fits(value: object, dtype: pa.DataType) -> bool:
    if value is None:
        return True
    if pa.types.is_floating(dtype):
        bits = 53 if dtype == pa.float64() else 24
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**bits
        return isinstance(value, float) or whole
    if pa.types.is_integer(dtype):
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            return False
        signed = pa.types.is_signed_integer(dtype)
        low = -(2 ** (dtype.bit_width - 1)) if signed else 0
        return bool(low <= value < low + 2**dtype.bit_width)
    kinds = ((pa.types.is_boolean, bool), (pa.types.is_string, str), (pa.types.is_date, date))
    kind = next((kind for is_kind, kind in kinds if is_kind(dtype)), RawTime)
    return type(value) is kind


def _declared(value: Any, dtype: pa.DataType) -> object:
    if isinstance(value, RawTime):
        return RawTime(value.ns // 1_000 * 1_000, value.aware)
    if value is None or isinstance(value, bool | str | date):
        return value
    if dtype == pa.float32():
        return struct.unpack("f", struct.pack("f", value))[0]
    return float(value) if pa.types.is_floating(dtype) else int(value)


def compute(
    view: OnDemandFeatureView,
    feature: str,
    values: Mapping[str, Row],
    *,
    row: int,
    functions: Functions,
) -> object:
    """Return one value of an on-demand feature.

    Args:
        view: The on-demand view.
        feature: The feature's name.
        values: Source -> the values of its features or fields.
        row: The row's number, for messages.
        functions: What functions compute.

    Raises:
        ComputationError: DuckDB refuses to compute it.
        FunctionCallError: The function fails.
    """
    if view.reference is not None:
        return _by_function(view, feature, values, functions, row=row)
    defined = next(f for f in view.computed if f.name == feature)
    tables = ", ".join(f'"{source.name}"' for source in view.origins)
    with _connection().cursor() as connection:
        for source in view.origins:
            connection.register(source.name, _one_row(source, values[source.name]))
        try:
            text = f"SELECT {defined.expression} AS result FROM {tables}"  # noqa: S608 - a test's
            found = connection.sql(text).to_arrow_table().column(0)
        except duckdb.Error as error:
            name = f"{view.name}:{feature}"
            raise ComputationError(feature=name, row=row, reason=str(error)) from None
        (value,) = from_array(found.cast(defined.dtype))
    return value


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    """Return one to an empty database, whose cursors share no tables; to open it takes 20 ms."""
    return duckdb.connect(config={"threads": 1})


def _by_function(
    view: OnDemandFeatureView,
    feature: str,
    values: Mapping[str, Row],
    functions: Functions,
    *,
    row: int,
) -> object:
    assert view.reference is not None
    given = {
        column: PlainTable({column: i.dtype}, [{column: values[i.origin.name][i.name]}])
        for column, i in view.columns.items()
    }
    batch = pa.record_batch(
        [table.to_arrow().column(0).combine_chunks() for table in given.values()],
        names=list(given),
    )
    try:
        found = pa.table(functions[view.reference.path](batch)).column(feature)
        (value,) = from_array(found.cast(view.types[feature]))
    except Exception as error:
        raise FunctionCallError(
            view=view.name,
            function=view.reference.path,
            first_row=row,
            last_row=row,
            reason=str(error),
        ) from error
    return value


def _one_row(source: FeatureViewSelection | RequestSource, values: Row) -> pa.Table:
    if isinstance(source, RequestSource):
        types = source.schema_types
    else:
        types = {name: source.view.field(name).dtype for name in source.feature_names}
    table = PlainTable(types, [values]).to_arrow()
    naive = [pa.timestamp("us") if pa.types.is_timestamp(t) else t for t in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, naive, strict=True))))

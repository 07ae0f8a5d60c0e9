"""Columns that pyarrow can filter and compare, which it does for some ways to hold values only."""

import pyarrow as pa
import pyarrow.compute as pc

from featurestore.errors import SpineError, shown


def without_views(table: pa.Table) -> pa.Table:
    """Return a table with the same values, in columns of which pyarrow can take rows.

    Texts and bytes are in large columns instead of views, as which Polars exports them, and values
    are not run-end encoded.

    Raises:
        SpineError: A column has a type that pyarrow cannot do that with; it names it.
    """
    columns = [_checked(n, c) for n, c in zip(table.column_names, table.columns, strict=True)]
    fields = (f.with_type(c.type) for f, c in zip(table.schema, columns, strict=True))
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def stored_values(values: pa.Array) -> pa.Array:
    """Return the values behind extension types, dictionaries and run ends, as pyarrow compares."""
    dtype = values.type
    if isinstance(values, pa.ExtensionArray):
        return stored_values(values.storage)
    if pa.types.is_dictionary(dtype):
        return stored_values(values.dictionary_decode())
    if pa.types.is_run_end_encoded(dtype):
        return stored_values(pc.run_end_decode(values))
    if pa.types.is_decimal32(dtype) or pa.types.is_decimal64(dtype):
        return values.cast(pa.decimal128(dtype.precision, dtype.scale))
    return values


def _checked(name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        found = _without_views(column)
        first = found.slice(0, 1)
        first.filter(pa.array([True] * len(first), pa.bool_()))
    except pa.ArrowException:
        raise SpineError(
            f"Column {shown(name)} is {str(column.type)[:100]}, which a spine cannot have.",
            column=name,
            hint="cast it, or leave it out",
        ) from None
    return found


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_run_end_encoded(column.type):
        decoded = [pc.run_end_decode(part) for part in column.chunks]
        return _without_views(pa.chunked_array(decoded, column.type.value_type))
    wanted = _plain(column.type)
    if wanted == column.type:
        return column
    if not pa.types.is_dictionary(wanted):
        return column.cast(wanted)
    parts = (
        pa.DictionaryArray.from_arrays(
            part.indices, part.dictionary.cast(wanted.value_type), ordered=wanted.ordered
        )
        for part in column.chunks
    )
    return pa.chunked_array(parts, wanted)


def _plain(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(dtype):
        return pa.large_string()
    if pa.types.is_binary_view(dtype):
        return pa.large_binary()
    if pa.types.is_dictionary(dtype):
        return pa.dictionary(dtype.index_type, _plain(dtype.value_type), dtype.ordered)
    if pa.types.is_struct(dtype):
        return pa.struct([field.with_type(_plain(field.type)) for field in dtype])
    if pa.types.is_list(dtype):
        return pa.list_(_plain(dtype.value_type))
    return pa.large_list(_plain(dtype.value_type)) if pa.types.is_large_list(dtype) else dtype

"""Columns that pyarrow can filter: Polars exports texts as views, of which it takes no rows."""

import pyarrow as pa


def without_views(table: pa.Table) -> pa.Table:
    """Return a table with the same values, texts and bytes in large columns instead of views."""
    columns = [_without_views(column) for column in table.columns]
    fields = (f.with_type(c.type) for f, c in zip(table.schema, columns, strict=True))
    return pa.table(columns, schema=pa.schema(fields, metadata=table.schema.metadata))


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
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

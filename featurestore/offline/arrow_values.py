"""Columns as files hold them as columns of their declared types, exactly."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.offline.instants import Instants
from featurestore.types import base_type


def in_one_piece(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array; a single chunk as it is, which `combine_chunks` would copy."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def declared_values(column: pa.Array, dtype: pa.DataType, instants: Instants) -> pa.Array:
    """Return a key or feature column with its declared type, which is at least as wide.

    Raises:
        pa.ArrowInvalid: A text is not UTF-8.
        FarTimeError: A time does not fit.
    """
    found = column.type
    if pa.types.is_null(found):
        return pa.nulls(len(column), dtype)
    if pa.types.is_timestamp(dtype):
        return instants.micros(column, up=False).cast(dtype)
    if pa.types.is_list(dtype) and pa.types.is_timestamp(dtype.value_type):
        elements, _ = flattened(column)
        times = instants.micros(elements, up=False).cast(dtype.value_type)
        return _list_of(times, column, dtype)
    if _holds_text(dtype):
        column.validate(full=True)  # Polars trusts that texts are UTF-8
    base = base_type(found)
    plain = column if found == base else _based(column, base)
    return plain if plain.type == dtype else plain.cast(dtype)


def flattened(column: pa.Array) -> tuple[pa.Array, npt.NDArray[np.int64]]:
    """Return the elements of lists, or the values of another column, and the row of each."""
    if not pa.types.is_list(base_type(column.type)):
        return column, np.arange(len(column), dtype=np.int64)
    parents = np.repeat(np.arange(len(column), dtype=np.int64), _lengths(column))
    return pc.list_flatten(column), parents


def taken(batch: pa.RecordBatch, rows: npt.NDArray[np.int64]) -> pa.RecordBatch:
    """Return rows of a batch, by their numbers; Arrow itself takes none from columns of views."""
    columns = [_without_views(column) for column in batch.columns]
    return pa.record_batch(columns, names=batch.schema.names).take(pa.array(rows))


def _without_views(column: pa.Array) -> pa.Array:
    """Return a column with offsets instead of views, at any depth.

    Arrow 26 casts a list view with nulls to a broken list, without a word.
    """
    dtype = column.type
    if not _has_views(dtype):
        return column
    if pa.types.is_struct(dtype):
        children = [_without_views(child) for child in column.flatten()]
        return pa.StructArray.from_arrays(
            children, names=[field.name for field in dtype], mask=column.is_null()
        )
    if pa.types.is_nested(dtype):
        elements = _without_views(pc.list_flatten(column))
        return _list_of(elements, column, pa.list_(elements.type))
    return column.cast(base_type(dtype))


def _has_views(dtype: pa.DataType) -> bool:
    if pa.types.is_list_view(dtype) or pa.types.is_large_list_view(dtype):
        return True
    if pa.types.is_nested(dtype):
        return any(_has_views(dtype.field(i).type) for i in range(dtype.num_fields))
    return bool(pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype))


def _based(column: pa.Array, base: pa.DataType) -> pa.Array:
    column = _without_views(column)
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(base)


def _list_of(elements: pa.Array, column: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Return lists of the lengths of another column's, with other elements; null stays null."""
    offsets = np.concatenate([[0], np.cumsum(_lengths(column))])
    mask = column.is_null() if column.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), elements, type=dtype, mask=mask)


def _lengths(column: pa.Array) -> npt.NDArray[np.int64]:
    lengths = pc.list_value_length(column).fill_null(0)
    return np.asarray(lengths.cast(pa.int64()).to_numpy())


def _holds_text(dtype: pa.DataType) -> bool:
    if pa.types.is_nested(dtype):
        return any(_holds_text(dtype.field(i).type) for i in range(dtype.num_fields))
    return bool(pa.types.is_string(dtype))

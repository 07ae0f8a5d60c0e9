"""A number for each distinct row of some columns, by which rows are put into groups."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.offline.timeline import Ints, distinct_places
from featurestore.spines.plain_columns import stored_values


def whole_rows(table: pa.Table, names: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which rows have a value in each of some columns; NaN is none."""
    found = np.ones(table.num_rows, dtype=bool)
    for name in names:
        column = table[name]
        is_float = pa.types.is_floating(column.type)
        missing = pc.is_null(column, nan_is_null=True) if is_float else pc.is_null(column)
        found &= ~np.asarray(missing.combine_chunks())
    return found


def row_numbers(columns: Sequence[pa.ChunkedArray], rows: int) -> Ints:
    """Return a number for each of n rows: equal for rows that are equal in all columns.

    Args:
        columns: n values each, of any type; null equals null, and NaN equals NaN.
        rows: n; without columns all rows are equal.

    Returns:
        n int64 numbers from 0, fewer than 2**31 of them.
    """
    numbers = np.zeros(rows, dtype=np.int64)
    for column in columns:
        codes = _codes(column)
        numbers = distinct_places(numbers * (int(codes.max(initial=0)) + 1) + codes)[1]
    return numbers


def _codes(column: pa.ChunkedArray) -> Ints:
    """Return a number below n for each of n values."""
    values = stored_values(column.combine_chunks())
    if pa.types.is_integer(values.type) and not values.null_count:
        numbers = values.to_numpy().astype(np.uint64).view(np.int64)
        return distinct_places(np.ascontiguousarray(numbers))[1]
    if pa.types.is_floating(values.type):
        values = pc.add(values.cast(pa.float64()), 0.0)  # -0.0 is 0.0
    if pa.types.is_nested(values.type):
        values = pa.array(map(repr, values.to_pylist()), pa.string())
    codes = values.dictionary_encode(null_encoding="encode").indices
    return np.asarray(codes.to_numpy(zero_copy_only=False)).astype(np.int64)

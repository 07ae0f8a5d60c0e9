"""Rows of an engine's own types as rows of the declared ones."""

from collections.abc import Sequence

import pyarrow as pa

from featurestore.offline.scan import SourceScan

Columns = Sequence[tuple[str, pa.DataType]]
"""Aliases and their types, in order."""


def version_columns(scan: SourceScan) -> list[tuple[str, pa.DataType]]:
    """Return the join keys with their declared types, `e` and `c`."""
    return [*((c.alias, c.dtype) for c in scan.keys), ("e", pa.int64()), ("c", pa.int64())]


def cast_table(table: pa.Table, columns: Columns) -> pa.Table:
    """Return these columns with these types."""
    return table.select([alias for alias, _ in columns]).cast(pa.schema(columns))


def cast_batch(batch: pa.RecordBatch, columns: Columns) -> pa.RecordBatch:
    """Return these columns with these types."""
    arrays = [_as_declared(batch.column(alias), dtype) for alias, dtype in columns]
    return pa.record_batch(arrays, names=[alias for alias, _ in columns])


def _as_declared(array: pa.Array, dtype: pa.DataType) -> pa.Array:
    return array if array.type == dtype else array.cast(dtype)

"""Reads the sources that transforms join, whole and once for each call."""

import numpy as np
import pyarrow as pa

from featurestore.offline.arrow_rows import ArrowRows
from featurestore.offline.read_ahead import as_they_come
from featurestore.offline.row_joins import RowJoins, check_memory
from featurestore.offline.scan import JoinScan, SourceScan
from featurestore.offline.timeline import arrival_order


def row_joins(scan: SourceScan, *, threads: int, memory_bytes: int) -> RowJoins | None:
    """Return what a scan joins, None for nothing.

    Args:
        scan: The scan.
        threads: How many row groups to read at once.
        memory_bytes: The engine's memory, of which joined sources may take a part.
    """
    if not scan.joins:
        return None

    def read(join: JoinScan) -> pa.Table:
        check_memory(join.scan, memory_bytes)
        return _in_order(_read(join.scan, threads))

    return RowJoins(scan, read)


def _read(scan: SourceScan, threads: int) -> pa.Table:
    rows = ArrowRows(scan)
    rows.check_local_times()
    aliases = ["o", *(column.alias for column in scan.columns)]
    if scan.ties_by_nanoseconds:
        aliases += ["en", "cn"]
    batches = as_they_come(lambda piece: rows.read(piece, aliases), rows.pieces, threads=threads)
    return pa.Table.from_batches(batches, rows.schema(aliases))


def _in_order(table: pa.Table) -> pa.Table:
    """Return rows in the order of their ordinals."""
    order = arrival_order(table.column("o").to_numpy())
    return table if order is None else table.take(pa.array(np.asarray(order)))

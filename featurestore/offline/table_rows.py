"""Rows of a table in memory, read as those of a source's file are."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from featurestore.offline.arrow_rows import ArrowRows, Piece, Reading
from featurestore.offline.instants import FarTimeError
from featurestore.offline.scan import SourceScan
from featurestore.offline.source_errors import first_line, unreadable


class TableRows(ArrowRows):
    """Reads a table through a scan, as `ArrowRows` reads files.

    Args:
        scan: Made by `scan_of_table`.
        table: That table.
    """

    def __init__(self, scan: SourceScan, table: pa.Table) -> None:
        super().__init__(scan)
        self._table = table

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """The whole table, if it has rows."""
        (file,), (group,) = self.scan.files, self.scan.groups
        rows = self._table.num_rows
        return (Piece(file, group, None, number=0, first=0, rows=rows),) if rows else ()

    @contextlib.contextmanager
    def _opened(self, piece: Piece) -> Iterator[Reading]:
        try:
            yield _Batches(self._table)
        except MemoryError:  # Arrow's is one of its other errors too
            raise
        except (pa.ArrowException, FarTimeError) as error:
            raise unreadable(self.scan, first_line(error), piece.file) from None


@dataclass(frozen=True)
class _Batches:
    """A table in place of an opened file."""

    table: pa.Table

    def iter_batches(
        self,
        batch_size: int,
        *,
        row_groups: Sequence[int],
        columns: Sequence[str],
        use_threads: bool,
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of the table; it has one row group."""
        del row_groups, use_threads
        yield from self.table.select(columns).to_batches(max_chunksize=batch_size)

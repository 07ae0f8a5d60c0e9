"""Rows of a source as an engine works on them, read by Arrow: exact names, exact types.

A file is read in pieces, its row groups, and a piece in batches, so that memory depends on neither.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.offline.arrow_files import opened
from featurestore.offline.arrow_values import declared_values, flattened, taken
from featurestore.offline.files import SourceFile
from featurestore.offline.instants import Instants, moved_by_rounding
from featurestore.offline.local_times import is_naive, local_columns, refused_kinds
from featurestore.offline.ordinals import first_ordinals
from featurestore.offline.row_expressions import RowExpressions
from featurestore.offline.row_joins import RowJoins
from featurestore.offline.row_spans import RowSpan, margin_us, reaches
from featurestore.offline.scan import SourceScan, folder_values
from featurestore.offline.scan_columns import FileGroup, ScanColumn
from featurestore.offline.source_errors import local_time_error

BATCH_ROWS = 131_072
NUMBERS = frozenset({"e", "c", "o", "en", "cn"})
"""Columns of int64."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A row group of a file.

    Attributes:
        file: The file.
        group: The types of its columns.
        metadata: What its footer says, so that it is not read again.
        number: The row group's.
        first: Ordinal of its first row.
        rows: Its rows.
        span: Between which event times they lie as written, if that is known.
    """

    file: SourceFile
    group: FileGroup
    metadata: pq.FileMetaData
    number: int
    first: int
    rows: int
    span: RowSpan | None = None


class Reading(Protocol):
    """What a piece is read from: a Parquet file, or what stands for one."""

    def iter_batches(
        self,
        batch_size: int,
        *,
        row_groups: Sequence[int],
        columns: Sequence[str],
        use_threads: bool,
    ) -> Iterator[pa.RecordBatch]:
        """Yield columns of some row groups, by their names."""
        ...


class ArrowRows:
    """Reads the columns of one scan. Safe to use from several threads.

    Args:
        scan: The scan.
        joins: What the scan joins; not needed where no joined column is asked for.

    Columns: `e`, `c` as int64 microseconds; `k0..`, `f0..` with their declared types; `o`, `en` and
    `cn` as in `ScanReader.rows`.
    """

    def __init__(self, scan: SourceScan, joins: RowJoins | None = None) -> None:
        self.scan = scan
        self._instants = Instants(scan.source)
        self._columns = {c.alias: c for c in (*scan.features, *scan.columns)}
        self._expressions = RowExpressions(scan, joins)

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All row groups with rows, in the order of their ordinals."""
        firsts = first_ordinals(self.scan)
        of_file = {file.path: group for group in self.scan.groups for file in group.files}
        spans = iter(self.scan.spans or ())
        pieces = []
        for file in self.scan.files:
            with opened(self.scan, file) as reading:
                metadata, first = reading.metadata, firsts[file.path]
            for number in range(metadata.num_row_groups):
                rows, span = metadata.row_group(number).num_rows, next(spans, None)
                group = of_file[file.path]
                pieces.append(Piece(file, group, metadata, number, first, rows, span))
                first += rows
        return tuple(piece for piece in pieces if piece.rows)

    def pieces_within(self, since_us: int | None, until_us: int | None) -> tuple[Piece, ...]:
        """Return the row groups that may have rows in a span of event time."""
        zone = self.scan.source.timezone
        return tuple(
            piece
            for piece in self.pieces
            if piece.span is None
            or reaches(piece.span, since_us, until_us, margin_us(piece.group.types["e"], zone))
        )

    def schema(self, aliases: Sequence[str]) -> pa.Schema:
        """Return the types of these columns."""
        return pa.schema([(alias, self._type(alias)) for alias in aliases])

    def _type(self, alias: str) -> pa.DataType:
        return pa.int64() if alias in NUMBERS else self._columns[alias].dtype

    def read(
        self, piece: Piece, aliases: Sequence[str], *, chosen: npt.NDArray[np.int64] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows of a piece, in order; rows that the scan's filter leaves out are not there.

        Args:
            piece: What to read.
            aliases: The columns, one at least.
            chosen: Ordinals of the rows wanted, sorted, of rows that the filter lets through; None
                for all.
        """
        schema = self.schema(aliases)
        needed = self.scan.read_for(aliases)
        seen = self._expressions.filter_columns if chosen is None else ()
        names = self._names(piece, [*needed, *seen])
        with self._opened(piece) as reading:
            for first, batch in self._batches(reading, piece, names):
                ordinals = np.arange(first, first + batch.num_rows, dtype=np.int64)
                rows = batch
                if seen:
                    there = {alias: self._column(alias, piece, rows, ordinals) for alias in seen}
                    ordinals = ordinals[self._expressions.passing(there, ordinals)]
                elif chosen is not None:
                    ordinals = chosen[
                        slice(*np.searchsorted(chosen, [first, first + len(ordinals)]))
                    ]
                if len(ordinals) < batch.num_rows:
                    if not len(ordinals):
                        continue
                    rows = taken(batch, ordinals - first)
                columns = [self._column(alias, piece, rows, ordinals) for alias in needed]
                found = pa.record_batch(columns, names=needed)
                yield self._expressions.completed(found, aliases, ordinals).cast(schema)

    def _opened(self, piece: Piece) -> AbstractContextManager[Reading]:
        """Open what `_batches` reads a piece from."""
        return opened(self.scan, piece.file, metadata=piece.metadata)

    def _batches(
        self, reading: Reading, piece: Piece, names: Sequence[str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the ordinal of the first row, and the rows as the file holds them."""
        first = piece.first
        for batch in reading.iter_batches(
            BATCH_ROWS, row_groups=[piece.number], columns=names, use_threads=False
        ):
            yield first, batch
            first += batch.num_rows

    def _names(self, piece: Piece, aliases: Sequence[str]) -> list[str]:
        """Return what these columns are read from; any column if it is nothing in the file."""
        sources = {"en": "e", "cn": "c"}
        stored = {sources.get(a, a) for a in aliases} - piece.group.from_folders - {"o"}
        known = [self._columns[alias].in_file for alias in stored if alias in self._columns]
        return sorted(set(known)) or [self.scan.columns[-1].in_file]

    def _column(
        self, alias: str, piece: Piece, rows: pa.RecordBatch, ordinals: npt.NDArray[np.int64]
    ) -> pa.Array:
        if alias == "o":
            return pa.array(ordinals)
        if alias in piece.group.from_folders:
            return pa.repeat(self._folders[piece.file.path][alias], len(ordinals))
        if alias == "cn" and self.scan.created is None:
            return pa.array(np.zeros(len(ordinals), dtype=np.int64))
        column = self._columns[alias.removesuffix("n")]
        values = rows.column(column.in_file)
        if alias in ("en", "cn"):
            return moved_by_rounding(values)
        if alias in ("e", "c"):
            return self._instants.micros(values, up=True)
        return declared_values(values, column.dtype, self._instants)

    @cached_property
    def _folders(self) -> dict[str, dict[str, pa.Scalar]]:
        """Path -> what the folder names say."""
        found = {}
        for group in self.scan.groups:
            for row in folder_values(self.scan, group).to_batches(1):
                path, *values = (column[0] for column in row.columns)
                found[path.as_py()] = dict(zip(row.schema.names[1:], values, strict=True))
        return found

    def check_local_times(self) -> None:
        """Make sure that the source's policy allows all local times in the scan's columns.

        Raises:
            SourceTimeError: It names the first that it refuses.
        """
        kinds = refused_kinds(self.scan.source)
        for column in local_columns(self.scan) if kinds else ():
            for piece in self.pieces:
                if is_naive(piece.group.types[column.alias]):
                    self._check_piece(piece, column, kinds)

    def _check_piece(self, piece: Piece, column: ScanColumn, kinds: set[str]) -> None:
        with self._opened(piece) as reading:
            for first, batch in self._batches(reading, piece, [column.in_file]):
                values, parents = flattened(batch.column(column.in_file))
                found = self._instants.refused(values, kinds)
                if found is not None:
                    row, local, span = found
                    ordinal = first + int(parents[row])
                    raise local_time_error(self.scan, column, span, local, ordinal)


def check_filter(scan: SourceScan) -> None:
    """Make sure that the scan's filter has a value for every row.

    Raises:
        SourceError: It names the first row for which it has none.
    """
    rows = ArrowRows(scan)
    for piece in rows.pieces:
        for _ in rows.read(piece, ["o"]):
            pass

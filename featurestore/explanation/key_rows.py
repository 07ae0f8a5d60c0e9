"""All rows of one entity in a view's source, and those that nobody ever sees.

Rows are read by the engine, which filters them by the key while it reads; which of them answers is
decided here from times and places alone, by the letter of SEMANTICS and without the engine's own
joins. So an explanation is a second opinion on what a training set says.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.offline.arrow_rows import ArrowRows, Piece
from featurestore.offline.engine import OfflineEngine, ScanReader
from featurestore.offline.read_ahead import as_they_come
from featurestore.offline.scan import SourceScan

Ints = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]

LOWEST = -(2**63)
"""What a null created time counts as: below every instant."""
GREATEST = 2**63 - 1
RANK = ("o", "cn", "en", "c", "e")
"""What decides between rows of one key, the most important last."""


@dataclass(frozen=True)
class KeyRows:
    """Rows of one key with an event time, in the order of their rank: the greatest is the last.

    Attributes:
        table: Columns as `ScanReader.rows` yields them.
    """

    table: pa.Table

    @classmethod
    def none(cls) -> "KeyRows":
        """Return no rows."""
        return cls(_no_rows(()))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def events(self) -> Ints:
        """Event times, microseconds."""
        return self._numbers("e")

    @cached_property
    def created(self) -> Ints:
        """When rows were written, `LOWEST` where nobody knows."""
        if "c" not in self.table.schema.names:
            return np.full(len(self), LOWEST, dtype=np.int64)
        return self._numbers("c")

    @cached_property
    def ordinals(self) -> Ints:
        """Where rows are."""
        return self._numbers("o")

    @cached_property
    def superseded(self) -> Ints | None:
        """When a later version of the row's event was written; see `ScanReader.rows`."""
        return self._numbers("s") if "s" in self.table.schema.names else None

    def same_nanoseconds(self, row: int) -> Marks:
        """Return which rows lost the same nanoseconds to rounding as one of them."""
        same = np.ones(len(self), dtype=bool)
        for alias in ("en", "cn"):
            if alias in self.table.schema.names:
                lost = self._numbers(alias)
                same &= lost == lost[row]
        return same

    def column(self, alias: str) -> pa.Array:
        """Return a column as one array."""
        found = self.table.column(alias).combine_chunks()
        return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found

    def times(self, row: int) -> tuple[int, int | None]:
        """Return a row's event time, and when it was written."""
        created = int(self.created[row])
        return int(self.events[row]), None if created == LOWEST else created

    def _numbers(self, alias: str) -> Ints:
        return _numbers(self.table, alias)


def _numbers(table: pa.Table, alias: str) -> Ints:
    column = table.column(alias)
    filled = column.fill_null(LOWEST) if column.null_count else column
    return np.asarray(filled.to_numpy(), dtype=np.int64)


def read_rows(reader: ScanReader, key: pa.Table, columns: Sequence[str] = ()) -> KeyRows:
    """Return all rows of a key that have an event time, of all times.

    Args:
        reader: Reads the source.
        key: One row: `g`, 0, and the join key `k0..`, without nulls.
        columns: Aliases of features to read besides.
    """
    wanted = key.append_column("until", pa.array([GREATEST]))
    batches = list(reader.rows(wanted, columns, from_us=None, until_us=GREATEST))
    if not batches:
        return KeyRows(_no_rows(columns))
    table = pa.Table.from_batches(batches)
    present = [alias for alias in RANK if alias in table.schema.names]
    order = np.lexsort([_numbers(table, alias) for alias in present])
    return KeyRows(table.take(pa.array(order)))


def _no_rows(columns: Sequence[str]) -> pa.Table:
    numbers = {alias: pa.array([], pa.int64()) for alias in ("e", "c", "o")}
    return pa.table(numbers | {alias: pa.nulls(0) for alias in columns})


def read_left_out(engine: OfflineEngine, scan: SourceScan, key: pa.Table, kept: KeyRows) -> KeyRows:
    """Return the rows of a key that the view's transform, or a rule, leaves out."""
    if scan.where is None and not any(join.inner for join in scan.joins):
        return KeyRows.none()
    with engine.reader(replace(scan.unfiltered, dedup=())) as reader:
        every = read_rows(reader, key)
    missing = ~np.isin(every.ordinals, kept.ordinals)
    return KeyRows(every.table.filter(pa.array(missing)))


@dataclass(frozen=True)
class Unusable:
    """Rows that are never visible; ordinals are in order.

    Attributes:
        null_times: Rows of the entity without an event time.
        null_keys: Rows of nobody: a part of their join key is null.
    """

    null_times: Ints
    null_keys: Ints


def read_unusable(scan: SourceScan, key: pa.Table | None, *, threads: int) -> Unusable:
    """Find the rows that have no event time or no key; only row groups with nulls are read.

    Args:
        scan: The view's source.
        key: As for `read_rows`; None for a key with a null, which no row has.
        threads: How many row groups to read at once.
    """
    empty = np.empty(0, dtype=np.int64)
    if not scan.nulls_possible:
        return Unusable(empty, empty)
    rows = ArrowRows(replace(scan.unfiltered, features=(), dedup=()))
    keys = [column.alias for column in scan.keys]
    pieces = [piece for piece in rows.pieces if _may_have_nulls(scan, piece)]
    no_time, no_key = [empty], [empty]

    def read(piece: Piece) -> Iterator[pa.RecordBatch]:
        return rows.read(piece, ["o", "e", *keys])

    for batch in as_they_come(read, pieces, threads=threads):
        ordinals, null = batch.column("o").to_numpy(), _null_keys(batch, keys)
        no_key.append(ordinals[null])
        if key is not None:
            timeless = np.asarray(batch.column("e").is_null()) & ~null
            no_time.append(ordinals[timeless & _has_key(batch, keys, key)])
    return Unusable(np.sort(np.concatenate(no_time)), np.sort(np.concatenate(no_key)))


def _null_keys(batch: pa.RecordBatch, keys: Sequence[str]) -> Marks:
    null = np.zeros(batch.num_rows, dtype=bool)
    for alias in keys:
        null |= np.asarray(batch.column(alias).is_null())
    return null


def _has_key(batch: pa.RecordBatch, keys: Sequence[str], key: pa.Table) -> Marks:
    equal = np.ones(batch.num_rows, dtype=bool)
    for alias in keys:
        same = pc.equal(batch.column(alias), key.column(alias)[0])
        equal &= np.asarray(pc.fill_null(same, fill_value=False))
    return equal


def _may_have_nulls(scan: SourceScan, piece: Piece) -> bool:
    """Whether a row group's statistics leave it open that a key or event time is null."""
    folders = dict(piece.file.partitions)
    from_folders = [c for c in scan.keys if c.alias in piece.group.from_folders]
    if any(folders[column.in_file] is None for column in from_folders):
        return True
    group = piece.metadata.row_group(piece.number)
    chunks = (group.column(n) for n in range(group.num_columns))
    nulls = {
        chunk.path_in_schema: chunk.statistics.null_count
        for chunk in chunks
        if chunk.statistics is not None and chunk.statistics.has_null_count
    }
    needed = (c for c in (*scan.keys, scan.event_column) if c not in from_folders)
    return any(nulls.get(column.in_file, 1) for column in needed)

"""Columns that are filled in any order: each value goes where it belongs as it comes."""

import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.scan_columns import ScanColumn
from featurestore.offline.timeline import NOBODY, Ints, first_of_runs, sorted_rows

Bools = npt.NDArray[np.bool_]

BESIDE: Final = 8
"""Columns of numbers that are held row by row: so many fill a line of the processor's cache."""
_PIECE: Final = 2**22
"""Bytes that are given back at once; they are whole pages, and whole huge ones, too."""
_ROWS_AT_ONCE: Final = 8_192
"""Rows that are made columns at once: so many of them stay in the cache."""


class Copies(NamedTuple):
    """Rows of a batch that belong to more places than their first.

    Attributes:
        sources: Rows of the batch, each once for every further place.
        places: Where they belong.
    """

    sources: Ints
    places: Ints


class FilledColumns:
    """Columns of a table of which values come in batches.

    Numbers are held row by row, since places far apart cost the more the more often one goes
    there. What has no fixed width is held as it came, and brought into order at the end.

    Args:
        columns: The columns.
        is_null: Of each row of the table whether nothing is put there; all others are filled.
    """

    def __init__(self, columns: Sequence[ScanColumn], is_null: Bools) -> None:
        self._columns = columns
        self._is_null = is_null
        rows = len(is_null)
        numbers = [column for column in columns if is_number(column.dtype)]
        self._numbers = [_Numbers(some, rows) for some in _even_parts(numbers, BESIDE)]
        self._others = [column for column in columns if not is_number(column.dtype)]
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._places: Ints | None = None
        if self._others:
            self._places = np.zeros(rows, dtype=np.int64)

    def put(self, batch: pa.RecordBatch, places: Ints, copies: Copies | None = None) -> None:
        """Put the rows of a batch into rows of the table.

        Args:
            batch: It has the columns, by their aliases.
            places: Where each row belongs, each place once.
            copies: Rows that belong elsewhere, too.
        """
        for numbers in self._numbers:
            numbers.put(batch, places, copies)
        if self._places is None:
            return
        _write(self._places, np.arange(batch.num_rows) + self._held_rows, places, copies)
        self._held.append(batch)
        self._held_rows += batch.num_rows

    def table(self, *, threads: int) -> pa.Table:
        """Return the table, with the columns' declared types."""
        found: dict[str, pa.Array] = {}
        indices = None if self._places is None else pa.array(self._places, mask=self._is_null)
        missing = _Missing.of(self._is_null)

        def whole(column: ScanColumn) -> dict[str, pa.Array]:
            parts = [batch.column(column.alias) for batch in self._held]
            in_order = pa.chunked_array(parts, column.dtype).combine_chunks().take(indices)
            return {column.alias: in_order}

        with ThreadPoolExecutor(threads, thread_name_prefix="fill") as pool:
            for arrays in pool.map(lambda numbers: numbers.arrays(missing), self._numbers):
                found |= arrays
            for arrays in pool.map(whole, self._others):
                found |= arrays
        names = [column.alias for column in self._columns]
        return pa.table([found[name] for name in names], names=names)


class WantedRows:
    """Rows of a source, and where in a table each belongs.

    Args:
        ordinals: Of each row of the table the ordinal of its row, `NOBODY` for none.

    Attributes:
        ordinals: The distinct ones, sorted.
    """

    def __init__(self, ordinals: Ints) -> None:
        ordered, places = sorted_rows(ordinals)
        missing = int(np.searchsorted(ordered, NOBODY, "right"))
        ordered, self._places = ordered[missing:], places[missing:]
        self._firsts = np.flatnonzero(first_of_runs(ordered))
        self._more = np.diff(self._firsts, append=len(ordered)) - 1
        self.ordinals: Ints = ordered.take(self._firsts)

    def put(self, filled: FilledColumns, batch: pa.RecordBatch, numbers: Ints) -> None:
        """Put rows of a batch where they belong.

        Args:
            filled: The table.
            batch: It has the table's columns, by their aliases.
            numbers: Of each row its position in `ordinals`.
        """
        firsts, more = self._firsts.take(numbers), self._more.take(numbers)
        filled.put(batch, self._places.take(firsts), self._copies(firsts, more))

    def _copies(self, firsts: Ints, more: Ints) -> Copies | None:
        """Return where rows belong besides their first place, of those that do.

        Args:
            firsts: Of each row where its places begin.
            more: How many there are behind the first.
        """
        repeated = np.flatnonzero(more)
        if not len(repeated):
            return None
        counts = more.take(repeated)
        sources = np.repeat(repeated, counts)
        behind = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Copies(sources, self._places.take(firsts.take(sources) + 1 + behind))


class _Missing(NamedTuple):
    """Which rows of a column are null, as numpy and as Arrow have it.

    Attributes:
        is_null: The rows.
        bitmap: Arrow's bits of the others, None if that is all of them.
        nulls: How many are null.
    """

    is_null: Bools
    bitmap: pa.Buffer | None
    nulls: int

    @classmethod
    def of(cls, is_null: Bools) -> "_Missing":
        nulls = int(np.count_nonzero(is_null))
        return cls(is_null, _bits(~is_null) if nulls else None, nulls)


class _Memory:
    """Zeroed rows, of which the first can be let go before the others.

    An array of numpy's is let go as a whole, so that rows and the columns made of them would be
    there twice.

    Args:
        rows: How many.
        dtype: Of a row.
    """

    def __init__(self, rows: int, dtype: np.dtype[np.void]) -> None:
        size = max(rows * dtype.itemsize, 1)
        self._pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._pages.madvise(mmap.MADV_HUGEPAGE)
        self._gone = 0
        self.rows: npt.NDArray[np.void] = np.frombuffer(self._pages, dtype, rows)

    def let_go(self, rows: int) -> None:
        """Give the memory of the first rows back, in large pieces; nobody may look at them then."""
        behind = rows * self.rows.itemsize // _PIECE * _PIECE
        if behind > self._gone:
            self._pages.madvise(mmap.MADV_DONTNEED, self._gone, behind - self._gone)
            self._gone = behind


class _Numbers:
    """Columns of fixed widths, row by row. What is null is zero beneath: it may be sent to others.

    Args:
        columns: The columns.
        rows: How many rows they have.
    """

    def __init__(self, columns: Sequence[ScanColumn], rows: int) -> None:
        self._dtypes = {column.alias: column.dtype for column in columns}
        stored = [(c.alias, _stored(c.dtype).to_pandas_dtype()) for c in columns]
        self._memory = _Memory(rows, np.dtype(stored))
        self._rows = self._memory.rows
        self._is_null: dict[str, Bools] = {}

    def put(self, batch: pa.RecordBatch, places: Ints, copies: Copies | None) -> None:
        """Put rows of a batch into rows; see `FilledColumns.put`."""
        rows = np.empty(batch.num_rows, dtype=self._rows.dtype)
        for alias, dtype in self._dtypes.items():
            values = batch.column(alias)
            if values.type != _stored(dtype):
                values = values.view(_stored(dtype))
            if values.null_count:
                nulls = self._is_null.setdefault(alias, np.zeros(len(self._rows), dtype=bool))
                _write(nulls, np.asarray(values.is_null()), places, copies)
                values = values.fill_null(False if pa.types.is_boolean(dtype) else 0)
            rows[alias] = values.to_numpy(zero_copy_only=False)
        _write(_as_bytes(self._rows), _as_bytes(rows), places, copies)

    def arrays(self, missing: _Missing) -> dict[str, pa.Array]:
        """Return the columns by alias; their rows are let go meanwhile."""
        held = self._rows
        columns = {alias: np.empty(len(held), held.dtype[alias]) for alias in self._dtypes}
        for first in range(0, len(held), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            for alias, values in columns.items():
                values[some] = held[some][alias]
            self._memory.let_go(first)
        found = {}
        for alias, dtype in self._dtypes.items():
            nulls = self._is_null.get(alias)
            without = missing if nulls is None else _Missing.of(missing.is_null | nulls)
            values = columns.pop(alias)
            beneath = _bits(values) if pa.types.is_boolean(dtype) else pa.py_buffer(values)
            buffers = [without.bitmap, beneath]
            found[alias] = pa.Array.from_buffers(dtype, len(values), buffers, without.nulls)
        return found


def _write(
    held: npt.NDArray[Any], rows: npt.NDArray[Any], places: Ints, copies: Copies | None
) -> None:
    held[places] = rows
    if copies is not None:
        held[copies.places] = rows.take(copies.sources)


def _bits(are_set: Bools) -> pa.Buffer:
    """Return booleans as Arrow has them, eight to a byte."""
    return pa.py_buffer(np.packbits(are_set, bitorder="little"))


def _as_bytes(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return rows as bare bytes: numpy copies them at once, and not field by field."""
    return rows.view(f"V{rows.dtype.itemsize}")


def _even_parts(columns: Sequence[ScanColumn], most: int) -> Iterator[Sequence[ScanColumn]]:
    """Yield columns in parts of about one size, each with at most so many."""
    count = -(-len(columns) // most)
    for number in range(count):
        yield columns[len(columns) * number // count : len(columns) * (number + 1) // count]


def is_number(dtype: pa.DataType) -> bool:
    """Whether values of a type have a fixed width here, and are held row by row."""
    kinds = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_date32)
    return dtype in (pa.float32(), pa.float64()) or any(is_kind(dtype) for is_kind in kinds)


def _stored(dtype: pa.DataType) -> pa.DataType:
    """Return the type of numbers that values of a type are stored as."""
    if pa.types.is_timestamp(dtype):
        return pa.int64()
    return pa.int32() if pa.types.is_date32(dtype) else dtype

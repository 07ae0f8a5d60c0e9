"""Columns that are filled in any order: each value goes where it belongs as it comes."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.scan_columns import ScanColumn
from featurestore.offline.timeline import Ints, first_of_runs, time_order

Bools = npt.NDArray[np.bool_]

BESIDE: Final = 8
"""Columns of numbers that are held row by row: of more, the copy at the end would take more memory
than a line of the processor's cache saves time."""
_ROWS_AT_ONCE: Final = 8_192
"""Rows that are made columns at once: so many of them stay in the cache."""


class FilledColumns:
    """Columns of a table of which values come in batches.

    Numbers are held row by row, since places far apart cost the more the more often one goes
    there. What has no fixed width is held as it came, and brought into order at the end.

    Args:
        columns: The columns.
        rows: How many rows the table has; those that nothing is put into are null.
    """

    def __init__(self, columns: Sequence[ScanColumn], rows: int) -> None:
        self._columns = columns
        self._is_null: Bools = np.ones(rows, dtype=bool)
        numbers = [column for column in columns if is_number(column.dtype)]
        self._numbers = [_Numbers(some, rows) for some in _even_parts(numbers, BESIDE)]
        self._others = [column for column in columns if not is_number(column.dtype)]
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._places: Ints | None = None
        if self._others:
            self._places = np.zeros(rows, dtype=np.int64)

    def put(self, batch: pa.RecordBatch, sources: Ints | None, places: Ints) -> None:
        """Put rows of a batch into rows of the table.

        Args:
            batch: It has the columns, by their aliases.
            sources: Rows of the batch, each as often as it is to be put somewhere; None for each
                once.
            places: Where they belong, each place once.
        """
        self._is_null[places] = False
        for numbers in self._numbers:
            numbers.put(batch, sources, places)
        if self._places is None:
            return
        rows = np.arange(batch.num_rows) if sources is None else sources
        self._places[places] = self._held_rows + rows
        self._held.append(batch)
        self._held_rows += batch.num_rows

    def table(self, *, threads: int) -> pa.Table:
        """Return the table, with the columns' declared types."""
        found: dict[str, pa.Array] = {}
        indices = None if self._places is None else pa.array(self._places, mask=self._is_null)

        def whole(column: ScanColumn) -> dict[str, pa.Array]:
            parts = [batch.column(column.alias) for batch in self._held]
            in_order = pa.chunked_array(parts, column.dtype).combine_chunks().take(indices)
            return {column.alias: in_order}

        with ThreadPoolExecutor(threads, thread_name_prefix="fill") as pool:
            for arrays in pool.map(lambda numbers: numbers.arrays(self._is_null), self._numbers):
                found |= arrays
            for arrays in pool.map(whole, self._others):
                found |= arrays
        names = [column.alias for column in self._columns]
        return pa.table([found[name] for name in names], names=names)


class WantedRows:
    """Rows of a source, and where in a table each belongs.

    Args:
        ordinals: Of the rows; one may be there several times.
        places: Where each belongs, every place once.

    Attributes:
        ordinals: The distinct ones, sorted.
    """

    def __init__(self, ordinals: Ints, places: Ints) -> None:
        order = time_order(ordinals) if len(ordinals) else ordinals
        ordered = ordinals[order]
        self._places = places[order]
        self._firsts = np.flatnonzero(first_of_runs(ordered))
        self._counts = np.diff(self._firsts, append=len(ordered))
        self.ordinals: Ints = ordered[self._firsts]

    def put(self, filled: FilledColumns, batch: pa.RecordBatch, numbers: Ints) -> None:
        """Put rows of a batch where they belong.

        Args:
            filled: The table.
            batch: It has the table's columns, by their aliases.
            numbers: Of each row its position in `ordinals`.
        """
        counts, firsts = self._counts[numbers], self._firsts[numbers]
        if (counts == 1).all():
            filled.put(batch, None, self._places[firsts])
            return
        sources = np.repeat(np.arange(len(numbers)), counts)
        behind = np.arange(len(sources)) - np.repeat(np.cumsum(counts) - counts, counts)
        filled.put(batch, sources, self._places[firsts[sources] + behind])


class _Numbers:
    """Columns of fixed widths, row by row. What is null is zero beneath: it may be sent to others.

    Args:
        columns: The columns.
        rows: How many rows they have.
    """

    def __init__(self, columns: Sequence[ScanColumn], rows: int) -> None:
        self._dtypes = {column.alias: column.dtype for column in columns}
        stored = [(c.alias, _stored(c.dtype).to_pandas_dtype()) for c in columns]
        self._rows = np.zeros(rows, dtype=np.dtype(stored))
        self._is_null: dict[str, Bools] = {}

    def put(self, batch: pa.RecordBatch, sources: Ints | None, places: Ints) -> None:
        """Put rows of a batch into rows; see `FilledColumns.put`."""
        rows = np.empty(batch.num_rows, dtype=self._rows.dtype)
        for alias, dtype in self._dtypes.items():
            values = batch.column(alias)
            if values.type != _stored(dtype):
                values = values.view(_stored(dtype))
            if values.null_count:
                is_null = np.asarray(values.is_null())
                values = values.fill_null(False if pa.types.is_boolean(dtype) else 0)
                nulls = self._is_null.setdefault(alias, np.zeros(len(self._rows), dtype=bool))
                nulls[places] = is_null if sources is None else is_null[sources]
            rows[alias] = values.to_numpy(zero_copy_only=False)
        whole = _as_bytes(rows)
        _as_bytes(self._rows)[places] = whole if sources is None else whole[sources]

    def arrays(self, is_null: Bools) -> dict[str, pa.Array]:
        """Return the columns by alias; their rows are let go."""
        held, self._rows = self._rows, np.empty(0, dtype=self._rows.dtype)
        columns = {alias: np.empty(len(held), held.dtype[alias]) for alias in self._dtypes}
        for first in range(0, len(held), _ROWS_AT_ONCE):
            some = slice(first, first + _ROWS_AT_ONCE)
            for alias, values in columns.items():
                values[some] = held[some][alias]
        del held
        found = {}
        for alias, dtype in self._dtypes.items():
            nulls = self._is_null.get(alias)
            mask = is_null if nulls is None else is_null | nulls
            array = pa.array(columns.pop(alias), mask=mask)
            found[alias] = array if array.type == dtype else array.view(dtype)
        return found


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

"""Columns that are filled in any order: each value goes where it belongs as it comes."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.scan_columns import ScanColumn
from featurestore.offline.timeline import Ints, first_of_runs, time_order

Bools = npt.NDArray[np.bool_]


class FilledColumns:
    """Columns of a table of which values come in batches.

    Numbers are written into the result itself. What has no fixed width is held as it came, and
    brought into order at the end.

    Args:
        columns: The columns.
        rows: How many rows the table has; those that nothing is put into are null.
    """

    def __init__(self, columns: Sequence[ScanColumn], rows: int) -> None:
        self._columns = columns
        self._is_null: Bools = np.ones(rows, dtype=bool)
        self._numbers = {c.alias: _Numbers(c.dtype, rows) for c in columns if _is_number(c.dtype)}
        self._held: list[pa.RecordBatch] = []
        self._held_rows = 0
        self._places: Ints | None = None
        if len(self._numbers) < len(columns):
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
        for alias, numbers in self._numbers.items():
            numbers.put(batch.column(alias), sources, places)
        if self._places is None:
            return
        rows = np.arange(batch.num_rows) if sources is None else sources
        self._places[places] = self._held_rows + rows
        self._held.append(batch)
        self._held_rows += batch.num_rows

    def table(self, *, threads: int) -> pa.Table:
        """Return the table, with the columns' declared types."""
        indices = None if self._places is None else pa.array(self._places, mask=self._is_null)

        def whole(column: ScanColumn) -> pa.Array:
            if column.alias in self._numbers:
                return self._numbers[column.alias].array(self._is_null)
            parts = [batch.column(column.alias) for batch in self._held]
            return pa.chunked_array(parts, column.dtype).combine_chunks().take(indices)

        with ThreadPoolExecutor(threads, thread_name_prefix="fill") as pool:
            arrays = list(pool.map(whole, self._columns))
        return pa.table(arrays, names=[column.alias for column in self._columns])


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
    """A column of a fixed width. What is null is zero beneath: it may be sent to others."""

    def __init__(self, dtype: pa.DataType, rows: int) -> None:
        self._dtype = dtype
        self._stored = _stored(dtype)
        self._values = np.zeros(rows, dtype=self._stored.to_pandas_dtype())
        self._is_null: Bools | None = None

    def put(self, column: pa.Array, sources: Ints | None, places: Ints) -> None:
        values = column if column.type == self._stored else column.view(self._stored)
        is_null = None
        if values.null_count:
            is_null = np.asarray(values.is_null())
            values = values.fill_null(False if pa.types.is_boolean(self._dtype) else 0)
        numbers = values.to_numpy(zero_copy_only=False)
        self._values[places] = numbers if sources is None else numbers[sources]
        if is_null is not None:
            if self._is_null is None:
                self._is_null = np.zeros(len(self._values), dtype=bool)
            self._is_null[places] = is_null if sources is None else is_null[sources]

    def array(self, is_null: Bools) -> pa.Array:
        mask = is_null if self._is_null is None else is_null | self._is_null
        found = pa.array(self._values, mask=mask)
        return found if found.type == self._dtype else found.view(self._dtype)


def _is_number(dtype: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_timestamp, pa.types.is_date32)
    return dtype in (pa.float32(), pa.float64()) or any(is_kind(dtype) for is_kind in kinds)


def _stored(dtype: pa.DataType) -> pa.DataType:
    """Return the type of numbers that values of a type are stored as."""
    if pa.types.is_timestamp(dtype):
        return pa.int64()
    return pa.int32() if pa.types.is_date32(dtype) else dtype

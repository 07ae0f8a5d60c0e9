"""Join keys by number, so that rows of one table find those of another, batch by batch.

Arrow's `index_in` would hash the whole table anew for every batch; this is prepared once.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from featurestore.offline.timeline import Ints, distinct, search

UNKNOWN = -1
"""The number of a key that is not there."""
DENSE = 8
"""Integers are looked up by their value where they spread over at most so many times their count,
which is several times as fast as a binary search."""


class KeyIndex:
    """The distinct keys of a table, numbered from 0. Safe to use from several threads.

    Args:
        columns: The key's columns, n rows without nulls; none at all is one key for everybody.
        count: n.

    Attributes:
        groups: The number of each row's key.
        size: How many keys there are.
    """

    def __init__(self, columns: Sequence[pa.Array], count: int) -> None:
        self._columns = [_column_index(column) for column in columns]
        self._pairs: list[_Integers] = []
        self.groups: Ints = np.zeros(count, dtype=np.int64)
        self.size = min(count, 1)
        for number, (index, column) in enumerate(zip(self._columns, columns, strict=True)):
            numbers, size = index.find(column), index.size
            if number:
                pairs = self.groups * size + numbers
                self._pairs.append(_Integers(pairs))
                numbers, size = self._pairs[-1].find_numbers(pairs), self._pairs[-1].size
            self.groups, self.size = numbers, size

    def find(self, columns: Sequence[pa.Array], count: int) -> Ints:
        """Return the number of each key, `UNKNOWN` for nulls and for what is not there.

        Args:
            columns: The key's columns in the types of the table's, `count` rows.
            count: How many rows there are.
        """
        groups = np.full(count, 0 if self.size else UNKNOWN, dtype=np.int64)
        for number, (index, column) in enumerate(zip(self._columns, columns, strict=True)):
            numbers = index.find(column)
            if number:
                pairs = groups * index.size + numbers
                known = (groups != UNKNOWN) & (numbers != UNKNOWN)
                found = self._pairs[number - 1].find_numbers(np.where(known, pairs, 0))
                numbers = np.where(known, found, UNKNOWN)
            groups = numbers
        return groups


class _Integers:
    """Distinct integers in their order."""

    def __init__(self, values: Ints) -> None:
        self._values = distinct(values)
        self.size = len(self._values)
        self._first = int(self._values[0]) if self.size else 0
        span = int(self._values[-1]) - self._first + 1 if self.size else 0
        self._numbers: Ints | None = None
        if span <= DENSE * self.size:
            self._numbers = np.full(span, UNKNOWN, dtype=np.int64)
            self._numbers[self._values - self._first] = np.arange(self.size)

    def find(self, column: pa.Array) -> Ints:
        """Return the numbers of a column's values."""
        found = self.find_numbers(_as_integers(column))
        return (
            np.where(np.asarray(column.is_valid()), found, UNKNOWN) if column.null_count else found
        )

    def find_numbers(self, values: Ints) -> Ints:
        """Return the numbers of integers."""
        if not self.size:
            return np.full(len(values), UNKNOWN, dtype=np.int64)
        if self._numbers is not None:
            last = self._first + len(self._numbers) - 1
            inside = (values >= self._first) & (values <= last)
            found = self._numbers[np.where(inside, values, self._first) - self._first]
            return np.where(inside, found, UNKNOWN)
        places = np.minimum(search(self._values, values), self.size - 1)
        return np.where(self._values[places] == values, places, UNKNOWN)


class _Texts:
    """Distinct texts, or binaries, in the order in which they come."""

    def __init__(self, column: pa.Array) -> None:
        values = column.unique().to_pylist()
        self._numbers = {value: number for number, value in enumerate(values)}
        self.size = len(values)

    def find(self, column: pa.Array) -> Ints:
        """Return the numbers of a column's values; each distinct one is looked up once."""
        encoded = column.dictionary_encode()
        known = [self._numbers.get(value, UNKNOWN) for value in encoded.dictionary.to_pylist()]
        numbers = np.array([*known, UNKNOWN], dtype=np.int64)
        places = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
        return np.asarray(numbers[places])


def _column_index(column: pa.Array) -> _Integers | _Texts:
    is_text = pa.types.is_string(column.type) or pa.types.is_binary(column.type)
    return _Texts(column) if is_text else _Integers(_as_integers(column))


def _as_integers(column: pa.Array) -> Ints:
    """Return keys of a fixed width as int64, equal ones as equal numbers; nulls are anything."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.int32())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if column.null_count:
        column = column.fill_null(0)
    numbers = np.asarray(column.to_numpy(zero_copy_only=False))
    return numbers.view(np.int64) if column.type == pa.uint64() else numbers.astype(np.int64)

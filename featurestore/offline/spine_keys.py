"""A number for every distinct join key of a spine."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.timeline import Ints, distinct, search


@dataclass(frozen=True, slots=True)
class NumberedKeys:
    """The spine's rows that can have features, with their keys as numbers.

    Attributes:
        rows: Positions in the spine of the m rows with a whole key and a time.
        groups: int32, the key's number of each of them.
        times: int64 microseconds, of each of them.
        table: `g` and `k0..`: the keys, numbered from 0.
    """

    rows: Ints
    groups: npt.NDArray[np.int32]
    times: Ints
    table: pa.Table

    @property
    def first_us(self) -> int:
        """The smallest time; there must be a row."""
        return int(self.times.min())

    @property
    def last_us(self) -> int:
        """The greatest time; there must be a row."""
        return int(self.times.max())


def number_keys(spine: pa.Table) -> NumberedKeys:
    """Number the keys of a spine with columns `q` and `k0..`."""
    columns = [column.combine_chunks() for column in spine.columns]
    usable = np.ones(spine.num_rows, dtype=bool)
    for column in columns:
        if column.null_count:
            usable &= np.asarray(column.is_valid())
    rows = np.flatnonzero(usable)
    if len(rows) < spine.num_rows:
        columns = [column.take(pa.array(rows)) for column in columns]
    times, *keys = columns
    groups, firsts = _number(keys, len(rows))
    table = {"g": pa.array(np.arange(len(firsts), dtype=np.int32))}
    table |= {f"k{n}": key.take(pa.array(firsts)) for n, key in enumerate(keys)}
    return NumberedKeys(rows, groups, times.to_numpy(), pa.table(table))


def _number(keys: list[pa.Array], count: int) -> tuple[npt.NDArray[np.int32], Ints]:
    """Return the group of each row, and for each group the position of one of its rows."""
    if not keys:
        return np.zeros(count, dtype=np.int32), np.zeros(min(count, 1), dtype=np.int64)
    groups, size = _encoded(keys[0])
    for key in keys[1:]:
        more, more_size = _encoded(key)
        pairs = groups.astype(np.int64) * more_size + more
        known = distinct(pairs)
        groups, size = search(known, pairs).astype(np.int32), len(known)
    firsts = np.empty(size, dtype=np.int64)
    firsts[groups] = np.arange(count)
    return groups, firsts


def _encoded(key: pa.Array) -> tuple[npt.NDArray[np.int32], int]:
    encoded = key.dictionary_encode()
    return encoded.indices.to_numpy(), len(encoded.dictionary)

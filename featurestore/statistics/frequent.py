"""The most frequent values: exactly while there are few distinct ones, else with an error bound.

The summary of Misra and Gries ("Finding repeated elements", 1982), merged as Agarwal et al. do
("Mergeable summaries", 2012): when there are more values than fit, the count of the first that
does not is taken from all, and what has nothing left goes. A count is never too great, and too
small by at most what was taken: n / (FREQUENT_VALUES + 1) over n values.
"""

from typing import Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.statistics.distinct import Hashes

FREQUENT_VALUES: Final = 2_048
"""Counts of so many distinct values are kept, and exact."""
HELD_BYTES: Final = 257
"""So much is held of each value, for those who want to see it."""

Counts = npt.NDArray[np.int64]


class FrequentValues:
    """Values with how often they occurred. They are told apart by their hashes.

    Args:
        limit: So many are kept.
    """

    def __init__(self, limit: int = FREQUENT_VALUES) -> None:
        self._limit = limit
        self.error = 0
        """How much too small a count may be; a value that is not here occurred no more often."""
        self._hashes: Hashes = np.empty(0, dtype=np.uint64)
        self._counts: Counts = np.empty(0, dtype=np.int64)
        self._values: pa.Array = pa.array([], pa.large_binary())

    def add(self, values: pa.Array, hashes: Hashes, counts: Counts) -> None:
        """Take in distinct values (large_binary)."""
        part = FrequentValues(self._limit)
        part._set(values, hashes, counts)
        self.merge(part)

    def merge(self, other: Self) -> None:
        """Take over other counts."""
        self.error += other.error
        both = np.concatenate([self._hashes, other._hashes])
        hashes, first, place = np.unique(both, return_index=True, return_inverse=True)
        counts = np.zeros(len(hashes), dtype=np.int64)
        np.add.at(counts, place, np.concatenate([self._counts, other._counts]))
        values = pa.concat_arrays([self._values, other._values])
        self._set(values, hashes, counts, rows=first)

    def top(self, limit: int) -> list[tuple[bytes, int]]:
        """Return the most frequent values with their counts; equally frequent ones in order."""
        pairs = zip(self._values.to_pylist(), self._counts.tolist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))[:limit]

    def _set(
        self,
        values: pa.Array,
        hashes: Hashes,
        counts: Counts,
        rows: npt.NDArray[np.intp] | None = None,
    ) -> None:
        """Hold these, or so many of them as fit; `rows` says where in `values` each is."""
        rows = np.arange(len(hashes)) if rows is None else rows
        if len(hashes) > self._limit:
            rest = int(np.partition(counts, -self._limit - 1)[-self._limit - 1])
            self.error += rest
            kept = counts > rest
            hashes, counts, rows = hashes[kept], counts[kept] - rest, rows[kept]
        self._hashes, self._counts = hashes, counts
        self._values = pc.binary_slice(values.take(pa.array(rows)), 0, HELD_BYTES)

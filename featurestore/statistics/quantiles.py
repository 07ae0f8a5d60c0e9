"""Quantiles in one pass: exact for few values, else a summary that carries its own error bound.

The summary is the deterministic one of Munro and Paterson ("Selection and sorting with limited
storage", 1980) in the form of Manku, Rajagopalan and Lindsay (1998): sorted buffers, the values of
level n each standing for 2**n. Two of a level become one of the next by keeping every other value.
Each such step moves the rank of any value by at most the weight before the step; the sum of these
is kept, and is the bound. Merging adds the bounds (Agarwal et al., "Mergeable summaries", 2012).
The same values in the same chunks always give the same answer: there is no random choice, as in
KLL, which is smaller, but whose bound holds with some probability only.
"""

import math
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

EXACT_VALUES: Final = 65_536
"""So many values are kept as they are, and quantiles are exact."""
BUFFER_VALUES: Final = 4_096
"""At 10M values that makes a bound of 0.1 % of their number, at 1,000M of less than 0.2 %."""
_BLOCK_LEVEL: Final = 4
_BLOCK: Final = 1 << _BLOCK_LEVEL
"""Of a sorted chunk one of so many neighbours is kept at once: half of that in rank is what it
costs, which is far less than halving it four times."""

Values = npt.NDArray[Any]


class QuantileSummary:
    """The distribution of values of one NumPy type, in a few hundred kilobytes at most.

    Args:
        exact_values: Up to so many values are kept as they are.
        buffer_values: A level is halved when it has twice as many.
    """

    def __init__(
        self, *, exact_values: int = EXACT_VALUES, buffer_values: int = BUFFER_VALUES
    ) -> None:
        self._exact_values = exact_values
        self._full = 2 * buffer_values
        self.count = 0
        self.error = 0
        """No estimated rank is further than this from the true one."""
        self._levels: list[Values] = []
        self._upper = False

    @property
    def exact(self) -> bool:
        """Whether all values are here."""
        return self.error == 0

    def add(self, values: Values) -> None:
        """Take in sorted values without NaN."""
        self.count += len(values)
        self._put(0, values)
        self._shrink()

    def merge(self, other: Self) -> None:
        """Take over other values."""
        self.count += other.count
        self.error += other.error
        for level, values in enumerate(other._levels):
            self._put(level, values)
        self._shrink()

    def at(self, shares: tuple[float, ...]) -> list[Any]:
        """Return for each share the smallest value that this share of all values does not exceed.

        In a summary that is not exact its rank is up to `error` off. Without values the list is
        empty.
        """
        if not self.count:
            return []
        weights = [np.full(len(v), 1 << n, dtype=np.int64) for n, v in enumerate(self._levels)]
        values = np.concatenate([v for v in self._levels if len(v)])
        order = np.argsort(values, kind="stable")
        ranks = np.cumsum(np.concatenate(weights)[order])
        wanted = [max(1, math.ceil(share * self.count)) for share in shares]
        found: list[Any] = values[order[np.searchsorted(ranks, wanted)]].tolist()
        return found

    def _put(self, level: int, values: Values) -> None:
        while len(self._levels) <= level:
            self._levels.append(values[:0])
        if not len(values):
            return
        held = self._levels[level]
        both = np.concatenate([held, values]) if len(held) else values
        self._levels[level] = np.sort(both) if len(held) else both

    def _shrink(self) -> None:
        if self.count <= self._exact_values:
            return
        if len(self._levels[0]) >= self._full:
            self._thin(0, _BLOCK_LEVEL, _BLOCK // 2 - 1)
        level = 1
        while level < len(self._levels):
            if len(self._levels[level]) >= self._full:
                self._upper = not self._upper
                self._thin(level, 1, int(self._upper))
            level += 1

    def _thin(self, level: int, steps: int, place: int) -> None:
        """Keep one of each 2**steps neighbours of a level, `steps` levels higher."""
        block = 1 << steps
        values = self._levels[level]
        whole = len(values) // block * block
        self._levels[level] = values[whole:]
        self._put(level + steps, values[place:whole:block])
        self.error += max(place + 1, block - place - 1) << level

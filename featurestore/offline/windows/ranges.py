"""Ranges of an array, in plain numpy: minima, maxima, and what a range holds.

Ranges are [low, high), any number of them, overlapping or not; a minimum costs about the same
however long they are.
"""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.offline.timeline import Ints

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

FANOUT = 32
"""How many values a block of the next level stands for."""
REPEATED = 2
"""Ranges are taken from the time before if at most one in so many is another one."""


class RangeReducer:
    """Reduces ranges of an array by minimum or maximum, which do not depend on the order.

    A range is cut into at most 2 x `FANOUT` values at each level of a tree of blocks, which
    `ufunc.reduceat` reduces in C. The tree is built as far as the longest range needs it. Several
    threads may ask at once.

    Args:
        ufunc: `np.minimum` or `np.maximum`.
        values: n numbers.
        identity: What changes nothing: the greatest or least number.
    """

    def __init__(self, ufunc: np.ufunc, values: Array, identity: float) -> None:
        self._ufunc = ufunc
        self._identity = np.asarray(identity, dtype=values.dtype)[()]
        self._lock = Lock()
        # reduceat takes no end behind the last value.
        self._levels = [np.append(values, self._identity)]

    def __call__(self, low: Ints, high: Ints) -> Array:
        """Return the reduction of each range; an empty one has the identity."""
        found = np.full(len(low), self._identity)
        rows = np.flatnonzero(high > low)
        low, high = low[rows], high[rows]
        level = 0
        while len(rows):
            is_long = high - low > 2 * FANOUT
            self._add(found, level, rows[~is_long], low[~is_long], high[~is_long])
            rows, low, high = rows[is_long], low[is_long], high[is_long]
            inner_low, inner_high = -(-low // FANOUT), high // FANOUT
            self._add(found, level, rows, low, inner_low * FANOUT)
            self._add(found, level, rows, inner_high * FANOUT, high)
            low, high, level = inner_low, inner_high, level + 1
        return found

    def _add(self, found: Array, level: int, rows: Ints, low: Ints, high: Ints) -> None:
        """Reduce short ranges of a level into `found`."""
        if not (high > low).all():
            some = high > low
            rows, low, high = rows[some], low[some], high[some]
        if not len(rows):
            return
        bounds = np.empty(2 * len(rows), dtype=np.int64)
        bounds[::2], bounds[1::2] = low, high
        parts = self._ufunc.reduceat(self._level(level), bounds)[::2]
        found[rows] = self._ufunc(found[rows], parts)

    def _level(self, number: int) -> Array:
        with self._lock:
            while len(self._levels) <= number:
                below = self._levels[-1]
                starts = np.arange(0, len(below) - 1, FANOUT)
                blocks = self._ufunc.reduceat(below[:-1], starts)
                self._levels.append(np.append(blocks, self._identity))
        return self._levels[number]


class Repeating:
    """Reduces ranges of an array, those that are as they were the time before not again.

    Windows of one moment begin at the same row where one is little longer than the other: of a
    hundred windows over ten rows a key, one row in thirty has another range than in the window
    before. Several threads may ask at once.

    Args:
        reduce: Returns one number for each range [low, high), which depends on nothing but the
            range.
    """

    def __init__(self, reduce: Callable[[Ints, Ints], Array]) -> None:
        self._reduce = reduce
        self._before: tuple[Ints, Ints, Array] | None = None

    def __call__(self, low: Ints, high: Ints) -> Array:
        """Return the reduction of each range, not to be written to."""
        found = self._repeated(low, high)
        self._before = low, high, found
        return found

    def _repeated(self, low: Ints, high: Ints) -> Array:
        before = self._before  # once, as another thread may replace it
        if before is None or len(before[0]) != len(low):
            return self._reduce(low, high)
        anew = np.flatnonzero((low != before[0]) | (high != before[1]))
        if len(anew) * REPEATED > len(low):
            return self._reduce(low, high)
        found = before[2].copy()
        found[anew] = self._reduce(low[anew], high[anew])
        return found


def flatten(low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Return all places of all ranges one after the other, and where each range's end there."""
    lengths = high - low
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1] if len(ends) else 0)
    places += np.repeat(low - (ends - lengths), lengths)
    return places, ends


def in_parts(lengths: Ints, most: int) -> Iterator[slice]:
    """Yield slices of rows whose lengths add up to at most `most`, one row at least in each."""
    ends = np.cumsum(lengths)
    start = 0
    while start < len(lengths):
        before = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
        yield slice(start, stop)
        start = stop

"""A histogram of equal bins in one pass, without knowing the range beforehand, with exact counts.

Values are counted in cells whose width is one of a ladder, on which each width divides the next:
powers of ten for numbers, round times for times. When the range outgrows the cells, the width goes
up and whole cells fall together. The width follows from the range alone, so that neither the order
of values nor how parts are merged matters.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

CELLS: Final = 1_000
MAX_BINS: Final = 25
_GROUPS: Final = (1, 2, 5, 10, 20, 50, 100)
"""So many cells may make one bin."""
_GROUPS_OF_TIME: Final = {
    10: (1, 2, 3, 6, 12, 30, 60),
    60: (1, 2, 5, 10, 15, 30, 60),
    600: (1, 2, 3, 6, 12, 18, 36, 72),
    3_600: (1, 2, 3, 6, 12, 24, 48),
    21_600: (1, 2, 4, 8, 20, 40, 80),
}
"""The same, of cells of so many seconds: bins are whole minutes, hours or days."""
_DAY: Final = (1, 10, 60, 600, 3_600, 21_600, 86_400)
"""Round times in seconds, up to a day."""
_EXACT_POWERS: Final = 22
"""Powers of ten up to this are floats."""

Values = npt.NDArray[Any]
Bins = tuple[list[int | float], list[int]]
"""Edges, one more than counts; counts."""


class Ladder(Protocol):
    """Widths of cells, numbered; each divides the next. Cell k of a width begins at k widths."""

    def finest(self, low: int | float, high: int | float) -> int:
        """Return the number of the smallest width that makes sense for this range."""
        ...

    def factor(self, level: int) -> int:
        """Return how many cells fall into one of the next width."""
        ...

    def groups(self, level: int) -> Sequence[int]:
        """Return how many cells may make one bin, rising; the last makes a few bins of `CELLS`."""
        ...

    def cell(self, level: int, value: int | float) -> int:
        """Return the cell that a value is in."""
        ...

    def edges(self, level: int, first: int, count: int) -> list[int | float]:
        """Return where cells begin, from cell `first` on."""
        ...


class IntegerLadder:
    """Widths of integers, which may be ticks of time.

    Args:
        rounds: The first widths; from the last one on they are ten times the one before.
        groups: Width -> how many cells may make one bin, where that is no round decimal number.
    """

    def __init__(
        self, rounds: Sequence[int] = (1,), groups: Mapping[int, Sequence[int]] | None = None
    ) -> None:
        self._rounds = tuple(rounds)
        self._groups = groups or {}

    @classmethod
    def of_ticks(cls, per_second: int) -> "IntegerLadder":
        """Return the widths of times with so many ticks in a second, a power of ten."""
        parts = [10**n for n in range(len(str(per_second)) - 1)]
        groups = {per_second * seconds: counts for seconds, counts in _GROUPS_OF_TIME.items()}
        return cls([*parts, *(per_second * seconds for seconds in _DAY)], groups)

    def finest(self, _low: int | float, _high: int | float) -> int:
        """See `Ladder`."""
        return 0

    def factor(self, level: int) -> int:
        """See `Ladder`."""
        return self._width(level + 1) // self._width(level)

    def groups(self, level: int) -> Sequence[int]:
        """See `Ladder`."""
        return self._groups.get(self._width(level), _GROUPS)

    def cell(self, level: int, value: int | float) -> int:
        """See `Ladder`."""
        return int(value) // self._width(level)

    def edges(self, level: int, first: int, count: int) -> list[int | float]:
        """See `Ladder`."""
        width = self._width(level)
        return [k * width for k in range(first, first + count)]

    def _width(self, level: int) -> int:
        last = len(self._rounds) - 1
        return self._rounds[min(level, last)] * int(10 ** max(0, level - last))


class FloatLadder:
    """Powers of ten; the number of a width is its exponent. Edges are the nearest floats."""

    def finest(self, low: int | float, high: int | float) -> int:
        """Return the exponent of a width that neighbouring floats do not exceed."""
        return math.ceil(math.log10(math.ulp(max(abs(low), abs(high)))))

    def factor(self, _level: int) -> int:
        """See `Ladder`."""
        return 10

    def groups(self, _level: int) -> Sequence[int]:
        """See `Ladder`."""
        return _GROUPS

    def cell(self, level: int, value: int | float) -> int:
        """Return the cell whose edges, rounded as they are, hold the value."""
        cell = math.floor(Fraction(value) / Fraction(10) ** level)
        if self.edges(level, cell + 1, 1)[0] <= value:
            return cell + 1
        return cell - 1 if self.edges(level, cell, 1)[0] > value else cell

    def edges(self, level: int, first: int, count: int) -> list[int | float]:
        """See `Ladder`."""
        if abs(level) <= _EXACT_POWERS and max(abs(first), abs(first + count)) < 2**53:
            power = float(10 ** abs(level))
            cells = range(first, first + count)
            return [k * power if level > 0 else k / power for k in cells]
        return [float(f"{k}e{level}") for k in range(first, first + count)]


class Grid:
    """Counts of finite values in the cells of a ladder."""

    def __init__(self, ladder: Ladder) -> None:
        self._ladder = ladder
        self._low: int | float | None = None
        self._high: int | float | None = None
        self._level = 0
        self._first = 0
        self._counts: npt.NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._edges: Values | None = None

    def add(self, values: Values) -> None:
        """Count sorted finite values."""
        if not len(values):
            return
        self._cover(values[0].item(), values[-1].item())
        if self._edges is None:
            inner = self._ladder.edges(self._level, self._first + 1, len(self._counts) - 1)
            self._edges = np.array(inner, dtype=values.dtype)
        places = np.searchsorted(values, self._edges)
        self._counts += np.diff(places, prepend=0, append=len(values))

    def merge(self, other: Self) -> None:
        """Take over other counts."""
        if other._low is None or other._high is None:
            return
        self._cover(other._low, other._high)
        np.add.at(self._counts, other._cells_at(self._level, self._first), other._counts)

    def bins(self) -> Bins:
        """Return at most `MAX_BINS` bins from the least to the greatest value; no values, no bins.

        A single value makes one bin that begins and ends there.
        """
        if self._low is None or self._high is None:
            return [], []
        if self._low == self._high:
            return [self._low, self._high], [int(self._counts.sum())]
        first, last = self._first, self._first + len(self._counts) - 1
        group = next(
            g for g in self._ladder.groups(self._level) if last // g - first // g < MAX_BINS
        )
        counts = np.zeros(last // group - first // group + 1, dtype=np.int64)
        cells = [cell // group - first // group for cell in range(first, last + 1)]
        np.add.at(counts, cells, self._counts)
        bounds = [(first // group + n) * group for n in range(len(counts) + 1)]
        edges = [self._ladder.edges(self._level, bound, 1)[0] for bound in bounds]
        low, high = math.isinf(edges[0]), math.isinf(edges[-1])  # beyond the greatest float
        edges = [self._low if low else edges[0], *edges[1:-1], self._high if high else edges[-1]]
        return edges, counts.tolist()

    def _cover(self, low: int | float, high: int | float) -> None:
        """Make the cells hold this range, too."""
        if self._low is not None and self._high is not None:
            if self._low <= low and high <= self._high:
                return
            low, high = min(low, self._low), max(high, self._high)
        level, first, count = self._fitting(low, high)
        counts = np.zeros(count, dtype=np.int64)
        if len(self._counts):
            np.add.at(counts, self._cells_at(level, first), self._counts)
        self._low, self._high = low, high
        self._level, self._first, self._counts = level, first, counts
        self._edges = None

    def _fitting(self, low: int | float, high: int | float) -> tuple[int, int, int]:
        """Return the smallest width at which this range fits, its first cell, and its cells."""
        level = self._ladder.finest(low, high)
        while True:
            first, last = self._ladder.cell(level, low), self._ladder.cell(level, high)
            if last - first < CELLS:
                return level, first, last - first + 1
            level += 1

    def _cells_at(self, level: int, first: int) -> list[int]:
        """Return into which cells of a greater width the cells fall, counted from cell `first`."""
        width = math.prod(map(self._ladder.factor, range(self._level, level)))
        cells = range(self._first, self._first + len(self._counts))
        return [cell // width - first for cell in cells]


class GivenBins:
    """Counts of values in bins with edges that were given, which rise."""

    def __init__(self, edges: Sequence[int | float]) -> None:
        self._edges = list(edges)
        self._counts: npt.NDArray[np.int64] = np.zeros(len(edges) + 1, dtype=np.int64)

    def add(self, values: Values) -> None:
        """Count sorted finite values."""
        places = [bisect_left(values, edge) for edge in self._edges[:-1]]
        places.append(bisect_right(values, self._edges[-1]))
        self._counts += np.diff(places, prepend=0, append=len(values))

    def merge(self, other: Self) -> None:
        """Take over other counts."""
        self._counts += other._counts

    def bins(self) -> Bins:
        """Return the edges and the counts between them."""
        return self._edges, self._counts[1:-1].tolist()

    @property
    def outside(self) -> tuple[int, int]:
        """How many values are below the first edge, and above the last."""
        return int(self._counts[0]), int(self._counts[-1])

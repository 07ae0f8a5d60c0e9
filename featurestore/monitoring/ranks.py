"""Exact order statistics of more numbers than memory holds, in a few readings.

A reading counts how many numbers lie in each of many cells, which narrows the place of a wanted
rank to one of them; the next divides that. The first cells widen with the numbers (4,096 of them
for each doubling), so that small and large ones are told apart equally well; later ones are equal.
Numbers of up to two million in a cell, such as durations of hours in microseconds, need two
readings, durations of years three.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Reading = Callable[[], Iterator[Ints]]
"""Yields all numbers, in parts, as often as it is called; -2**62 to 2**62."""

GREATEST: Final = 2**62
"""The greatest number that can be counted."""
CELLS: Final = 2**21
"""Into how many cells a reading divides what an earlier one has narrowed."""
_DROPPED_BITS: Final = 52 - 12  # of a float's 52 bits of fraction
_FIRST: Final = 1_023 << 12  # the cell of 1.0
_SIDE: Final = (62 + 1) << 12  # cells of numbers from 0 on, and of those below


class Tally:
    """How many numbers there are in cells that widen with them.

    Args:
        cells: Into how many cells a later reading divides one of them.
    """

    def __init__(self, *, cells: int = CELLS) -> None:
        self._cells = cells
        self._counts = np.zeros(2 * _SIDE, dtype=np.int64)

    def add(self, numbers: Ints) -> None:
        """Count numbers."""
        self._counts += np.bincount(_cells(numbers), minlength=2 * _SIDE)

    def at_ranks(self, ranks: Sequence[int], read: Reading) -> list[int]:
        """Return the numbers that have these ranks among all that were counted.

        Args:
            ranks: 1 is the smallest number's.
            read: Yields the numbers that were counted.
        """
        found = [self._narrowed(rank) for rank in ranks]
        while any(span.low < span.high for span in found):
            open_spans = {
                span: _Counts(span, self._cells) for span in found if span.low < span.high
            }
            for numbers in read():
                for counts in open_spans.values():
                    counts.add(numbers)
            found = [
                open_spans[span].narrowed(rank) if span in open_spans else span
                for rank, span in zip(ranks, found, strict=True)
            ]
        return [span.low for span in found]

    def _narrowed(self, rank: int) -> "_Span":
        ends = np.cumsum(self._counts)
        cell = int(np.searchsorted(ends, rank))
        return _Span(_least(cell), _least(cell + 1) - 1, int(ends[cell] - self._counts[cell]))


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a number is: `low` to `high`, both included, with `below` numbers before them."""

    low: int
    high: int
    below: int


class _Counts:
    """How many numbers of a span there are in each of its equal parts."""

    def __init__(self, span: _Span, cells: int) -> None:
        self._span = span
        self._width = -(-(span.high - span.low + 1) // cells)
        self._counts = np.zeros((span.high - span.low) // self._width + 1, dtype=np.int64)

    def add(self, numbers: Ints) -> None:
        """Count those of the numbers that are in the span."""
        span = self._span
        inside = numbers[(numbers >= span.low) & (numbers <= span.high)]
        np.add.at(self._counts, (inside - span.low) // self._width, 1)

    def narrowed(self, rank: int) -> _Span:
        """Return the part that has the number of a rank."""
        span = self._span
        ends = span.below + np.cumsum(self._counts)
        cell = int(np.searchsorted(ends, rank))
        low = span.low + cell * self._width
        high = min(low + self._width - 1, span.high)
        return _Span(low, high, int(ends[cell] - self._counts[cell]))


def _cells(numbers: Ints) -> Ints:
    """Return the cell of each number; greater numbers never have smaller ones."""
    below = numbers < 0
    distance = np.where(below, -1 - numbers, numbers)
    bits = (distance + 1).astype(np.float64).view(np.int64)
    cell = (bits >> _DROPPED_BITS) - _FIRST
    return np.where(below, _SIDE - 1 - cell, _SIDE + cell)


def _least(cell: int) -> int:
    """Return the smallest number whose cell is this one or a greater one."""
    low, high = -GREATEST, GREATEST + 1
    while low < high:
        middle = (low + high) // 2
        if int(_cells(np.array([middle]))[0]) >= cell:
            high = middle
        else:
            low = middle + 1
    return low

"""Which rows of a window did not count at its moment, without a look at each of them.

A row counts from when it was written until a later version of its event is. Times of writing mostly
rise with the events' own, so that what is hidden lies close together, at a window's end. A tree of
blocks knows the first and the last of such times in each block: most are seen or hidden as a whole,
and only the others are looked into. A row that was written long after its event, or superseded,
costs one path down the tree in each window that has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from featurestore.offline.timeline import Ints, first_of_runs
from featurestore.offline.windows.ranges import flatten
from featurestore.offline.windows.runs import Runs

FANOUT_BITS: Final = 5
WINDOWS_AT_ONCE: Final = 1 << 17
BLOCKS_AT_ONCE: Final = 4_000_000
"""Blocks of all windows that are looked at together; beyond that fewer windows are."""
_Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hidden:
    """The places that each of n windows must not see.

    Attributes:
        windows: The number of the window of each of m pieces, rising.
        low: Each piece's first place, rising within a window.
        high: The place behind its last.
    """

    windows: Ints
    low: Ints
    high: Ints

    def rest(self, low: Ints, high: Ints) -> Runs:
        """Return what remains of n ranges, each within its window."""
        piece_low, piece_high = low[self.windows], high[self.windows]
        piece_low = np.clip(self.low, piece_low, piece_high)
        piece_high = np.clip(self.high, piece_low, piece_high)
        numbers = np.arange(len(self.windows)) + self.windows
        counts = np.bincount(self.windows, minlength=len(low)) + 1
        last = np.cumsum(counts) - 1
        run_low = np.empty(len(low) + len(numbers), dtype=np.int64)
        run_high = np.empty_like(run_low)
        run_low[last - counts + 1], run_low[numbers + 1] = low, piece_high
        run_high[last], run_high[numbers] = high, piece_low
        return _without_empty(run_low, run_high, last - counts + 1)


class Written:
    """When the row at each place was written, and when it was superseded.

    Args:
        since: n times of writing; a row that never was has the greatest number.
        until: From when each row does not count any more; None if all do for ever.
    """

    def __init__(self, since: Ints, until: Ints | None = None) -> None:
        self._since = _Blocks.of(since)
        self._until = None if until is None else _Blocks.of(until)
        self._top = len(self._since.first) - 1

    def hidden(self, low: Ints, high: Ints, times: Ints) -> Iterator[tuple[slice, Hidden]]:
        """Find the rows that do not count at their window's time.

        Args:
            low: The first place of each of n windows.
            high: The place behind its last.
            times: When it is looked at.

        Yields:
            Some of the windows, and what is hidden in them, numbered from the first of these.
        """
        ahead = [
            slice(start, min(start + WINDOWS_AT_ONCE, len(low)))
            for start in reversed(range(0, len(low), WINDOWS_AT_ONCE))
        ]
        while ahead:
            some = ahead.pop()
            count = some.stop - some.start
            most = BLOCKS_AT_ONCE if count > 1 else None
            found = self._search(low[some], high[some], times[some], most)
            if found is None:
                middle = some.start + count // 2
                ahead += [slice(middle, some.stop), slice(some.start, middle)]
            else:
                yield some, found

    def _search(self, low: Ints, high: Ints, times: Ints, most: int | None) -> Hidden | None:
        """Return what is hidden, or None if that takes a look at more than so many blocks."""
        longest = int((high - low).max(initial=0))
        level = min(max(longest.bit_length() - 1, 0) // FANOUT_BITS, self._top)
        windows = np.flatnonzero(high > low)
        first, last = _blocks_of(low[windows], high[windows], level)
        pieces: list[tuple[Ints, Ints, Ints]] = []
        while True:
            if most is not None and int((last - first).sum()) > most:
                return None
            blocks, _ = flatten(first, last)
            windows = np.repeat(windows, last - first)
            at = times[windows]
            hidden, mixed = self._states(level, blocks, at)
            pieces.append(_ranges_of(blocks[hidden], windows[hidden], low, high, level))
            if not level:
                return _ordered(pieces)
            blocks, windows, level = blocks[mixed], windows[mixed], level - 1
            first, last = _blocks_of(low[windows], high[windows], level)
            first = np.maximum(first, blocks << FANOUT_BITS)
            last = np.minimum(last, (blocks + 1) << FANOUT_BITS)

    def _states(self, level: int, blocks: Ints, at: Ints) -> tuple[_Marks, _Marks]:
        """Return which blocks are hidden as a whole, and which of the others have hidden rows."""
        hidden = self._since.first[level][blocks] > at
        mixed = self._since.last[level][blocks] > at
        if self._until is not None:
            hidden |= self._until.last[level][blocks] <= at
            mixed |= self._until.first[level][blocks] <= at
        return hidden, mixed & ~hidden


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The least and the greatest number of each block, level by level; those of 0 are numbers."""

    first: list[Ints]
    last: list[Ints]

    @classmethod
    def of(cls, numbers: Ints) -> "_Blocks":
        first, last = [numbers], [numbers]
        while len(first[-1]) > 1:
            starts = np.arange(0, len(first[-1]), 1 << FANOUT_BITS)
            first.append(np.minimum.reduceat(first[-1], starts))
            last.append(np.maximum.reduceat(last[-1], starts))
        return cls(first, last)


def _blocks_of(low: Ints, high: Ints, level: int) -> tuple[Ints, Ints]:
    """Return the blocks of a level that ranges, which are not empty, have places in."""
    bits = level * FANOUT_BITS
    return low >> bits, ((high - 1) >> bits) + 1


def _ranges_of(
    blocks: Ints, windows: Ints, low: Ints, high: Ints, level: int
) -> tuple[Ints, Ints, Ints]:
    """Return windows, and the places of a block of each that it has."""
    bits = level * FANOUT_BITS
    first = np.maximum(blocks << bits, low[windows])
    return windows, first, np.minimum((blocks + 1) << bits, high[windows])


def _ordered(pieces: list[tuple[Ints, Ints, Ints]]) -> Hidden:
    """Return pieces in order, those that touch as one."""
    windows, low, high = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
    order = np.lexsort((low, windows))
    windows, low, high = windows[order], low[order], high[order]
    begins = first_of_runs(windows)
    begins[1:] |= low[1:] != high[:-1]
    ends = np.append(begins[1:], True)[: len(begins)]
    return Hidden(windows[begins], low[begins], high[ends])


def _without_empty(low: Ints, high: Ints, first: Ints) -> Runs:
    """Return runs without those that are empty, except for one of a window that has no others."""
    held = high > low
    if len(first):
        held[first[~np.logical_or.reduceat(held, first)]] = True
    kept = np.flatnonzero(held)
    if len(kept) == len(first):
        return Runs(low[kept], high[kept])
    before: Ints = np.cumsum(held) - held
    return Runs(low[kept], high[kept], before[first])

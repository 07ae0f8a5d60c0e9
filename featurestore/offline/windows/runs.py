"""What windows hold: one run of places for most, several where rows between them do not count."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featurestore.offline.timeline import Ints
from featurestore.offline.windows.ranges import flatten

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Runs:
    """The places that each of n windows holds: runs [low, high), rising within a window.

    Attributes:
        low: The first place of each of m runs, those of one window one after the other.
        high: The place behind each run's last; a run may be empty.
        first: The number of each window's first run, n; every window has one at least. None if
            every window has exactly one: then n is m.
    """

    low: Ints
    high: Ints
    first: Ints | None = None

    def __len__(self) -> int:
        return len(self.low) if self.first is None else len(self.first)

    @property
    def counts(self) -> Ints:
        """How many places each window holds."""
        return self.added(self.high - self.low)

    def added(self, numbers: Ints) -> Ints:
        """Return for each window the sum of its runs' numbers."""
        return self.reduced(np.add, numbers)

    def between(self, before: Ints) -> Ints:
        """Return what a running total gains in each window.

        Args:
            before: The total before each place, and behind the last.
        """
        return self.added(before[self.high] - before[self.low])

    def reduced(self, ufunc: np.ufunc, numbers: Array) -> Array:
        """Return for each window the reduction of its runs' numbers."""
        if self.first is None or not len(self.first):
            return numbers
        return np.asarray(ufunc.reduceat(numbers, self.first))

    def spread(self, numbers: Array) -> Array:
        """Return for each run its window's number."""
        return numbers if self.first is None else np.repeat(numbers, self._run_counts)

    def of(self, windows: Ints | npt.NDArray[np.bool_]) -> "Runs":
        """Return what some of the windows hold."""
        if self.first is None:
            return Runs(self.low[windows], self.high[windows])
        counts, first = self._run_counts[windows], self.first[windows]
        runs, ends = flatten(first, first + counts)
        return Runs(self.low[runs], self.high[runs], ends - counts)

    def among(self, before: Ints) -> "Runs":
        """Return the same windows where only some rows have places.

        Args:
            before: How many of these rows stand before each place, and behind the last.
        """
        return Runs(before[self.low], before[self.high], self.first)

    def flat(self) -> tuple[Ints, Ints]:
        """Return the places of all windows one after the other, and where each window's end."""
        places, ends = flatten(self.low, self.high)
        return places, ends if self.first is None else np.cumsum(self.counts)

    def foremost(self, count: int) -> "Runs":
        """Return each window's first places, so many at most."""
        left: int | Ints = count
        if self.first is not None:
            left = np.maximum(count - self._places_before(self.first), 0)
        return Runs(self.low, np.minimum(self.high, self.low + left), self.first)

    def hindmost(self, count: int) -> "Runs":
        """Return each window's last places, so many at most."""
        left: int | Ints = count
        if self.first is not None:
            here = self._places_before(self.first) + self.high - self.low
            left = np.maximum(count - (self.spread(self.counts) - here), 0)
        return Runs(np.maximum(self.low, self.high - left), self.high, self.first)

    def whole(self) -> "Runs":
        """Return one run for each window, from its first run's beginning to its last one's end."""
        if self.first is None:
            return self
        return Runs(self.low[self.first], self.high[self._last])

    def gaps(self) -> "Runs":
        """Return what `whole` holds besides: behind each run what lies before the next one."""
        if self.first is None:
            return Runs(self.high, self.high)
        ends = np.append(self.low[1:], 0)
        ends[self._last] = self.high[self._last]
        return Runs(self.high, ends, self.first)

    @property
    def _run_counts(self) -> Ints:
        first = np.arange(len(self.low)) if self.first is None else self.first
        return np.diff(first, append=len(self.low))

    @property
    def _last(self) -> Ints:
        """The number of each window's last run."""
        first = np.arange(len(self.low)) if self.first is None else self.first
        return np.append(first[1:], len(self.low)) - 1 if len(first) else first

    def _places_before(self, first: Ints) -> Ints:
        """Return for each run how many places its window's runs before it hold."""
        lengths = self.high - self.low
        before: Ints = np.cumsum(lengths) - lengths
        return before - self.spread(before[first])

"""Where windows begin and end: places in a timeline, for moments in its order."""

from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from featurestore.offline.timeline import Ints, Side, Timeline

STEPS: Final = 4
"""How many rows back are looked at one by one, on average, before the rest is searched for."""
NO_ROW: Final = np.iinfo(np.uint64).max
"""The age of the row before a place that has none."""


class Lookback:
    """The places that windows before some moments hold.

    Windows of one moment hold each other, so that the longer ones are found by a few steps back
    from the shorter ones: for a hundred windows over ten rows a key in a sixteenth of the time that
    searching for each takes.

    Args:
        timeline: The rows.
        groups: The group of each of n moments, rising.
        times: Its time, rising within a group.
    """

    def __init__(self, timeline: Timeline, groups: npt.NDArray[np.integer], times: Ints) -> None:
        self._timeline = timeline
        self._groups = groups
        self._times = times
        self._ends: dict[Side, Ints] = {}

    def end(self, side: Side) -> Ints:
        """Return the place behind each window's last row.

        Args:
            side: "left" leaves out rows at the very moment, "right" counts them.
        """
        if side not in self._ends:
            self._ends[side] = self._timeline.bound(self._groups, self._times, side)
        return self._ends[side]

    @cached_property
    def start(self) -> Ints:
        """The place of the first row of each moment's group: where windows without end begin."""
        return self._timeline.start(self._groups)

    def begins(self, lengths: set[int], side: Side) -> dict[int, Ints]:
        """Return for each length in microseconds the place of each window's first row.

        Args:
            lengths: The lengths of windows.
            side: "left" counts rows exactly that long ago, "right" leaves them out.
        """
        is_within = np.less_equal if side == "left" else np.less
        places, moments = self.end("right").copy(), np.arange(len(self._times))
        ages, found = self._ages(moments, places), {}
        for length in sorted(lengths):
            moving, budget = moments[is_within(ages, np.uint64(length))], STEPS * len(places)
            while len(moving) and budget >= len(moving):
                budget -= len(moving)
                places[moving] -= 1
                ages[moving] = moved = self._ages(moving, places[moving])
                moving = moving[is_within(moved, np.uint64(length))]
            if len(moving):
                since = self._times[moving] - length
                places[moving] = self._timeline.bound(self._groups[moving], since, side)
                ages[moving] = self._ages(moving, places[moving])
            found[length] = places.copy()
        return found

    def _ages(self, moments: Ints, places: Ints) -> npt.NDArray[np.uint64]:
        """Return how long before its moment the row before each place is, in microseconds.

        `NO_ROW` where the moment's group has none there. No place is behind its moment's end, so
        that the difference is never negative: as uint64 it is right for any two times.
        """
        before = places - 1
        ages = np.full(len(places), NO_ROW, dtype=np.uint64)
        some = np.flatnonzero(before >= self.start[moments])
        since = self._times[moments[some]] - self._timeline.times_at(before[some])
        ages[some] = since.view(np.uint64)
        return ages

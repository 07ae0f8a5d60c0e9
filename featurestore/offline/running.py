"""Winners found while a source's rows come by: held is the best row so far for each question.

Where keys are asked for a few times each, that takes less time than to hold all rows and to sort
them, and memory for the spine alone, however long the history.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from featurestore.offline.history import LOWEST
from featurestore.offline.spine_keys import NumberedKeys
from featurestore.offline.timeline import NOBODY, Ints, first_of_runs

FEW_TIMES: Final = 8
"""How often keys may be asked for on average: a row is looked for among the times of its key."""

_SHARED: Final = -1


class RunningWinners:
    """For each time of each key the greatest row of the key that came by and is not after it.

    A row is kept at the first time of its key that sees it. Later times see it, too, unless they
    have a row of their own, which is newer: that is settled at the end.

    Args:
        keys: The keys and times that are asked for.
        versions: How many numbers decide between rows of one key and event time.
    """

    def __init__(self, keys: NumberedKeys, versions: int) -> None:
        count = len(keys.rows)
        self._keys = keys
        self._before = np.empty(count, dtype=np.int64)
        self._before[1:] = keys.times[:-1]
        self._before[keys.bounds[:-1]] = LOWEST
        self._best = [np.full(count, LOWEST, dtype=np.int64) for _ in range(1 + versions)]
        self._owners = np.empty(count, dtype=np.int32)
        self._answered = keys.bounds[1:].copy()  # of each key the first place with a row

    def unanswered(self) -> Ints:
        """Return of each key with times that no row is before yet the place of the last of them."""
        return self._answered.take(np.flatnonzero(self._answered > self._keys.bounds[:-1])) - 1

    def add(self, lasts: npt.NDArray[np.int32], numbers: Sequence[Ints]) -> None:
        """Let rows come by, in any order.

        Args:
            lasts: For each row the place of the last time of its key that asks.
            numbers: The event time of each row, then what decides between rows that share it, the
                most important number first. No two rows agree in all. A row after that time counts
                for nothing.
        """
        places = lasts.astype(np.int64)
        seen = np.flatnonzero(self._keys.times.take(places) >= numbers[0])
        if len(seen) < len(places):
            places, numbers = places.take(seen), [each.take(seen) for each in numbers]
        places = self._first_to_see(places, numbers[0])
        newer = np.flatnonzero(self._are_newer(places, numbers))
        if len(newer) < len(places):
            places, numbers = places.take(newer), [each.take(newer) for each in numbers]
        np.minimum.at(self._answered, self._keys.groups.take(places), places)
        events, *versions = self._best
        np.maximum.at(events, places, numbers[0])
        newest = np.flatnonzero(events.take(places) == numbers[0])
        self._keep(versions, places.take(newest), [each.take(newest) for each in numbers[1:]])

    def _keep(self, versions: Sequence[Ints], places: Ints, numbers: Sequence[Ints]) -> None:
        """Write what decides between rows of one event time, of the greatest row for each place.

        Args:
            versions: Where it is written.
            places: Of each row; rows that share one share the event time, too.
            numbers: Of each row. The last one differs between all rows.
        """
        for held, each in zip(versions, numbers, strict=True):
            held[places] = each
        if (versions[-1].take(places) == numbers[-1]).all():
            return
        alone = self._without_smaller(places, numbers)
        for held, each in zip(versions, numbers, strict=True):
            held[places.take(alone)] = each.take(alone)

    def ordinals(self, some: range, ttl_us: int | None) -> Ints:
        """Return the last number of the winner of each time, `NOBODY` where there is none.

        Args:
            some: Of these keys.
            ttl_us: Greatest age of a row, or None.
        """
        keys, asked = self._keys, self._keys.places(some)
        events, ordinals = self._best[0][asked], self._best[-1][asked]
        places = np.where(ordinals == LOWEST, NOBODY, np.arange(len(ordinals)))
        np.maximum.accumulate(places, out=places)
        answers = places >= keys.bounds.take(keys.groups[asked]) - asked.start
        if ttl_us is not None:
            answers &= events.take(places) >= keys.times[asked] - ttl_us
        return np.where(answers, ordinals.take(places), NOBODY)

    def _first_to_see(self, places: Ints, events: Ints) -> Ints:
        """Return for each row the place of the first time of its key that it is not after.

        Args:
            places: For each row the place of some such time.
            events: The event time of each row.
        """
        earlier = np.flatnonzero(self._before.take(places) >= events)
        wanted, high = events[earlier], places[earlier]
        low = self._keys.bounds.take(self._keys.groups.take(high))
        while (low < high).any():
            middle = (low + high) >> 1
            is_before = self._keys.times.take(middle) < wanted
            low, high = np.where(is_before, middle + 1, low), np.where(is_before, high, middle)
        found = places.copy()
        found[earlier] = low
        return found

    def _are_newer(self, places: Ints, numbers: Sequence[Ints]) -> npt.NDArray[np.bool_]:
        """Return which rows are greater than the best so far: by the first number that differs."""
        found = np.zeros(len(places), dtype=bool)
        tied: Ints | None = None
        for best, each in zip(self._best, numbers, strict=True):
            if tied is None:
                there = best.take(places)
                found = each > there
                tied = np.flatnonzero(each == there)
            else:
                there, mine = best[places[tied]], each[tied]
                found[tied] = mine > there
                tied = tied[mine == there]
            if not len(tied):
                break
        return found

    def _without_smaller(self, places: Ints, numbers: Sequence[Ints]) -> Ints:
        """Return the rows without those that share their place with a greater one."""
        rows = np.arange(len(places), dtype=np.int32)
        owners = self._owners
        owners[places] = rows
        owners[places[owners.take(places) != rows]] = _SHARED
        is_shared = owners.take(places) == _SHARED
        shared = np.flatnonzero(is_shared)
        order = np.lexsort((*(n[shared] for n in reversed(numbers)), places[shared]))
        shared = shared[order]
        is_last = np.append(first_of_runs(places[shared])[1:], True)
        is_left = ~is_shared
        is_left[shared[is_last]] = True
        return np.flatnonzero(is_left)

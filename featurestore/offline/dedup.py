"""Which rows of a source are versions of one event, and from when on a later one stands for them.

Of rows that agree in the source's `dedup_keys` windows count the greatest by (created time, file,
row) of those that a question knows (SEMANTICS, section 4). All rows of the source take part,
whatever their entity and time, and before anything is filtered.

Few rows have a rival, as a rule. So an engine reads first nothing but a hash of what tells events
apart, and `repeated` finds those that come twice: sorting numbers in numpy takes a third of the
time that a hash table of all events does. Rows with such a hash are then compared by value.
"""

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.arrow_values import taken
from featurestore.offline.spine_keys import NumberedKeys
from featurestore.offline.timeline import Timeline, first_of_runs

Hashes = npt.NDArray[np.uint64]

NEVER: Final = 2**63 - 1
"""When a row was superseded that has no later version: after every moment."""
LOWEST: Final = -(2**63)
"""When a row was superseded by one without a created time: before every moment."""
BYTES_PER_ROW: Final = 16
"""What finding repeated hashes takes for each row of the source."""
MEMORY_SHARE: Final = 4
"""The part of the engine's memory that may be taken for that: one in so many."""


def repeated(
    read: Callable[[int, int], Iterable[Hashes]], *, row_count: int, memory_bytes: int
) -> Hashes:
    """Return the hashes that several rows have, each once, sorted.

    Args:
        read: Called with (parts, part); yields in any order the hashes with `hash % parts == part`
            of all rows. Rows with equal values have equal hashes.
        row_count: Of the source.
        memory_bytes: What the engine may use; a source with more hashes is read several times.
    """
    parts = max(1, -(-row_count * BYTES_PER_ROW * MEMORY_SHARE // memory_bytes))
    found = [_twice(read(parts, part)) for part in range(parts)]
    return np.sort(np.concatenate(found))


def _twice(read: Iterable[Hashes]) -> Hashes:
    hashes = np.concatenate([np.empty(0, dtype=np.uint64), *read])
    hashes.sort()
    again = hashes[1:][hashes[1:] == hashes[:-1]]
    found: Hashes = again[first_of_runs(again)]
    return found


class Survivors:
    """Leaves out rows that no question of a spine counts, because later versions stand for them.

    Args:
        keys: The questions.
        is_served: Whether a row counts until the next version of its event was created; else only
            the last version counts.
    """

    def __init__(self, keys: NumberedKeys, *, is_served: bool) -> None:
        self._asked = Timeline(keys.groups, keys.times) if is_served else None

    def of(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Return those of some rows (`g`, `e`, `c`, `s` and others) that may count."""
        until = rows.column("s").to_numpy()
        superseded = np.flatnonzero(until != NEVER)
        if not len(superseded):
            return rows
        counts = np.ones(rows.num_rows, dtype=bool)
        counts[superseded] = False
        if self._asked is not None:
            some = rows.select(["g", "e", "c", "s"]).take(pa.array(superseded))
            counts[superseded] = self._is_asked_for(self._asked, some)
        return taken(rows, np.flatnonzero(counts))

    @staticmethod
    def _is_asked_for(asked: Timeline, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        """Return whether a question lies between when a row was known and when it was superseded.

        Most repetitions come soon after what they repeat, so that nobody asks in between; a row
        that was counted once makes later windows around it cost more.
        """
        groups, until = rows.column("g").to_numpy(), rows.column("s").to_numpy()
        created = rows.column("c")
        written = created.fill_null(NEVER).to_numpy()
        since = np.maximum(written, rows.column("e").to_numpy())
        found: npt.NDArray[np.bool_] = asked.bound(groups, until, "left") > asked.bound(
            groups, since, "left"
        )
        return found

"""Which row of an entity answers, or which rows a window holds, and why the others do not.

This is SEMANTICS, sections 3 and 4, written down once more, over the rows of one entity. It shares
no code with the joins that compute training sets, so that each proves the other.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featurestore.definitions.aggregation import Closed
from featurestore.explanation.key_rows import LOWEST, KeyRows, Marks
from featurestore.explanation.rows import Reason
from featurestore.offline.dedup import NEVER
from featurestore.offline.engine import Mode

NOBODY = -1
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Verdicts:
    """What became of each row of an entity.

    Attributes:
        answering: Positions of the rows that answer: one or none of a view with a schema, all that
            a window counts. Those of greater rank come later.
        passed_over: Reason -> positions of the others, in the order in which they were judged.
    """

    answering: Positions
    passed_over: dict[Reason, Positions]


class _Judging:
    """Gives every row the first reason that holds for it."""

    def __init__(self, count: int) -> None:
        self._left = np.ones(count, dtype=bool)
        self._found: dict[Reason, Positions] = {}

    def pass_over(self, reason: Reason, which: Marks) -> None:
        """Take away the rows for which something holds, among those that are left."""
        found = self._left & which
        if found.any():
            self._found[reason] = np.flatnonzero(found)
            self._left &= ~which

    def verdicts(self) -> Verdicts:
        """Return what was found; what is left answers."""
        return Verdicts(np.flatnonzero(self._left), self._found)

    @property
    def left(self) -> Positions:
        """The rows that no reason holds for."""
        return np.flatnonzero(self._left)


def judge_latest(rows: KeyRows, *, at_us: int, ttl_us: int | None, mode: Mode) -> Verdicts:
    """Find the row that answers: the greatest (event, created, place) among those visible."""
    judging = _Judging(len(rows))
    judging.pass_over(Reason.LATER, rows.events > at_us)
    judging.pass_over(Reason.NOT_WRITTEN, _not_written(rows, at_us, mode))
    if ttl_us is not None:
        judging.pass_over(Reason.EXPIRED, rows.events < max(at_us - ttl_us, LOWEST))
    visible = judging.left
    if len(visible):
        # The rows are in the order of their rank.
        chosen = int(visible[-1])
        others = np.arange(len(rows)) != chosen
        same_event = rows.events == rows.events[chosen]
        same_version = same_event & (rows.created == rows.created[chosen])
        judging.pass_over(
            Reason.NANOSECONDS, others & same_version & ~rows.same_nanoseconds(chosen)
        )
        judging.pass_over(Reason.TIE, others & same_version)
        judging.pass_over(Reason.CORRECTED, others & same_event)
        judging.pass_over(Reason.OLDER, others)
    return judging.verdicts()


def judge_window(
    rows: KeyRows,
    *,
    at_us: int,
    window_us: int | None,
    closed: Closed,
    mode: Mode,
    counted: Marks | None,
    valid: Marks | None,
) -> Verdicts:
    """Find the rows that a window holds.

    Args:
        rows: The entity's rows.
        at_us: Where the window ends.
        window_us: How long it is; None for all history.
        closed: Which ends belong to it.
        mode: With "as_served" only rows and corrections count that had been written by then.
        counted: For which rows the aggregation's `where` is true; None for all.
        valid: Which rows have a value; None for all.
    """
    judging = _Judging(len(rows))
    is_open = closed in ("left", "neither")
    judging.pass_over(Reason.LATER, rows.events >= at_us if is_open else rows.events > at_us)
    if window_us is not None:
        start_us = max(at_us - window_us, LOWEST)
        begins = closed in ("left", "both")
        judging.pass_over(
            Reason.BEFORE, rows.events < start_us if begins else rows.events <= start_us
        )
    judging.pass_over(Reason.NOT_WRITTEN, _not_written(rows, at_us, mode))
    if rows.superseded is not None:
        known_us = NEVER - 1 if mode == "complete" else at_us
        judging.pass_over(Reason.CORRECTED, rows.superseded <= known_us)
    if counted is not None:
        judging.pass_over(Reason.WHERE, ~counted)
    if valid is not None:
        judging.pass_over(Reason.NULL_VALUE, ~valid)
    return judging.verdicts()


def _not_written(rows: KeyRows, at_us: int, mode: Mode) -> Marks:
    if mode == "complete":
        return np.zeros(len(rows), dtype=bool)
    found: Marks = (rows.created == LOWEST) | (rows.created > at_us)
    return found


def closest(reason: Reason, positions: Positions, most: int) -> Positions:
    """Return the rows that came closest to answering, the closest first.

    That is the earliest of those that come too late, and the newest of all others.
    """
    return positions[:most] if reason is Reason.LATER else positions[::-1][:most]


def closest_left_out(rows: KeyRows, at_us: int, most: int) -> Positions:
    """Return the same of rows that are left out at every moment: those by this moment first."""
    by = int(np.searchsorted(rows.events, at_us, side="right"))
    every = np.arange(len(rows))
    return np.concatenate([every[:by][::-1], every[by:]])[:most]


def listed(found: Iterable[Verdicts], *, most_rows: int, most_others: int) -> Iterator[int]:
    """Yield the positions of all rows that are shown, some of them more than once."""
    for verdicts in found:
        yield from verdicts.answering[::-1][:most_rows].tolist()
        for reason, positions in verdicts.passed_over.items():
            yield from closest(reason, positions, most_others).tolist()

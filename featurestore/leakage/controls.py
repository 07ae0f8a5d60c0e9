"""Whether a leak test would notice: rows that do matter are changed, and something has to move."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from featurestore.definitions.aggregation import ROWS
from featurestore.expressions.tree import Column
from featurestore.leakage.changes import Change
from featurestore.leakage.proposals import Proposals
from featurestore.leakage.report import Control
from featurestore.leakage.sight import Read, Sources, leaves_rows_out
from featurestore.leakage.trial import Trial, moved
from featurestore.leakage.view_points import ViewPoints

Compute = Callable[[Sequence[int], Sequence[Change]], pa.Table | None]
Progress = Callable[[str, int, int], None]

CONTROL_POINTS: Final = 20
"""Spine rows at which something that a view sees is changed."""


class Controls:
    """Changes rows that matter.

    Args:
        trial: What is computed.
        points: What spine rows see.
        proposals: Proposes changes.
        base: The features of all spine rows as they are.
        compute: Returns those of some spine rows after some changes, or None if that fails.
        progress: Called with (what is being done, steps done, steps in all).
    """

    def __init__(
        self,
        trial: Trial,
        points: ViewPoints,
        proposals: Proposals,
        *,
        base: pa.Table,
        compute: Compute,
        progress: Progress,
    ) -> None:
        self._trial = trial
        self._points = points
        self._proposals = proposals
        self._base = base
        self._compute = compute
        self._progress = progress

    def run(self) -> Iterator[Control]:
        """Yield what every change came to."""
        kinds: Mapping[str, Callable[[int, Read], list[Change]]] = {
            "value": self._proposals.values,
            "joined": self._proposals.joined,
            "newest": self._proposals.newest,
            "oldest": self._proposals.oldest,
        }
        runs = [(part, kind) for part in self._apart() for kind in kinds]
        for number, (roles, kind) in enumerate(runs):
            self._progress("changing what matters", number, len(runs))
            yield from self._control(roles, kind, kinds[kind])

    def _apart(self) -> list[list[str]]:
        """Return the views asked for, in groups of which no two read one source."""
        groups: list[dict[str, str]] = []
        for role in dict.fromkeys(s.name for s in self._trial.subject.asked):
            if role in self._points.sources:
                source = self._points.sources[role].view.source.name
                free = next((group for group in groups if source not in group), None)
                if free is None:
                    groups.append(free := {})
                free[source] = role
        return [list(group.values()) for group in groups]

    def _control(
        self, roles: Sequence[str], kind: str, propose: Callable[[int, Read], list[Change]]
    ) -> Iterator[Control]:
        changes: list[Change] = []
        tried: dict[str, list[int]] = {}
        for role in roles:
            for point in self._one_of(role):
                proposed = propose(point, self._widest(role))
                if proposed and len(tried.setdefault(role, [])) < CONTROL_POINTS:
                    tried[role].append(point)
                    changes += proposed
        points = sorted({point for some in tried.values() for point in some})
        found = self._compute(points, changes) if points else None
        if found is None:
            return
        for role, some in tried.items():
            numbers = self._numbers(role)
            labels = [self._trial.subject.features[n] for n in numbers]
            yield Control(
                view=role,
                change=kind,
                tried=len(some),
                moved=self._moved_at(some, numbers, points, found),
                certain=_is_certain(self._points.sources[role], labels, kind),
            )

    def _numbers(self, role: str) -> list[int]:
        """Return the numbers of a view's features."""
        labels = enumerate(self._trial.subject.features)
        return [n for n, label in labels if label.partition(":")[0] == role]

    def _widest(self, role: str) -> Read:
        """Return the read of a view that looks back furthest, but not for ever if one does not."""
        reads = sorted(
            {r for n in self._numbers(role) for r in self._trial.subject.reads[n]}, key=repr
        )
        return max(reads, key=lambda read: read.span.back_us or 0)

    def _one_of(self, role: str) -> list[int]:
        """Return spine rows of different entities."""
        first: dict[tuple[int, ...], int] = {}
        for point in range(self._trial.spine.num_rows):
            first.setdefault(self._points.key(point, role), point)
        return list(first.values())

    def _moved_at(
        self, tried: Sequence[int], numbers: Sequence[int], points: Sequence[int], found: pa.Table
    ) -> int:
        """Return at how many of the spine rows tried any of some features moved."""
        differ = np.zeros(len(points), dtype=bool)
        for number in numbers:
            before = self._base.column(number).take(pa.array(points, pa.int64()))
            differ |= moved(before, found.column(number))
        return int(differ[np.isin(points, tried)].sum())


def blind_notes(controls: Sequence[Control]) -> Iterator[str]:
    """Yield the views of which nothing moved at all, for people."""
    for view in dict.fromkeys(control.view for control in controls):
        if not any(control.moved for control in controls if control.view == view):
            yield (
                f"view {view}: nothing that was changed of what it sees moved a value, so that"
                " nobody knows whether the test would notice a leak"
            )


def _is_certain(sources: Sources, labels: Sequence[str], kind: str) -> bool:
    """Whether a change of a row that is seen has to move a feature."""
    view = sources.view
    coded = sources.own.rows.codes
    if kind == "joined":
        return False
    names = [label.partition(":")[2] for label in labels]
    if view.aggregations:
        if view.source.dedup_keys or leaves_rows_out(view):
            return False
        counted = [w for w in view.window_features if w.name in names and w.where is None]
        if kind == "value":
            return any(
                w.column not in {*coded, ROWS} and w.function.kind in ("sum", "mean")
                for w in counted
            )
        return any(w.function.kind == "count" and w.column == ROWS for w in counted)
    plain = (view.row_column(name) for name in names)
    picks_one = sources.picks_one and not sources.own.has_nanoseconds
    return picks_one and any(
        isinstance(tree, Column) and tree.source is None and tree.name not in coded
        for tree in plain
    )

"""Which rows are mutated, and how: at random, and where engines go wrong."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from featurestore.leakage.changes import Change, Editor, as_rows
from featurestore.leakage.sight import Read
from featurestore.leakage.source_rows import NEVER, SourceRows
from featurestore.leakage.view_points import ViewPoints
from featurestore.offline.engine import Mode

MAX_CHANGES: Final = 60
"""Of one source in one round."""
MAX_EDGES: Final = 6
"""Spine rows of a round at whose edges rows are added."""
ALL_COLUMNS: Final = 10_000
FAR_US: Final = (1, 2, 1_000_000, 3_600_000_000, 86_400_000_000)


class Proposals:
    """Proposes mutations of an extract.

    Args:
        view_points: What spine rows see.
        rows: The rows of every source that is mutated.
        mode: What counts as known.
        chance: Draws.
    """

    def __init__(
        self,
        view_points: ViewPoints,
        rows: Mapping[str, SourceRows],
        *,
        mode: Mode,
        chance: np.random.Generator,
    ) -> None:
        self._points = view_points
        self._rows = rows
        self._mode = mode
        self._chance = chance
        self._editors = {name: Editor(found, chance) for name, found in rows.items()}

    def unseen(self, points: Sequence[int], reads: Sequence[Read]) -> list[Change]:
        """Return changes of rows that none of some spine rows sees, before or after the change."""
        found = []
        for name, rows in self._rows.items():
            if rows.extract.row_count:
                found += self._unseen_of(name, points, reads)
        return found

    def _unseen_of(self, name: str, points: Sequence[int], reads: Sequence[Read]) -> list[Change]:
        proposed = [*self._at_edges(name, points, reads), *self._at_random(name, points, reads)]
        base = self._rows[name].rows
        touched = base.take(np.array([c.row for c in proposed], dtype=np.int64))
        is_seen = self._points.seen(points, reads, name, touched)
        is_seen[[c.verb == "added" for c in proposed]] = False
        after = as_rows(proposed, list(base.codes))
        will_be = self._points.seen(points, reads, name, after)
        will_be[[c.verb == "removed" for c in proposed]] = False
        kept, used = [], set()
        for change, seen in zip(proposed, is_seen | will_be, strict=True):
            # A row that is changed must not be removed as well, nor changed twice.
            if not seen and (change.verb == "added" or change.row not in used):
                kept.append(change)
                used.add(change.row)
        if len(kept) <= MAX_CHANGES:
            return kept
        return [kept[n] for n in self._chance.choice(len(kept), MAX_CHANGES, replace=False)]

    def _at_edges(
        self, name: str, points: Sequence[int], reads: Sequence[Read]
    ) -> Iterator[Change]:
        """Yield rows that are added just outside of what spine rows see."""
        some = self._some(points, MAX_EDGES)
        for read in reads:
            sources = self._points.sources[read.role]
            if sources.view.source.name != name:
                continue
            for point in some:
                yield from self._around(name, point, read)

    def _around(self, name: str, point: int, read: Read) -> Iterator[Change]:
        sight = self._points.sight(point, read)
        group = self._points.group(point, read.role)
        q_us = self._points.times[point]
        if not len(group) or q_us is None:
            return
        editor, row = self._editors[name], int(self._chance.choice(group))
        far = int(self._chance.choice(FAR_US))
        late = [("just after what counts", sight.last_us + 1), ("after q", q_us + far)]
        if read.span.back_us is not None:
            late.append(("just before what counts", sight.first_us - 1))
            late.append(("before what counts", sight.first_us - far))
        for why, instant in late:
            yield from _each(editor.edited(row, why=why, copy=True, event=instant))
        if len(sight.seen):
            yield from self._behind(editor, int(sight.seen[-1]), q_us)

    def _behind(self, editor: Editor, winner: int, q_us: int) -> Iterator[Change]:
        """Yield rows beside the one that answers, which lose against it or were not known."""
        base = editor.rows.rows
        event, created = int(base.event[winner]), int(base.created[winner])
        yield from _each(
            editor.edited(winner, why="an equal row that stands earlier", copy=True, before_it=True)
        )
        if editor.rows.source.created_timestamp_column is None:
            return
        if created != NEVER:
            why = "of the same time, written earlier"
            yield from _each(editor.edited(winner, why=why, copy=True, created=created - 1))
        if self._mode == "as_served":
            yield from _each(
                editor.edited(
                    winner, why="written after q", copy=True, event=event, created=q_us + 1
                )
            )
            column = editor.rows.source.created_timestamp_column
            why = "without a created time"
            yield from _each(editor.edited(winner, why=why, copy=True, without=column))

    def _at_random(
        self, name: str, points: Sequence[int], reads: Sequence[Read]
    ) -> Iterator[Change]:
        """Yield changes of random rows, half of them of the spine rows' own keys."""
        editor, base = self._editors[name], self._rows[name].rows
        own = self._own_rows(name, points, reads)
        for number in range(MAX_CHANGES):
            pool = own if number % 2 and len(own) else range(len(base))
            row = int(pool[int(self._chance.integers(len(pool)))])
            yield from self._drawn(editor, row, self._why(name, row, points))

    def _own_rows(self, name: str, points: Sequence[int], reads: Sequence[Read]) -> list[int]:
        found: list[int] = []
        for read in reads:
            if self._points.sources[read.role].view.source.name == name:
                for point in self._some(points, MAX_EDGES):
                    found += self._points.group(point, read.role).tolist()
        return found

    def _drawn(self, editor: Editor, row: int, why: str) -> Iterator[Change]:
        kind = int(self._chance.integers(7))
        if kind == 0:
            yield editor.removed(row, why=why)
        elif kind in (1, 2):
            yield from _each(editor.edited(row, why=why))
        elif kind == 3:  # noqa: PLR2004 - a number of a branch
            yield from _each(editor.edited(row, why=why, copy=True))
        elif kind == 4:  # noqa: PLR2004
            start = int(editor.rows.starts[editor.rows.file_of(row)])
            size = editor.rows.extract.files[editor.rows.file_of(row)].table.num_rows
            other = start + int(self._chance.integers(size))
            moved = "moved to another entity"
            yield from _each(editor.edited(row, why=moved, copy=True, keys_of=other))
        else:
            names = [n for n in (editor.rows.source.timestamp_field, *editor.rows.rows.codes) if n]
            if names:
                without = names[int(self._chance.integers(len(names)))]
                why = f"without {without}"
                yield from _each(editor.edited(row, why=why, copy=True, without=without))

    def _why(self, name: str, row: int, points: Sequence[int]) -> str:
        """Return what a row is to some spine rows, as far as its time says it."""
        event = int(self._rows[name].rows.event[row])
        times = [t for p in points if (t := self._points.times[p]) is not None]
        if event != NEVER and times and event > max(times):
            return "after q"
        return "of another entity, or beyond what counts"

    def _some(self, points: Sequence[int], most: int) -> Sequence[int]:
        if len(points) <= most:
            return points
        return [points[n] for n in self._chance.choice(len(points), most, replace=False)]

    # --- what is seen ------------------------------------------------------------------------

    def values(self, point: int, read: Read) -> list[Change]:
        """Return the change of the values of a row that a spine row sees; empty if it sees none."""
        sight = self._points.sight(point, read)
        if not len(sight.seen):
            return []
        row = int(sight.seen[-1])
        return list(_each(self._editor(read).edited(row, why="seen", most=ALL_COLUMNS)))

    def joined(self, point: int, read: Read) -> list[Change]:
        """Return the changes of the rows that are joined to a row that a spine row sees."""
        sight = self._points.sight(point, read)
        if not len(sight.seen):
            return []
        found: list[Change] = []
        for source, row in sight.partners(int(sight.seen[-1])):
            found += _each(self._editors[source].edited(row, why="joined", most=ALL_COLUMNS))
        return found

    def newest(self, point: int, read: Read) -> list[Change]:
        """Return the change that adds a row at the last instant that counts."""
        sight = self._points.sight(point, read)
        added = self._added(point, read, sight.last_us, "at the last instant that counts")
        # In complete mode a row of the same moment may have been written later still.
        return [change for change in added if self._is_seen(point, read, change)]

    def oldest(self, point: int, read: Read) -> list[Change]:
        """Return the changes that add a row at the first instant that counts, and nothing later.

        Of all history there is none.
        """
        sight = self._points.sight(point, read)
        if read.span.back_us is None:
            return []
        why = "at the first instant that counts"
        added = self._added(point, read, sight.first_us, why)
        if self._points.sources[read.role].view.aggregations:
            return [change for change in added if self._is_seen(point, read, change)]
        base, group = self._editor(read).rows.rows, self._points.group(point, read.role)
        later = group[base.event[group] >= sight.first_us]
        removed = (self._editor(read).removed(int(row), why="in its way") for row in later)
        return [*added, *removed] if added else []

    def _added(self, point: int, read: Read, instant: int, why: str) -> list[Change]:
        """Return a copy of a row of the spine row's key that stands at an instant."""
        sight, group = self._points.sight(point, read), self._points.group(point, read.role)
        if sight.is_blind or not len(group):
            return []
        row = int(sight.seen[-1]) if len(sight.seen) else int(group[-1])
        change = self._editor(read).edited(
            row,
            why=why,
            copy=True,
            event=instant,
            created=self._points.times[point],
            most=ALL_COLUMNS,
        )
        return [] if change is None or change.event != instant else [change]

    def _is_seen(self, point: int, read: Read, change: Change) -> bool:
        after = as_rows([change], list(self._editor(read).rows.rows.codes))
        return bool(self._points.sight(point, read).sees(change.source, after)[0])

    def _editor(self, read: Read) -> Editor:
        return self._editors[self._points.sources[read.role].view.source.name]


def _each(change: Change | None) -> Iterator[Change]:
    if change is not None:
        yield change

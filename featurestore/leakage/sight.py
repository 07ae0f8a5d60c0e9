"""What a spine row may see, said once more: from the contract, and from no engine's code.

`docs/semantics.md` is the contract. Where it is hard to say whether a row matters (a filter of a
transform, rows that were joined), the row counts as seen: a leak test must never cry wolf.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from featurestore.definitions import FeatureView, FeatureViewSelection
from featurestore.definitions.aggregation import WindowFeature
from featurestore.definitions.contract import hiding
from featurestore.definitions.row_join import RowJoin
from featurestore.leakage.source_rows import NEVER, NULL, Rows, SourceRows
from featurestore.offline.engine import Mode
from featurestore.offline.timeline import Ints

Mask = npt.NDArray[np.bool_]
EVENT: Final = ""
"""Stands for the event time among columns that tell events apart."""


@dataclass(frozen=True, slots=True)
class Span:
    """Which event times count at q: those from `q - back_us` to `q - short_us`, both included.

    `back_us` is None for all history.
    """

    back_us: int | None
    short_us: int

    def ends(self, q_us: int) -> tuple[int, int]:
        """Return the first and the last event time that counts."""
        first = NEVER + 1 if self.back_us is None else q_us - self.back_us
        return first, q_us - self.short_us


@dataclass(frozen=True, slots=True)
class Read:
    """One way in which a feature looks at a view: for which role, and how far back.

    Attributes:
        role: Name of the view, or of its role.
        span: Which event times count.
    """

    role: str
    span: Span


def read_of(selection: FeatureViewSelection, feature: str) -> Read:
    """Return how a feature of a view looks at its source."""
    view = selection.view
    window = next((w for w in view.window_features if w.name == feature), None)
    span = Span(view.ttl_us, 0) if window is None else _window_span(window)
    return Read(selection.name, span)


def _window_span(window: WindowFeature) -> Span:
    opens = window.closed in ("left", "both")
    closes = window.closed in ("right", "both")
    back = None if window.window_us is None else window.window_us - (not opens)
    return Span(back, 0 if closes else 1)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """A view's rows, and those of what it joins, by the sources' names."""

    view: FeatureView
    rows: Mapping[str, SourceRows]

    @property
    def own(self) -> SourceRows:
        """The rows of the view's source."""
        return self.rows[self.view.source.name]

    @property
    def joins(self) -> tuple[RowJoin, ...]:
        """What is joined as of a time."""
        transform = self.view.row_transform
        joins = () if transform is None else transform.joins
        return tuple(join for join in joins if join.times is not None)

    @cached_property
    def picks_one(self) -> bool:
        """Whether one row answers, and which one follows from keys and times alone."""
        return not self.view.aggregations and not leaves_rows_out(self.view)

    @property
    def dedup(self) -> tuple[str, ...]:
        """The columns that rows of one event share, `EVENT` for the event time."""
        source = self.view.source
        names = source.dedup_keys or () if self.view.aggregations else ()
        return tuple(EVENT if name == source.timestamp_field else name for name in names)


def leaves_rows_out(view: FeatureView) -> bool:
    """Whether what is in a row may decide that it is never seen: by a filter, a join, a rule."""
    transform = view.row_transform
    if hiding([*view.contract, *view.source.contract]):
        return True
    return transform is not None and (
        transform.where is not None or any(join.inner for join in transform.joins)
    )


class Sight:
    """What one spine row sees through one `Read`.

    Args:
        sources: The rows.
        key: The numbers of the spine row's join keys, in the view's order.
        q_us: Its time; None sees nothing.
        span: Which event times count.
        mode: What counts as known.
        group: Numbers of the rows of the key.
    """

    def __init__(
        self,
        sources: Sources,
        *,
        key: tuple[int, ...],
        q_us: int | None,
        span: Span,
        mode: Mode,
        group: Ints,
    ) -> None:
        self._sources = sources
        self._key = key
        self.is_blind = q_us is None or NULL in key
        self._q_us = 0 if q_us is None else q_us
        self.first_us, self.last_us = span.ends(self._q_us)
        self._as_served = mode == "as_served"
        self._group = group

    @cached_property
    def seen(self) -> Ints:
        """Numbers of the source's rows that may matter, in order."""
        rows = self._sources.own.rows
        inside = self._group[self._inside(rows.take(self._group))]
        if not self._sources.picks_one or not len(inside):
            return inside
        some = rows.take(inside)
        if self._sources.own.has_nanoseconds:
            return np.asarray(inside[some.event == some.event.max()])
        order = np.lexsort((some.place, some.created, some.event))
        return np.asarray(inside[order[-1:]])

    def sees(self, source: str, rows: Rows) -> Mask:
        """Whether each of some rows of a source, real or imagined, may matter."""
        found = np.zeros(len(rows), dtype=bool)
        if self.is_blind:
            return found
        if source == self._sources.view.source.name:
            found |= self._sees_own(rows)
        for join in self._sources.joins:
            if self._sources.view.joined_source(join).name == source:
                found |= self._sees_joined(join, rows)
        return found

    def _sees_own(self, rows: Rows) -> Mask:
        found = self._inside(rows)
        if self._sources.picks_one and len(self.seen):
            return found & self._is_not_behind(rows)
        if self._sources.dedup:
            found = found | self._shares_event(rows)
        return found

    def _inside(self, rows: Rows) -> Mask:
        """Whether rows have the key, a time that counts, and were known."""
        found = (rows.event >= self.first_us) & (rows.event <= self.last_us)
        for name, number in zip(self._sources.view.join_keys, self._key, strict=True):
            found &= rows.codes[name] == number
        if self.is_blind:
            found[:] = False
        return np.asarray(found & self._is_known(rows))

    def _is_known(self, rows: Rows) -> Mask:
        if not self._as_served:
            return np.ones(len(rows), dtype=bool)
        return np.asarray((rows.created <= self._q_us) & (rows.created != NEVER))

    def _is_not_behind(self, rows: Rows) -> Mask:
        """Whether rows are the winner, or would win against it."""
        best = self._sources.own.rows.take(self.seen[-1:])
        if self._sources.own.has_nanoseconds:
            return np.asarray(rows.event >= best.event)
        later = (rows.created > best.created) | (
            (rows.created == best.created) & (rows.place >= best.place)
        )
        return np.asarray((rows.event > best.event) | ((rows.event == best.event) & later))

    def _shares_event(self, rows: Rows) -> Mask:
        shared = [t in self._events and NULL not in t for t in rows.tuples(self._sources.dedup)]
        return np.array(shared, dtype=bool) & self._is_known(rows)

    @cached_property
    def _events(self) -> frozenset[tuple[int, ...]]:
        seen = self._sources.own.rows.take(self.seen)
        return frozenset(seen.tuples(self._sources.dedup))

    def _sees_joined(self, join: RowJoin, rows: Rows) -> Mask:
        last = self._joined[join.name]
        names = [key.joined for key in join.keys]
        until = np.array([last.get(t, NEVER) for t in rows.tuples(names)], dtype=np.int64)
        return np.asarray((rows.event != NEVER) & (rows.event <= until) & self._is_known(rows))

    def partners(self, row: int) -> Iterator[tuple[str, int]]:
        """Yield the rows that are joined to one of the source's, with the names of their sources.

        Of several of one time it is any: all of them have to be changed to be sure.
        """
        own = self._sources.own.rows.take(np.array([row]))
        for join in self._sources.joins:
            name = self._sources.view.joined_source(join).name
            rows = self._sources.rows[name].rows
            (key,) = own.tuples([k.own for k in join.keys])
            fits = (rows.event != NEVER) & (rows.event <= own.event[0]) & self._is_known(rows)
            for pair, number in zip(join.keys, key, strict=True):
                fits &= (rows.codes[pair.joined] == number) & (number != NULL)
            if fits.any():
                last = rows.event[fits].max()
                yield from ((name, int(n)) for n in np.flatnonzero(fits & (rows.event == last)))

    @cached_property
    def _joined(self) -> Mapping[str, Mapping[tuple[int, ...], int]]:
        """Join -> key -> until when rows of it may matter: the last row that is joined to."""
        own = self._sources.own.rows.take(self.seen)
        found: dict[str, dict[tuple[int, ...], int]] = {}
        for join in self._sources.joins:
            last = found.setdefault(join.name, {})
            for key, event in zip(
                own.tuples([k.own for k in join.keys]), own.event.tolist(), strict=True
            ):
                if NULL not in key:
                    last[key] = max(event, last.get(key, NEVER))
        return found

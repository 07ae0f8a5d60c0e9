"""The semantics in the plainest Python: every row is looked at for every question.

Nothing here is shared with an engine, a store, or `featurestore.time`; where this module and
another one differ, read SEMANTICS and decide. Rows are those of `featurestore.testing.plain`: what
the files hold, by the columns' names in the files, with exact times. Answers hold instants as
`RawTime`, aware and in whole microseconds.

Between rows of one key the winner is the greatest (event time rounded up, created time rounded up
and null lowest, event time in nanoseconds, created time in nanoseconds, ordinal).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import pyarrow as pa

from featurestore.definitions import FeatureView, FeatureViewSelection, OnDemandSelection
from featurestore.errors import NameCollisionError, RequestError, RowsError, SpineError
from featurestore.testing.local_time import LocalTimeError, instant_ns, round_down
from featurestore.testing.oracle_joins import Joined
from featurestore.testing.oracle_rows import (
    DAY_US,
    NOTHING,
    Files,
    Key,
    Mode,
    SourceRow,
    as_raw_time,
    count_never_visible,
    instant,
    key_of,
    null_lowest,
    read_source,
)
from featurestore.testing.oracle_windows import empty_values, window_values
from featurestore.testing.plain import PlainTable, Row
from featurestore.types import can_widen

Status = Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]

AHEAD_US = 5 * 60 * 10**6
"""How far in the future a pushed event may be."""

# Offline


def visible(row: SourceRow, key: Key | None, at_us: int, ttl_us: int | None, mode: Mode) -> bool:
    """Whether a source row may answer a spine row."""
    return (
        row.key == key
        and row.event_us <= at_us
        and (ttl_us is None or row.event_us >= at_us - ttl_us)
        and (mode == "complete" or (row.created_us is not None and row.created_us <= at_us))
    )


def as_of(
    view: FeatureView,
    rows: Sequence[SourceRow],
    key: Key | None,
    at_us: int | None,
    *,
    mode: Mode = "complete",
) -> SourceRow | None:
    """Return the row that answers for `key` at `at_us`, or None."""
    if at_us is None:
        return None
    ttl_us = view.ttl_us
    seen = [row for row in rows if visible(row, key, at_us, ttl_us, mode)]
    return max(seen, key=lambda row: row.rank, default=None)


def historical(
    selections: Sequence[FeatureViewSelection],
    files: Mapping[str, Files],
    spine: PlainTable,
    *,
    timestamp_field: str = "event_timestamp",
    timezone: str = "UTC",
    mode: Mode = "complete",
    full_feature_names: bool = False,
) -> list[dict[str, object]]:
    """Return the rows of the spine, in order, each with its features.

    Args:
        selections: Views, or roles of views, in the order of their features in the result.
        files: Source name -> files.
        spine: The rows to answer; its columns stay as they are.
        timestamp_field: Column of the spine that holds the times.
        timezone: Zone in which a naive time of the spine is read.
        mode: Whether all rows count, or only those created by then.
        full_feature_names: Whether features are called `view__feature`.

    Raises:
        NameCollisionError: Two columns of the result would have one name.
        RequestError: A mode that the source has no column for.
        SourceTimeError: A source holds a local time that occurs twice or never.
        SpineError: The spine holds one.
        SumOverflowError: A sum over a window is beyond its type.
    """
    names = [
        result_name(s, f, full=full_feature_names) for s in selections for f in s.feature_names
    ]
    check_names([*spine.columns, *names])
    _check_spine(spine, selections, timestamp_field)
    times = [
        _spine_time(row[timestamp_field], timezone, timestamp_field, number)
        for number, row in enumerate(spine.rows)
    ]
    result = [dict(row) for row in spine.rows]
    for selection in selections:
        _check_mode(selection.view, mode)
        rows = read_source(selection.view, files[selection.view.source.name], files, mode=mode)
        for number, (spine_row, at_us) in enumerate(zip(spine.rows, times, strict=True)):
            key = key_of(spine_row, selection.view.join_keys, selection.key_columns)
            values = _answer(selection, rows, key, at_us, mode=mode, number=number)
            for name in selection.feature_names:
                column = result_name(selection, name, full=full_feature_names)
                result[number][column] = values[name]
    return result


def _answer(
    selection: FeatureViewSelection,
    rows: Sequence[SourceRow],
    key: Key | None,
    at_us: int | None,
    *,
    mode: Mode,
    number: int,
) -> Row:
    """Return the features of spine row `number`."""
    view, names = selection.view, selection.feature_names
    if view.aggregations:
        return window_values(view, rows, key, at_us, names=names, mode=mode, number=number)
    found = as_of(view, rows, key, at_us, mode=mode)
    return dict.fromkeys(names) if found is None else found.values


def result_name(
    selection: FeatureViewSelection | OnDemandSelection, feature: str, *, full: bool
) -> str:
    """Return what a feature's column in a result is called."""
    return f"{selection.name}__{feature}" if full else feature


def check_names(names: Sequence[str]) -> None:
    """Refuse columns of a result that have one name, whatever their case.

    Raises:
        NameCollisionError: It names the first two.
    """
    seen: dict[str, str] = {}
    for name in names:
        if name.casefold() in seen:
            first = seen[name.casefold()]
            raise NameCollisionError(
                f"The result would have the columns {first!r} and {name!r}.", names=(first, name)
            )
        seen[name.casefold()] = name


def _check_spine(
    spine: PlainTable, selections: Sequence[FeatureViewSelection], timestamp_field: str
) -> None:
    if timestamp_field not in spine.columns:
        raise SpineError(f"The spine has no column {timestamp_field!r}.", column=timestamp_field)
    for selection in selections:
        for key, column in selection.key_columns.items():
            if column not in spine.columns:
                raise SpineError(f"The spine has no column {column!r}.", column=column)
            found, declared = spine.columns[column], selection.view.join_keys[key]
            numbers = pa.types.is_floating(found) or pa.types.is_integer(found)
            by_value = numbers and pa.types.is_integer(declared)
            if not by_value and not can_widen(found, declared):
                text = f"Spine column {column!r} is {found}, the join key is {declared}."
                raise SpineError(text, column=column)


def _check_mode(view: FeatureView, mode: Mode) -> None:
    for source in (view.source, *view.joins):
        if mode == "as_served" and not source.static and source.created_timestamp_column is None:
            raise RequestError(
                f"Source {source.name!r} has no created_timestamp_column, which as_served needs."
            )


def _spine_time(raw: object, timezone: str, column: str, number: int) -> int | None:
    time = as_raw_time(raw)
    if time is None:
        return None
    try:
        return round_down(instant_ns(time, timezone))
    except LocalTimeError as error:
        raise SpineError(
            f"Spine column {column!r}, row {number}: {error}.", column=column, row=number
        ) from None


# Online


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineAnswer:
    """What a lookup says about one entity of one view."""

    statuses: Mapping[str, Status]
    values: Mapping[str, object]
    """Feature -> value; None unless PRESENT, or NOT_FOUND and an empty window has a value."""
    event_us: int | None
    """Event time of the row served, or None."""
    may_be_gone: bool = False
    """Whether a store may have dropped the row, so that NOT_FOUND is as good."""


@dataclass(slots=True)
class OnlineOracle:
    """The online state of one view, and its watermarks.

    A run remembers how far it read: after it, every row that was there with event time up to
    `read_event_us` and created time up to `read_created_us` has been offered. A run with a start
    leaves rows before it unread, so it remembers nothing.
    """

    view: FeatureView
    grace_us: int | None = None
    """How long after its ttl a row is kept at least; default the greater of ttl and a day."""
    stored: dict[Key, SourceRow] = field(default_factory=dict)
    read_event_us: int | None = None
    read_created_us: int | None = None
    deleted: set[Key] = field(default_factory=set)
    """Keys whose stored row says that there is none."""

    def push(self, rows: Sequence[Row], *, now_us: int) -> None:
        """Offer rows of the source; those without a created time were created now.

        Raises:
            RequestError: The view has aggregations or joins.
            RowsError: A row has no key or event time, or is more than 5 minutes ahead.
        """
        if self.view.aggregations or self.view.joins:
            raise RequestError(f"{self.view.name!r} takes no rows.")
        source = self.view.source
        created = source.created_timestamp_column
        made = {} if created is None else {source.column_in_file(created): instant(now_us)}
        files: Files = {"pushed": [{**made, **row} for row in rows]}
        if count_never_visible(self.view, files):
            raise RowsError("A row has no key or event time.")
        read = read_source(self.view, files)
        if any(row.event_us > now_us + AHEAD_US for row in read):
            raise RowsError("A row is of the future.")
        self._offer(read)

    def delete(self, key: Key, *, now_us: int) -> None:
        """Put a tombstone in the place of an older row."""
        stone = SourceRow(key=key, event_us=now_us, created_us=now_us, rank=(), values={})
        self._offer([stone])
        if self.stored[key] is stone:
            self.deleted.add(key)

    def materialize(
        self,
        files: Files,
        *,
        end_us: int,
        start_us: int | None = None,
        joined: Joined = NOTHING,
    ) -> None:
        """Offer the newest row per entity of event times in (start, end].

        Of a view with aggregations it is the historical answer at `end`, for every key that has a
        row by then.

        Raises:
            RequestError: start is not before end, or a view with aggregations is given one.
        """
        if self.view.aggregations:
            if start_us is not None:
                raise RequestError(f"{self.view.name!r} has aggregations: leave out start.")
            self._compute(files, end_us, joined)
            return
        if start_us is not None and start_us >= end_us:
            raise RequestError("start is not before end.")
        rows = [
            row
            for row in read_source(self.view, files, joined)
            if row.event_us <= end_us and (start_us is None or row.event_us > start_us)
        ]
        self._offer(rows)
        if start_us is None:
            self.read_event_us = self.read_created_us = None
            self._remember(rows, end_us)

    def materialize_incremental(
        self, files: Files, *, end_us: int, joined: Joined = NOTHING
    ) -> None:
        """Offer the rows that are new since the last run, as far as times can tell.

        Windows move with their end, so a view with aggregations is computed anew; and late rows of
        what is joined change others, so that all rows are offered.
        """
        if self.view.aggregations:
            self._compute(files, end_us, joined)
            return
        rows = [
            row
            for row in read_source(self.view, files, joined)
            if row.event_us <= end_us and (self.view.joins or self._may_be_new(row))
        ]
        self._offer(rows)
        self._remember(rows, end_us)

    def _compute(self, files: Files, end_us: int, joined: Joined) -> None:
        rows = read_source(self.view, files, joined)
        for key in {row.key for row in rows if row.event_us <= end_us}:
            values = window_values(self.view, rows, key, end_us)
            # Written in order, so that among runs with one end the last one counts.
            self._offer(
                [SourceRow(key=key, event_us=end_us, created_us=None, rank=(), values=values)]
            )

    def _may_be_new(self, row: SourceRow) -> bool:
        lateness_us = self.view.source.lateness // timedelta(microseconds=1)
        if self.view.source.created_timestamp_column is None:
            return self.read_event_us is None or row.event_us > self.read_event_us - lateness_us
        return (
            row.created_us is None
            or self.read_created_us is None
            or row.created_us > self.read_created_us - lateness_us
            or self.read_event_us is None
            or row.event_us > self.read_event_us
        )

    def _remember(self, rows: Sequence[SourceRow], end_us: int) -> None:
        newest = _greatest([self.read_event_us, *(row.event_us for row in rows)])
        # An end before that of an earlier run leaves rows between the two unread.
        self.read_event_us = None if newest is None else min(end_us, newest)
        self.read_created_us = _greatest([self.read_created_us, *(r.created_us for r in rows)])

    def _offer(self, rows: Sequence[SourceRow]) -> None:
        for key in {row.key for row in rows}:
            offered = max((row for row in rows if row.key == key), key=lambda row: row.rank)
            held = self.stored.get(key)
            if held is None or _version(offered) >= _version(held):
                self.stored[key] = offered
                self.deleted.discard(key)

    def look_up(self, key: Key | None, *, now_us: int) -> OnlineAnswer:
        """Return value and status of every feature of the view at request time."""
        row = None if key is None else self.stored.get(key)
        if row is None or row.key in self.deleted:
            return self._withheld("NOT_FOUND", None)
        ttl_us = self.view.ttl_us
        if ttl_us is not None and row.event_us < now_us - ttl_us:
            grace_us = max(ttl_us, DAY_US) if self.grace_us is None else self.grace_us
            gone = row.event_us < now_us - ttl_us - grace_us
            return self._withheld("OUTSIDE_MAX_AGE", row.event_us, may_be_gone=gone)
        statuses: dict[str, Status] = {
            name: "NULL_VALUE" if value is None else "PRESENT" for name, value in row.values.items()
        }
        return OnlineAnswer(statuses=statuses, values=row.values, event_us=row.event_us)

    def _withheld(
        self, status: Status, event_us: int | None, *, may_be_gone: bool = False
    ) -> OnlineAnswer:
        names = self.view.feature_names
        values = empty_values(self.view) if status == "NOT_FOUND" else {}
        return OnlineAnswer(
            statuses=dict.fromkeys(names, status),
            values=dict.fromkeys(names) | values,
            event_us=event_us,
            may_be_gone=may_be_gone,
        )


def _greatest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _version(row: SourceRow) -> tuple[int, tuple[bool, int]]:
    return (row.event_us, null_lowest(row.created_us))

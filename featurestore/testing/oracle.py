"""The semantics in the plainest Python: every row is looked at for every question.

Nothing here is shared with an engine, a store, or `featurestore.time`; where this module and
another one differ, read SEMANTICS and decide. Rows are those of `featurestore.testing.plain`: what
the files hold, by the columns' names in the files, with exact times. Answers hold instants as
`RawTime`, aware and in whole microseconds.

Between rows of one key the winner is the greatest (event time rounded up, created time rounded up
and null lowest, event time in nanoseconds, created time in nanoseconds, ordinal).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Context, Decimal
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa

from featurestore.definitions import (
    FeatureView,
    FeatureViewSelection,
    FileSource,
    OnDemandSelection,
)
from featurestore.errors import NameCollisionError, RequestError, SourceTimeError, SpineError
from featurestore.testing.local_time import LocalTimeError, instant_ns, round_down, round_up
from featurestore.testing.plain import PlainTable, RawTime, Row
from featurestore.types import can_widen

Mode = Literal["complete", "as_served"]
Status = Literal["PRESENT", "NULL_VALUE", "NOT_FOUND", "OUTSIDE_MAX_AGE"]

Files = Mapping[str, Sequence[Row]]
"""Path of a file -> its rows."""
Key = tuple[object, ...]

DAY_US = 86_400 * 10**6


# Source rows


def instant(us: int) -> RawTime:
    """Return microseconds since the epoch as an instant."""
    return RawTime(us * 1_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """A source row that can be visible: its key and event time are not null."""

    key: Key
    event_us: int
    created_us: int | None
    rank: tuple[object, ...]
    """The total order between rows of one key."""
    values: Row
    """Feature -> value, of the declared type."""


def read_source(view: FeatureView, files: Files) -> list[SourceRow]:
    """Return the rows of a view's source that can ever be visible.

    Raises:
        SourceTimeError: A local time occurs twice or never; it names file, column and row.
    """
    return [row for row in _all_rows(view, files) if row is not None]


def count_never_visible(view: FeatureView, files: Files) -> int:
    """Return how many rows have a null event time or a null in their join key."""
    return sum(row is None for row in _all_rows(view, files))


def _all_rows(view: FeatureView, files: Files) -> Iterator[SourceRow | None]:
    ordinal = 0
    for path in sorted(files, key=str.encode):
        for number, in_file in enumerate(files[path]):
            ordinal += 1
            renamed = {view.source.field_mapping.get(k, k): v for k, v in in_file.items()}
            row = {**renamed, **_folder_values(view, path)}
            yield _source_row(view, row, ordinal, path, number)


def _folder_values(view: FeatureView, path: str) -> Row:
    """Return the columns that a partitioned folder's names give: `airport=JFK/part.parquet`."""
    last = view.source.path.rpartition("/")[2]
    if last.endswith(".parquet"):
        return {}
    dtypes = view.join_keys | {f.name: f.dtype for f in view.fields}
    pairs = [folder.partition("=") for folder in path.split("/")[:-1]]
    texts = {view.source.field_mapping.get(k, k): unquote(v) for k, sep, v in pairs if sep}
    return {k: _from_text(v, dtypes[k]) for k, v in texts.items() if k in dtypes}


def _from_text(text: str, dtype: pa.DataType) -> object:
    if text == "__HIVE_DEFAULT_PARTITION__":
        return None
    if pa.types.is_integer(dtype):
        return int(text)
    return date.fromisoformat(text) if pa.types.is_date(dtype) else text


def _source_row(
    view: FeatureView, row: Row, ordinal: int, path: str, number: int
) -> SourceRow | None:
    source = view.source
    key = key_of(row, view.join_keys, {k: k for k in view.join_keys})
    event = _time_in(source, row, source.timestamp_field, path, number)
    if key is None or event is None:
        return None
    created = None
    if source.created_timestamp_column is not None:
        created = _time_in(source, row, source.created_timestamp_column, path, number)
    event_us, created_us = round_up(event), None if created is None else round_up(created)
    rank = (event_us, _null_lowest(created_us), event, _null_lowest(created), ordinal)
    values = {f.name: _feature_value(view, row, f.name, path, number) for f in view.fields}
    return SourceRow(key=key, event_us=event_us, created_us=created_us, rank=rank, values=values)


def _null_lowest(value: int | None) -> tuple[bool, int]:
    return (value is not None, value or 0)


def _time_in(source: FileSource, row: Row, column: str, path: str, number: int) -> int | None:
    raw = as_raw_time(row[column])
    if raw is None:
        return None
    try:
        return instant_ns(raw, source.timezone, ambiguous=source.ambiguous, missing=source.missing)
    except LocalTimeError as error:
        raise SourceTimeError(
            f"File {path!r}, column {column!r}, row {number}: {error}.",
            source=source.name,
            column=column,
            row=number,
            file=path,
        ) from None


def as_raw_time(value: object) -> RawTime | None:
    """Return what a time column holds; a date is its midnight, without a zone."""
    if isinstance(value, date):
        days = (value - date(1970, 1, 1)).days
        return RawTime(days * DAY_US * 1_000, aware=False)
    assert value is None or isinstance(value, RawTime)
    return value


def _feature_value(view: FeatureView, row: Row, name: str, path: str, number: int) -> object:
    if isinstance(row[name], RawTime):
        ns = _time_in(view.source, row, name, path, number)
        assert ns is not None
        return instant(round_down(ns))
    return widened(row[name], view.field(name).dtype)


def widened(value: object, dtype: pa.DataType) -> object:
    """Return a value as one of the declared type, which can hold it: 5 becomes 5.0 in a float."""
    if isinstance(value, list):
        return [widened(item, dtype.value_type) for item in value]
    if isinstance(value, RawTime):
        return instant(round_down(value.ns))
    if isinstance(value, bool) or value is None:
        return value
    if pa.types.is_floating(dtype):
        assert isinstance(value, int | float)
        return float(value)
    if pa.types.is_decimal(dtype):
        assert isinstance(value, int | Decimal)
        return Decimal(value).quantize(Decimal(1).scaleb(-dtype.scale), context=Context(prec=76))
    return value


def key_of(row: Row, dtypes: Mapping[str, Any], columns: Mapping[str, str]) -> Key | None:
    """Return a row's join key in the declared types, or None when any part of it is null.

    Args:
        row: The row.
        dtypes: Join key -> declared type.
        columns: Join key -> column of the row that has it.
    """
    parts = [_key_part(row[columns[key]], columns[key]) for key in dtypes]
    return None if None in parts else tuple(parts)


def _key_part(value: object, column: str) -> object:
    if isinstance(value, float):
        if math.isnan(value):  # pandas writes null as NaN
            return None
        if not value.is_integer():
            raise SpineError(f"Join key {column!r} holds {value}, which is no whole number.")
        return int(value)
    return value


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
    seen = [row for row in rows if visible(row, key, at_us, view.ttl_us, mode)]
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
        rows = read_source(selection.view, files[selection.view.source.name])
        for answer, spine_row, at_us in zip(result, spine.rows, times, strict=True):
            key = key_of(spine_row, selection.view.join_keys, selection.key_columns)
            found = as_of(selection.view, rows, key, at_us, mode=mode)
            for name in selection.feature_names:
                column = result_name(selection, name, full=full_feature_names)
                answer[column] = None if found is None else found.values[name]
    return result


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
    if mode == "as_served" and view.source.created_timestamp_column is None:
        raise RequestError(
            f"Source {view.source.name!r} has no created_timestamp_column, which as_served needs."
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
    """Feature -> value; None unless its status is PRESENT."""
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

    def materialize(self, files: Files, *, end_us: int, start_us: int | None = None) -> None:
        """Offer the newest row per entity of event times in (start, end].

        Raises:
            RequestError: start is not before end.
        """
        if start_us is not None and start_us >= end_us:
            raise RequestError("start is not before end.")
        rows = [
            row
            for row in read_source(self.view, files)
            if row.event_us <= end_us and (start_us is None or row.event_us > start_us)
        ]
        self._offer(rows)
        if start_us is None:
            self.read_event_us = self.read_created_us = None
            self._remember(rows, end_us)

    def materialize_incremental(self, files: Files, *, end_us: int) -> None:
        """Offer the rows that are new since the last run, as far as times can tell."""
        rows = [
            row
            for row in read_source(self.view, files)
            if row.event_us <= end_us and self._may_be_new(row)
        ]
        self._offer(rows)
        self._remember(rows, end_us)

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

    def look_up(self, key: Key | None, *, now_us: int) -> OnlineAnswer:
        """Return value and status of every feature of the view at request time."""
        row = None if key is None else self.stored.get(key)
        if row is None:
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
        return OnlineAnswer(
            statuses=dict.fromkeys(names, status),
            values=dict.fromkeys(names),
            event_us=event_us,
            may_be_gone=may_be_gone,
        )


def _greatest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _version(row: SourceRow) -> tuple[int, tuple[bool, int]]:
    return (row.event_us, _null_lowest(row.created_us))

"""A source's rows as the oracle reads them: keys and values in declared types, exact times, order.

Nothing here is shared with an engine. Rows are those of `featurestore.testing.plain`; between rows
of one key the greater is the one with the greater (event time rounded up, created time rounded up
and null lowest, event time in nanoseconds, created time in nanoseconds, ordinal).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Context, Decimal
from typing import Any, Literal
from urllib.parse import unquote

import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import SourceTimeError, SpineError
from featurestore.testing.local_time import LocalTimeError, instant_ns, round_down, round_up
from featurestore.testing.oracle_contracts import is_hidden
from featurestore.testing.oracle_joins import Asker, Joined, partner_rows
from featurestore.testing.oracle_transforms import transformed
from featurestore.testing.plain import RawTime, Row
from featurestore.types import String

Mode = Literal["complete", "as_served"]

Files = Mapping[str, Sequence[Row]]
"""Path of a file -> its rows."""
Key = tuple[object, ...]
NOTHING: Joined = {}

DAY_US = 86_400 * 10**6


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
    """Feature -> value, of the declared type; of a view with aggregations column -> value."""
    later: Sequence[int | None] = ()
    """When each later version of the same event was created; see `dedup_keys` of sources."""


def read_source(
    view: FeatureView, files: Files, joined: Joined = NOTHING, *, mode: Mode = "complete"
) -> list[SourceRow]:
    """Return the rows of a view's source that can ever be visible.

    Args:
        view: The view.
        files: Those of its source.
        joined: Those of what its transform joins.
        mode: Whether all joined rows count, or only those written when the row was.

    Raises:
        SourceError: The view's transform has no value for a row.
        SourceTimeError: A local time occurs twice or never; it names file, column and row.
    """
    return [row for row in _all_rows(view, files, joined, mode) if row is not None]


def count_never_visible(view: FeatureView, files: Files, joined: Joined = NOTHING) -> int:
    """Return how many rows have a null event time or a null in their join key."""
    return sum(row is None for row in _all_rows(view, files, joined, "complete"))


def _all_rows(
    view: FeatureView, files: Files, joined: Joined, mode: Mode
) -> Iterator[SourceRow | None]:
    """Yield the rows that the view's transform lets through; None for one never to be visible."""
    ordinal = 0
    later = _later_versions(view, files)
    columns = view.source_columns
    for path in sorted(files, key=str.encode):
        for number, in_file in enumerate(files[path]):
            ordinal += 1
            renamed = {view.source.field_mapping.get(k, k): v for k, v in in_file.items()}
            row = {**renamed, **_folder_values(view, path)}
            times = _times(view, row, path, number)
            given = {c: _with_instants(view, row, c, path, number) for c in columns}
            event_us, created_us = (None if time is None else round_up(time) for time in times)
            asker = Asker({**row, **given}, event_us, created_us, is_served=mode == "as_served")
            partners = partner_rows(view, asker, joined)
            shown = transformed(view.row_transform, view.source.name, asker.row, partners)
            hidden = is_hidden(view.source.contract, asker.row)
            if shown is not None and not hidden and not is_hidden(view.contract, {**row, **shown}):
                found = _source_row(view, row, shown, times, ordinal)
                if found is not None and ordinal in later:
                    found = replace(found, later=later[ordinal])
                yield found


def _later_versions(view: FeatureView, files: Files) -> dict[int, list[int | None]]:
    """Return for each row by its ordinal when each later version of its event was created.

    Every row of the source is looked at beside every other one: neither key nor event time matters,
    nor what the view's transform makes of the row. Only windows are of events.
    """
    names = view.source.dedup_keys or ()
    if not (names and view.aggregations):
        return {}
    versions: list[tuple[list[object], tuple[object, int], int | None]] = []
    for path in sorted(files, key=str.encode):
        for number, in_file in enumerate(files[path]):
            renamed = {view.source.field_mapping.get(k, k): v for k, v in in_file.items()}
            row = {**renamed, **_folder_values(view, path)}
            event = [_told_apart(view, row, name, path, number) for name in names]
            _, created = _times(view, row, path, number)
            versions.append((event, (null_lowest(created), len(versions) + 1), created))
    return {
        rank[1]: [
            None if other is None else round_up(other)
            for rival, other_rank, other in versions
            if None not in event and rival == event and other_rank > rank
        ]
        for event, rank, _ in versions
    }


def _told_apart(view: FeatureView, row: Row, name: str, path: str, number: int) -> object:
    """Return a value that tells events apart; an event time as rows have it, rounded up."""
    if name == view.source.timestamp_field:
        event, _ = _times(view, row, path, number)
        return None if event is None else round_up(event)
    return _with_instants(view, row, name, path, number)


def _folder_values(view: FeatureView, path: str) -> Row:
    """Return the columns that a partitioned folder's names give: `airport=JFK/part.parquet`."""
    last = view.source.path.rpartition("/")[2]
    if last.endswith(".parquet"):
        return {}
    columns = {w.column: w.dtype for w in view.window_features}
    dtypes = view.join_keys | (columns or {f.name: f.dtype for f in view.fields})
    dtypes |= {} if view.row_transform is None else view.row_transform.types
    pairs = [folder.partition("=") for folder in path.split("/")[:-1]]
    texts = {view.source.field_mapping.get(k, k): unquote(v) for k, sep, v in pairs if sep}
    return {k: _from_text(v, dtypes.get(k, String)) for k, v in texts.items()}


def _from_text(text: str, dtype: pa.DataType) -> object:
    if text == "__HIVE_DEFAULT_PARTITION__":
        return None
    if pa.types.is_integer(dtype):
        return int(text)
    return date.fromisoformat(text) if pa.types.is_date(dtype) else text


def _times(view: FeatureView, row: Row, path: str, number: int) -> tuple[int | None, int | None]:
    """Return event and created time in nanoseconds."""
    source = view.source
    event = _time_in(source, row, source.event_field, path, number)
    if source.created_timestamp_column is None:
        return event, None
    return event, _time_in(source, row, source.created_timestamp_column, path, number)


def _source_row(
    view: FeatureView,
    row: Row,
    shown: Row,
    times: tuple[int | None, int | None],
    ordinal: int,
) -> SourceRow | None:
    """Return a row of which `shown` is what the view's transform makes."""
    key = key_of(row, view.join_keys, {k: k for k in view.join_keys})
    event, created = times
    if key is None or event is None:
        return None
    event_us, created_us = round_up(event), None if created is None else round_up(created)
    rank = (event_us, null_lowest(created_us), event, null_lowest(created), ordinal)
    values = _values(view, shown)
    return SourceRow(key=key, event_us=event_us, created_us=created_us, rank=rank, values=values)


def null_lowest(value: int | None) -> tuple[bool, int]:
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


def _values(view: FeatureView, row: Row) -> Row:
    """Return the features; of a view with aggregations the whole row, which predicates may read."""
    if view.aggregations:
        return row
    return {f.name: widened(row[f.name], f.dtype) for f in view.fields}


def _with_instants(view: FeatureView, row: Row, name: str, path: str, number: int) -> object:
    if isinstance(row[name], RawTime):
        ns = _time_in(view.source, row, name, path, number)
        assert ns is not None
        return instant(round_down(ns))
    return row[name]


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

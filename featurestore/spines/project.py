"""The spines of a project: made of events, of a grid, or of what somebody has."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa

from featurestore.errors import NameCollisionError, RequestError, SpineError, shown
from featurestore.naming import duplicate_name
from featurestore.offline.timeline import Ints
from featurestore.spines.context import Context, Events, watched
from featurestore.spines.events import first_events, read_events
from featurestore.spines.grid import (
    as_instants,
    crossed,
    grid_times,
    parse_local,
    parse_step,
)
from featurestore.spines.maturity import instant_text
from featurestore.spines.plain_columns import without_views
from featurestore.spines.spine import Instant, Spine, micros_of
from featurestore.time import MICROSECOND, format_duration, format_instant, parse_duration
from featurestore.training.labels import label_field, label_names, spine_origin
from featurestore.training.spine import FIRST_US, LAST_US, times_us, to_table
from featurestore.training.watch import Progress

MAX_ROWS: Final = 50_000_000
"""How many rows a spine has at most unless the caller allows more."""
TIME: Final = "event_timestamp"


class Spines:
    """Makes spines of one project, as it was registered when this was asked for.

    Args:
        context: The project, and what reads its sources.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def from_events(
        self,
        of: str | Events,
        *,
        keys: Sequence[str] | None = None,
        columns: Sequence[str] = (),
        labels: Sequence[str] = (),
        start: Instant | None = None,
        end: Instant | None = None,
        offset: str | timedelta | None = None,
        timestamp_field: str = TIME,
        max_rows: int = MAX_ROWS,
        progress: Progress | None = None,
    ) -> Spine:
        """Return a row for each event of a view, behind its transform, or of a source.

        Rows are in the order of (event time, file, row). A row without a whole key or an event time
        is no event of anybody, and of an event that came several times (`dedup_keys`) only the last
        version is one.

        Args:
            of: The view or source, or its name; `view/x` or `source/x` where both have one name.
            keys: Key columns of a source, which it needs; those of a view are its own.
            columns: Columns of the rows to carry along, such as request fields. They may be null.
            labels: Columns to carry along that hold answers; they are marked as labels.
            start: Only events with `event_ts > start`; None for all before the end.
            end: Only events with `event_ts <= end`; now when left out, and never later than now.
            offset: How far from its event's time a row's time is: "-1h" asks what was known an
                hour before. `start` and `end` are about the events.
            timestamp_field: What the column of the rows' times is called.
            max_rows: More events are refused.
            progress: See `get_historical_features`.

        Raises:
            SpineError: There are too many events, or an argument cannot be used.
            NameCollisionError: Two columns would have one name.
            NotFoundError: There is no such view or source.
            SourceError: Its files cannot be read, or have no such columns.
        """
        context, found = self._context, self._context.find(of)
        after_us, until_us = micros_of(start, "start"), self._end(end)
        if after_us is not None and after_us >= until_us:
            raise RequestError("The start is not before the end: no event is in between.")
        moved = _offset(offset)
        rows = watched(
            lambda watch: read_events(
                context,
                found,
                keys=keys,
                columns=[*columns, *labels],
                after_us=after_us,
                until_us=until_us,
                max_rows=max_rows,
                watch=watch,
            ),
            progress,
        )
        step = {
            "step": "events",
            "of": found.name,
            "start": instant_text(after_us),
            "end": instant_text(until_us),
            "interval": "(start, end]",
            "offset": None if offset is None else _signed(moved),
            **context.files_of(rows.scan),
            "source_rows": rows.scan.row_count,
        }
        times = _moved(rows.times, moved // MICROSECOND)
        return self._spine(
            rows.keys,
            times,
            step,
            timestamp_field=timestamp_field,
            columns=rows.columns,
            labels=labels,
        )

    def from_grid(
        self,
        of: str | Events | None = None,
        *,
        start: Instant,
        end: Instant,
        every: str,
        timezone: str = "UTC",
        keys: Sequence[str] | None = None,
        entities: object = None,
        before_first_event: bool = False,
        timestamp_field: str = TIME,
        max_rows: int = MAX_ROWS,
        progress: Progress | None = None,
    ) -> Spine:
        """Return a row for each entity at moments of even distance: start, start + every, ... end.

        Rows are in the order of entity and time. Both ends are included. Whole days and months are
        counted on the calendar of the zone, at the start's wall-clock time: every day at midnight
        is 23 or 25 hours apart where the clocks are changed. A wall-clock time that never occurs is
        the moment at which they were put forward, one that occurs twice the earlier.

        Args:
            of: A view or source, or its name, whose keys are the entities, in their order. An
                entity is there from its first event on, that moment included.
            start: The first moment; without an offset it is local in `timezone`.
            end: The last possible moment, alike; never later than now.
            every: Distance: "15m", "1h", "1d", "7d", "1mo".
            timezone: Whose calendar, and whose local times, are meant.
            keys: Key columns of a source, which it needs; those of a view are its own.
            entities: Instead of `of`, a table of keys in any form that a spine may have, or a
                mapping of columns, as in `{"user_id": [1, 2]}`.
            before_first_event: Whether entities are there before their first event, too.
            timestamp_field: What the column of the rows' times is called.
            max_rows: More rows are refused before any is made.
            progress: See `get_historical_features`.

        Raises:
            SpineError: There would be too many rows, or an argument cannot be used.
            NotFoundError, SourceError: See `from_events`.
        """
        first = parse_local(start, timezone, what="start")
        last = min(parse_local(end, timezone, what="end"), self._context.clock.now())
        moments = grid_times(first, last, parse_step(every), timezone)
        if (of is None) == (entities is None):
            raise RequestError(
                "A grid is of the keys of a view or source, or of entities.", hint="give one"
            )
        facts: dict[str, Any] = {}
        if of is None:
            table = _entities(entities)
            begins = np.full(table.num_rows, moments[0], dtype=np.int64)
        else:
            table, begins, facts = self._first_events(of, keys, moments, progress)
            if before_first_event:
                begins = np.full(table.num_rows, moments[0], dtype=np.int64)
        found, times = crossed(table, begins, moments, max_rows=max_rows)
        step = {
            "step": "grid",
            **facts,
            "start": format_instant(first),
            "end": format_instant(last),
            "interval": "[start, end]",
            "every": every,
            "timezone": timezone,
            "before_first_event": before_first_event,
            "entities": table.num_rows,
        }
        return self._spine(found, times, step, timestamp_field=timestamp_field)

    def from_table(
        self,
        entity_df: object,
        *,
        keys: Sequence[str] | None = None,
        labels: Sequence[str] = (),
        timestamp_field: str | None = None,
        timezone: str = "UTC",
    ) -> Spine:
        """Return the rows that somebody has as a spine, to be sampled, labelled and described.

        Args:
            entity_df: What `get_historical_features` takes, but SQL. What `Spine.write_parquet`
                wrote, given as a `Path`, keeps its labels and its origin.
            keys: Key columns; needed unless the table says which these are.
            labels: Columns that hold answers, besides those that are marked already.
            timestamp_field: The time column; event_timestamp unless the table says otherwise.
            timezone: Zone in which naive times are read. The column becomes `timestamp[us, UTC]`;
                of the others values and types stay, but that views become large texts and bytes.

        Raises:
            SpineError: It is no such table, or a column is missing.
        """
        table = without_views(to_table(entity_df, timestamp_field=timestamp_field or TIME))
        origin = spine_origin(table.schema) or {}
        time = timestamp_field or str(origin.get("timestamp_field", TIME))
        if (twice := duplicate_name(table.column_names)) is not None:
            raise NameCollisionError(f"The spine has two columns {shown(twice[1])}.", names=twice)
        times = times_us(table, time, timezone)
        position = table.column_names.index(time)
        table = table.set_column(position, time, times.view(pa.timestamp("us", "UTC")))
        named = _texts(origin.get("keys") if keys is None else keys)
        steps = origin.get("steps")
        if named is None:
            raise SpineError(
                "The table does not say which of its columns are keys.",
                hint="name them: from_table(rows, keys=['customer_id'])",
            )
        spine = Spine(
            table=_marked(table, labels),
            keys=named,
            timestamp_field=time,
            steps=_steps(steps) or ({"step": "table", "rows": table.num_rows},),
            context=self._context,
        )
        spine.check_columns([*spine.keys, *labels])
        return spine

    def _first_events(
        self, of: str | Events, keys: Sequence[str] | None, moments: Ints, progress: Progress | None
    ) -> tuple[pa.Table, Ints, dict[str, Any]]:
        found = self._context.find(of)
        until_us = min(int(moments[-1]), self._context.clock.now_micros())
        table, firsts, scan = watched(
            lambda watch: first_events(
                self._context, found, keys=keys, until_us=until_us, watch=watch
            ),
            progress,
        )
        return table, firsts, {"of": found.name, **self._context.files_of(scan)}

    def _end(self, end: Instant | None) -> int:
        now_us = self._context.clock.now_micros()
        given = micros_of(end, "end")
        return now_us if given is None else min(given, now_us)

    def _spine(
        self,
        keys: pa.Table,
        times: Ints,
        step: Mapping[str, Any],
        *,
        timestamp_field: str,
        columns: pa.Table | None = None,
        labels: Sequence[str] = (),
    ) -> Spine:
        parts = {name: keys[name] for name in keys.column_names}
        carried = columns.column_names if columns is not None else []
        names = [*keys.column_names, timestamp_field, *carried]
        if (taken := duplicate_name(names)) is not None:
            raise NameCollisionError(
                f"The spine would have two columns {shown(taken[1])}.",
                names=taken,
                hint="leave it out of the columns, or name the time's with timestamp_field",
            )
        parts[timestamp_field] = as_instants(times)
        parts |= {name: columns[name] for name in carried} if columns is not None else {}
        table = pa.table(parts)
        return Spine(
            table=_marked(table, labels),
            keys=tuple(keys.column_names),
            timestamp_field=timestamp_field,
            steps=({**step, "rows": table.num_rows},),
            context=self._context,
        )


def _marked(table: pa.Table, labels: Sequence[str]) -> pa.Table:
    """Return a table with some columns marked as labels."""
    names = {*labels, *label_names(table.schema)}
    fields = [label_field(field) if field.name in names else field for field in table.schema]
    return pa.table(table.columns, schema=pa.schema(fields))


def _entities(entities: object) -> pa.Table:
    if isinstance(entities, Mapping):
        try:
            return pa.table(dict(entities))
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise SpineError(f"The entities are no table: {str(error)[:200]}.") from None
    return without_views(to_table(entities, timestamp_field="")).replace_schema_metadata(None)


def _texts(names: object) -> tuple[str, ...] | None:
    """Return names if that is what they are: a file may say anything."""
    if not isinstance(names, Sequence) or isinstance(names, str):
        return None
    return tuple(map(str, names))


def _steps(steps: object) -> tuple[Mapping[str, Any], ...]:
    if not isinstance(steps, list):
        return ()
    return tuple(step for step in steps if isinstance(step, Mapping))


def _offset(offset: str | timedelta | None) -> timedelta:
    if offset is None:
        return timedelta(0)
    if isinstance(offset, timedelta):
        return offset
    try:
        length = parse_duration(offset.strip().removeprefix("-").removeprefix("+"))
    except (ValueError, AttributeError):
        raise SpineError(f"offset={offset!r:.60} is no duration such as '-1h' or '30m'.") from None
    return -length if offset.strip().startswith("-") else length


def _signed(duration: timedelta) -> str:
    sign = "-" if duration < timedelta(0) else ""
    return sign + format_duration(abs(duration))


def _moved(times: Ints, by_us: int) -> Ints:
    """Return times moved by an offset; what would be beyond all times is the last of them."""
    if by_us >= 0:
        return np.where(times > LAST_US - by_us, LAST_US, times + by_us)
    return np.where(times < FIRST_US - by_us, FIRST_US, times + by_us)

"""Moments at even distances, by the clock on the wall where that is meant."""

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa

from featurestore.errors import SpineError
from featurestore.offline.instants import DAY_US, SpanTable
from featurestore.offline.timeline import Ints
from featurestore.time import (
    EPOCH,
    MICROSECOND,
    as_utc,
    from_micros,
    local_spans,
    parse_duration,
    to_micros,
    zone,
)

MAX_POINTS: Final = 1_000_000
ROWS_AT_ONCE: Final = 1_000_000
_MONTHS: Final = re.compile(r"(\d{1,4})mo")


@dataclass(frozen=True, slots=True)
class Step:
    """The distance of a grid's moments: months, or microseconds."""

    months: int
    micros: int

    @property
    def is_calendar(self) -> bool:
        """Whether it counts days or months of a calendar, which need not be 24 hours."""
        return bool(self.months) or self.micros % DAY_US == 0


def parse_step(every: str) -> Step:
    """Return the distance that is written as "15m", "1h", "1d", "7d" or "1mo".

    Raises:
        SpineError: It is none, or zero.
    """
    match = _MONTHS.fullmatch(every.strip())
    try:
        micros = 0 if match else parse_duration(every) // MICROSECOND
    except ValueError:
        micros = 0
    step = Step(int(match[1]) if match else 0, micros)
    if not step.months and not step.micros:
        raise SpineError(f"every={every!r:.60} is no distance such as '1h', '1d', '7d' or '1mo'.")
    return step


def parse_local(instant: datetime | str, timezone: str, *, what: str) -> datetime:
    """Return an instant in a zone; one without an offset is read as the zone's.

    Raises:
        SpineError: It is no instant, or there is no such zone.
    """
    try:
        local = zone(timezone)
        given = datetime.fromisoformat(instant) if isinstance(instant, str) else instant
        return (given if given.tzinfo else given.replace(tzinfo=local)).astimezone(local)
    except (ValueError, TypeError, OverflowError):
        raise SpineError(
            f"{what}={str(instant)!r:.60} in timezone {timezone!r:.60} is no instant.",
            hint="write '2026-01-31', '2026-01-31T12:00:00Z', and a zone such as"
            " 'America/New_York'",
        ) from None


def grid_times(start: datetime, end: datetime, step: Step, timezone: str) -> Ints:
    """Return the moments from `start` at even distances until `end`, both included.

    Steps of whole days and months are counted on the zone's calendar, at the wall-clock time of the
    start; shorter ones are counted as time passes. A wall-clock time that never occurs is the
    moment at which the clocks were put forward, one that occurs twice is the earlier; a day that a
    month does not have is its last.

    Returns:
        Rising int64 microseconds of UTC.

    Raises:
        SpineError: The end is before the start, or there are more than `MAX_POINTS` moments.
    """
    first, last = to_micros(start), to_micros(end)
    if last < first:
        raise SpineError("The grid's end, or now, is before its start.")
    size = step.micros or step.months * 28 * DAY_US
    if (last - first) // size >= MAX_POINTS:
        raise SpineError(
            f"The grid has more than {MAX_POINTS:,} moments.",
            hint="choose a greater distance or a shorter time",
        )
    if not step.is_calendar:
        return np.arange(first, last + 1, step.micros, dtype=np.int64)
    local = _local_times(start, step, (last - first) // size + 2)
    moments = _from_local(local, timezone)
    moments[0] = first
    return moments[moments <= last]


def _local_times(start: datetime, step: Step, count: int) -> Ints:
    """Return wall-clock times in microseconds, as if they were UTC."""
    naive = start.replace(tzinfo=UTC)
    if not step.months:
        days = (datetime.max.replace(tzinfo=UTC) - naive) // (step.micros * MICROSECOND)
        return to_micros(naive) + np.arange(min(count, days + 1), dtype=np.int64) * step.micros
    return np.array([to_micros(moment) for moment in _months(naive, step.months, count)], np.int64)


def _months(start: datetime, months: int, count: int) -> Iterator[datetime]:
    for number in range(count):
        year, month = divmod(start.year * 12 + start.month - 1 + number * months, 12)
        if year > MAXYEAR:
            return
        day = min(start.day, calendar.monthrange(year, month + 1)[1])
        yield start.replace(year=year, month=month + 1, day=day)


def _from_local(local: Ints, timezone: str) -> Ints:
    years = range(from_micros(int(local[0])).year, from_micros(int(local[-1])).year + 1)
    table = SpanTable.of(local_spans(timezone, years))
    span = table.index(local)
    return np.where(table.never[span], table.resumes[span], local - table.offsets[span])


def crossed(keys: pa.Table, firsts: Ints, moments: Ints, *, max_rows: int) -> tuple[pa.Table, Ints]:
    """Return every key at every moment that is not before its first.

    Args:
        keys: n keys.
        firsts: n int64 microseconds: from when on each key is there.
        moments: Rising int64 microseconds.
        max_rows: More are refused.

    Returns:
        The keys and the moments of all rows: key by key, and for each its moments as they rise.

    Raises:
        SpineError: There would be more than `max_rows` rows.
    """
    begins = np.searchsorted(moments, firsts, "left")
    counts = len(moments) - begins
    total = int(counts.sum())
    if total > max_rows:
        raise SpineError(
            f"The grid has {total:,} rows: {keys.num_rows:,} entities at {len(moments):,} moments;"
            f" at most {max_rows:,} are allowed.",
            hint="choose a greater distance or a shorter time, fewer entities, or raise max_rows",
        )
    # In parts: the positions that a row is put together from take more memory than the row.
    parts, times = [keys.slice(0, 0)], np.empty(total, dtype=np.int64)
    ends = np.cumsum(counts)
    low = 0
    while low < keys.num_rows:
        done = int(ends[low] - counts[low])
        high = max(low + 1, int(np.searchsorted(ends, done + ROWS_AT_ONCE, "right")))
        some = np.repeat(np.arange(low, high), counts[low:high])
        place = np.arange(done, done + len(some)) - (ends - counts)[some]
        times[done : done + len(some)] = moments[begins[some] + place]
        parts.append(keys.take(pa.array(some)))
        low = high
    return pa.concat_tables(parts), times


def as_instants(times: Ints) -> pa.Array:
    """Return microseconds as `timestamp[us, UTC]`."""
    return pa.array(times).view(pa.timestamp("us", "UTC"))


def instant_us(instant: datetime) -> int:
    """Return an instant in microseconds; a naive one is read as UTC."""
    return (as_utc(instant) - EPOCH) // MICROSECOND

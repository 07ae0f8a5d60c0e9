"""Instants, durations and the one clock.

Inside the system an instant is a number of microseconds since 1970-01-01T00:00:00Z, in Python as
an aware `datetime` in UTC, in Arrow as `timestamp[us, UTC]`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final, Literal, NewType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from featurestore.errors import RequestError

Micros = NewType("Micros", int)
"""Microseconds since the epoch."""

Ambiguous = Literal["error", "earliest", "latest"]
Missing = Literal["error", "forward"]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
_UNITS: Final = {"us": 1, "ms": 1_000, "s": 10**6, "m": 60 * 10**6, "h": 3_600 * 10**6}
_UNITS["d"] = 24 * _UNITS["h"]
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_LOCAL_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - local times are counted from it too
_DURATION: Final = re.compile(r"(\d{1,15})(us|ms|s|m|h|d)")


def to_micros(instant: datetime) -> Micros:
    """Return an aware datetime as microseconds since the epoch, exactly."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant.isoformat()} has no time zone")
    return Micros((instant - EPOCH) // MICROSECOND)


def from_micros(micros: int) -> datetime:
    """Return microseconds since the epoch as a datetime in UTC.

    Raises:
        OverflowError: Outside the years 1 to 9999.
    """
    return EPOCH + timedelta(microseconds=micros)


def as_utc(instant: datetime) -> datetime:
    """Return `instant` in UTC; a naive one is read as UTC."""
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def parse_instant(text: str) -> datetime:
    """Return an RFC 3339 instant (`2013-11-30T12:00:00Z`); without an offset it is UTC.

    Raises:
        ValueError: It is not one.
    """
    try:
        return as_utc(datetime.fromisoformat(text.strip()))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:60]!r} is not an RFC 3339 instant such as '2026-01-31T12:00:00Z'"
        ) from None


def given_instant(instant: datetime | str) -> datetime:
    """Return an instant that a user gave: an aware datetime, a naive one in UTC, or RFC 3339 text.

    Raises:
        RequestError: It is none.
    """
    try:
        return parse_instant(instant) if isinstance(instant, str) else as_utc(instant)
    except ValueError as error:
        raise RequestError(f"{error}.") from None
    except (AttributeError, TypeError, OverflowError):
        raise RequestError(
            f"{instant!r} is not an instant.", hint="pass a datetime or RFC 3339 text"
        ) from None


def given_micros(instant: datetime | str | None) -> Micros | None:
    """Return the same in microseconds since the epoch, and None for None; raises like it."""
    return None if instant is None else to_micros(given_instant(instant))


def format_instant(instant: datetime) -> str:
    """Return an instant as RFC 3339 in UTC, as short as it can be: `2013-11-30T12:00:00Z`."""
    return as_utc(instant).isoformat().replace("+00:00", "Z")


def instant_text(ticks: int, unit: str, *, aware: bool) -> str:
    """Return a time of any unit, without losing any of it, as RFC 3339.

    Args:
        ticks: Units since 1970.
        unit: "s", "ms", "us" or "ns".
        aware: Whether it is in UTC; otherwise it has no zone, and none is written.
    """
    per_second = _PER_SECOND[unit]
    seconds, rest = divmod(ticks, per_second)
    try:
        text = (_LOCAL_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return f"{ticks} {unit} since 1970"
    digits = len(str(per_second)) - 1
    fraction = f".{rest:0{digits}}".rstrip("0") if rest else ""
    return f"{text}{fraction}{'Z' if aware else ''}"


def parse_duration(text: str) -> timedelta:
    """Return `90s`, `5m`, `1h`, `7d`, `250ms` or `10us` as a duration; a day is 24 hours.

    Raises:
        ValueError: It is not one.
    """
    match = _DURATION.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text[:40]!r} is not a duration such as '90s', '5m', '1h' or '7d'")
    try:
        return timedelta(microseconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is longer than 999,999,999 days") from None


def format_duration(duration: timedelta) -> str:
    """Return a duration in its largest whole unit: `7d`, `36h`, `90s`."""
    micros = duration // MICROSECOND
    unit = next(u for u in reversed(_UNITS) if micros % _UNITS[u] == 0)
    return f"{micros // _UNITS[unit]}{unit}"


@dataclass(frozen=True)
class Clock:
    """What time it is: the system's clock, or one instant that stands still."""

    fixed: datetime | None = None

    def now(self) -> datetime:
        """Return the time in UTC."""
        return self.fixed or datetime.now(UTC)

    def now_micros(self) -> Micros:
        """Return the time in microseconds since the epoch."""
        return to_micros(self.now())

    @property
    def is_system(self) -> bool:
        """Whether this is the system's own clock."""
        return self.fixed is None

    def __str__(self) -> str:
        return format_instant(self.fixed) if self.fixed else "system"


SYSTEM_CLOCK: Final = Clock()


def parse_clock(text: str) -> Clock:
    """Return the clock that `system` or an RFC 3339 instant names.

    Raises:
        ValueError: It is neither.
    """
    return SYSTEM_CLOCK if text.strip() == "system" else Clock(parse_instant(text))


def zone(name: str) -> ZoneInfo:
    """Return the IANA time zone of that name.

    Raises:
        ValueError: There is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name[:80]!r} is not an IANA time zone such as 'America/New_York'"
        ) from None


@dataclass(frozen=True, slots=True)
class LocalSpan:
    """A stretch of local wall-clock time and how it maps to UTC.

    `start` is inclusive and in microseconds of local time (as if it were UTC); the span ends where
    the next begins. `utc = local - offset` in a plain span. In a span of kind "twice", `offset` is
    that of the earlier instant and `later_offset` that of the later. In a span of kind "never",
    every local time means the instant `resume` at which the clocks were put forward.
    """

    start: int
    kind: Literal["plain", "twice", "never"]
    offset: int
    later_offset: int = 0
    resume: int = 0

    def later(self) -> "LocalSpan":
        """Return a span of kind "twice" with the later instants as its own."""
        return replace(self, offset=self.later_offset)


def local_year(micros: int) -> int:
    """Return the year of an instant in microseconds, for `local_spans`; 2 to 9998 at the ends."""
    bounds = (to_micros(datetime(2, 1, 1, tzinfo=UTC)), to_micros(datetime(9998, 1, 1, tzinfo=UTC)))
    return from_micros(min(max(micros, bounds[0]), bounds[1])).year


def local_spans(name: str, years: Iterable[int]) -> tuple[LocalSpan, ...]:
    """Return the spans of zone `name` that cover the local times of these years, in order.

    The spans of a year begin and end a few days outside it. Times of other years may be in a span
    that does not fit them: a time in 9999 must not make anybody look at the years before it.
    """
    wanted = {min(max(near, 2), 9998) for year in years for near in (year - 1, year, year + 1)}
    spans: list[LocalSpan] = []
    previous = None
    for year in sorted(wanted):
        if year - 1 != previous:
            offset = _offset(zone(name), datetime(year, 1, 1, tzinfo=UTC))
            start = to_micros(datetime(year, 1, 1, tzinfo=UTC)) + offset if spans else -(2**63)
            spans.append(LocalSpan(start, "plain", offset))
        spans += _spans_of_year(name, year)
        previous = year
    return tuple(spans)


@lru_cache(maxsize=4_096)
def _spans_of_year(name: str, year: int) -> tuple[LocalSpan, ...]:
    """Return the spans that begin with the changes of a year of UTC."""
    tz = zone(name)
    start, end = datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
    spans = []
    for at in _transitions(tz, start, end):
        before, after = _offset(tz, at - MICROSECOND), _offset(tz, at)
        utc = to_micros(at)
        if after > before:
            spans.append(LocalSpan(utc + before, "never", before, resume=utc))
            spans.append(LocalSpan(utc + after, "plain", after))
        else:
            spans.append(LocalSpan(utc + after, "twice", before, later_offset=after))
            spans.append(LocalSpan(utc + before, "plain", after))
    return tuple(spans)


def _offset(tz: ZoneInfo, instant: datetime) -> int:
    return (instant.astimezone(tz).utcoffset() or timedelta()) // MICROSECOND


def _transitions(tz: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Return the instants at which the zone's offset changes, by halving days that differ."""
    found = []
    day = timedelta(days=1)
    at = start
    while at < end:
        if _offset(tz, at) != _offset(tz, at + day):
            found.append(_change_between(tz, at, at + day))
        at += day
    return found


def _change_between(tz: ZoneInfo, low: datetime, high: datetime) -> datetime:
    before = _offset(tz, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if _offset(tz, middle) == before:
            low = middle
        else:
            high = middle
    return high

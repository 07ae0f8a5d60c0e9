"""What a raw time means: the oracle's own conversion of local times, and its own rounding."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from featurestore.testing.plain import RawTime


class LocalTimeError(ValueError):
    """A local time that occurs twice or never, and nobody said what to do with it."""


@lru_cache(maxsize=4_096)
def instant_ns(raw: RawTime, zone: str, *, ambiguous: str = "error", missing: str = "error") -> int:
    """Return the instant that a raw time means, in nanoseconds since the epoch.

    Args:
        raw: The time.
        zone: Zone in which a naive time is read.
        ambiguous: "error", "earliest" or "latest", for a local time that occurs twice.
        missing: "error" or "forward", for a local time that never occurs.

    Raises:
        LocalTimeError: It occurs twice or never, and the policy is "error".
    """
    if raw.aware or zone == "UTC":
        return raw.ns
    micros, below_micro = divmod(raw.ns, 1_000)
    wall = datetime(1970, 1, 1) + timedelta(microseconds=micros)  # noqa: DTZ001 - a wall clock
    readings = sorted({_read(wall, fold, ZoneInfo(zone)) for fold in (0, 1)})
    true = [r for r in readings if r.astimezone(ZoneInfo(zone)).replace(tzinfo=None) == wall]
    if not true:
        if missing == "error":
            raise LocalTimeError(f"{wall} never occurs in {zone}")
        return _micros(_change_after(readings[0], readings[1], ZoneInfo(zone))) * 1_000
    if len(true) == 2 and ambiguous == "error":
        raise LocalTimeError(f"{wall} occurs twice in {zone}")
    return _micros(true[-1] if ambiguous == "latest" else true[0]) * 1_000 + below_micro


def _read(wall: datetime, fold: int, zone: ZoneInfo) -> datetime:
    return wall.replace(tzinfo=zone, fold=fold).astimezone(UTC)


def _change_after(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """Return the first second after `low` at which the zone has another offset."""
    before = low.astimezone(zone).utcoffset()
    at = low.replace(microsecond=0)
    while at.astimezone(zone).utcoffset() == before:
        at += timedelta(seconds=1)
        assert at <= high
    return at


def _micros(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def round_up(ns: int) -> int:
    """Return nanoseconds as microseconds, never earlier: for event and created times."""
    return -(-ns // 1_000)


def round_down(ns: int) -> int:
    """Return nanoseconds as microseconds, never later: for a spine's times and feature values."""
    return ns // 1_000

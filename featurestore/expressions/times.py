"""Kernels on times: microseconds since the epoch, in UTC, as int64."""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np

from featurestore.expressions.casts import DAY_US
from featurestore.expressions.vectors import Array

Kernel: TypeAlias = Callable[..., Array]

_UNITS: Final = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": DAY_US,
}
_CYCLES: Final = {"second": 60, "minute": 60, "hour": 24}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_MONDAY: Final = 3  # days from Monday 1969-12-29 to the epoch
_EPOCH_MONTH: Final = 1970 * 12


def _days(us: Array) -> Array:
    return np.floor_divide(us, DAY_US)


def _month_numbers(us: Array) -> Array:
    """Return months since the beginning of the year 0."""
    months = _days(us).astype("datetime64[D]").astype("datetime64[M]")
    return np.asarray(months.astype(np.int64) + _EPOCH_MONTH)


def _month_starts(months: Array) -> Array:
    """Return the day on which each month begins."""
    starts = (months - _EPOCH_MONTH).astype("datetime64[M]").astype("datetime64[D]")
    return np.asarray(starts.astype(np.int64))


def _year_start(us: Array) -> Array:
    return _month_starts(np.floor_divide(_month_numbers(us), 12) * 12)


def _day_of_month(us: Array) -> Array:
    return np.asarray(_days(us) - _month_starts(_month_numbers(us)) + 1)


def _iso_week(us: Array) -> Array:
    """Return the week of ISO 8601: the year's first is the one with its first Thursday."""
    days = _days(us)
    thursday = days - np.mod(days + _MONDAY, 7) + 3
    return np.asarray((thursday - _year_start(thursday * DAY_US)) // 7 + 1)


def _cycle(part: str) -> Kernel:
    unit, size = _UNITS[part], _CYCLES[part]
    return lambda us: np.mod(np.floor_divide(us, unit), size)


def _in_minute(part: str) -> Kernel:
    unit = _UNITS[part]
    return lambda us: np.mod(us, 60_000_000) // unit


_PARTS: Final[dict[str, Kernel]] = {
    "year": lambda us: np.floor_divide(_month_numbers(us), 12),
    "quarter": lambda us: np.mod(_month_numbers(us), 12) // 3 + 1,
    "month": lambda us: np.mod(_month_numbers(us), 12) + 1,
    "week": _iso_week,
    "day": _day_of_month,
    "dayofyear": lambda us: _days(us) - _year_start(us) + 1,
    "dayofweek": lambda us: np.mod(_days(us) + _MONDAY + 1, 7),
    "isodow": lambda us: np.mod(_days(us) + _MONDAY, 7) + 1,
    "hour": _cycle("hour"),
    "minute": _cycle("minute"),
    "second": _cycle("second"),
    "millisecond": _in_minute("millisecond"),
    "microsecond": _in_minute("microsecond"),
}


def part_kernel(part: str) -> Kernel:
    """Return the kernel that takes a part of times, as int64."""
    return _PARTS[part]


def _number(part: str) -> Kernel:
    """Return the kernel that counts whole parts since some beginning."""
    if part in _MONTHS:
        return lambda us: np.floor_divide(_month_numbers(us), _MONTHS[part])
    if part == "week":
        return lambda us: np.floor_divide(_days(us) + _MONDAY, 7)
    return lambda us: np.floor_divide(us, _UNITS[part])


def difference_kernel(part: str) -> Kernel:
    """Return the kernel that counts the boundaries of a part from one time to another."""
    number = _number(part)
    return lambda start, end: number(end) - number(start)


def truncation_kernel(part: str) -> Kernel:
    """Return the kernel that cuts times down to the beginning of a part."""
    number = _number(part)
    if part in _MONTHS:
        return lambda us: _month_starts(number(us) * _MONTHS[part]) * DAY_US
    if part == "week":
        return lambda us: (number(us) * 7 - _MONDAY) * DAY_US
    return lambda us: number(us) * _UNITS[part]


def _milliseconds(us: Array) -> Array:
    """Return the nearest milliseconds, halves away from zero, as DuckDB has them."""
    return np.asarray((np.abs(us) + 500) // 1_000 * np.sign(us))


EPOCHS: Final[dict[str, Kernel]] = {
    "epoch": lambda us: us / 1e6,
    "epoch_ms": _milliseconds,
    "epoch_us": lambda us: us,
}

"""Calls of a few microseconds to milliseconds, timed one by one. Needs nothing but Python."""

from __future__ import annotations

import time
from itertools import cycle
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WARM_CALLS = 100
Asked = TypeVar("Asked")


def timed(
    call: Callable[[Asked], Any], requests: Sequence[Asked], seconds: float
) -> dict[str, Any]:
    """Make calls for so long, each with the next of the requests: median and p99, in ms."""
    coming = cycle(requests)
    for _ in range(WARM_CALLS):
        call(next(coming))
    took: list[float] = []
    end = time.perf_counter() + seconds
    started = 0.0
    while started < end:
        asked = next(coming)
        started = time.perf_counter()
        call(asked)
        took.append(time.perf_counter() - started)
    took.sort()
    return {
        "calls": len(took),
        "median_ms": took[len(took) // 2] * 1e3,
        "p99_ms": took[len(took) * 99 // 100] * 1e3,
    }


def wrong_value(found: dict[str, list[Any]], expected: dict[str, list[Any]]) -> str | None:
    """Say which column of an answer is not what the data says; None if all are."""
    for name, wanted in expected.items():
        if found.get(name) != wanted:
            return f"{name}: the answer is {str(found.get(name))[:99]}, not {str(wanted)[:99]}"
    return None

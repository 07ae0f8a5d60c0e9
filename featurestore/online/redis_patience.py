"""Waiting for a primary that takes writes: a failover takes seconds, and says so by errors."""

import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from featurestore.errors import StoreUnavailableError

T = TypeVar("T")

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 1.0


def pauses() -> Iterator[float]:
    """Yield for how long to wait before each further attempt, in seconds: ever longer."""
    pause = _FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def patiently(call: Callable[[], T], *, wait_s: float, before_another: Callable[[], None]) -> T:
    """Return what a call returns, trying again while the store is unavailable.

    Args:
        call: What may be done several times.
        wait_s: How long to go on trying.
        before_another: Called before each further attempt.

    Raises:
        StoreUnavailableError: The last attempt's.
    """
    give_up = time.monotonic() + wait_s
    for pause in pauses():
        try:
            return call()
        except StoreUnavailableError:
            if time.monotonic() + pause > give_up:
                raise
        time.sleep(pause)
        before_another()
    raise AssertionError  # pauses never end

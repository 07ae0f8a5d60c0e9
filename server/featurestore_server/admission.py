"""Whether a call that comes now is worth taking, or is better refused at once.

A server that takes more calls than it can answer answers all of them too late: the queue grows
until every caller has given up by the time its turn comes. Here calls are held back when those
before them would make them wait longer than a target, and have done so for a while: a burst that
the server catches up with is no overload (CoDel, RFC 8289, has the same two numbers).

A refusal that says why, and when to try again, is not free: it costs a fifth of a small lookup, so
that a server that refused all it could would do little else at five times its capacity. A share of
the time goes into refusals; what is too much beyond that is not taken from gRPC, which ends calls
for a quarter of the cost when many come in one read, without a word.
"""

import time
from collections.abc import Callable
from typing import Final

TARGET_S: Final = 0.020
"""How long calls may wait."""
PATIENCE_S: Final = 0.100
"""How long they may wait longer than that until there is an overload."""
RELIEF: Final = 4
"""The overload is over when for as long they wait this many times less than the target."""
UNBOUNDED: Final = 1 << 30

REFUSAL_S: Final = 60e-6
"""What a refusal costs; measured."""
REFUSING_SHARE: Final = 0.2
"""Of the time that answers take, what may go into refusals besides."""
_MAX_CREDIT: Final = 64.0
_WEIGHT: Final = 0.1  # of the newest answer in the average


class Admission:
    """Watches how long answers take and calls wait. For one thread at a time.

    Args:
        target_s: How long a call may wait, in seconds; 0 for as long as it likes.
        now: The clock, in seconds.
    """

    def __init__(
        self, target_s: float = TARGET_S, *, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._target_s = target_s
        self._now = now
        self._per_call_s = 0.0
        self._credit = _MAX_CREDIT
        self._is_overloaded = False
        self._changing_since: float | None = None

    def answered(self, calls: int, seconds: float, *, at_once: int = 1) -> None:
        """Take note of calls that were answered together.

        Args:
            calls: How many they were.
            seconds: How long it took.
            at_once: How many threads did the same meanwhile.
        """
        per_call_s = seconds / calls / at_once
        self._per_call_s += _WEIGHT * (per_call_s - self._per_call_s)
        paid_for = REFUSING_SHARE * calls * per_call_s / REFUSAL_S
        self._credit = min(_MAX_CREDIT, self._credit + paid_for)

    def room(self, waiting: int) -> int:
        """Return how many more calls to take: any number, unless there is an overload.

        Those that may wait, and those that can be refused.

        Args:
            waiting: How many wait now.

        Returns:
            At least 1 when none waits.
        """
        if not self._overloaded(waiting):
            return UNBOUNDED
        most = max(1, int(self._target_s / self._per_call_s))
        return max(0, most - waiting) + int(self._credit)

    def refuses(self, waiting: int) -> bool:
        """Whether to refuse a call that comes now; it is counted as refused.

        Args:
            waiting: How many wait before it.
        """
        if self._credit < 1 or not self._overloaded(waiting):
            return False
        if waiting * self._per_call_s < self._target_s:
            return False
        self._credit -= 1
        return True

    def _overloaded(self, waiting: int) -> bool:
        if not self._target_s:
            return False
        wait_s, now = waiting * self._per_call_s, self._now()
        is_long = wait_s >= self._target_s / (RELIEF if self._is_overloaded else 1)
        if is_long == self._is_overloaded:
            self._changing_since = None
        elif self._changing_since is None:
            self._changing_since = now
        elif now - self._changing_since >= PATIENCE_S:
            self._is_overloaded, self._changing_since = is_long, None
        return self._is_overloaded

"""How many calls a client sends to a server that refuses most of them. Pure, and without a lock."""

import random
import time
from collections.abc import Callable
from typing import Final

FACTOR: Final = 1.5
"""How many calls are sent for each that a server takes."""
PATIENCE: Final = 5.0
"""How many refusals there may be besides: a few are no overload."""
HALF_LIFE_S: Final = 1.0
"""After so long, what was counted counts half."""


class LoadThrottle:
    """Keeps back calls that an overloaded server would only refuse.

    A refusal costs a server a good part of what an answer costs. Asked for five times what it can
    do, it spends most of its time on saying no, and fewer callers get an answer than could. So
    each client keeps a call back with the probability

        max(0, (asked - FACTOR * taken - PATIENCE) / (asked + 1))

    where `asked` are the calls of late that ended or were kept back, and `taken` those that the
    server did not refuse; calls under way count as neither, so that a burst is no overload. What is
    sent is then FACTOR times what it takes, whatever is asked for, and grows by as much in each
    half-life once it takes more. ("Client-side throttling", Beyer and others, Site Reliability
    Engineering, 2016, chapter 21.)

    Each connection has its own: a server that refuses everything whatever it is sent, for the sake
    of others, would stop a client whose other servers are idle.

    Threads may race: one call more or less decides nothing.

    Args:
        now: The clock, in seconds.
        chance: Random numbers in [0, 1).
    """

    __slots__ = ("_asked", "_chance", "_now", "_since", "_taken")

    def __init__(
        self,
        *,
        now: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._now = now
        self._chance = chance
        self._since = now()
        self._asked = 0.0
        self._taken = 0.0

    def admits(self) -> bool:
        """Return whether to send a call; count it if not."""
        self._age()
        surplus = self._asked - FACTOR * self._taken - PATIENCE
        if surplus <= 0 or self._chance() * (self._asked + 1) >= surplus:
            return True
        self._asked += 1
        return False

    def taken(self) -> None:
        """Count a call that ended, and not because a server has too many."""
        self._asked += 1
        self._taken += 1

    def refused(self) -> None:
        """Count a call that a server did not take."""
        self._asked += 1

    def _age(self) -> None:
        half_lives = (self._now() - self._since) // HALF_LIFE_S
        if half_lives < 1:
            return
        kept: float = 0.5**half_lives
        self._asked *= kept
        self._taken *= kept
        self._since += half_lives * HALF_LIFE_S

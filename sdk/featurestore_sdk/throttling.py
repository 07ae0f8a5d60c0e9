"""How many calls a client sends to servers that refuse most of them. Pure, and without a lock."""

import random
import time
from collections.abc import Callable
from typing import Final

FACTOR: Final = 1.5
"""How many calls are sent for each that servers take."""
PATIENCE: Final = 10.0
"""How many refusals there may be besides: a few are no overload."""
HALF_LIFE_S: Final = 1.0
"""After so long, what was counted counts half."""


class LoadThrottle:
    """Keeps back calls that overloaded servers would only refuse.

    A refusal costs a server a good part of what an answer costs. Asked for five times what it can
    do, it spends most of its time on saying no, and fewer callers get an answer than could. So
    each client keeps a call back with the probability

        max(0, (asked - FACTOR * taken - PATIENCE) / (asked + 1))

    where `asked` are the calls that its users made lately, and `taken` those of them that servers
    did not refuse ("client-side throttling", Beyer and others, Site Reliability Engineering, 2016,
    chapter 21). What is sent is then FACTOR times what servers take, whatever is asked for, and
    grows by as much in each half-life once they take more.

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
        """Count a call that a user made; return whether to send it."""
        self._age()
        surplus = self._asked - FACTOR * self._taken - PATIENCE
        self._asked += 1
        return surplus <= 0 or self._chance() * self._asked >= surplus

    def taken(self) -> None:
        """Count a call that was sent, and not refused for want of time."""
        if self._taken < self._asked:  # not all that is sent was asked for here: health checks
            self._taken += 1

    def _age(self) -> None:
        half_lives = (self._now() - self._since) // HALF_LIFE_S
        if half_lives < 1:
            return
        kept: float = 0.5**half_lives
        self._asked *= kept
        self._taken *= kept
        self._since += half_lives * HALF_LIFE_S

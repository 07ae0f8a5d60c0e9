"""How the definitions and the views that are served stand, for the metrics."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from featurestore_server import families
from featurestore_server.families import Family, Labels

if TYPE_CHECKING:
    from featurestore.monitoring.status import ViewStatus


class Views:
    """Where views stood when the registry was last read, and how old that makes them now.

    Args:
        ages_grow: Whether the clock that ages are told by goes on.
    """

    def __init__(self, *, ages_grow: bool) -> None:
        self._ages_grow = ages_grow
        self._read: tuple[float, Sequence[ViewStatus]] = (time.monotonic(), ())

    def take(self, statuses: "Sequence[ViewStatus]") -> None:
        """Take what was read just now."""
        self._read = (time.monotonic(), statuses)

    def samples(self) -> Iterator[tuple[Family, Labels, float]]:
        """Yield the samples of all views; ages grow also while the registry cannot be read."""
        read_at, statuses = self._read
        since_s = time.monotonic() - read_at if self._ages_grow else 0.0
        for status in statuses:
            view = (status.view,)
            yield families.VIEW_GENERATION, view, status.served
            yield families.VIEW_FAILED, view, float(status.can_be_resumed)
            if status.age_us is None or status.end_us is None:
                continue
            yield families.VIEW_AGE, view, status.age_us / 1e6 + since_s
            if status.event_us is not None:
                age_us = status.age_us + status.end_us - status.event_us
                yield families.VIEW_EVENT_AGE, view, age_us / 1e6 + since_s


class Reloads:
    """How often definitions were handed to the workers, and how often that failed."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self.last_at = time.time()

    def succeeded(self) -> None:
        """Count newer definitions that were handed over."""
        self.done += 1
        self.last_at = time.time()

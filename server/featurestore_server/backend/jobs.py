"""How many training sets are under way, and an end to those whose callers do nothing."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from featurestore.errors import JobCancelledError
from featurestore_server.errors import TrainingBusyError
from featurestore_server.options import BackendLimits

LOGGER: Final = logging.getLogger("featurestore_server")

LOOK_EVERY_S: Final = 0.5


class Place:
    """A training set's place among those that are under way.

    Args:
        hang_up: Ends its call.
    """

    def __init__(self, hang_up: Callable[[], object]) -> None:
        self.hang_up = hang_up
        self.ended = threading.Event()
        """Set when the call has ended, whoever ended it."""
        self._moved_at: float | None = time.monotonic()

    @property
    def idle_s(self) -> float:
        """For how long the caller has neither sent nor taken anything that was its turn."""
        moved_at = self._moved_at
        return 0.0 if moved_at is None else time.monotonic() - moved_at

    @contextmanager
    def own_turn(self) -> Iterator[None]:
        """Do something that the caller waits for."""
        self._moved_at = None
        try:
            yield
        finally:
            self._moved_at = time.monotonic()

    def check(self) -> None:
        """Go on, or raise.

        Raises:
            JobCancelledError: The call has ended.
        """
        if self.ended.is_set():
            raise JobCancelledError


class TrainingJobs:
    """Lets so many training sets in, and so many of them be computed at once.

    Args:
        limits: How many, and how long callers may do nothing.
    """

    def __init__(self, limits: BackendLimits) -> None:
        self._limits = limits
        self._lock = threading.Condition()
        self._places: set[Place] = set()
        self._computing = 0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="idle-watch", daemon=True)

    def start(self) -> None:
        """Begin to look after callers that do nothing."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    @contextmanager
    def place(self, hang_up: Callable[[], object]) -> Iterator[Place]:
        """Take a place for one call.

        Raises:
            TrainingBusyError: All are taken.
        """
        place = Place(hang_up)
        with self._lock:
            most = self._limits.training_jobs + self._limits.waiting_jobs
            if len(self._places) >= most:
                raise TrainingBusyError(
                    f"{most:,} training sets are computed, or wait for their turn, already."
                )
            self._places.add(place)
        try:
            yield place
        finally:
            with self._lock:
                self._places.remove(place)

    @contextmanager
    def turn(self, place: Place) -> Iterator[None]:
        """Wait until one of those who are computed has ended; then be one.

        Raises:
            JobCancelledError: The call ended before that.
        """
        with place.own_turn(), self._lock:
            while self._computing >= self._limits.training_jobs:
                place.check()
                self._lock.wait(LOOK_EVERY_S)
            place.check()
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                self._computing -= 1
                self._lock.notify_all()

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            with self._lock:
                places = list(self._places)
            for place in places:
                if place.idle_s > self._limits.idle_s:
                    LOGGER.warning(
                        "a caller of a training set did nothing for %.0f s and was cut off",
                        place.idle_s,
                    )
                    place.hang_up()

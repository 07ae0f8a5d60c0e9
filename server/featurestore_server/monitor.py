"""Watches whether the online store answers."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.store import OnlineStore, ReadRequest, TableId

LOGGER: Final = logging.getLogger("featurestore_server")

PROBE_EVERY_S: Final = 2.0
PROBE_WHILE_DOWN_EVERY_S: Final = 0.5
PROBE_S: Final = 2.0
"""How long a probe waits, also for a store that is configured to wait longer."""
FAILURES_UNTIL_DOWN: Final = 2
"""One failed probe may be a store that is busy for a moment."""

# Looks like no key that the codec makes, so that a probe never finds a row.
_PROBE_KEY: Final = b"\x00probe"


class StoreMonitor:
    """Reads a key that does not exist, again and again, and says whether that works.

    Args:
        store: The store.
        table: The table to read from.
        on_change: Called with whether the store answers, when that changes.
    """

    def __init__(
        self, store: OnlineStore, table: TableId, *, on_change: Callable[[bool], None]
    ) -> None:
        self._store = store
        self._request = ReadRequest(table=table, keys=[_PROBE_KEY])
        self._on_change = on_change
        self._failures = FAILURES_UNTIL_DOWN - 1  # nothing speaks for the store yet
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="store-monitor", daemon=True)

    @property
    def store_answers(self) -> bool:
        """Whether the store answered one of the latest probes."""
        return self._failures < FAILURES_UNTIL_DOWN

    def start(self) -> None:
        """Read once, then begin to watch, in a thread."""
        self.probe()
        self._thread.start()

    def stop(self) -> None:
        """Stop to watch."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def probe(self) -> None:
        """Read once, and report a change."""
        before = self.store_answers
        error = self._attempt()
        self._failures = self._failures + 1 if error else 0
        if self.store_answers == before:
            return
        if error:
            LOGGER.error("the online store does not answer: %s", error.message)
        else:
            LOGGER.warning("the online store answers again")
        self._on_change(self.store_answers)

    def _attempt(self) -> StoreUnavailableError | None:
        try:
            self._store.read([self._request], until=time.monotonic() + PROBE_S)
        except StoreUnavailableError as error:
            return error
        except StoreError:
            return None  # an answer, though a bad one: requests will meet it and say so
        except Exception:
            LOGGER.exception("probing the online store failed")
        return None

    def _watch(self) -> None:
        while not self._stop.wait(self._pause_s()):
            self.probe()

    def _pause_s(self) -> float:
        return PROBE_EVERY_S if self._failures == 0 else PROBE_WHILE_DOWN_EVERY_S

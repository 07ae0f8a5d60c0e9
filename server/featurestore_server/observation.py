"""What a worker does so that operators see what it does."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from featurestore.online.store import OnlineStore
from featurestore.serving.plan import ServingCatalog
from featurestore_server import families
from featurestore_server.families import Samples
from featurestore_server.metered import MeteredStore
from featurestore_server.options import Observing
from featurestore_server.served_log import ServedLog
from featurestore_server.server import FeatureServer
from featurestore_server.tally import StatusCounter, Tally

if TYPE_CHECKING:
    from featurestore_server.calls import Observer
    from featurestore_server.service import Witness

REPORT_EVERY_S: Final = 1.0


class Observation:
    """Counts what a worker does and reports it, if that is wanted.

    Args:
        observing: What is wanted.
        catalog: What is served at first.

    Attributes:
        observers: Are to be told how calls ended.
        witnesses: Are to see what lookups are answered with.
    """

    def __init__(self, observing: Observing, catalog: ServingCatalog) -> None:
        self._tally = Tally(catalog.services.keys()) if observing.metrics_address else None
        self._catalog = catalog
        self._stop = threading.Event()
        self.observers: Sequence[Observer] = [self._tally] if self._tally else []
        counters: list[Witness] = [StatusCounter()] if self._tally else []
        self._log = ServedLog(observing.served_log, self._logged) if observing.served_log else None
        self.witnesses: Sequence[Witness] = [*counters, self._log] if self._log else counters

    def watched(self, store: OnlineStore) -> OnlineStore:
        """Return the store, with its reads counted."""
        return MeteredStore(store, self._tally.read) if self._tally else store

    def start(self, server: FeatureServer, report: Callable[[Samples], None]) -> None:
        """Report what is counted from now on, in a thread: whoever reads may be slow."""
        if self._log:
            self._log.start()
        if self._tally is None:
            return
        tally = self._tally
        tally.show(families.STORE_UP.name, lambda: float(server.store_answers()))
        tally.show(families.REVISION.name, lambda: float(self._catalog.revision))
        tally.show(families.IN_FLIGHT.name, lambda: float(server.calls_under_way))
        arguments = (tally, report)
        threading.Thread(target=self._report, args=arguments, name="report", daemon=True).start()

    def _report(self, tally: Tally, report: Callable[[Samples], None]) -> None:
        try:
            report(tally.samples())
            while not self._stop.wait(REPORT_EVERY_S):
                report(tally.samples())
        except BrokenPipeError:  # the parent is gone, and this process will be
            return

    def catalog_replaced(self, catalog: ServingCatalog) -> None:
        """Take note of what is served now."""
        self._catalog = catalog
        if self._tally:
            self._tally.services = catalog.services.keys()

    def catalog_refused(self) -> None:
        """Take note of a catalog that cannot be served."""
        if self._tally:
            self._tally.count(families.REFUSED.name)

    def _logged(self, outcome: str, rows: int) -> None:
        if self._tally:
            self._tally.count(families.LOGGED.name, outcome, by=rows)

    def stop(self) -> None:
        """Write what was not written yet, and stop to report."""
        if self._log:
            self._log.stop()
        self._stop.set()

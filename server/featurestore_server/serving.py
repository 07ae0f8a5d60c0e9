"""`serve`: run a server until a signal says stop."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Final

from featurestore.errors import FeatureStoreError
from featurestore.serving.plan import ServingCatalog
from featurestore.time import parse_clock
from featurestore_server.logs import set_up_logging
from featurestore_server.options import ServeOptions
from featurestore_server.standing import Reloads, Views
from featurestore_server.supervisor import Supervisor

if TYPE_CHECKING:
    from featurestore.monitoring.status import ViewStatus

LOGGER: Final = logging.getLogger("featurestore_server")

_WATCH_EVERY_S: Final = 0.25
_VIEWS_EVERY_S: Final = 10.0
"""How often where views stand is read from the registry, when metrics show it."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A server that is ready.

    Attributes:
        address: Where clients find it.
        project: What it serves.
        revision: The revision of the project's registry that it serves.
        workers: How many worker processes it has.
        clock: "system", or the instant at which its clock stands still.
        encrypts: Whether connections are encrypted.
        asks_for_keys: Whether callers have to say who they are.
        http_address: Where clients find it over HTTP; None for nowhere.
        metrics_address: Where its metrics are, `host:port`, or None.
    """

    address: str
    project: str
    revision: int
    workers: int
    clock: str
    encrypts: bool = False
    asks_for_keys: bool = False
    http_address: str | None = None
    metrics_address: str | None = None

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        line = f"serving project {self.project!r}, revision {self.revision}, at {self.address}"
        if self.http_address:
            line += f" and at http{'s' if self.encrypts else ''}://{self.http_address}"
        line += f" with {workers}{' over TLS' if self.encrypts else ''}"
        line += ", for callers with a key" if self.asks_for_keys else ""
        if self.metrics_address:
            line += f"; metrics at http://{self.metrics_address}/metrics"
        if not parse_clock(self.clock).is_system:
            line += f"; the clock stands still at {self.clock}"
        return line


def serve(
    options: ServeOptions,
    *,
    on_ready: Callable[[Serving], None] | None = None,
    newer_catalog: Callable[[], str | None] | None = None,
    newer_keys: Callable[[], str | None] | None = None,
    view_statuses: "Callable[[], Sequence[ViewStatus]] | None" = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish the calls under way and return.

    Call it from the main thread: signals go nowhere else.

    Args:
        options: What to serve, and where.
        on_ready: Called once all workers serve; by default one line goes to standard error.
        newer_catalog: Called every `options.reload_every_s`; returns a catalog to serve from then
            on, as `ServingCatalog.to_json` writes it, or None while it is still the same. A
            FeatureStoreError that it raises is logged, and the server goes on as it was; anything
            else ends the server.
        newer_keys: The same for who may call, as `ServeOptions.keys_json` has it.
        view_statuses: Returns where views stand, for the metrics: called as often as they need it.
            Errors are dealt with likewise.

    Raises:
        ServeError: An address cannot be taken, or a worker cannot serve.
        ConfigError: The catalog or the store's configuration cannot be used.
        CertificateError: A file of `options.tls` cannot be used.
    """
    set_up_logging(options.observing.log_format, process="parent")
    catalog = ServingCatalog.from_json(options.catalog_json)
    with _stop_signals() as stop, Supervisor(options) as supervisor:
        watch = _Watch(supervisor, catalog, newer_catalog, newer_keys, view_statuses)
        with watch.metrics(options.observing.metrics_address) as metrics_address:
            ready = Serving(
                address=supervisor.address,
                project=catalog.project,
                revision=catalog.revision,
                workers=options.workers,
                clock=catalog.clock,
                encrypts=options.tls is not None,
                asks_for_keys=options.keys_json is not None,
                http_address=supervisor.http_address,
                metrics_address=metrics_address,
            )
            if options.observing.log_format == "json":
                LOGGER.info("%s", ready)
            elif on_ready is None:
                _announce(ready)
            if on_ready is not None:
                on_ready(ready)
            watch.until(stop, reload_every_s=options.reload_every_s)
            LOGGER.info("told to stop: calls under way are finished first")
            supervisor.stop()  # while scrapes are answered: they show how far that is


class _Watch:
    """What the parent does while its workers serve."""

    def __init__(
        self,
        supervisor: Supervisor,
        catalog: ServingCatalog,
        newer_catalog: Callable[[], str | None] | None,
        newer_keys: Callable[[], str | None] | None,
        view_statuses: "Callable[[], Sequence[ViewStatus]] | None",
    ) -> None:
        self._supervisor = supervisor
        self._newer_catalog = newer_catalog
        self._newer_keys = newer_keys
        self._view_statuses = view_statuses
        self._reloads = Reloads()
        self._views = Views(ages_grow=parse_clock(catalog.clock).is_system)

    @contextmanager
    def metrics(self, address: str | None) -> Iterator[str | None]:
        """Answer scrapes as long as the context lasts, and yield where."""
        if address is None:
            self._view_statuses = None
            yield None
            return
        from featurestore_server.exposition import ServerCollector
        from featurestore_server.scrapes import MetricsServer

        self._look_at_views()
        collector = ServerCollector(self._supervisor, self._views, self._reloads)
        server = MetricsServer(address, collector)
        try:
            yield server.address
        finally:
            server.stop()

    def until(self, stop: threading.Event, *, reload_every_s: float) -> None:
        """Keep workers alive and their definitions up to date until told to stop."""
        reload_at = time.monotonic() + reload_every_s
        views_at = time.monotonic() + _VIEWS_EVERY_S
        while not stop.wait(_WATCH_EVERY_S):
            self._supervisor.gather()
            self._supervisor.revive_workers()
            if reload_every_s and time.monotonic() >= reload_at:
                # Keys first: it matters more that who may no longer call does not.
                self._reload_keys()
                self._reload()
                reload_at = time.monotonic() + reload_every_s
            if time.monotonic() >= views_at:
                self._look_at_views()
                views_at = time.monotonic() + _VIEWS_EVERY_S

    def _reload(self) -> None:
        if self._newer_catalog is None:
            return
        try:
            catalog_json = self._newer_catalog()
        except FeatureStoreError as error:
            self._reloads.failed += 1
            LOGGER.warning("cannot see whether definitions changed: %s", error.message)
            return
        if catalog_json is not None:
            self._supervisor.replace_catalog(catalog_json)
            self._reloads.succeeded()

    def _reload_keys(self) -> None:
        if self._newer_keys is None:
            return
        try:
            keys_json = self._newer_keys()
        except FeatureStoreError as error:
            LOGGER.warning("cannot see whether keys changed: %s", error.message)
            return
        if keys_json is not None:
            self._supervisor.replace_keys(keys_json)

    def _look_at_views(self) -> None:
        if self._view_statuses is None:
            return
        try:
            self._views.take(self._view_statuses())
        except FeatureStoreError as error:
            LOGGER.warning("cannot see where views stand: %s", error.message)


def _announce(ready: Serving) -> None:
    sys.stderr.write(f"{ready}\n")
    sys.stderr.flush()


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Yield an event that the stop signals set, for as long as the context lasts."""
    stop = threading.Event()

    def handle(_: int, __: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""`serve`: run a server until a signal says stop."""

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Final

from featurestore.errors import FeatureStoreError
from featurestore.serving.plan import ServingCatalog
from featurestore.time import parse_clock
from featurestore_server.options import ServeOptions
from featurestore_server.supervisor import Supervisor

LOGGER: Final = logging.getLogger("featurestore_server")

_WATCH_EVERY_S: Final = 0.25
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
        http_address: Where clients find it over HTTP; None for nowhere.
    """

    address: str
    project: str
    revision: int
    workers: int
    clock: str
    http_address: str | None = None

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        line = f"serving project {self.project!r}, revision {self.revision}, at {self.address}"
        if self.http_address:
            line += f" and at http://{self.http_address}"
        line += f" with {workers}"
        if not parse_clock(self.clock).is_system:
            line += f"; the clock stands still at {self.clock}"
        return line


def serve(
    options: ServeOptions,
    *,
    on_ready: Callable[[Serving], None] | None = None,
    newer_catalog: Callable[[], str | None] | None = None,
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

    Raises:
        ServeError: The address cannot be taken, or a worker cannot serve.
        ConfigError: The catalog or the store's configuration cannot be used.
    """
    catalog = ServingCatalog.from_json(options.catalog_json)
    with _stop_signals() as stop, Supervisor(options) as supervisor:
        ready = Serving(
            address=supervisor.address,
            project=catalog.project,
            revision=catalog.revision,
            workers=options.workers,
            clock=catalog.clock,
            http_address=supervisor.http_address,
        )
        (on_ready or _announce)(ready)
        look_at = time.monotonic() + options.reload_every_s
        while not stop.wait(_WATCH_EVERY_S):
            supervisor.revive_workers()
            if newer_catalog and options.reload_every_s and time.monotonic() >= look_at:
                _reload(supervisor, newer_catalog)
                look_at = time.monotonic() + options.reload_every_s


def _reload(supervisor: Supervisor, newer_catalog: Callable[[], str | None]) -> None:
    try:
        catalog_json = newer_catalog()
    except FeatureStoreError as error:
        LOGGER.warning("cannot see whether definitions changed: %s", error.message)
        return
    if catalog_json is not None:
        supervisor.replace_catalog(catalog_json)


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

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
        encrypts: Whether connections are encrypted.
        asks_for_keys: Whether callers have to say who they are.
        http_address: Where clients find it over HTTP; None for nowhere.
    """

    address: str
    project: str
    revision: int
    workers: int
    clock: str
    encrypts: bool = False
    asks_for_keys: bool = False
    http_address: str | None = None

    def __str__(self) -> str:
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        line = f"serving project {self.project!r}, revision {self.revision}, at {self.address}"
        if self.http_address:
            line += f" and at http{'s' if self.encrypts else ''}://{self.http_address}"
        line += f" with {workers}{' over TLS' if self.encrypts else ''}"
        line += ", for callers with a key" if self.asks_for_keys else ""
        if not parse_clock(self.clock).is_system:
            line += f"; the clock stands still at {self.clock}"
        return line


def serve(
    options: ServeOptions,
    *,
    on_ready: Callable[[Serving], None] | None = None,
    newer_catalog: Callable[[], str | None] | None = None,
    newer_keys: Callable[[], str | None] | None = None,
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

    Raises:
        ServeError: The address cannot be taken, or a worker cannot serve.
        ConfigError: The catalog or the store's configuration cannot be used.
        CertificateError: A file of `options.tls` cannot be used.
    """
    catalog = ServingCatalog.from_json(options.catalog_json)
    with _stop_signals() as stop, Supervisor(options) as supervisor:
        ready = Serving(
            address=supervisor.address,
            project=catalog.project,
            revision=catalog.revision,
            workers=options.workers,
            clock=catalog.clock,
            encrypts=options.tls is not None,
            asks_for_keys=options.keys_json is not None,
            http_address=supervisor.http_address,
        )
        (on_ready or _announce)(ready)
        look_at = time.monotonic() + options.reload_every_s
        while not stop.wait(_WATCH_EVERY_S):
            supervisor.revive_workers()
            if options.reload_every_s and time.monotonic() >= look_at:
                # Keys first: it matters more that who may no longer call does not.
                _reload("keys", newer_keys, supervisor.replace_keys)
                _reload("definitions", newer_catalog, supervisor.replace_catalog)
                look_at = time.monotonic() + options.reload_every_s


def _reload(
    what: str, newer: Callable[[], str | None] | None, take_over: Callable[[str], None]
) -> None:
    if newer is None:
        return
    try:
        found = newer()
    except FeatureStoreError as error:
        LOGGER.warning("cannot see whether %s changed: %s", what, error.message)
        return
    if found is not None:
        take_over(found)


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

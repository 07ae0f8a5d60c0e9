"""One worker process: `python -m featurestore_server.worker`, started by the supervisor.

It reads its task from standard input, then other catalogs to serve and keys to go by; the end of it
means that the parent is gone, and that this process stops too. It reports on standard output and
logs on standard error.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from featurestore.access import keys_from_json
from featurestore.functions import FunctionLoader
from featurestore.online.factory import open_store
from featurestore.online.store import OnlineStore
from featurestore.serving.plan import ServingCatalog
from featurestore_server.access_log import AccessLog, WitnessedGate
from featurestore_server.calls import Observers, OpenGate
from featurestore_server.keys import KeyGate
from featurestore_server.logs import set_up_logging
from featurestore_server.observation import Observation
from featurestore_server.protocol import (
    HttpTask,
    News,
    WorkerTask,
    lines_from,
    report_failure,
    report_ready,
    report_samples,
)
from featurestore_server.server import FeatureServer

if TYPE_CHECKING:
    from featurestore_server.http.server import HttpServer

LOGGER: Final = logging.getLogger("featurestore_server")
_LOOK_EVERY_S: Final = 1.0


def main() -> int:
    """Serve until told to stop; return the exit code."""
    stop, reports, told = begin()
    task = WorkerTask.from_line(next(told))
    set_up_logging(task.observing.log_format, process="worker")
    try:
        return _serve(task, told, reports, stop)
    except Exception as error:
        LOGGER.exception("the worker cannot serve")
        report_failure(reports, error)
        return 1


def _serve(task: WorkerTask, told: Iterator[str], reports: TextIO, stop: threading.Event) -> int:
    catalog = ServingCatalog.from_json(task.catalog_json)
    observation = Observation(task.observing, catalog)
    store = observation.watched(open_configured_store(task.online_store))
    gate = None if task.keys_json is None else KeyGate(keys_from_json(task.keys_json))
    access_log = AccessLog(sys.stderr.fileno()) if task.access_log else None
    try:
        server = FeatureServer(
            catalog,
            store,
            threads=task.threads,
            limits=task.limits,
            functions=FunctionLoader([Path(root) for root in task.function_roots]),
            reflect=task.reflection,
            fast_lookups=task.fast_lookups,
            tls=task.tls,
            gate=WitnessedGate(gate or OpenGate()) if access_log else gate,
            observer=Observers(*observation.observers, *((access_log,) if access_log else ())),
            witnesses=observation.witnesses,
            backend=task.backend,
        )
        for target in task.targets:
            server.listen(target)
        http = _http_server(task, task.http, server) if task.http else None
        server.start()
        if http:
            http.start()
        report_ready(reports)
        observation.start(server, lambda samples: report_samples(reports, samples))
        follow = (told, server, gate, observation, stop)
        threading.Thread(target=_follow_parent, args=follow, daemon=True).start()
        wait_for(stop)
        if http:
            http.begin_stop(task.grace_s)
        server.stop(task.grace_s)
        if http:
            http.stop(task.grace_s)
    finally:
        observation.stop()  # first: the access log may wait for a reader until the parent kills us
        if access_log:
            access_log.close()
        store.close()
    return 0


def _http_server(task: WorkerTask, http: HttpTask, server: FeatureServer) -> "HttpServer":
    from featurestore_server.http.server import HttpServer  # loads an HTTP stack

    twin = HttpServer(
        server.online_features,
        store_answers=server.store_answers,
        threads=task.threads,
        limits=task.limits,
        observer=server.observer,
        cors_origins=http.cors_origins,
        tls=task.tls,
    )
    for target in http.targets:
        twin.listen(target)
    return twin


def open_configured_store(settings: Mapping[str, Any]) -> OnlineStore:
    """Return the store that the settings name: `type`, and the arguments that go with it."""
    arguments = dict(settings)
    if arguments.get("path") is not None:
        arguments["path"] = Path(arguments["path"])
    return open_store(arguments.pop("type"), **arguments)


def begin() -> tuple[threading.Event, TextIO, Iterator[str]]:
    """Begin as a process of the supervisor's, in the main thread.

    Returns:
        What SIGTERM sets, where to report, and the lines that the parent writes.
    """
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the whole process group; the parent answers it and tells its processes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return stop, _take_stdout(), lines_from(sys.stdin.fileno())


def wait_for(stop: threading.Event) -> None:
    """Wait in the main thread until `stop` is set, by a signal too.

    A signal that came while the process was suspended is taken by whichever thread wakes first, but
    Python answers it in the main thread, which it does not wake: that has to look by itself.
    """
    while not stop.wait(_LOOK_EVERY_S):
        pass


def _take_stdout() -> TextIO:
    """Return standard output for reports alone; whatever prints now prints to standard error."""
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return reports


def _follow_parent(
    told: Iterator[str],
    server: FeatureServer,
    gate: KeyGate | None,
    observation: Observation,
    stop: threading.Event,
) -> None:
    for news in map(News.from_line, told):
        if news.catalog_json is not None:
            _serve_catalog(server, observation, news.catalog_json)
        if gate is not None and news.keys_json is not None:
            _go_by_keys(gate, news.keys_json)
    stop.set()


def _go_by_keys(gate: KeyGate, keys_json: str) -> None:
    try:
        keys = keys_from_json(keys_json)
        gate.replace(keys)
    except Exception:
        LOGGER.exception("the new keys cannot be used; the ones before still are")
    else:
        LOGGER.info("going by %d keys", sum(key.revoked_us is None for key in keys))


def _serve_catalog(server: FeatureServer, observation: Observation, catalog_json: str) -> None:
    try:
        catalog = ServingCatalog.from_json(catalog_json)
        server.replace_catalog(catalog)
    except Exception:
        LOGGER.exception("the new definitions cannot be served; the ones before still are")
        observation.catalog_refused()
    else:
        observation.catalog_replaced(catalog)
        LOGGER.info("serving revision %d", catalog.revision)


if __name__ == "__main__":
    sys.exit(main())

"""One worker process: `python -m featurestore_server.worker`, started by the supervisor.

It reads its task from standard input, and then other catalogs to serve; the end of it means that
the parent is gone, and that this process stops too. It reports on standard output and logs on
standard error.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

from featurestore.functions import FunctionLoader
from featurestore.online.factory import open_store
from featurestore.online.store import OnlineStore
from featurestore.serving.plan import ServingCatalog
from featurestore_server.protocol import (
    HttpTask,
    WorkerTask,
    lines_from,
    read_catalog,
    report_failure,
    report_ready,
)
from featurestore_server.server import FeatureServer

if TYPE_CHECKING:
    from featurestore_server.http.server import HttpServer

LOGGER: Final = logging.getLogger("featurestore_server")


def main() -> int:
    """Serve until told to stop; return the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # Ctrl-C reaches the whole process group; the parent answers it and tells its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s %(levelname)s worker {os.getpid()}: %(message)s",
    )
    reports = take_stdout()
    told = lines_from(sys.stdin.fileno())
    task = WorkerTask.from_line(next(told))
    try:
        return _serve(task, told, reports, stop)
    except Exception as error:
        LOGGER.exception("the worker cannot serve")
        report_failure(reports, error)
        return 1


def _serve(task: WorkerTask, told: Iterator[str], reports: TextIO, stop: threading.Event) -> int:
    store = open_configured_store(task.online_store)
    try:
        server = FeatureServer(
            ServingCatalog.from_json(task.catalog_json),
            store,
            threads=task.threads,
            limits=task.limits,
            functions=FunctionLoader([Path(root) for root in task.function_roots]),
            reflect=task.reflection,
            fast_lookups=task.fast_lookups,
            backend=task.backend,
        )
        for target in task.targets:
            server.listen(target)
        http = _http_server(task, task.http, server) if task.http else None
        server.start()
        if http:
            http.start()
        report_ready(reports)
        threading.Thread(target=_follow_parent, args=(told, server, stop), daemon=True).start()
        stop.wait()
        if http:
            http.begin_stop(task.grace_s)
        server.stop(task.grace_s)
        if http:
            http.stop(task.grace_s)
    finally:
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


def take_stdout() -> TextIO:
    """Return standard output for reports alone; whatever prints now prints to standard error."""
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return reports


def _follow_parent(told: Iterator[str], server: FeatureServer, stop: threading.Event) -> None:
    for line in told:
        try:
            catalog = ServingCatalog.from_json(read_catalog(line))
            server.replace_catalog(catalog)
        except Exception:
            LOGGER.exception("the new definitions cannot be served; the ones before still are")
        else:
            LOGGER.info("serving revision %d", catalog.revision)
    stop.set()


if __name__ == "__main__":
    sys.exit(main())

"""The parent process: holds the address, keeps workers alive, and stops them in order."""

import contextlib
import logging
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from featurestore.certificates import read_tls
from featurestore.offline.temporary import spill_folder
from featurestore_server.addresses import Reservation, reserve, reserve_port
from featurestore_server.errors import WorkerError
from featurestore_server.gathered import Gathered
from featurestore_server.options import ServeOptions
from featurestore_server.processes import Worker, say
from featurestore_server.protocol import (
    BackendTask,
    WorkerTask,
    catalog_line,
    keys_line,
)

LOGGER: Final = logging.getLogger("featurestore_server")

STOP_MARGIN_S: Final = 5.0
"""How much longer than the grace time a worker may take to end."""
MAX_FOLDER_BYTES: Final = 50
"""A socket's path has about 100 bytes, of which our part takes half."""
_DRAIN_EVERY_S: Final = 0.05


class Supervisor:
    """A server of several worker processes.

    Attributes:
        gathered: What its workers counted.

    Raises:
        CertificateError: A file of `options.tls` cannot be used.
        ServeError: The address cannot be taken, or a worker cannot serve.
    """

    def __init__(self, options: ServeOptions) -> None:
        self._options = options
        if options.tls:
            read_tls(options.tls, now=datetime.now(UTC))
        self._reservation: Reservation = reserve(
            options.address,
            workers=options.workers,
            insecure=options.insecure or options.tls is not None,
        )
        self._http_reservation = _reserve_http(options, self._reservation)
        self._held = contextlib.ExitStack()  # given back once, however often this is stopped
        self._held.callback(self._reservation.release)
        if self._http_reservation:
            self._held.callback(self._http_reservation.release)
        self._workers: list[Worker] = []
        self.gathered = Gathered()
        self._backend: Worker | None = None
        self._backend_target = ""

    @property
    def address(self) -> str:
        """Where clients find the server; with the port that was picked."""
        return self._reservation.shown

    @property
    def http_address(self) -> str | None:
        """Where clients find it over HTTP, with the port that was picked; None for nowhere."""
        return self._http_reservation.shown if self._http_reservation else None

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The workers' process ids."""
        return tuple(worker.pid for worker in self._workers)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers, by number."""
        return tuple(self._workers)

    def backend_pid(self) -> int | None:
        """The backend's process id; None if there is none."""
        return None if self._backend is None else self._backend.pid

    def start(self) -> None:
        """Start all workers and wait until they serve; the backend comes up behind them."""
        try:
            if self._options.backend is not None:
                self._backend_target = _private_target(self._held)
            line = self._task_line()
            for _ in range(self._options.workers):
                self._workers.append(Worker(line))
            while any(worker.unsaid is not None for worker in self._workers):
                say(self._workers)
            for worker in self._workers:
                worker.wait_ready()
            if self._options.backend is not None:
                task = BackendTask(
                    target=self._backend_target,
                    options=self._options.backend,
                    grace_s=self._options.grace_s,
                    log_format=self._options.observing.log_format,
                )
                self._backend = Worker(task.to_line(), "backend")
                say([self._backend])
        except OSError as error:
            self.stop()
            raise WorkerError(
                f"A worker process cannot be started: {error.strerror or error}."
            ) from None
        except BaseException:
            self.stop()
            raise

    def _task_line(self) -> str:
        http = self._http_reservation.targets if self._http_reservation else ()
        task = WorkerTask.of(
            self._options,
            self._reservation.targets,
            http_targets=http,
            backend=self._backend_target,
        )
        return task.to_line()

    def replace_catalog(self, catalog_json: str) -> None:
        """Let all workers serve another catalog, without an interruption."""
        self._options = replace(self._options, catalog_json=catalog_json)
        self._tell(catalog_line(catalog_json))

    def replace_keys(self, keys_json: str) -> None:
        """Let all workers go by other keys, without an interruption."""
        self._options = replace(self._options, keys_json=keys_json)
        self._tell(keys_line(keys_json))

    def _tell(self, line: str) -> None:
        task_line = self._task_line()
        for worker in self._workers:
            worker.tell(line, task_line=task_line)
        say(self._workers)

    def gather(self) -> None:
        """Take what workers have reported."""
        for number, worker in enumerate(self._workers):
            if samples := worker.latest_samples():
                self.gathered.take(number, worker.pid, samples)

    def revive_workers(self) -> None:
        """Start those processes again that died, and tell all what they are still to be told."""
        processes = [*self._workers, *([self._backend] if self._backend else [])]
        for process in processes:
            process.revive()
        say(processes)

    def stop(self) -> None:
        """Let all workers finish their calls and end, then give the address back.

        What they count meanwhile is gathered.
        """
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + self._options.grace_s + STOP_MARGIN_S
        while any(worker.is_alive for worker in self._workers) and time.monotonic() < deadline:
            self.gather()
            time.sleep(_DRAIN_EVERY_S)
        self.gather()
        for worker in self._workers:
            worker.wait(deadline)
        self._workers = []
        if self._backend is not None:  # last: workers finish their calls with it
            self._backend.terminate()
            self._backend.wait(time.monotonic() + STOP_MARGIN_S)
            self._backend = None
        self._held.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _private_target(held: contextlib.ExitStack) -> str:
    """Return a unix socket in a new folder of this user's alone, which goes away with `held`.

    Whoever reaches it is somebody whom a worker let in: nobody asks there for a key.
    """
    parent = tempfile.gettempdir()
    if len(os.fsencode(parent)) > MAX_FOLDER_BYTES:
        parent = "/tmp"  # noqa: S108 - the folder below it is private
    try:
        folder = held.enter_context(spill_folder(Path(parent)))
    except OSError as error:
        raise WorkerError(
            f"No folder can be made below {parent}: {error.strerror or error}.",
            hint="set TMPDIR to a folder that can be written",
        ) from None
    return f"unix:{folder}/backend"


def _reserve_http(options: ServeOptions, beside: Reservation) -> Reservation | None:
    """Reserve the address for HTTP; where that fails, the other one is given back."""
    if options.http is None:
        return None
    try:
        return reserve_port(
            options.http.address, insecure=options.insecure or options.tls is not None
        )
    except BaseException:
        beside.release()
        raise

"""The parent process: holds the address, keeps workers alive, and stops them in order."""

import contextlib
import logging
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self, cast

from featurestore.certificates import read_tls
from featurestore.offline.temporary import spill_folder
from featurestore_server.addresses import Reservation, reserve, reserve_port
from featurestore_server.errors import WorkerError
from featurestore_server.families import Samples
from featurestore_server.gathered import Gathered
from featurestore_server.options import ServeOptions
from featurestore_server.protocol import (
    BackendTask,
    Reports,
    WorkerTask,
    catalog_line,
    check_report,
    keys_line,
    read_samples,
)

LOGGER: Final = logging.getLogger("featurestore_server")

START_TIMEOUT_S: Final = 60.0
TELL_S: Final = 10.0
"""How long a process that serves may take to read what it is told."""
STOP_MARGIN_S: Final = 5.0
"""How much longer than the grace time a worker may take to end."""
FIRST_RESTART_S: Final = 0.5
LAST_RESTART_S: Final = 30.0
MAX_FOLDER_BYTES: Final = 50
"""A socket's path has about 100 bytes, of which our part takes half."""
STEADY_S: Final = 60.0
"""A worker that lived this long is restarted at once, as if it had never failed."""
_DRAIN_EVERY_S: Final = 0.05
_PAUSE_S: Final = 0.05
"""How long nobody may read until the parent turns to something else."""


class Worker:
    """One worker process, and the ones that take its place when it dies.

    What it is told, its task first, waits until `say` writes it.

    Attributes:
        restarts: How many took its place so far.

    Args:
        task_line: What it is to do.
        kind: "worker" or "backend": the module of this package that it runs.

    Raises:
        OSError: The process cannot be started.
    """

    def __init__(self, task_line: str, kind: str = "worker") -> None:
        self._kind = kind
        self._task_line = task_line
        self._pause_s = 0.0
        self._restart_at: float | None = None
        self.restarts = 0
        self._start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def _start(self) -> None:
        # A fresh interpreter rather than a fork: gRPC, and what this process may have loaded, do
        # not survive one. -P: a folder with a module of some package's name is no way in.
        self._process = subprocess.Popen(  # noqa: S603 - two modules of this package
            [sys.executable, "-P", "-m", f"featurestore_server.{self._kind}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._started_at = time.monotonic()
        self._restart_at = None
        self._lifeline = cast("IO[bytes]", self._process.stdin)
        os.set_blocking(self._lifeline.fileno(), False)
        self._pipe = cast("IO[bytes]", self._process.stdout)
        self._reports = Reports(self._pipe.fileno())
        self._unsaid = memoryview(self._task_line.encode())
        self._read_by = self._started_at + START_TIMEOUT_S

    def wait_ready(self) -> None:
        """Wait until the process serves.

        Raises:
            WorkerError: It cannot, or takes too long.
        """
        try:
            report = self._reports.first(START_TIMEOUT_S)
        except TimeoutError:
            raise WorkerError(
                f"A worker process was not ready after {START_TIMEOUT_S:.0f} s."
            ) from None
        check_report(report)

    def latest_samples(self) -> Samples:
        """Return what the process last reported to have counted; nothing if that is not new."""
        for line in reversed(self._reports.lines()):
            if samples := read_samples(line):
                return samples
        return {}

    def revive(self) -> None:
        """Start the process again if it died; the pause before that grows while it keeps dying."""
        if self._process.poll() is None:
            return
        if self._restart_at is None:
            if time.monotonic() - self._started_at > STEADY_S:
                self._pause_s = 0.0
            else:
                self._pause_longer()
            self._restart_at = time.monotonic() + self._pause_s
            LOGGER.error(
                "%s %d ended with %s; starting another in %.1f s",
                self._kind,
                self.pid,
                _ending(self._process.returncode),
                self._pause_s,
            )
        if time.monotonic() >= self._restart_at:
            self._restart()

    def _pause_longer(self) -> None:
        self._pause_s = min(max(2 * self._pause_s, FIRST_RESTART_S), LAST_RESTART_S)

    def _restart(self) -> None:
        pipe, lifeline = self._pipe, self._lifeline
        try:
            self._start()
        except OSError as error:  # no memory, processes or descriptors left, perhaps just now
            self._pause_longer()
            self._restart_at = time.monotonic() + self._pause_s
            LOGGER.warning(
                "no %s can be started: %s; trying again in %.1f s",
                self._kind,
                error.strerror or error,
                self._pause_s,
            )
            return
        # Only now: until there is another process, this one's reports are looked for.
        pipe.close()
        lifeline.close()
        self.restarts += 1

    def tell(self, line: str, *, task_line: str) -> None:
        """Have something to say to the process, and another task for those that may replace it."""
        self._task_line = task_line
        if not self._unsaid:
            self._read_by = time.monotonic() + TELL_S
        self._unsaid = memoryview(bytes(self._unsaid) + line.encode())

    @property
    def unsaid(self) -> int | None:
        """The pipe to which there is something to write; None if there is nothing."""
        return self._lifeline.fileno() if self._unsaid else None

    def say(self) -> None:
        """Write as much of what there is to say as the pipe takes now."""
        try:
            self._unsaid = self._unsaid[os.write(self._lifeline.fileno(), self._unsaid) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it died; its successor will know
            self._unsaid = self._unsaid[:0]

    def end_if_deaf(self) -> None:
        """Kill a process that did not read in time; its successor will know what it was told."""
        if self._unsaid and time.monotonic() >= self._read_by:
            LOGGER.error("%s %d does not read what it is told and is killed", self._kind, self.pid)
            self._unsaid = self._unsaid[:0]
            self._process.kill()

    def terminate(self) -> None:
        """Tell the process to finish its calls and end."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait for the end of the process; from `deadline` (monotonic) on it is killed."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            LOGGER.warning("%s %d did not end in time and was killed", self._kind, self.pid)
            self._process.kill()
            self._process.wait()
        self._pipe.close()
        self._lifeline.close()


def say(workers: Sequence[Worker]) -> None:
    """Tell processes what they are to be told, until nobody reads; what is left waits.

    A pipe takes 64 KiB and a catalog may be larger: who writes to a process that is stopped, or
    hangs while it loads, would wait for ever.
    """
    while unsaid := {worker.unsaid: worker for worker in workers if worker.unsaid is not None}:
        ready = select.select([], list(unsaid), [], _PAUSE_S)[1]
        for descriptor in ready:
            unsaid[descriptor].say()
        for worker in unsaid.values():
            worker.end_if_deaf()
        if not ready:
            return


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


def _ending(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"

"""One process of a server as its parent sees it: told, watched, and replaced when it dies."""

import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from typing import IO, Final, cast

from featurestore_server.errors import WorkerError
from featurestore_server.families import Samples
from featurestore_server.grpc_core import worker_environment
from featurestore_server.protocol import Reports, check_report, read_samples, says_ready

LOGGER: Final = logging.getLogger("featurestore_server")

START_TIMEOUT_S: Final = 60.0
TELL_S: Final = 10.0
"""How long a process that serves may take to read what it is told."""
FIRST_RESTART_S: Final = 0.5
LAST_RESTART_S: Final = 30.0
STEADY_S: Final = 60.0
"""A worker that lived this long is restarted at once, as if it had never failed."""
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
            env=worker_environment(os.environ, version("grpcio")),
        )
        self._started_at = time.monotonic()
        self._restart_at = None
        self._lifeline = cast("IO[bytes]", self._process.stdin)
        os.set_blocking(self._lifeline.fileno(), False)
        self._pipe = cast("IO[bytes]", self._process.stdout)
        self._reports = Reports(self._pipe.fileno())
        self._is_ready = False
        self._samples: Samples = {}
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
        self._is_ready = True

    def latest_samples(self) -> Samples:
        """Return what the process last reported to have counted; nothing if that is not new."""
        self._take_reports()
        samples, self._samples = self._samples, {}
        return samples

    def _take_reports(self) -> None:
        for line in self._reports.lines():
            if samples := read_samples(line):
                self._samples = samples
            else:
                self._is_ready = self._is_ready or says_ready(line)

    def revive(self) -> None:
        """Start the process again if it died; the pause before that grows while it keeps dying.

        One that was started and does not come to serve is killed.
        """
        if self._process.poll() is None:
            self._end_if_stuck()
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

    def _end_if_stuck(self) -> None:
        if self._is_ready or time.monotonic() - self._started_at < START_TIMEOUT_S:
            return
        self._take_reports()
        if not self._is_ready:
            LOGGER.error(
                "%s %d does not serve after %.0f s and is killed",
                self._kind,
                self.pid,
                START_TIMEOUT_S,
            )
            self._process.kill()

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


def _ending(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit code {returncode}"

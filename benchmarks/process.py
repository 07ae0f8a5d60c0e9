"""Processes of a benchmark: measured jobs, servers, the core they run on, the memory they take."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.errors import JobFailedError, JobTooLongError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
STOP_TIMEOUT_S = 20.0
JOB_TIMEOUT_S = 3600.0
SERVER_CORE = 0
LOAD_CORE = 1


def run_job(
    command: Sequence[str],
    job: str,
    arguments: Mapping[str, Any],
    *,
    core: int | None = None,
    timeout_s: float = JOB_TIMEOUT_S,
) -> dict[str, Any]:
    """Run one job in a process of its own and return its report.

    ``command`` takes a job's name, its arguments as JSON and the path to write the report to.

    Raises:
        JobFailedError: the process ended with an error.
        JobTooLongError: it ran for more than ``timeout_s``, and was stopped.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-job-") as folder:
        report = Path(folder) / "report.json"
        full = [*command, job, json.dumps(arguments), str(report)]
        with pinned(core):
            process = subprocess.Popen(
                full, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except BaseException as error:
            stop(process)
            if process.stdout:
                process.stdout.close()
            if isinstance(error, subprocess.TimeoutExpired):
                raise JobTooLongError(f"{job} ran for over {timeout_s:.0f} s.") from error
            raise
        if process.returncode or not report.exists():
            raise JobFailedError(
                f"{job} of {Path(command[-1]).name} ended with {process.returncode}:\n"
                + "\n".join(said.splitlines()[-20:])
            )
        found: dict[str, Any] = json.loads(report.read_text())
        return found


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Let processes started inside the block run on one core only.

    Without such a core, or where the system cannot pin, nothing is changed: `can_pin` tells.
    """
    if core is None or not can_pin():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def can_pin() -> bool:
    """Whether a server and its load can have a core each."""
    return hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > LOAD_CORE


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], *, timeout_s: float) -> None:
    """Return as soon as something accepts connections on ``port``.

    Raises:
        JobFailedError: ``process`` ended, or nothing accepted in time.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise JobFailedError(f"The server ended with {process.returncode} before it was ready.")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.005)
    raise JobFailedError(f"Nothing listened on port {port} within {timeout_s:.0f} s.")


def stop(process: subprocess.Popen[Any]) -> None:
    """Ask ``process`` to end, wait, and end what is left of it and its children."""
    family = tree(process.pid)
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for child in family[1:]:
        if child.is_running():
            child.kill()


def tree(pid: int) -> list[psutil.Process]:
    """The process and all that descend from it; empty once it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def tree_peak_mb(pid: int) -> float:
    """The peaks of a running process and its children, added up, in MiB.

    Each process counts with its own high-water mark. (``ru_maxrss`` would not do: it is inherited
    by a program from the process that started it.)
    """
    return sum(_peak_mb(process) for process in tree(pid))


def own_peak_mb() -> float:
    """The high-water mark of this process, in MiB."""
    return _peak_mb(psutil.Process())


def _peak_mb(process: psutil.Process) -> float:
    status = Path(f"/proc/{process.pid}/status")
    if status.exists():
        marks = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        if marks:
            return int(marks[0].split()[1]) / 1024
    try:
        return float(process.memory_info().rss) / 1024**2
    except psutil.NoSuchProcess:
        return 0.0

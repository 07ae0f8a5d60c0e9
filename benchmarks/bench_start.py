"""start: how long a user waits for an import, for --help, and for a server to be ready."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import data, grpc_server, process, redis_server, sides
from benchmarks.errors import JobFailedError
from benchmarks.harness import Sample, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from benchmarks.data import Size
    from benchmarks.harness import Measure, Run
    from benchmarks.redis_server import Redis
    from benchmarks.result import Result
    from benchmarks.sides import Side

LEAST_REPEATS = 5
BARE_PYTHON = (sys.executable, "-c", "pass")
# Nothing here grows with the data: one repository over the smallest serves every size.
SIZE = data.SIZES["tiny"]


def start(run: Run) -> Iterator[Result]:
    """Medians of at least five fresh processes each, after one that is not counted."""
    run = replace(run, size=data.SIZES["full"], repeat=max(run.repeat, LEAST_REPEATS))
    yield _commands(run, "start/import", lambda side: [side.python, "-c", f"import {side.imports}"])
    yield _commands(run, "start/help", lambda side: [*side.program, "--help"])
    with redis_server.running() as redis:
        yield measured(
            run.using(redis_server=redis.version()),
            "start/server",
            "s",
            ours=partial(_server_ready, run, sides.ours(), redis),
            limit=_ready(_empty_server, process.ROOT, service=""),
            peer=partial(_server_ready, run, run.peer, redis) if run.peer else None,
        )


def _commands(run: Run, name: str, command: Callable[[Side], list[str]]) -> Result:
    def of(side: Side, _size: Size) -> Measure:
        return _ended(command(side))

    return measured(
        run,
        name,
        "s",
        ours=partial(of, sides.ours()),
        limit=_ended(BARE_PYTHON),
        peer=partial(of, run.peer) if run.peer else None,
    )


def _ended(command: Sequence[str]) -> Measure:
    """From the start of a process to its end; once before it counts, for the file cache."""

    def measure() -> Sample:
        started = time.perf_counter()
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise JobFailedError(f"{' '.join(command)} failed:\n{done.stderr[-1000:]}")
        return Sample(seconds)

    measure()
    return measure


def _server_ready(run: Run, side: Side, redis: Redis, _size: Size) -> Measure:
    repository = run.folder / f"start-{side.imports}"
    side.job("prepare", sides.arguments(SIZE, repository, redis.address))
    return _ready(side.serve, repository, service=side.health_service)


def _ready(command: Callable[[int], list[str]], folder: Path, *, service: str) -> Measure:
    """From the start of a server to its health check's first SERVING."""

    def measure() -> Sample:
        started = time.perf_counter()
        with grpc_server.serving(command, folder, service=service) as (serving, _port):
            seconds = time.perf_counter() - started
            return Sample(seconds, process.tree_peak_mb(serving.pid))

    measure()
    return measure


def _empty_server(port: int) -> list[str]:
    return [sys.executable, "-m", "benchmarks.empty_server", str(port), "0"]

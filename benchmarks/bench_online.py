"""on-1, on-100, on-500: lookups over gRPC; server on one core, Redis and load on another."""

from __future__ import annotations

import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import data, grpc_server, load, lookup, process, redis_server, sides
from benchmarks.harness import Sample, beside_peer, judged, say, sized, turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.data import Size
    from benchmarks.harness import Run
    from benchmarks.redis_server import Redis
    from benchmarks.result import Result
    from benchmarks.sides import Side

RATE = "requests/s"
PYTHON_RATE = "requests (Python client)/s"
SECONDS = {"full": 5, "reduced": 3, "tiny": 1}
WARMUP_S = 1
CORE = process.SERVER_CORE


@dataclass(frozen=True, slots=True)
class Target:
    """A running server, and the request that it answers rightly."""

    port: int
    method: str
    body: Path
    reply_bytes: int
    pid: int
    redis_version: str

    def under(self, job: str, run: Run, **more: float) -> dict[str, Any]:
        """Put load on it, from the other core; the load generator's report."""
        arguments = {
            "port": self.port,
            "method": self.method,
            "body": str(self.body),
            "reply_bytes": self.reply_bytes,
            "seconds": SECONDS[run.size.name],
            "warmup_s": WARMUP_S,
            **more,
        }
        return process.run_job(sides.LOAD, job, arguments, core=process.LOAD_CORE)


def online(run: Run, *, batch: int) -> Iterator[Result]:
    """Throughput, then p99 at half of it, of every side in turns; all servers are up meanwhile."""
    name, unit = f"on-{batch}", RATE if load.h2load_is_installed() else PYTHON_RATE
    _warn_of_lesser_setups()
    with ExitStack() as stack:
        targets = _targets(run, batch, stack)
        run = run.using(redis_server=targets["ours"].redis_version)
        say(f"{sized(name, run.size)}, {unit}")
        rates = turns({each: partial(_rate, run, at) for each, at in targets.items()}, run.repeat)
        yield _result(run, name, unit, rates)
        say(f"{sized(name, run.size)}/p99, ms at half load")
        late = {
            each: partial(_p99, run, at, rates[each].figure / 2) for each, at in targets.items()
        }
        yield _result(run, f"{name}/p99", "ms", turns(late, run.repeat))


def _targets(run: Run, batch: int, stack: ExitStack) -> dict[str, Target]:
    ours = stack.enter_context(_server(run, sides.ours(), batch))
    targets = {"ours": ours, "limit": stack.enter_context(_empty_server(ours))}
    if run.peer:
        targets["peer"] = stack.enter_context(_server(run, run.peer, batch))
    return targets


@contextmanager
def _server(run: Run, side: Side, batch: int) -> Iterator[Target]:
    """A side's server over a Redis of its own that holds every entity, checked once."""
    repository, body = run.folder / side.imports, run.folder / f"{side.imports}.body"
    with _filled_redis(run, side, repository) as (redis, arguments):
        asked = arguments | _lookup(run.size, batch) | {"body": str(body)}
        method = side.job("request", asked)["method"]
        with grpc_server.serving(
            side.serve, repository, service=side.health_service, core=CORE
        ) as (server, port):
            checked = side.job("check", asked | {"address": f"127.0.0.1:{port}"})
            reply_bytes = checked["reply_bytes"]
            yield Target(port, method, body, reply_bytes, server.pid, redis.version())


@contextmanager
def _filled_redis(
    run: Run, side: Side, repository: Path
) -> Iterator[tuple[Redis, dict[str, object]]]:
    """A Redis on the load's core with every entity; a peer, slow to write, is filled only once."""
    dump = data.stored_by(side.name, run.size) if side is run.peer else None
    with redis_server.running(core=process.LOAD_CORE, dump=dump) as redis:
        arguments = sides.arguments(run.size, repository, redis.address)
        side.job("prepare", arguments)
        if redis.key_count() == 0:
            side.job("prefill", arguments | {"latest": {lookup.VIEW: str(data.latest(run.size))}})
            if dump:
                redis.save(dump)
        yield redis, arguments


@contextmanager
def _empty_server(ours: Target) -> Iterator[Target]:
    """The limit: as many bytes as our reply has, and no work."""

    def serve(port: int) -> list[str]:
        return [sys.executable, "-m", "benchmarks.empty_server", str(port), str(ours.reply_bytes)]

    with grpc_server.serving(serve, process.ROOT, core=CORE) as (server, port):
        yield replace(ours, port=port, pid=server.pid)


def _lookup(size: Size, batch: int) -> dict[str, object]:
    """``batch`` entities spread over all there are, and the values that must come back."""
    import pyarrow.parquet as pq

    table = pq.read_table(data.latest(size))
    step = table.num_rows // batch
    rows = table.take(list(range(0, step * batch, step)))
    return {
        "keys": rows["user_id"].to_pylist(),
        "expected": {name: rows[name].to_pylist() for name in size.features},
    }


def _rate(run: Run, at: Target) -> Sample:
    job = "h2load" if load.h2load_is_installed() else "closed_loop"
    rate = float(at.under(job, run)["rate"])
    return Sample(rate, process.tree_peak_mb(at.pid))


def _p99(run: Run, at: Target, rate: float) -> Sample:
    late_ms = float(at.under("open_loop", run, rate=rate)["p99"])
    return Sample(late_ms, process.tree_peak_mb(at.pid))


def _result(run: Run, name: str, unit: str, found: Mapping[str, Sample]) -> Result:
    peer = (
        beside_peer(run, unit, ours=found["ours"], peer=found["peer"], size=run.size)
        if run.peer
        else None
    )
    return judged(run, name, unit, ours=found["ours"], limit=found["limit"], peer=peer)


def _warn_of_lesser_setups() -> None:
    if not load.h2load_is_installed():
        say(
            "h2load is not installed (Debian: apt-get install nghttp2-client): a client in Python "
            "takes its place, which is itself the bottleneck of fast servers."
        )
    if not process.can_pin():
        say("This machine cannot give the server and the load a core each: they share them all.")

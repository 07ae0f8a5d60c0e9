"""mat-redis and mem: the newest row of every entity into Redis; how fast, how large it is there."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import data, redis_server, sides
from benchmarks.errors import ToolMissingError, WrongAnswerError
from benchmarks.harness import Sample, measured
from benchmarks.process import run_job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.data import Size
    from benchmarks.harness import Measure, Run
    from benchmarks.redis_server import Redis
    from benchmarks.result import Result
    from benchmarks.sides import Side

# The peer holds a whole history in memory as Python objects.
PEER_SIZES = ("tiny", "reduced")
FLOAT64_BYTES = 8
# Feast expires keys by an age of their own, not by the view's ttl.
KEY_TTL_SECONDS = 2 * sides.TTL_DAYS * 86_400


def mat_redis(run: Run) -> Iterator[Result]:
    """The whole call of materialize, newest-wins, into an empty Redis each time."""
    with redis_server.running() as redis:
        yield measured(
            run.using(redis_server=redis.version()),
            "mat-redis",
            "entities/s",
            ours=partial(_materialize, run, sides.ours(), redis),
            limit=_mset(run, redis),
            peer=partial(_materialize, run, run.peer, redis) if run.peer else None,
            peer_sizes=PEER_SIZES,
        )


def mem(run: Run) -> Iterator[Result]:
    """What one stored row of ten float64 takes in Redis, with and without expiry; counted once."""
    with redis_server.running() as redis:
        _require_jemalloc(redis)
        # Bytes are counted, not timed: a second count would say the same.
        run = replace(run.using(redis_server=redis.version()), repeat=1)
    limit = float(FLOAT64_BYTES * run.size.feature_count)
    for name, expires in (("mem/expiry", True), ("mem/no-expiry", False)):
        yield measured(
            run,
            name,
            "B/row",
            ours=partial(_memory, run, sides.ours(), expires),
            limit=lambda: Sample(limit),
            peer=partial(_memory, run, run.peer, expires) if run.peer else None,
            peer_sizes=PEER_SIZES,
        )


def _materialize(run: Run, side: Side, redis: Redis, size: Size) -> Measure:
    def measure() -> Sample:
        redis.flush()
        with tempfile.TemporaryDirectory(dir=run.folder) as folder:
            arguments = sides.arguments(size, Path(folder), redis.address)
            seconds, peak_mb = _filled(side, redis, arguments, size)
        return Sample(data.key_count(size) / seconds, peak_mb)

    return measure


def _filled(
    side: Side, redis: Redis, arguments: dict[str, object], size: Size
) -> tuple[float, float]:
    """Seconds of the call and peak memory of its process."""
    side.job("prepare", arguments)
    report = side.job("materialize", arguments)
    stored = redis.key_count()
    # A few keys more are a catalogue; fewer are rows that were lost.
    if stored < data.key_count(size):
        raise WrongAnswerError(
            f"{side.name} stored {stored} keys; the history has {data.key_count(size)} entities."
        )
    return report["seconds"], report["peak_mb"]


def _mset(run: Run, redis: Redis) -> Measure:
    """The limit: the keys and values that we write, prepared, in MSET commands of 500."""
    pairs = run.folder / "pairs.arrow"
    _materialize(run, sides.ours(), redis, run.size)()
    _save_pairs(redis, pairs)
    rows = redis.key_count()

    def measure() -> Sample:
        redis.flush()
        arguments = {"pairs": str(pairs), "redis": redis.address}
        report = run_job(sides.LIMITS, "mset", arguments)
        return Sample(rows / report["seconds"], report["peak_mb"])

    return measure


def _save_pairs(redis: Redis, target: Path) -> None:
    import pyarrow as pa

    keys, values = zip(*redis.pairs(), strict=True)
    table = pa.table({"key": pa.array(keys, pa.binary()), "value": pa.array(values, pa.binary())})
    with pa.OSFile(str(target), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _memory(run: Run, side: Side, expires: bool, size: Size) -> Measure:  # noqa: FBT001
    return partial(_counted, run, side, size, expires=expires)


def _counted(run: Run, side: Side, size: Size, *, expires: bool) -> Sample:
    with (
        redis_server.running() as redis,
        tempfile.TemporaryDirectory(dir=run.folder) as folder,
    ):
        before = redis.settled_memory_bytes()
        arguments = sides.arguments(
            size,
            Path(folder),
            redis.address,
            ttl_days=sides.TTL_DAYS if expires else None,
            key_ttl_seconds=KEY_TTL_SECONDS if expires else None,
        )
        _, peak_mb = _filled(side, redis, arguments, size)
        grown = redis.settled_memory_bytes() - before
    return Sample(grown / data.key_count(size), peak_mb)


def _require_jemalloc(redis: Redis) -> None:
    allocator = str(redis.information("memory")["mem_allocator"])
    if not allocator.startswith("jemalloc"):
        raise ToolMissingError(
            f"mem needs a Redis built with jemalloc, as every production server is; this one uses "
            f"{allocator}, which takes another amount. Install redis-server "
            "(Debian: apt-get install redis-server)."
        )

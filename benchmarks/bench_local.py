"""on-local: lookups in the process that asks, from LMDB and from Redis."""

from __future__ import annotations

import json
import statistics
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks import process, redis_server, sides, training_data
from benchmarks.harness import Sample, beside_peer, judged, say, sized, turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from benchmarks.harness import Run
    from benchmarks.result import Result
    from benchmarks.sides import Side
    from benchmarks.training_data import View

BATCHES = (1, 100)
REQUESTS = 64
"""Different requests, made in turn, so that not the same few rows are always at hand."""
SECONDS = {"full": 3.0, "reduced": 2.0, "tiny": 0.1}


@dataclass(frozen=True, slots=True)
class Asking:
    """A process that looks up, over and over: its program, its job, what the job is told.

    ``late`` collects the p99 of each turn, in ms.
    """

    command: tuple[str, ...]
    job: str
    arguments: Mapping[str, Any]
    late: list[float] = field(default_factory=list)

    def measure(self) -> Sample:
        """The median of a turn's calls, in ms. Redis, if any, has the other core."""
        found = process.run_job(self.command, self.job, self.arguments, core=process.SERVER_CORE)
        self.late.append(found["p99_ms"])
        return Sample(found["median_ms"], found["peak_mb"])


def on_local(run: Run) -> Iterator[Result]:
    """Fifty features of five views for 1 and 100 entities, to Python values."""
    views = training_data.side_by_side(run.size.name)
    with ExitStack() as stack:
        filled = {"lmdb": {"ours": _prepared(run, sides.ours(), views, None)}}
        redis = {"ours": _with_redis(run, sides.ours(), views, stack)}
        if run.peer:
            redis["peer"] = _with_redis(run, run.peer, views, stack)
        filled["redis"] = redis
        for store, arguments in filled.items():
            for batch in BATCHES:
                yield from _measured(run, f"on-local/{store}-{batch}", arguments, views, batch)


def _with_redis(run: Run, side: Side, views: tuple[View, ...], stack: ExitStack) -> dict[str, Any]:
    redis = stack.enter_context(redis_server.running(core=process.LOAD_CORE))
    return _prepared(run, side, views, redis.address)


def _prepared(run: Run, side: Side, views: tuple[View, ...], redis: str | None) -> dict[str, Any]:
    """Every view applied and filled; the arguments for what follows."""
    repository = run.folder / f"{side.imports}-{'redis' if redis else 'lmdb'}"
    arguments = sides.arguments_of(views, repository) | {"redis": redis}
    side.job("prepare", arguments)
    side.job("prefill", arguments | {"latest": {v.name: str(v.history) for v in views}})
    return arguments


def _measured(
    run: Run, name: str, filled: Mapping[str, dict[str, Any]], views: tuple[View, ...], batch: int
) -> Iterator[Result]:
    asked = {
        "seconds": SECONDS[run.size.name],
        "asked": str(_write_requests(views, batch, run.folder / f"requests-{batch}.json")),
    }
    asking = {}
    for each, arguments in filled.items():
        side = sides.ours() if each == "ours" else run.peer
        assert side is not None
        asking[each] = Asking(side.worker, "local", arguments | asked)
    bare = filled["ours"] | {"rows": batch * len(views), "seconds": asked["seconds"]}
    asking["limit"] = Asking(sides.LIMITS, "bare_rows", bare)
    say(f"{sized(name, run.size)}, ms")
    medians = turns({each: at.measure for each, at in asking.items()}, run.repeat)
    yield _result(run, name, medians)
    late = {each: Sample(statistics.median(at.late)) for each, at in asking.items()}
    yield _result(run, f"{name}/p99", late)


def _write_requests(views: tuple[View, ...], batch: int, target: Path) -> Path:
    """Write requests for entities from everywhere, and the values that answer the first."""
    import numpy as np
    import pyarrow.parquet as pq

    tables = [pq.read_table(view.history).sort_by("user_id") for view in views]
    keys = tables[0].num_rows
    drawn = np.random.default_rng(7).integers(0, keys, (REQUESTS, batch))
    expected = {
        name: table[name].take(drawn[0]).to_pylist()
        for view, table in zip(views, tables, strict=True)
        for name in view.features
    }
    target.write_text(json.dumps({"requests": (drawn + 1).tolist(), "expected": expected}))
    return target


def _result(run: Run, name: str, found: Mapping[str, Sample]) -> Result:
    peer = None
    if run.peer and "peer" in found:
        peer = beside_peer(run, "ms", ours=found["ours"], peer=found["peer"], size=run.size)
    return judged(run, name, "ms", ours=found["ours"], limit=found["limit"], peer=peer)

"""The workloads by name."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks import (
    bench_local,
    bench_materialize,
    bench_on_demand,
    bench_online,
    bench_pit,
    bench_start,
    bench_windows,
)
from benchmarks.errors import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Run
    from benchmarks.result import Result


@dataclass(frozen=True, slots=True)
class Workload:
    """A named workload: what it is, and how to run it."""

    name: str
    summary: str
    run: Callable[[Run], Iterator[Result]]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload(
            "pit-1",
            "a point-in-time training set from one view, to Arrow and to Parquet (s)",
            bench_pit.pit_1,
        ),
        Workload(
            "pit-4",
            "the same from four views, 35 features, one view of two keys (s, MiB)",
            bench_pit.pit_4,
        ),
        Workload(
            "pit-hot",
            "one of a thousand keys has a quarter of all rows (s)",
            bench_pit.pit_hot,
        ),
        Workload(
            "pit-big",
            "50M rows to Parquet in 4 GB of memory (s, MiB)",
            bench_pit.pit_big,
        ),
        Workload(
            "taxi",
            "trips beside quarter- and half-hourly aggregates of 265 zones (rows/s)",
            bench_pit.taxi,
        ),
        Workload(
            "win",
            "functions over windows of time, beside SQL; a hundred windows beside three (s)",
            bench_windows.win,
        ),
        Workload(
            "mat-redis",
            "the newest row of every entity from files into Redis (entities/s)",
            bench_materialize.mat_redis,
        ),
        Workload(
            "mem",
            "memory in Redis per stored row of ten float64 (B/row)",
            bench_materialize.mem,
        ),
        *(
            Workload(
                f"on-{batch}",
                f"lookups over gRPC of {batch} x 10 float64 (requests/s, p99 at half load)",
                partial(bench_online.online, batch=batch),
            )
            for batch in (1, 100, 500)
        ),
        Workload(
            "on-local",
            "lookups in the process of 50 features of 5 views, from LMDB and Redis (ms)",
            bench_local.on_local,
        ),
        Workload(
            "on-demand",
            "on-demand expressions and functions for one row, and for a million (us of CPU)",
            bench_on_demand.on_demand,
        ),
        Workload("start", "import, --help and a server until it is ready (s)", bench_start.start),
    )
}


def named(name: str) -> Workload:
    """The workload called ``name``.

    Raises:
        BenchmarkError: there is none of this name.
    """
    try:
        return WORKLOADS[name]
    except KeyError:
        raise BenchmarkError(f"No workload {name!r}; there are {', '.join(WORKLOADS)}.") from None

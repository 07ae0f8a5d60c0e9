"""What the workloads are to reach at the full size.

The floor is what a release is not made below, the goal what we are after: a factor over the peer
where there is one to compare with, else how many times the limit it may cost, or a figure in the
result's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmarks.result import more_is_better

if TYPE_CHECKING:
    from benchmarks.result import Result


@dataclass(frozen=True, slots=True)
class Target:
    """A floor and a goal: factors over the peer, times of the limit, or bare figures.

    Without a floor, that there is a figure is enough: the work ended, and rightly.
    """

    floor: float | None
    goal: float
    of: Literal["peer", "limit", "figure"] = "peer"


TARGETS = {
    "pit-1/arrow": Target(4, 6),
    "pit-1/parquet": Target(4, 6),
    "pit-4/arrow": Target(5, 8),
    "pit-4/arrow-memory": Target(2, 4),
    "pit-4/parquet": Target(5, 8),
    "pit-4/parquet-memory": Target(2, 4),
    "pit-hot": Target(1.5, 1, of="limit"),
    "pit-big": Target(None, 2, of="limit"),
    "pit-big/memory": Target(1, 1, of="limit"),
    "taxi/1x-arrow": Target(0.7e6, 1.2e6, of="figure"),
    "taxi/1x-parquet": Target(None, 0.6e6, of="figure"),
    "taxi/10x-arrow": Target(0.7e6, 1.2e6, of="figure"),
    "taxi/10x-parquet": Target(None, 0.6e6, of="figure"),
    # The peer is the better of two plans in SQL. Of dense keys nothing is asked.
    "win/sparse": Target(1 / 1.5, 1),
    "win/zipf": Target(50, 100),
    # A hundred windows beside three.
    "win/many": Target(None, 5, of="limit"),
    "mat-redis": Target(10, 18),
    # 25 and 22 bytes a feature, of ten.
    "mem/expiry": Target(250, 220, of="figure"),
    "on-1": Target(2.5, 7),
    "on-100": Target(20, 70),
    "on-500": Target(60, 140),
    "on-1/p99": Target(2, 2, of="figure"),
    "on-100/p99": Target(3, 3, of="figure"),
    "on-500/p99": Target(8, 8, of="figure"),
    "on-local/lmdb-1": Target(0.3, 0.15, of="figure"),
    "on-local/lmdb-100": Target(1.2, 0.6, of="figure"),
    "on-local/redis-1": Target(None, 0.4, of="figure"),
    "on-local/redis-100": Target(None, 1.2, of="figure"),
    "start/import": Target(0.4, 0.3, of="figure"),
    "start/help": Target(0.3, 0.15, of="figure"),
    "start/server": Target(3, 2, of="figure"),
}


def verdict(result: Result) -> str:
    """``goal``, ``floor`` or ``below floor``.

    Empty where nothing can be said: a size other than the full one, a figure without a target, or a
    target over a peer that did not take part.
    """
    target = TARGETS.get(result.name)
    figure = _judged_figure(result, target) if target else None
    if target is None or figure is None:
        return ""
    more = target.of == "peer" or (target.of == "figure" and more_is_better(result.unit))
    for word, bound in (("goal", target.goal), ("floor", target.floor)):
        if bound is None or (figure >= bound if more else figure <= bound):
            return word
    return "below floor"


def _judged_figure(result: Result, target: Target) -> float | None:
    if target.of == "figure":
        return result.figure
    beside = result.peer if target.of == "peer" else result.limit
    return beside.ratio if beside else None

"""What the workloads are to reach at the full size.

The floor is what a release is not made below, the goal what we are after: a factor over the peer
where there is one to compare with, else a figure in the result's own unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.result import more_is_better

if TYPE_CHECKING:
    from benchmarks.result import Result


@dataclass(frozen=True, slots=True)
class Target:
    """A floor and a goal: factors over the peer, or figures where ``of_peer`` is false."""

    floor: float
    goal: float
    of_peer: bool = True


TARGETS = {
    "pit-1/arrow": Target(4, 6),
    "pit-1/parquet": Target(4, 6),
    "mat-redis": Target(10, 18),
    # 25 and 22 bytes a feature, of ten.
    "mem/expiry": Target(250, 220, of_peer=False),
    "on-1": Target(2.5, 7),
    "on-100": Target(20, 70),
    "on-500": Target(60, 140),
    "on-1/p99": Target(2, 2, of_peer=False),
    "on-100/p99": Target(3, 3, of_peer=False),
    "on-500/p99": Target(8, 8, of_peer=False),
    "start/import": Target(0.4, 0.3, of_peer=False),
    "start/help": Target(0.3, 0.15, of_peer=False),
    "start/server": Target(3, 2, of_peer=False),
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
    more = target.of_peer or more_is_better(result.unit)
    for word, bound in (("goal", target.goal), ("floor", target.floor)):
        if figure >= bound if more else figure <= bound:
            return word
    return "below floor"


def _judged_figure(result: Result, target: Target) -> float | None:
    if not target.of_peer:
        return result.figure
    return result.peer.ratio if result.peer else None

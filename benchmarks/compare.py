"""Judging one file of results against another.

Machines are noisy and shared, so what is compared is, in this order of preference: how far each
run was from its own limit, how far from its own peer, and only where there is neither, the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.result import more_is_better

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.result import Result

DEFAULT_TOLERANCE = 0.10
BETTER, SAME, WORSE, GONE, NEW = "better", "same", "WORSE", "GONE", "new"


@dataclass(frozen=True, slots=True)
class Judgement:
    """How one figure changed: ``factor`` > 1 is an improvement; ``by`` says what was compared."""

    name: str
    verdict: str
    by: str = ""
    factor: float | None = None

    def __str__(self) -> str:
        by = f"{self.factor:.2f}x, by {self.by}" if self.factor is not None else ""
        return f"{self.name:<28} {self.verdict:<7} {by}".rstrip()


def compare(
    before: Mapping[str, Result], after: Mapping[str, Result], *, tolerance: float
) -> list[Judgement]:
    """Judge every figure of two runs, in the order of their names.

    A change of less than ``tolerance`` (0.1: a tenth) either way is none. A figure counts twice:
    for what it measures, and for its peak memory.
    """
    found = []
    for name in sorted(before.keys() | after.keys()):
        if name not in after:
            found.append(Judgement(name, GONE))
        elif name not in before:
            found.append(Judgement(name, NEW))
        else:
            found.extend(_judged(before[name], after[name], tolerance))
    return found


def is_bad(judgements: list[Judgement]) -> bool:
    """Whether something got worse, or is not measured any more."""
    return any(judgement.verdict in {WORSE, GONE} for judgement in judgements)


def _judged(before: Result, after: Result, tolerance: float) -> list[Judgement]:
    by, factor = _change(before, after)
    found = [Judgement(after.name, _verdict(factor, tolerance), by, factor)]
    if before.peak_mb and after.peak_mb:
        factor = before.peak_mb / after.peak_mb
        name = f"{after.name} (memory)"
        found.append(Judgement(name, _verdict(factor, tolerance), "peak_mb", factor))
    return found


def _change(before: Result, after: Result) -> tuple[str, float]:
    if before.limit and after.limit:
        return "distance to the limit", before.limit.ratio / after.limit.ratio
    if before.peer and after.peer and before.peer.name == after.peer.name:
        return f"factor over {after.peer.name}", after.peer.ratio / before.peer.ratio
    change = after.figure / before.figure
    return "figure", change if more_is_better(after.unit) else 1 / change


def _verdict(factor: float, tolerance: float) -> str:
    if factor < 1 - tolerance:
        return WORSE
    return BETTER if factor > 1 + tolerance else SAME

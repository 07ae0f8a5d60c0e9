"""on-demand: what an expression costs for one row, and for a training set's."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.errors import WrongAnswerError
from benchmarks.harness import Sample, measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.data import Size
    from benchmarks.harness import Measure, Run
    from benchmarks.result import Result
    from featurestore.expressions.vectors import Vector

EXPRESSIONS = 10
MANY_ROWS = 1_000_000
CALLS = {1: 2_000, MANY_ROWS: 3}


def on_demand(run: Run) -> Iterator[Result]:
    """Ten expressions over ten features and a request field, computed together."""
    for name, rows in (("on-demand/row", 1), ("on-demand/rows", MANY_ROWS)):
        yield measured(
            run, name, "us", ours=partial(_computed, rows), limit=_timed(_by_hand(rows), rows)
        )


def _columns(rows: int) -> list[Vector]:
    """The request field, then the features; every tenth value of a feature is null."""
    random = np.random.default_rng(7)
    valid = np.arange(rows) % 10 != 9 if rows > 1 else None  # noqa: PLR2004 - every tenth
    features: list[Vector] = [(random.normal(size=rows), valid) for _ in range(EXPRESSIONS)]
    return [(random.normal(size=rows), None), *features]


def _computed(rows: int, _size: Size) -> Measure:
    from featurestore.expressions.computation import Computation
    from featurestore.expressions.features import ComputedFeature, bound
    from featurestore.expressions.parse import parse_expression

    features = [
        ComputedFeature(
            f"ratio:f{n}",
            "float64",
            bound(parse_expression(f"amount / nullif(f{n}, 0)"), lambda c: _position(c.name)),
        )
        for n in range(EXPRESSIONS)
    ]
    computation = Computation(["float64"] * (EXPRESSIONS + 1), features)
    columns = _columns(rows)
    found, expected = computation.run(columns, rows), _by_hand(rows)()
    if any(f[0].tobytes() != e[0].tobytes() for f, e in zip(found, expected, strict=True)):
        raise WrongAnswerError("An expression's values are not those that numpy gives.")
    return _timed(lambda: computation.run(columns, rows), rows)


def _position(name: str) -> int:
    return 0 if name == "amount" else int(name[1:]) + 1


def _by_hand(rows: int) -> Callable[[], list[Vector]]:
    amount, *features = _columns(rows)

    def run() -> list[Vector]:
        results: list[Vector] = []
        with np.errstate(all="ignore"):
            for values, valid in features:
                there = values != 0 if valid is None else valid & (values != 0)
                results.append((np.where(there, amount[0] / values, 0.0), there))
        return results

    return run


def _timed(run: Callable[[], object], rows: int) -> Measure:
    calls = CALLS[rows]

    def measure() -> Sample:
        start = time.thread_time()
        for _ in range(calls):
            run()
        return Sample((time.thread_time() - start) / calls / EXPRESSIONS * 1e6)

    return measure

"""win: windowed features beside the better of two plans in SQL, for three spreads of keys."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import sides, window_data
from benchmarks.errors import JobTooLongError
from benchmarks.harness import (
    Sample,
    judged,
    measured,
    peer_figure,
    require_digest,
    say,
    sized,
    turns,
)
from benchmarks.process import run_job
from benchmarks.result import versions
from benchmarks.training import Training
from benchmarks.training_data import once

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Measure, Run
    from benchmarks.result import Result
    from benchmarks.training_data import TrainingSet

SQL = (sys.executable, "-m", "benchmarks.window_sql")
SHAPES = tuple(window_data.SHAPES)
# Where a plan is stopped; a hundred times our own time at the full size fits in.
BOUND_S = 900.0
# A plan that takes longer is not measured a second time.
SLOW_S = 60.0
# How many spine rows the range join of skewed keys gets, by size: all would take hours.
JOINED_ROWS = {"full": 300, "reduced": 1_000, "tiny": 2_000}


@dataclass(slots=True)
class Plan:
    """One plan in SQL over a training set, and what came of it.

    Attributes:
        job: Its job in `window_sql`.
        label: What it is called in results.
        first: How many rows of the spine it gets; None for all. Then the time for all is
            extrapolated, from that many rows and a tenth of them.
        stopped: Whether it ran into `BOUND_S`, so that its figure is only a lower bound.
    """

    job: str
    label: str
    training_set: TrainingSet
    warmup: TrainingSet
    first: int | None = None
    stopped: bool = False
    slow: Sample | None = None

    def measure(self) -> Sample:
        """The seconds for the whole spine."""
        if self.slow:
            return self.slow
        found = self._extrapolated(self.first) if self.first else self._taken(None)
        if found.figure > SLOW_S:
            self.slow = found
        return found

    def _extrapolated(self, first: int) -> Sample:
        few, more = self._taken(first // 10), self._taken(first)
        rows = (first // 10, first, self.training_set.rows)
        return Sample(extrapolated(few.figure, more.figure, rows), more.peak_mb)

    def _taken(self, first: int | None) -> Sample:
        arguments = _sql_arguments(self.training_set, first)
        arguments["warmup"] = _sql_arguments(self.warmup, None)
        try:
            report = run_job(SQL, self.job, arguments, timeout_s=BOUND_S)
        except JobTooLongError:
            self.stopped = True
            return Sample(BOUND_S)
        require_digest(self.label, report["digest"], _right_answer(self.training_set, first))
        return Sample(report["seconds"], report["peak_mb"])


def extrapolated(few_s: float, more_s: float, rows: tuple[int, int, int]) -> float:
    """The seconds for ``rows[2]`` rows, when ``rows[0]`` and ``rows[1]`` took so many.

    What is paid once, whatever the number of rows, counts once.
    """
    few, more, whole = rows
    return more_s + max(0.0, more_s - few_s) / (more - few) * (whole - more)


def win(run: Run) -> Iterator[Result]:
    """Count, sum, mean, min and max over three windows; then two functions over a hundred."""
    for shape in SHAPES:
        yield _beside_sql(run, shape)
    yield _many(run)


def _beside_sql(run: Run, shape: str) -> Result:
    make = partial(window_data.windows, shape=shape)
    plans = _plans(run, shape, make)
    name = f"win/{shape}"
    say(f"{sized(name, run.size)}, s")
    measures: dict[str, Measure] = {"ours": Training(make).of(run, sides.ours())(run.size)}
    found = turns(measures | {p.label: p.measure for p in plans}, run.repeat)
    better = min(plans, key=lambda plan: found[plan.label].figure)
    peer = f"duckdb {versions()['duckdb']}, {better.label}{', stopped' if better.stopped else ''}"
    ours = found["ours"]
    beside = peer_figure(peer, "s", ours=ours, peer=found[better.label])
    return judged(run, name, "s", ours=ours, peer=beside)


def _plans(run: Run, shape: str, make: Callable[[str], TrainingSet]) -> list[Plan]:
    training_set, warmup = make(run.size.name), make("tiny")
    join, frames = "range join", "window frames"
    first = None
    if window_data.SHAPES[shape].is_skewed:
        first = min(JOINED_ROWS[run.size.name], training_set.rows)
        join = f"range join of {first:,} rows, extrapolated"
    return [
        Plan("range_join", join, training_set, warmup, first),
        Plan("window_frames", frames, training_set, warmup),
    ]


def _many(run: Run) -> Result:
    """A hundred windows, streamed; the limit is three of them, streamed too."""
    many, three = (
        Training(
            partial(
                window_data.windows,
                shape="sparse",
                functions=window_data.MANY_FUNCTIONS,
                lengths=lengths,
            ),
            job="streamed",
        )
        for lengths in (window_data.many_windows(), window_data.WINDOWS)
    )
    side = sides.ours()
    limit = three.of(run, side)(run.size)
    return measured(run, "win/many", "s", ours=many.of(run, side), limit=limit)


def _sql_arguments(training_set: TrainingSet, first: int | None) -> dict[str, Any]:
    view = training_set.views[0]
    aggregation = view.aggregations[0]
    columns = [(f, w) for f in aggregation["functions"] for w in aggregation["windows"]]
    return {
        "events": str(view.history),
        "spine": str(training_set.spine),
        "first": first,
        "columns": dict(zip(view.features, columns, strict=True)),
    }


def _right_answer(training_set: TrainingSet, first: int | None) -> dict[str, float]:
    if first is None:
        return training_set.right_answer()
    compute = partial(
        window_data.window_digest,
        training_set.views[0].history,
        training_set.spine,
        first=first,
    )
    return once(f"{training_set.name}-first-{first}", compute)

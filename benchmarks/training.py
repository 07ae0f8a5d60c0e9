"""Measuring one side's training sets: in a fresh process, warm, right answers only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import sides
from benchmarks.harness import Sample, require_digest
from benchmarks.process import run_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.data import Size
    from benchmarks.harness import Measure, Run
    from benchmarks.sides import Side
    from benchmarks.training_data import TrainingSet


@dataclass(frozen=True, slots=True)
class Training:
    """What is to be measured, for any side and size.

    Attributes:
        make: The training set of a size, by the size's name.
        target: "arrow" or "parquet".
        job: "training", or "streamed" for record batches.
        memory_limit: Of our own engine, such as "4GB"; None for its default.
        per_second: Whether the figure is the spine's rows a second, and not seconds.
    """

    make: Callable[[str], TrainingSet]
    target: str = "arrow"
    job: str = "training"
    memory_limit: str | None = None
    per_second: bool = False

    def to(self, target: str) -> Training:
        """The same to another target."""
        return replace(self, target=target)

    def of(self, run: Run, side: Side) -> Callable[[Size], Measure]:
        """How to measure one side at a size."""
        return lambda size: self._measure(run, side, self.make(size.name))

    def scan(self, run: Run, *, one_in: int = 10) -> Measure:
        """The limit: to read the first view's history, and write as many rows as the spine has."""
        views = self.make(run.size.name).views
        arguments = sides.arguments_of(views, run.folder)
        arguments |= {"target": self._file(run), "one_in": one_in}

        def measure() -> Sample:
            _make_new(arguments)
            report = run_job(sides.LIMITS, "scan", arguments)
            return Sample(report["seconds"], report["peak_mb"])

        return measure

    def _measure(self, run: Run, side: Side, training_set: TrainingSet) -> Measure:
        arguments = self._arguments(run, side, training_set)
        # Imports and the first connection cost the same whatever the size: they are not meant.
        arguments["warmup"] = self._arguments(run, side, self.make("tiny"))
        wanted = training_set.right_answer()

        def measure() -> Sample:
            _make_new(arguments)
            report = side.job(self.job, arguments)
            require_digest(side.name, report["digest"], wanted)
            seconds = report["seconds"]
            figure = training_set.rows / seconds if self.per_second else seconds
            return Sample(figure, report["peak_mb"])

        return measure

    def _arguments(self, run: Run, side: Side, training_set: TrainingSet) -> dict[str, Any]:
        """A repository with the views, prepared once, and what to join to them."""
        repository = run.folder / f"{side.imports}-{training_set.name}"
        arguments = sides.arguments_of(
            training_set.views, repository, memory_limit=self.memory_limit
        )
        if not repository.exists():
            side.job("prepare", arguments)
        return arguments | {"spine": str(training_set.spine), "target": self._file(run)}

    def _file(self, run: Run) -> str | None:
        return str(run.folder / "training.parquet") if self.target == "parquet" else None


def _make_new(arguments: dict[str, Any]) -> None:
    """Make sure that a side writes a new file: to free what an old one holds is no part of it."""
    if arguments["target"]:
        Path(arguments["target"]).unlink(missing_ok=True)

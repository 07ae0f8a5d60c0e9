"""Statistics of a training set, gathered while it is computed for somebody else."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pyarrow as pa

from featurestore.errors import RequestError
from featurestore.statistics import Profile, Profiler, ViewCoverage
from featurestore.statistics.profiler import CHUNK_ROWS
from featurestore.training.coverage import Coverage, coverage_of
from featurestore.training.query import FeatureQuery
from featurestore.training.task import JoinTask
from featurestore.training.watch import Watch


class JobProfiler:
    """Gathers the statistics of one computation of a job's result; see `RetrievalJob.profiler`."""

    def __init__(
        self,
        schema: pa.Schema,
        tasks: Sequence[JoinTask],
        query: FeatureQuery,
        *,
        coverage: bool,
        edges: Mapping[str, Sequence[Any]] | None,
    ) -> None:
        self._profiler = Profiler(schema, edges=edges)
        self._tasks = tasks
        self._done = self._used = False
        self._coverage = coverage
        self.meters: list[Coverage | None] = [None] * len(tasks)
        if coverage:
            names = _names(query)
            self.meters = [
                coverage_of(task, names.get(number, {})) for number, task in enumerate(tasks)
            ]

    def begin(self, schema: pa.Schema) -> None:
        """Make sure that a computation is the one that this is for.

        Raises:
            RequestError: It is not, or this has seen one before.
        """
        if self._used or not schema.equals(self._profiler.schema):
            raise RequestError(
                "This profiler is of another job, or has been used before.",
                hint="make one with profiler() for every computation",
            )
        self._used = True

    def add(
        self, table: pa.Table, joined: Sequence[pa.Table], start: int, total: int, watch: Watch
    ) -> None:
        """Look at some of the result's rows.

        Args:
            table: The rows.
            joined: The same rows of what each task joined.
            start: The number of the first.
            total: The result's rows.
            watch: Is told how far it has got, and may raise.
        """
        with watch.phase("profiling", start, start + table.num_rows, total):
            for first in range(0, table.num_rows, CHUNK_ROWS):
                watch.moved(first, table.num_rows)
                self._profiler.add(table.slice(first, CHUNK_ROWS))
            for meter, part in zip(self.meters, joined, strict=True):
                if meter is not None:
                    meter.add(part, meter.task.keys.slice(start, table.num_rows))
        self._done = start + table.num_rows >= total

    def finish(self) -> Profile:
        """Return the profile.

        Raises:
            RequestError: The job has not come to its end yet.
        """
        if not self._done:
            raise RequestError(
                "This profiler has not seen the whole result.",
                hint="pass it to to_batches() or write_parquet() of its job first",
            )
        profile = self._profiler.finish()
        if not self._coverage:
            return profile
        covered: dict[str, ViewCoverage] = {}
        for task, meter in zip(self._tasks, self.meters, strict=True):
            if meter is not None:
                covered[_unused(task.label, covered)] = meter.report()
        return replace(profile, coverage=covered)


def _unused(label: str, taken: Container[str]) -> str:
    """Return a role's name; a number tells apart roles of one name, which differ by their keys."""
    names = (label if n == 1 else f"{label} ({n})" for n in count(1))
    return next(name for name in names if name not in taken)


def _names(query: FeatureQuery) -> dict[int, dict[int, str]]:
    """Return for each join the positions of its features that the result has, and their names."""
    places = list(range(len(query.outputs)))
    if query.on_demand is not None:
        places = [place for place in query.on_demand.order if place >= 0]
    names: dict[int, dict[int, str]] = {}
    for place in places:
        output = query.outputs[place]
        names.setdefault(output.join, {})[output.feature] = output.name
    return names

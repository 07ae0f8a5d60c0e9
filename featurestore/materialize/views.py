"""Runs of several views of a project, one after the other."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featurestore.errors import FeatureStoreError, RequestError
from featurestore.materialize.estimate import RunEstimate, estimate_run
from featurestore.materialize.plan import Task, plan_incremental, plan_run
from featurestore.materialize.run import Materializer, RunReport, failed_report
from featurestore.materialize.write import Progress
from featurestore.offline.engine import OfflineEngine
from featurestore.online.store import OnlineStore
from featurestore.registry.generations import LiveView
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.state import RegisteredView
from featurestore.time import Clock


@dataclass(frozen=True, kw_only=True)
class ViewRuns:
    """Runs of some views of a project, all at one moment.

    Attributes:
        project: The project.
        views: The views, in order, with their generations that are alive.
        engine: Opens what reads.
        store: Opens what is written to; an estimate opens neither.
        registry: Keeps leases, tasks, runs and watermarks.
        clock: Says which moment it is.
        root: Folder that the sources' relative paths start at.
        grace_s: How long a generation that lookups leave is written further.
        progress: Told of every batch, or None.
    """

    project: str
    views: Sequence[LiveView]
    engine: Callable[[], OfflineEngine]
    store: Callable[[], OnlineStore]
    registry: SqlRegistry
    clock: Clock
    root: Path
    grace_s: float
    progress: Progress | None = None

    @cached_property
    def now_us(self) -> int:
        """The moment, in microseconds."""
        return self.clock.now_micros()

    @cached_property
    def materializer(self) -> Materializer:
        """What executes the runs."""
        return Materializer(
            project=self.project,
            engine=self.engine(),
            store=self.store(),
            registry=self.registry,
            clock=self.clock,
            root=self.root,
            grace_s=self.grace_s,
        )

    def tasks(self, start_us: int | None, end_us: int | None) -> list[Task]:
        """Return the tasks of `materialize(start, end)`; errors are those of `plan_run`."""
        bounds = {"start_us": start_us, "end_us": end_us}
        return [
            plan_run(generation, **bounds, now_us=self.now_us)
            for view in self.views
            for generation in view.written
        ]

    def new_task(self, view: RegisteredView, end_us: int | None) -> Task:
        """Return the task of `materialize_incremental(end)` for a view, from its watermark."""
        mark = self.registry.watermark(self.project, view.definition.name, view.generation)
        return plan_incremental(view, mark, end_us=end_us, now_us=self.now_us)

    def run(self, start_us: int | None, end_us: int | None, *, overwrite: bool) -> list[RunReport]:
        """Write rows of event times in (start, end]; all tasks are planned before the first."""
        return [self._run(task, overwrite=overwrite) for task in self.tasks(start_us, end_us)]

    def run_incremental(self, end_us: int | None) -> list[RunReport]:
        """Write what is new since the last run of each view."""
        return [
            self._run(self.new_task(generation, end_us))
            for view in self.views
            for generation in view.written
        ]

    def _run(self, task: Task, *, overwrite: bool = False) -> RunReport:
        """Execute a task; that of an older generation may fail, as what it reads may be gone.

        The newest one is written after those that lookups read, and takes their place.
        """
        started = time.monotonic()
        try:
            return self.materializer.run(task, overwrite=overwrite, progress=self.progress)
        except FeatureStoreError as error:
            if error.retryable or self._is_newest(task.view):
                raise
            return failed_report(task, error, seconds=time.monotonic() - started)

    def _is_newest(self, view: RegisteredView) -> bool:
        name = view.definition.name
        return any(v.name == name and v.newest.generation == view.generation for v in self.views)

    def resume(
        self, start_us: int | None, end_us: int | None, *, overwrite: bool
    ) -> list[RunReport]:
        """Go on with the runs that were interrupted; views without one are left out.

        Raises:
            RequestError: There are bounds, or `overwrite`: an interrupted run has its own.
        """
        if start_us is not None or end_us is not None or overwrite:
            raise RequestError(
                "An interrupted run has its own start, end and overwrite.",
                hint="leave these out with resume, or start a new run",
            )
        reports = [self.materializer.resume(v.written, progress=self.progress) for v in self.views]
        return [report for report in reports if report is not None]

    def estimate(self, start_us: int | None, end_us: int | None) -> list[RunEstimate]:
        """Return what `run` would do; nothing is written."""
        return [estimate_run(task, self.root) for task in self.tasks(start_us, end_us)]

    def estimate_incremental(self, start_us: int | None, end_us: int | None) -> list[RunEstimate]:
        """Return what `run_incremental` would do; nothing is written.

        Raises:
            RequestError: There is a start: an incremental run begins where the last one ended.
        """
        if start_us is not None:
            raise RequestError("An incremental run begins where the last one ended.")
        return [
            estimate_run(self.new_task(generation, end_us), self.root)
            for view in self.views
            for generation in view.written
        ]

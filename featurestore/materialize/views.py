"""Runs of several views of a project, one after the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from featurestore.errors import RequestError
from featurestore.materialize.estimate import RunEstimate, estimate_run
from featurestore.materialize.plan import Task, plan_incremental, plan_run
from featurestore.materialize.run import Materializer, RunReport
from featurestore.materialize.write import Progress
from featurestore.offline.engine import OfflineEngine
from featurestore.online.store import OnlineStore
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.state import RegisteredView
from featurestore.time import Clock


@dataclass(frozen=True, kw_only=True)
class ViewRuns:
    """Runs of some views of a project, all at one moment.

    Attributes:
        project: The project.
        views: The views, in order.
        engine: Opens what reads.
        store: Opens what is written to; an estimate opens neither.
        registry: Keeps leases, tasks, runs and watermarks.
        clock: Says which moment it is.
        root: Folder that the sources' relative paths start at.
        progress: Told of every batch, or None.
    """

    project: str
    views: Sequence[RegisteredView]
    engine: Callable[[], OfflineEngine]
    store: Callable[[], OnlineStore]
    registry: SqlRegistry
    clock: Clock
    root: Path
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
        )

    def tasks(self, start_us: int | None, end_us: int | None) -> list[Task]:
        """Return the tasks of `materialize(start, end)`; errors are those of `plan_run`."""
        bounds = {"start_us": start_us, "end_us": end_us}
        return [plan_run(view, **bounds, now_us=self.now_us) for view in self.views]

    def new_task(self, view: RegisteredView, end_us: int | None) -> Task:
        """Return the task of `materialize_incremental(end)` for a view, from its watermark."""
        mark = self.registry.watermark(self.project, view.definition.name, view.generation)
        return plan_incremental(view, mark, end_us=end_us, now_us=self.now_us)

    def run(self, start_us: int | None, end_us: int | None, *, overwrite: bool) -> list[RunReport]:
        """Write rows of event times in (start, end]; all tasks are planned before the first."""
        return [
            self.materializer.run(task, overwrite=overwrite, progress=self.progress)
            for task in self.tasks(start_us, end_us)
        ]

    def run_incremental(self, end_us: int | None) -> list[RunReport]:
        """Write what is new since the last run of each view."""
        return [
            self.materializer.run(self.new_task(view, end_us), progress=self.progress)
            for view in self.views
        ]

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
        reports = [self.materializer.resume(v, progress=self.progress) for v in self.views]
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
        return [estimate_run(self.new_task(view, end_us), self.root) for view in self.views]

"""Runs of several views of a project, one after the other."""

from collections.abc import Sequence
from dataclasses import dataclass

from featurestore.errors import RequestError
from featurestore.materialize.plan import Task, plan_incremental, plan_run
from featurestore.materialize.run import Materializer, RunReport
from featurestore.materialize.write import Progress
from featurestore.registry.state import RegisteredView


@dataclass(frozen=True, kw_only=True)
class ViewRuns:
    """Runs of some views at one moment.

    Attributes:
        materializer: Executes them.
        views: The views, in order.
        now_us: The moment.
        progress: Told of every batch, or None.
    """

    materializer: Materializer
    views: Sequence[RegisteredView]
    now_us: int
    progress: Progress | None = None

    def tasks(self, start_us: int | None, end_us: int | None) -> list[Task]:
        """Return the tasks of `materialize(start, end)`; errors are those of `plan_run`."""
        return [
            plan_run(view, start_us=start_us, end_us=end_us, now_us=self.now_us)
            for view in self.views
        ]

    def incremental_task(self, view: RegisteredView, end_us: int | None) -> Task:
        """Return the task of `materialize_incremental(end)` for one view, from its watermark."""
        made = self.materializer
        mark = made.registry.watermark(made.project, view.definition.name, view.generation)
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
            self.materializer.run(self.incremental_task(view, end_us), progress=self.progress)
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

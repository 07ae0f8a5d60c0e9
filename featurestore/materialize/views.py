"""Runs of several views of a project, one after the other or side by side."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

from featurestore.contracts.gate import Gate
from featurestore.errors import FeatureStoreError, RequestError
from featurestore.materialize.carry import Succession
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

Work = TypeVar("Work")


class _Together:
    """Runs side by side, of which the first that fails ends the others at their next batch.

    Attributes:
        error: What ended them.
    """

    error: BaseException

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def run(
        self, work: Callable[[Work, Progress | None], list[RunReport]], what: Work
    ) -> list[RunReport]:
        """Do one of them."""
        self._check()
        try:
            return work(what, self._report)
        except BaseException as error:
            self.stop(error)
            raise

    def stop(self, error: BaseException) -> None:
        """Let each run fail at its next batch; the first reason counts."""
        with self._lock:
            if not self._stopped.is_set():
                self.error = error
                self._stopped.set()

    def _report(self, view: str, done: int, total: int) -> None:
        """Pass progress on, one call at a time."""
        self._check()
        if self._progress is not None:
            with self._lock:
                self._progress(view, done, total)

    def _check(self) -> None:
        if self._stopped.is_set():
            raise FeatureStoreError(
                "The run was stopped, because one beside it failed.",
                hint="featurestore materialize --resume goes on where it was",
            )


@dataclass(frozen=True, kw_only=True)
class ViewRuns:
    """Runs of some views of a project, all at one moment.

    Attributes:
        project: The project.
        views: The views, in order, with their generations that are alive.
        engine: Opens what reads, given how many of its kind share threads and memory.
        store: Opens what is written to; an estimate opens neither.
        registry: Keeps leases, tasks, runs and watermarks.
        clock: Says which moment it is.
        root: Folder that the sources' relative paths start at.
        grace_s: How long a generation that lookups leave is written further.
        retention_us: How long a tombstone is kept in a view without ttl.
        drop_pushed: Let lookups switch to a new generation that lacks rows which were pushed to the
            one before.
        at_once: How many views are run side by side.
        gate: Checks contracts before a run writes; None checks none. A run that is resumed was
            checked when it began.
        progress: Told of every batch, or None; of views side by side one call at a time.
    """

    project: str
    views: Sequence[LiveView]
    engine: Callable[[int], OfflineEngine]
    store: Callable[[], OnlineStore]
    registry: SqlRegistry
    clock: Clock
    root: Path
    grace_s: float
    retention_us: int
    drop_pushed: bool = False
    at_once: int = 1
    gate: Gate | None = None
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
            engine=self.engine(min(self.at_once, max(1, len(self.views)))),
            store=self.store(),
            registry=self.registry,
            clock=self.clock,
            root=self.root,
            grace_s=self.grace_s,
            retention_us=self.retention_us,
            gate=self.gate,
        )

    def tasks(self, start_us: int | None, end_us: int | None) -> list[list[Task]]:
        """Return the tasks of `materialize(start, end)`, view by view, as `plan_run` makes them."""
        bounds = {"start_us": start_us, "end_us": end_us}
        return [
            [plan_run(generation, **bounds, now_us=self.now_us) for generation in view.written]
            for view in self.views
        ]

    def new_task(self, view: RegisteredView, end_us: int | None) -> Task:
        """Return the task of `materialize_incremental(end)` for a view, from its watermark."""
        mark = self.registry.watermark(self.project, view.definition.name, view.generation)
        return plan_incremental(view, mark, end_us=end_us, now_us=self.now_us)

    def run(self, start_us: int | None, end_us: int | None, *, overwrite: bool) -> list[RunReport]:
        """Write rows of event times in (start, end]; all tasks are planned before the first."""

        def run_view(tasks: Sequence[Task], progress: Progress | None) -> list[RunReport]:
            return [self._run(task, progress, overwrite=overwrite) for task in tasks]

        return self._of_each(run_view, self.tasks(start_us, end_us))

    def run_incremental(self, end_us: int | None) -> list[RunReport]:
        """Write what is new since the last run of each view."""

        def run_view(view: LiveView, progress: Progress | None) -> list[RunReport]:
            return [self._run(self.new_task(v, end_us), progress) for v in view.written]

        return self._of_each(run_view, self.views)

    def _of_each(
        self, work: Callable[[Work, Progress | None], list[RunReport]], of_views: Sequence[Work]
    ) -> list[RunReport]:
        """Return the reports of all views, in their order; the first failure ends the others."""
        if self.at_once == 1 or len(of_views) < 2:  # noqa: PLR2004 - nothing beside the other
            with self.registry.kept_open():
                return [report for each in of_views for report in work(each, self.progress)]
        _ = self.materializer  # opened once, by this thread
        together = _Together(self.progress)
        pool = ThreadPoolExecutor(self.at_once, thread_name_prefix="view")
        with self.registry.kept_open(), pool:
            try:
                found = list(pool.map(partial(together.run, work), of_views))
            except BaseException as error:  # noqa: BLE001 - the first one is raised
                together.stop(error)
                pool.shutdown(wait=False, cancel_futures=True)
                raise together.error from None
        return [report for reports in found for report in reports]

    def _run(self, task: Task, progress: Progress | None, *, overwrite: bool = False) -> RunReport:
        """Execute a task; that of an older generation may fail, as what it reads may be gone.

        The newest one is written after those that lookups read, and takes their place.
        """
        started = time.monotonic()
        try:
            return self.materializer.run(
                task,
                overwrite=overwrite,
                progress=progress,
                succession=self._succession(task.view),
            )
        except FeatureStoreError as error:
            if error.retryable or self._is_newest(task.view):
                raise
            return failed_report(task, error, seconds=time.monotonic() - started)

    def _succession(self, view: RegisteredView) -> Succession | None:
        """Return what a generation is to take the place of, if it is to."""
        for live in self.views:
            is_next = live.newest.generation == view.generation and live.is_pending
            if live.name == view.definition.name and is_next and not live.is_held:
                return Succession(old=live.served, drop_pushed=self.drop_pushed)
        return None

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

        def resume_view(view: LiveView, progress: Progress | None) -> list[RunReport]:
            report = self.materializer.resume(
                view.written, progress=progress, succession=self._succession(view.newest)
            )
            return [] if report is None else [report]

        return self._of_each(resume_view, self.views)

    def estimate(self, start_us: int | None, end_us: int | None) -> list[RunEstimate]:
        """Return what `run` would do; nothing is written."""
        tasks = (task for of_view in self.tasks(start_us, end_us) for task in of_view)
        return [estimate_run(task, self.root) for task in tasks]

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

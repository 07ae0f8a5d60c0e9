"""Executes tasks: engine -> encoder -> online store, reading and writing at the same time.

What has to survive a kill -9 is in the ledger before it matters: the task before anything is read,
its chunks before any is written, each chunk when the online store has acknowledged it. The
watermark moves, and the task goes, in one transaction after the last.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featurestore.contracts.gate import Gate
from featurestore.errors import FeatureStoreError, ResumeError, shown
from featurestore.materialize.carry import DEFAULT_RETENTION_US, Carried, Succession, carry_over
from featurestore.materialize.failpoints import Failpoint, hit
from featurestore.materialize.lease import holder_name, leased
from featurestore.materialize.plan import Task, chunk_count, chunk_entities, resumed_task
from featurestore.materialize.write import BATCH_ROWS, Progress, RowWriter
from featurestore.offline.engine import LatestRows, OfflineEngine, ScanSummary
from featurestore.offline.ordinals import BEYOND
from featurestore.offline.scan import SourceScan, only_files, open_scan
from featurestore.offline.windows.latest import WindowRows
from featurestore.online.store import OnlineStore, TableId
from featurestore.registry.generations import DEFAULT_GRACE_S
from featurestore.registry.runs import ReadFile, RunRecord, Watermark
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.state import RegisteredView
from featurestore.registry.tasks import Chunk, TaskRecord
from featurestore.time import Clock, format_instant, from_micros


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What one run did.

    Attributes:
        view: The view's name.
        kind: "full", "window" or "incremental".
        start: Exclusive start of a window, or None.
        end: Inclusive end: event times up to here were offered.
        clipped: Whether the end asked for lay in the future and became now.
        rows_read: Source rows in the interval that have a key and a time.
        entities: Distinct keys among them: rows offered to the store.
        written: Rows that the store took.
        kept: Rows that lost to a newer stored one.
        expired: Rows so old that the store might drop them at once; they were not offered.
        null_keys: Source rows without a join key, never visible.
        null_times: Source rows without an event time, never visible.
        seconds: Duration of the run; of its last attempt if it was resumed.
        resumed: How many of the entities an earlier attempt had dealt with.
        generation: Of the view, the one that was written.
        switched: Whether lookups read this generation from now on, and read another one before.
        carried: Tombstones and pushed rows that it took over from the generation before.
        left_pushed: Rows that it could not take over, so that lookups did not switch.
        error: Why writing a generation failed that is not the newest; None when it did not.
        validation: What became of the contracts of what was read: "passed", "warned" or
            "quarantined"; None if they were not checked.
        broken: The rules that do not hold, in a few words each.
    """

    view: str
    kind: str
    start: str | None
    end: str
    clipped: bool
    rows_read: int
    entities: int
    written: int
    kept: int
    expired: int
    null_keys: int
    null_times: int
    seconds: float
    resumed: int = 0
    generation: int = 1
    switched: bool = False
    carried: int = 0
    left_pushed: int = 0
    error: str | None = None
    validation: str | None = None
    broken: tuple[str, ...] = ()

    @property
    def rows_per_second(self) -> float:
        """Entities offered per second of the whole run, or of its last attempt."""
        return (self.entities - self.resumed) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Materializer:
    """Runs tasks of one project.

    Attributes:
        project: The project.
        engine: Reads.
        store: Is written to.
        registry: Keeps leases, runs and watermarks.
        clock: Decides how much longer a row may live.
        root: Folder that the sources' relative paths start at.
        holder: What its leases are taken as: unique, and telling in a message.
        chunk_entities: How many entities a chunk has, about; None for what suits the view.
        batch_rows: How many rows one write has at most.
        grace_s: How long a generation that lookups leave is written further.
        retention_us: How long a tombstone is kept in a view without ttl.
        gate: Checks contracts before anything is written; None checks none.
    """

    project: str
    engine: OfflineEngine
    store: OnlineStore
    registry: SqlRegistry
    clock: Clock
    root: Path
    holder: str = field(default_factory=holder_name)
    chunk_entities: int | None = None
    batch_rows: int = BATCH_ROWS
    grace_s: float = DEFAULT_GRACE_S
    retention_us: int = DEFAULT_RETENTION_US
    gate: Gate | None = None

    def run(
        self,
        task: Task,
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
        succession: Succession | None = None,
    ) -> RunReport:
        """Execute one task and record it.

        Args:
            task: The task.
            overwrite: Replace stored rows even if they are newer.
            progress: Told of every batch, or None.
            succession: What the task's generation is to take the place of, or None.

        Raises:
            LeaseHeldError: Another run of this view is under way (retryable).
            ContractError: Rows to be read break a rule whose policy is to fail.
            SourceChangedError: A file changed meanwhile (retryable); the watermark stays.
            FeatureStoreError: Reading or writing failed; the run is recorded as failed.
        """
        view = task.view.definition
        with leased(self.registry, self.project, view.name, self.holder):
            hit(Failpoint.LEASED)
            with self._failures_recorded(task):
                scan = open_scan(view, view.feature_names, self.root)
                checked = self._checked(task, scan)
                record = self._record_of(task, scan, overwrite=overwrite)
                self.registry.begin_task(record)
                report = self._execute(task, scan, record, progress, succession)
                return replace(report, **checked)

    def _checked(self, task: Task, scan: SourceScan) -> dict[str, Any]:
        """Check the contracts of what a run is to read, and return what its report says of it."""
        if self.gate is None:
            return {}
        files = {file.path for file in scan.all_files}
        found = self.gate.let_through([task.view.definition], task.rows, files=files)
        return {"validation": found.status, "broken": found.broken}

    def resume(
        self,
        generations: Sequence[RegisteredView],
        *,
        progress: Progress | None = None,
        succession: Succession | None = None,
    ) -> RunReport | None:
        """Go on with the interrupted run of a view, or return None if there is none.

        Args:
            generations: Those of the view that are alive.
            progress: Told of every batch, or None.
            succession: What the newest generation is to take the place of, or None.

        It reads the same rows of the same files, and offers those of chunks that are not done.
        Files that came since are left to the next run.

        Raises:
            LeaseHeldError: The run is under way, or was until less than half a minute ago
                (retryable).
            ResumeError: The view means something else now, or a file changed.
        """
        name = generations[0].definition.name
        left = [task for task in self.registry.tasks(self.project) if task.view == name]
        if not left:
            return None
        _alive(generations, left[0])  # not to begin another attempt in vain
        with leased(self.registry, self.project, name, self.holder):
            hit(Failpoint.LEASED)
            record = self.registry.resume_task(self.project, name, self.holder)
            if record is None:  # it ended meanwhile
                return None
            view = _alive(generations, record)
            task = resumed_task(record, view)
            if view.generation != max(v.generation for v in generations):
                succession = None
            with self._failures_recorded(task):
                scan = self._reopened(record, view)
                return self._execute(task, scan, record, progress, succession)

    def _record_of(self, task: Task, scan: SourceScan, *, overwrite: bool) -> TaskRecord:
        now = datetime.now(UTC)
        return TaskRecord(
            project=self.project,
            view=task.view.definition.name,
            generation=task.view.generation,
            kind=task.kind,
            start_us=task.start_us,
            end_us=task.end_us,
            after_us=task.rows.after_us,
            created_after_us=task.rows.created_after_us,
            or_event_after_us=task.rows.or_event_after_us,
            overwrite=overwrite,
            clock_us=self.clock.now_micros(),
            began_at=now,
            attempted_at=now,
            seen_at=now,
            holder=self.holder,
            source_files=tuple(ReadFile(f.path, f.size, f.mtime_ns) for f in scan.all_files),
        )

    def _reopened(self, record: TaskRecord, view: RegisteredView) -> SourceScan:
        """Return a scan of the files that the task began with."""
        definition = view.definition
        scan = open_scan(definition, definition.feature_names, self.root)
        found = {file.path: (file.size, file.mtime_ns) for file in scan.all_files}
        for file in record.source_files:
            if found.get(file.path) != (file.size, file.mtime_ns):
                happened = "has changed" if file.path in found else "is gone"
                raise ResumeError(
                    view=definition.name, reason=f"{shown(file.path)} {happened} since it began"
                )
        return only_files(scan, {file.path for file in record.source_files})

    def _execute(
        self,
        task: Task,
        scan: SourceScan,
        record: TaskRecord,
        progress: Progress | None,
        succession: Succession | None,
    ) -> RunReport:
        hit(Failpoint.BEGUN)
        started = time.monotonic()
        with closing(self._newest(task, scan, created_us=record.clock_us)) as latest:
            hit(Failpoint.READ)
            chunks = self._left(record) or self._divided(task, record, latest)
            written = self._writer(task, record, progress).write(latest, chunks)
            summary = latest.summary
        hit(Failpoint.WRITTEN)
        carried = self._carry_over(task, succession)
        hit(Failpoint.CARRIED)
        report = _report(
            task,
            summary,
            written,
            resumed=sum(chunk.entities for chunk in chunks if chunk.state == "done"),
            seconds=time.monotonic() - started,
        )
        may_switch = not carried.left or (succession is not None and succession.drop_pushed)
        switched = self._record_success(task, report, summary, record, may_switch=may_switch)
        hit(Failpoint.SWITCHED)
        left = 0 if may_switch else carried.left
        return replace(report, switched=switched, carried=carried.copied, left_pushed=left)

    def _carry_over(self, task: Task, succession: Succession | None) -> Carried:
        """Take over what no source has, if lookups could switch after this run."""
        if succession is None or not task.advances_watermark:
            return Carried()
        old, name = succession.old, task.view.definition.name
        served = self.registry.watermark(self.project, name, old.generation)
        if served is not None and task.end_us < served.end_us:
            return Carried()  # a later run completes the generation
        return carry_over(
            self.store,
            old,
            task.view,
            project=self.project,
            now_us=self.clock.now_micros(),
            retention_us=self.retention_us,
        )

    def _newest(self, task: Task, scan: SourceScan, *, created_us: int) -> LatestRows:
        """Return what to offer: the newest rows, or the windows that end at the task's end."""
        latest = self.engine.latest(scan, task.rows)
        if not task.view.definition.aggregations:
            return latest
        return WindowRows(
            self.engine,
            scan,
            task.view.definition.window_features,
            latest,
            end_us=task.end_us,
            created_us=created_us,
        )

    def _left(self, record: TaskRecord) -> Sequence[Chunk]:
        """Return the chunks of a resumed run; none is done if their rows are not in the store.

        Somebody may have emptied it, or it lost them in a restart.
        """
        stored = sum(chunk.written + chunk.kept for chunk in record.done_chunks)
        if not stored or self.store.count(self._table(record)) >= stored:
            return record.chunks
        chunks = [Chunk(number=c.number, first=c.first, stop=c.stop) for c in record.chunks]
        self.registry.plan_chunks(record, chunks)
        return chunks

    def _divided(self, task: Task, record: TaskRecord, latest: LatestRows) -> Sequence[Chunk]:
        """Divide a run into chunks, and write them to the ledger."""
        size = self.chunk_entities or chunk_entities(task.view.definition)
        count = chunk_count(latest.summary.entities, size)
        ranges = latest.split(count) if count > 1 else [range(BEYOND)]
        chunks = [
            Chunk(number=number, first=ordinals.start, stop=ordinals.stop)
            for number, ordinals in enumerate(ranges)
        ]
        self.registry.plan_chunks(record, chunks)
        hit(Failpoint.DIVIDED)
        return chunks

    def _writer(self, task: Task, record: TaskRecord, progress: Progress | None) -> RowWriter:
        return RowWriter(
            self.store,
            self._table(record),
            task.view.definition,
            now_us=self.clock.now_micros(),
            batch_rows=self.batch_rows,
            overwrite=record.overwrite,
            chunk_ended=lambda chunk: self.registry.end_chunk(record, chunk),
            progress=progress,
        )

    def _table(self, record: TaskRecord) -> TableId:
        return TableId(project=self.project, view=record.view, generation=record.generation)

    def _record_success(
        self,
        task: Task,
        report: RunReport,
        summary: ScanSummary,
        record: TaskRecord,
        *,
        may_switch: bool,
    ) -> bool:
        """Record a run, and return whether lookups switched to what it wrote."""
        recorded = self.registry.record_run(
            RunRecord(
                project=self.project,
                view=report.view,
                generation=task.view.generation,
                kind=task.kind,
                start_us=task.start_us,
                end_us=task.end_us,
                status="succeeded",
                rows_read=report.rows_read,
                rows_written=report.written,
                rows_kept=report.kept,
                rows_skipped=report.expired + report.null_keys + report.null_times,
                seconds=report.seconds,
                error=None,
                started_at=record.attempted_at,
                finished_at=datetime.now(UTC),
                source_files=record.source_files,
            ),
            watermark=_watermark(task, summary, record.clock_us),
            holder=self.holder,
            grace_s=self.grace_s,
            may_switch=may_switch,
        )
        return recorded.switched

    @contextmanager
    def _failures_recorded(self, task: Task) -> Iterator[None]:
        """Record a run that fails or is interrupted."""
        started_at = datetime.now(UTC)
        try:
            yield
        except BaseException as error:
            try:
                self._record_failure(task, error, started_at)
            except FeatureStoreError as other:
                error.add_note(f"The failure is not in the registry: {other.message}")
            raise

    def _record_failure(self, task: Task, error: BaseException, started_at: datetime) -> None:
        now = datetime.now(UTC)
        run = RunRecord(
            project=self.project,
            view=task.view.definition.name,
            generation=task.view.generation,
            kind=task.kind,
            start_us=task.start_us,
            end_us=task.end_us,
            status="failed",
            seconds=(now - started_at).total_seconds(),
            error=f"{type(error).__name__}: {error}"[:2_000],
            started_at=started_at,
            finished_at=now,
        )
        self.registry.record_run(run, holder=self.holder)


def _alive(generations: Sequence[RegisteredView], task: TaskRecord) -> RegisteredView:
    """Return the generation that an interrupted run is of; raise ResumeError if it is gone."""
    for view in generations:
        if view.generation == task.generation:
            return view
    newest = max(view.generation for view in generations)
    raise ResumeError(
        view=task.view,
        reason=f"it is of generation {task.generation}, and the view has {newest} by now",
    )


def _report(
    task: Task, summary: ScanSummary, chunks: Sequence[Chunk], *, resumed: int, seconds: float
) -> RunReport:
    return RunReport(
        view=task.view.definition.name,
        kind=task.kind,
        start=_shown(task.start_us),
        end=format_instant(from_micros(task.end_us)),
        clipped=task.clipped,
        rows_read=summary.rows,
        entities=summary.entities,
        written=sum(chunk.written for chunk in chunks),
        kept=sum(chunk.kept for chunk in chunks),
        expired=sum(chunk.expired for chunk in chunks),
        null_keys=summary.null_keys,
        null_times=summary.null_times,
        seconds=seconds,
        resumed=resumed,
        generation=task.view.generation,
    )


def failed_report(task: Task, error: FeatureStoreError, *, seconds: float) -> RunReport:
    """Return what is said of a run that failed without failing those after it."""
    nothing = ScanSummary(
        rows=0, entities=0, null_keys=0, null_times=0, max_event_us=None, max_created_us=None
    )
    report = _report(task, nothing, (), resumed=0, seconds=seconds)
    return replace(report, error=str(error))


def _watermark(task: Task, summary: ScanSummary, began_us: int) -> Watermark | None:
    """Return how far this run has read; a window says nothing about what came before it.

    A created time in the future (a writer's clock, a "for ever" of 9999) counts as when the run
    began: everything that is written from then until then would be taken for old. Rows beyond the
    watermark are read again.
    """
    if not task.advances_watermark:
        return None
    created_us = summary.max_created_us
    if created_us is not None:
        created_us = min(created_us, began_us)
    return Watermark(end_us=task.end_us, event_us=summary.max_event_us, created_us=created_us)


def _shown(micros: int | None) -> str | None:
    return None if micros is None else format_instant(from_micros(micros))

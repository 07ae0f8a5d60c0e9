"""Executes tasks: engine -> encoder -> online store, reading and writing at the same time."""

import os
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore.errors import FeatureStoreError
from featurestore.materialize.plan import Task, remaining_us
from featurestore.offline.engine import LatestRows, OfflineEngine, ScanSummary
from featurestore.offline.files import SourceFile
from featurestore.offline.scan import SourceScan, open_scan
from featurestore.offline.windows.latest import WindowRows
from featurestore.online.codec import encode_keys, row_codec
from featurestore.online.encode import number_values, valid_mask
from featurestore.online.store import EncodedRows, OnlineStore, TableId, WriteCounts
from featurestore.registry.runs import RunRecord, Watermark
from featurestore.registry.sql import SqlRegistry
from featurestore.time import Clock, format_instant, from_micros
from featurestore.types import type_name

BATCH_ROWS = 50_000
"""Rows of one write: an embedded store flushes to disk once for each."""
LEASE_SECONDS = 30.0
QUEUED_BATCHES = 4

Progress = Callable[[str, int, int], None]
"""Called with (view, rows written so far, rows in all)."""


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
        seconds: Duration of the run.
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

    @property
    def rows_per_second(self) -> float:
        """Entities offered per second of the whole run."""
        return self.entities / self.seconds if self.seconds else 0.0


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
    """

    project: str
    engine: OfflineEngine
    store: OnlineStore
    registry: SqlRegistry
    clock: Clock
    root: Path
    holder: str = field(
        default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    )

    def run(
        self, task: Task, *, overwrite: bool = False, progress: Progress | None = None
    ) -> RunReport:
        """Execute one task and record it.

        Raises:
            LeaseHeldError: Another run of this view is under way (retryable).
            SourceChangedError: A file changed meanwhile (retryable); the watermark stays.
            FeatureStoreError: Reading or writing failed; the run is recorded as failed.
        """
        with self._lease(task.view.definition.name):
            started_at = datetime.now(UTC)
            try:
                return self._execute(task, started_at, overwrite=overwrite, progress=progress)
            except BaseException as error:
                try:
                    self._record_failure(task, error, started_at)
                except FeatureStoreError as other:
                    error.add_note(f"The failure is not in the registry: {other.message}")
                raise

    def _execute(
        self, task: Task, started_at: datetime, *, overwrite: bool, progress: Progress | None
    ) -> RunReport:
        started = time.monotonic()
        view = task.view.definition
        scan = open_scan(view, view.feature_names, self.root)
        writer = _RowWriter(self, task, overwrite=overwrite)
        with closing(self._newest(task, scan)) as latest:
            writer.write_all(latest, progress)
            summary = latest.summary
        report = RunReport(
            view=view.name,
            kind=task.kind,
            start=_shown(task.start_us),
            end=format_instant(from_micros(task.end_us)),
            clipped=task.clipped,
            rows_read=summary.rows,
            entities=summary.entities,
            written=writer.written,
            kept=writer.kept,
            expired=writer.expired,
            null_keys=summary.null_keys,
            null_times=summary.null_times,
            seconds=time.monotonic() - started,
        )
        self._record(task, report, summary, scan.all_files, started_at)
        return report

    def _newest(self, task: Task, scan: SourceScan) -> LatestRows:
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
            created_us=self.clock.now_micros(),
        )

    def _record(
        self,
        task: Task,
        report: RunReport,
        summary: ScanSummary,
        files: Sequence[SourceFile],
        started_at: datetime,
    ) -> None:
        self.registry.record_run(
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
                started_at=started_at,
                finished_at=datetime.now(UTC),
                source_files=tuple((f.path, f.size, f.mtime_ns) for f in files),
            ),
            watermark=_watermark(task, summary, self.clock),
            holder=self.holder,
        )

    def _record_failure(self, task: Task, error: BaseException, started_at: datetime) -> None:
        now = datetime.now(UTC)
        self.registry.record_run(
            RunRecord(
                project=self.project,
                view=task.view.definition.name,
                generation=task.view.generation,
                kind=task.kind,
                start_us=task.start_us,
                end_us=task.end_us,
                status="failed",
                rows_read=0,
                rows_written=0,
                rows_kept=0,
                rows_skipped=0,
                seconds=(now - started_at).total_seconds(),
                error=f"{type(error).__name__}: {error}"[:2_000],
                started_at=started_at,
                finished_at=now,
                source_files=(),
            ),
            watermark=None,
        )

    @contextmanager
    def _lease(self, view: str) -> Iterator[None]:
        """Hold the view's lease, and renew it from a thread of its own while the run lasts."""
        self.registry.acquire_lease(self.project, view, self.holder, seconds=LEASE_SECONDS)
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_SECONDS / 3):
                self.registry.renew_lease(self.project, view, self.holder, seconds=LEASE_SECONDS)

        with ThreadPoolExecutor(1, thread_name_prefix="lease") as pool:
            renewal = pool.submit(renew)
            try:
                yield
                done.set()
                renewal.result()  # a lease that could not be renewed fails the run
            finally:
                done.set()
                self.registry.release_lease(self.project, view, self.holder)


class _RowWriter:
    """Encodes batches and hands them to the store from a second thread, a few at a time."""

    def __init__(self, run: Materializer, task: Task, *, overwrite: bool) -> None:
        view = task.view.definition
        self._view = view
        self._table = TableId(project=run.project, view=view.name, generation=task.view.generation)
        self._key_types = [type_name(dtype) for dtype in view.join_keys.values()]
        self._codec = row_codec(tuple(type_name(f.dtype) for f in view.fields))
        self._lifetime_us = remaining_us(view)
        self._now_us = run.clock.now_micros()
        self._store = run.store
        self._overwrite = overwrite
        self.written = self.kept = self.expired = 0

    def write_all(self, latest: LatestRows, progress: Progress | None) -> None:
        """Write every batch of `latest`, in bounded memory."""
        under_way: deque[Future[WriteCounts]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="online-write") as pool:
            try:
                for batch in latest.batches(BATCH_ROWS):
                    rows = self._encode(batch)
                    if rows.keys:
                        under_way.append(pool.submit(self._write, rows))
                    while len(under_way) > QUEUED_BATCHES or (under_way and under_way[0].done()):
                        self._count(under_way.popleft().result(), latest, progress)
                while under_way:
                    self._count(under_way.popleft().result(), latest, progress)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what waits would fail as well
                raise

    def _write(self, rows: EncodedRows) -> WriteCounts:
        return self._store.write(self._table, rows, overwrite=self._overwrite)

    def _count(self, counts: WriteCounts, latest: LatestRows, progress: Progress | None) -> None:
        self.written += counts.written
        self.kept += counts.kept
        if progress is not None:
            done = self.written + self.kept + self.expired
            progress(self._view.name, done, latest.summary.entities)

    def _encode(self, batch: pa.RecordBatch) -> EncodedRows:
        remaining_ms = None
        if self._lifetime_us is not None:
            event = number_values(batch.column("e"))
            dead_us = self._now_us - self._lifetime_us
            left = (np.maximum(event, dead_us) - dead_us) // 1000  # far times would overflow
            alive = left > 0
            if not alive.all():
                self.expired += int((~alive).sum())
                batch, left = batch.filter(_mask(alive)), left[alive]
            remaining_ms = left.tolist()
        return EncodedRows(
            keys=self._keys(batch), values=self._values(batch), remaining_ms=remaining_ms
        )

    def _keys(self, batch: pa.RecordBatch) -> list[bytes]:
        columns = [batch.column(f"k{i}") for i in range(len(self._key_types))]
        keys = encode_keys(self._key_types, columns)[: batch.num_rows]
        return [key for key in keys if key is not None]

    def _values(self, batch: pa.RecordBatch) -> list[bytes]:
        created = batch.column("c")
        features = [batch.column(f"f{i}") for i in range(len(self._view.fields))]
        return self._codec.encode(
            number_values(batch.column("e")),
            number_values(created),
            features,
            created_valid=valid_mask(created),
        )


def _mask(selected: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> pa.Array:
    """Return a numpy mask for Arrow; `pa.array` would import pandas first, half a second."""
    bits = pa.py_buffer(np.packbits(selected, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(selected), [None, bits])


def _watermark(task: Task, summary: ScanSummary, clock: Clock) -> Watermark | None:
    """Return how far this run has read; a window says nothing about what came before it.

    A created time in the future (a writer's clock, a "for ever" of 9999) counts as now: everything
    that is written until then would be taken for old. Rows beyond the watermark are read again.
    """
    if not task.advances_watermark:
        return None
    created_us = summary.max_created_us
    if created_us is not None:
        created_us = min(created_us, clock.now_micros())
    return Watermark(end_us=task.end_us, event_us=summary.max_event_us, created_us=created_us)


def _shown(micros: int | None) -> str | None:
    return None if micros is None else format_instant(from_micros(micros))

"""A training set that is ready to be computed."""

import contextlib
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from featurestore.errors import JobCancelledError, UnsupportedError
from featurestore.frames import to_pandas
from featurestore.offline.as_of import explain, fetch, passes_for, reads_for, winners
from featurestore.offline.atomic import atomic_file
from featurestore.offline.engine import Mode, OfflineEngine, ScanReader
from featurestore.offline.scan import JoinScan, SourceScan
from featurestore.offline.spine_keys import number_keys
from featurestore.offline.timeline import Ints
from featurestore.offline.windows.join import WindowJoin, explain_windows
from featurestore.statistics import Profile
from featurestore.training.asked import Asked
from featurestore.training.coverage import Coverage
from featurestore.training.labels import label_names, spine_origin
from featurestore.training.output import write_tables
from featurestore.training.parts import rows_at_once
from featurestore.training.profiling import JobProfiler
from featurestore.training.query import FeatureQuery
from featurestore.training.task import JoinTask
from featurestore.training.watch import Progress, Watch, WatchedReader
from featurestore.types import type_name

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

BATCH_ROWS = 100_000
PREVIEW_ROWS = 10


class RetrievalJob:
    """A training set: exactly the spine's rows, in the spine's order, with features beside them.

    Every check has been made; nothing has been computed yet. Each call of a `to_*` method computes
    the result anew from the files, so keep what it returns. All of them raise `JobCancelledError`
    after `cancel()`.
    """

    def __init__(
        self,
        *,
        engine: OfflineEngine,
        spine: pa.Table,
        query: FeatureQuery,
        tasks: tuple[JoinTask, ...],
        mode: Mode,
        asked: Asked | None = None,
        revision: int = 0,
        request: pa.Table | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._engine = engine
        self._spine = spine
        self._query = query
        self._tasks = tasks
        self._request = request
        self._mode: Mode = mode
        self._asked = asked
        self._revision = revision
        self._progress = progress
        self._cancelled = threading.Event()

    @property
    def num_rows(self) -> int:
        """Rows of the result: those of the spine."""
        return int(self._spine.num_rows)

    @property
    def revision(self) -> int:
        """The revision of the registry that the result follows."""
        return self._revision

    @property
    def asked(self) -> Asked:
        """What was asked for."""
        assert self._asked is not None  # noqa: S101 - only tests make jobs without a request
        return self._asked

    @property
    def engine(self) -> OfflineEngine:
        """What computes it."""
        return self._engine

    @property
    def spine_names(self) -> tuple[str, ...]:
        """Names of the spine's columns, which come first, in order."""
        return tuple(self._spine.column_names)

    @property
    def scans(self) -> tuple[SourceScan, ...]:
        """What is read, view by view."""
        return tuple(task.scan for task in self._tasks)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the feature columns, in order."""
        return self._query.names

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the spine's columns that are marked as labels, in order."""
        return label_names(self._spine.schema)

    @property
    def spine_origin(self) -> dict[str, Any] | None:
        """How the spine was made (`Spine.origin`); None if it was not made by `store.spines`."""
        return spine_origin(self._spine.schema)

    @property
    def schema(self) -> pa.Schema:
        """The result's schema: the spine's fields, then the features with their declared types."""
        dtypes = [task.dtypes for task in self._tasks]
        types = [dtypes[output.join][output.feature] for output in self._query.outputs]
        if self._query.on_demand is not None:
            types = self._query.on_demand.dtypes(types)
        fields = map(pa.field, self._query.names, types)
        return pa.schema([*self._spine.schema, *fields])

    def to_arrow(self) -> pa.Table:
        """Return the result as an Arrow table."""
        return pa.concat_tables(self._chunks())

    def preview(self, rows: int = PREVIEW_ROWS) -> pa.Table:
        """Return the first `rows` rows of the result: their values, exactly, and nothing else.

        Only these rows of the spine are joined. The sources are read for their keys, which may take
        as long as a small training set does.
        """
        return self._first(rows).to_arrow()

    def profiler(
        self, *, coverage: bool = False, edges: Mapping[str, Sequence[Any]] | None = None
    ) -> JobProfiler:
        """Return what gathers the result's statistics while `to_batches` or `write_parquet` runs.

        Give it to one of them, once; then its `finish()` has the profile.

        Args:
            coverage: Also measure how many rows of the spine each view has something for, how old
                it was, and why there was nothing: `Profile.coverage`. For rows without any, keys
                and times of the sources are read again.
            edges: Column -> edges of its histogram, as `Profile.edges` has them.

        Raises:
            RequestError: The edges do not fit the columns.
        """
        return JobProfiler(self.schema, self._tasks, self._query, coverage=coverage, edges=edges)

    def profile(
        self, *, coverage: bool = False, edges: Mapping[str, Sequence[Any]] | None = None
    ) -> Profile:
        """Return statistics of the result, which is computed and not kept.

        Args and errors are those of `profiler`.
        """
        profiler = self.profiler(coverage=coverage, edges=edges)
        for _ in self._chunks(profiler):
            pass
        return profiler.finish()

    def to_tables(self) -> Iterator[pa.Table]:
        """Yield the result in order, as tables that fit into the engine's memory; one at least."""
        return self._chunks()

    def to_batches(
        self, max_rows: int = BATCH_ROWS, *, profiler: JobProfiler | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the result in order, as record batches of at most `max_rows` rows.

        Of a large result two parts are in memory: one that is looked at, and the next, which is
        made meanwhile.

        Args:
            max_rows: The greatest number of rows of a batch.
            profiler: From this job's `profiler()`; it gathers statistics meanwhile.
        """
        for table in self._chunks(profiler):
            yield from table.combine_chunks().to_batches(max_rows)

    def to_polars(self) -> "pl.DataFrame":
        """Return the result as a Polars data frame.

        Raises:
            UnsupportedError: Polars has no type for one of the spine's columns.
        """
        import polars as pl

        table = self.to_arrow()
        try:
            return pl.DataFrame(table)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
            raise UnsupportedError(
                f"Polars cannot hold these columns: {str(error).splitlines()[0][:200]}",
                hint="cast or drop the spine's column, or use to_arrow()",
            ) from None

    def to_pandas(self) -> "pd.DataFrame":
        """Return the result as a pandas data frame with Arrow-backed types.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    def write_parquet(self, path: str | Path, *, profiler: JobProfiler | None = None) -> Path:
        """Write the result to one Parquet file, which appears whole or not at all.

        Args:
            path: The file.
            profiler: From this job's `profiler()`; it gathers statistics meanwhile.

        Raises:
            OutputError: It cannot be written, for instance because the disk is full.
        """
        target = Path(path)
        with atomic_file(target) as temporary:
            tables, threads = self._chunks(profiler), self._engine.threads
            write_tables(
                tables, self.schema, temporary, threads=threads, check=self.check, what=target
            )
        return target

    def cancel(self) -> None:
        """End what is being computed, and let every later call end at once; from any thread.

        Whoever waits for a result gets a `JobCancelledError` within half a second, and no output is
        left. A step of a very large job that cannot be interrupted goes on for a few seconds; then
        its memory and temporary files are gone, too. Ctrl-C in the thread that waits ends a
        computation in the same way, and the job can be used again.
        """
        self._cancelled.set()

    def explain(self) -> str:
        """Return what would be computed, view by view, for people."""
        parts = [
            f"{self.num_rows:,} spine rows, mode {self._mode}, engine {self._engine.name}",
        ]
        for number, task in enumerate(self._tasks):
            names = [o.name for o in self._query.outputs if o.join == number]
            scan = task.scan
            parts.append(
                f"\n{task.label}: {', '.join(names)}\n"
                f"  source {scan.source.name}: {len(scan.files):,} files, {scan.row_count:,} rows\n"
                f"  keys {', '.join(f'{k.name} {type_name(k.dtype)}' for k in scan.keys) or 'none'}"
            )
            parts += [f"  joins {_explained(join)}" for join in scan.joins]
            if task.windows:
                parts.append(explain_windows(self._engine, scan, task.windows, task.keys))
            else:
                keys = number_keys(task.keys)
                plan = explain(self._engine, scan, keys, ttl_us=task.ttl_us, mode=self._mode)
                parts.append(plan)
        if self._query.on_demand is not None:
            parts.append(self._query.on_demand.explain())
        return "\n".join(parts)

    def with_asked(self, asked: Asked) -> "RetrievalJob":
        """Return the same job with another account of what was asked for."""
        return self._first(self.num_rows, asked)

    def _first(self, rows: int, asked: Asked | None = None) -> "RetrievalJob":
        """Return a job for the first rows of the spine, which is cancelled together with this."""
        tasks = (replace(task, keys=task.keys.slice(0, rows)) for task in self._tasks)
        job = RetrievalJob(
            engine=self._engine,
            spine=self._spine.slice(0, rows),
            query=self._query,
            tasks=tuple(tasks),
            mode=self._mode,
            asked=asked or self._asked,
            revision=self._revision,
            request=None if self._request is None else self._request.slice(0, rows),
            progress=self._progress,
        )
        job._cancelled = self._cancelled
        return job

    def _chunks(self, profiler: JobProfiler | None = None) -> Iterator[pa.Table]:
        """Yield the result in order, in parts that fit into the engine's memory; one at least."""
        watch = Watch(self._progress, self._cancelled)
        if profiler is not None:
            profiler.begin(self.schema)
        yield from watch.over(self._computed(watch, profiler))

    def _computed(
        self, watch: Watch, profiler: JobProfiler | None
    ) -> Generator[pa.Table, None, None]:
        meters = [None] * len(self._tasks) if profiler is None else profiler.meters
        with contextlib.ExitStack() as stack:
            pairs = zip(self._tasks, meters, strict=True)
            joins = [self._join(task, meter, watch, stack) for task, meter in pairs]
            memory = self._engine.memory_bytes
            step = rows_at_once(self._spine, self.schema, self._tasks, memory_bytes=memory)
            for start in range(0, max(self.num_rows, 1), step):
                parts = self._joined(joins, start, min(start + step, self.num_rows), watch)
                features = [parts[o.join].column(o.feature) for o in self._query.outputs]
                if self._query.on_demand is not None:
                    request = None if self._request is None else self._request.slice(start, step)
                    features = self._query.on_demand.arrays(request, features, first_row=start)
                spine = self._spine.slice(start, step)
                table = pa.table([*spine.columns, *features], schema=self.schema)
                if profiler is not None:
                    profiler.add(table, parts, start, self.num_rows, watch)
                if start + step >= self.num_rows:
                    stack.close()  # nothing is read any more: whoever takes the rows has its memory
                yield table

    def check(self) -> None:
        """Raise JobCancelledError if the job was cancelled; for who takes its tables."""
        if self._cancelled.is_set():
            raise JobCancelledError

    def _joined(
        self, joins: Sequence["Join"], start: int, stop: int, watch: Watch
    ) -> list[pa.Table]:
        """Return each view's features for some of the spine's rows."""
        parts = []
        for number, join in enumerate(joins):
            low, high = (start + (stop - start) * n // len(joins) for n in (number, number + 1))
            with watch.phase("joining", low, high, self.num_rows):
                parts.append(join.features(start, stop))
        return parts

    def _join(
        self, task: JoinTask, meter: Coverage | None, watch: Watch, stack: contextlib.ExitStack
    ) -> "Join":
        task = task if meter is None else meter.task
        engine, scan, mode = self._engine, task.scan, self._mode
        watch.check()
        with ThreadPoolExecutor(1, thread_name_prefix="keys") as pool:
            numbered = pool.submit(number_keys, task.keys)  # while the source is opened
            reader = WatchedReader(
                stack.enter_context(engine.reader(scan)),
                watch,
                what=f"{task.label}: reading",
                scan=scan,
                passes=(passes_for if task.windows else reads_for)(engine, scan),
            )
            keys = numbered.result()
        join: Join
        if windows := task.windows:
            join = WindowJoin(engine, reader, scan, windows, keys, mode=mode, moved=watch.moved)
        else:
            found = winners(engine, reader, scan, keys, ttl_us=task.ttl_us, mode=mode)
            if meter is not None:
                meter.explain_missing(engine, reader, found, mode)
            join = _LatestJoin(reader, scan, found, engine.threads)
        reader.all_read()
        return join


def _explained(join: JoinScan) -> str:
    scan = join.scan
    how = "static, as it is today" if scan.event is None else "as of the row's event time"
    if join.as_served:
        how += ", of what was written when the row was"
    return f"{scan.source.name} ({how}): {len(scan.files):,} files, {scan.row_count:,} rows"


class Join(Protocol):
    """A view that is ready to be joined to any part of the spine."""

    def features(self, start: int, stop: int) -> pa.Table:
        """Return the features of some of the spine's rows, in the order asked."""
        ...


@dataclass(frozen=True, slots=True)
class _LatestJoin(Join):
    """A view whose winners are known: `ordinals` has one for each spine row."""

    reader: ScanReader
    scan: SourceScan
    ordinals: Ints
    threads: int

    def features(self, start: int, stop: int) -> pa.Table:
        """Return the features of some of the spine's rows."""
        return fetch(self.reader, self.scan, self.ordinals[start:stop], threads=self.threads)

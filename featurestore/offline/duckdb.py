"""Training sets and newest rows with DuckDB, in this process, spilling to disk.

DuckDB reads, joins to keys and filters. Which row answers is decided by `as_of` from keys, times
and ordinals alone: DuckDB's own ASOF join picks any of several rows with one time, and costs more.
"""

import contextlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from featurestore.offline import duckdb_dedup as dedup
from featurestore.offline import duckdb_sql as sql
from featurestore.offline.arrow_files import plain, read_file
from featurestore.offline.declared import cast_batch as _cast
from featurestore.offline.declared import version_columns as _version_columns
from featurestore.offline.duckdb_connection import DuckDBLimits
from featurestore.offline.duckdb_connection import translated_errors as _errors
from featurestore.offline.duckdb_query import run_query
from featurestore.offline.duckdb_values import is_refused
from featurestore.offline.engine import (
    Capabilities,
    LatestRows,
    OfflineEngine,
    RowFilter,
    ScanReader,
    ScanSummary,
    SqlTable,
)
from featurestore.offline.joined_tables import row_joins
from featurestore.offline.local_times import (
    YEAR_US,
    local_columns,
    policy_spans,
    refused_kinds,
)
from featurestore.offline.ordinals import even_ranges, first_ordinals, reading_only
from featurestore.offline.row_expressions import RowExpressions
from featurestore.offline.scan import SourceScan, check_files, folder_values
from featurestore.offline.scan_columns import FileGroup, ScanColumn
from featurestore.offline.source_errors import local_time_error
from featurestore.time import LocalSpan, local_year

BATCH_ROWS = 50_000
TIMES_AT_ONCE = 500_000
FILTERED_AT_ONCE = 500_000
SAMPLED_ORDINALS = 20_000
"""From so many winners it is guessed where equal parts of all of them begin."""


class DuckDBEngine(OfflineEngine):
    """Runs in this process on `threads` threads.

    Args:
        threads: Threads for one query; None for all cores.
        memory_limit: Where DuckDB starts to spill, such as "4GB" or "60%"; None for its own default
            (80 % of the machine's memory).
        temp_directory: Where it spills to; None for a folder of its own below the system's.
        settings: More of DuckDB's settings, for tests and experts.
    """

    name: ClassVar[str] = "duckdb"
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        *,
        threads: int | None = None,
        memory_limit: str | None = None,
        temp_directory: Path | None = None,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        self._duckdb = DuckDBLimits(
            threads=threads,
            memory_limit=memory_limit,
            temp_directory=temp_directory,
            settings=settings or {},
        )

    @property
    @override
    def memory_bytes(self) -> int:
        return self._duckdb.memory_bytes

    @property
    @override
    def threads(self) -> int:
        return self._duckdb.thread_count

    @contextlib.contextmanager
    @override
    def reader(self, scan: SourceScan) -> Iterator[ScanReader]:
        with self._session(scan) as session:
            yield _DuckDBReader(session)

    @override
    def latest(self, scan: SourceScan, rows: RowFilter) -> LatestRows:
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(self._session(scan))
            summary = session.find_latest(rows)
            return _DuckDBLatest(session, scan, summary, stack.pop_all())

    @override
    def keys(self, scan: SourceScan) -> Iterator[pa.RecordBatch]:
        columns = [(c.alias, c.dtype) for c in scan.keys]
        with self._session(scan) as session:
            for batch in session.run(sql.select_keys(session.rows)).to_arrow_reader(BATCH_ROWS):
                yield _cast(batch, columns)

    @override
    def ties(self, scan: SourceScan) -> Iterator[pa.RecordBatch]:
        columns = _version_columns(scan)
        with self._session(scan) as session:
            for batch in session.run(session.ties_query()).to_arrow_reader(BATCH_ROWS):
                yield _cast(batch, columns)

    @override
    def times(
        self, scan: SourceScan, *, after_us: int | None = None, until_us: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        with self._session(scan) as session:
            query = sql.select_times(session.rows, after_us=after_us, until_us=until_us)
            yield from session.run(query).to_arrow_reader(TIMES_AT_ONCE)

    @override
    def query(self, sql_text: str, tables: Mapping[str, SqlTable]) -> pa.Table:
        return run_query(self._duckdb, sql_text, tables)

    @contextlib.contextmanager
    def _session(self, scan: SourceScan) -> Iterator["_Session"]:
        paths = [file.path for file in scan.files]
        with self._duckdb.connect(paths) as con, _errors(f"Source {scan.source.name!r}", scan):
            joins = row_joins(scan, threads=self.threads, memory_bytes=self.memory_bytes)
            expressions = RowExpressions(scan, joins)
            yield _Session(con, scan, expressions, memory_bytes=self.memory_bytes)
            check_files(scan)


class _Session:
    """One connection with one scan: the queries of one call."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        scan: SourceScan,
        expressions: RowExpressions,
        *,
        memory_bytes: int,
    ) -> None:
        self.con = con
        self.scan = scan
        self._memory_bytes = memory_bytes
        self._knows_superseded = False
        self._expressions = expressions
        self._is_filtered = not scan.filters_by_join
        tables, folders = self._register_arrow_groups(), self._register_folders()
        plain = sql.ScanText(scan=scan, spans={}, tables=tables, folders=folders)
        self.rows = replace(plain, spans=self._local_spans(plain))

    def run(self, query: str) -> duckdb.DuckDBPyRelation:
        """Return the relation of a SELECT; nothing is computed yet."""
        self._filter()
        return self.con.sql(query)

    def one(self, query: str) -> tuple[Any, ...]:
        """Return the only row of a query."""
        self._filter()
        return tuple(self.con.execute(query).fetchall()[0])

    def make_table(self, name: str, rows: pa.Table) -> None:
        """Copy Arrow rows into a table: it has a known size, without which plans go wrong."""
        self.con.register("given_rows", rows)
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS SELECT * FROM given_rows")
        self.con.unregister("given_rows")

    def with_superseded(self, select: str) -> str:
        """Return a SELECT of rows with `s`, if the scan tells events apart; see `ScanReader.rows`.

        Versions are found once, however often rows are read.
        """
        if not self.scan.dedup:
            return select
        if not self._knows_superseded:
            dedup.make_superseded(self.con, self.rows, memory_bytes=self._memory_bytes)
            self._knows_superseded = True
        return dedup.with_superseded(select)

    def completed(self, rows: pa.RecordBatch, features: Sequence[str]) -> pa.RecordBatch:
        """Return rows with these features, of which the scan may compute some.

        DuckDB filters rows itself, as it can skip what no row passes in; values of features are the
        evaluator's, which is also that of other engines and names the row it cannot compute.
        """
        if not self.scan.computed(features):
            return rows
        inputs = {*self.scan.read_for(features), *features} - {"e", "c"}
        others = [name for name in rows.schema.names if name not in inputs]
        ordinals = rows.column("o").to_numpy()
        found = self._expressions.completed(rows, features, ordinals)
        columns = [*(rows.column(name) for name in others), *found.columns]
        return pa.record_batch(columns, names=[*others, *features])

    def find_latest(self, rows: RowFilter) -> ScanSummary:
        """Make the table `g` and return what was read for it."""
        self._filter()
        self.con.execute(sql.create_latest(self.rows, rows))
        entities, count, event, created = self.one(
            "SELECT count(*), coalesce(sum(n), 0)::BIGINT, max(e), max(mc) FROM g"
        )
        no_key, no_time = (0, 0)
        if self.scan.nulls_possible:
            no_key, no_time = self.one(sql.count_unusable(self.rows))
        return ScanSummary(
            rows=count,
            entities=entities,
            null_keys=no_key,
            null_times=no_time,
            max_event_us=event,
            max_created_us=created,
        )

    def ties_query(self) -> str:
        """Return a SELECT of the versions that rows with different features share.

        What is joined DuckDB does not know, so that of rows that share one the features are given.
        """
        if not self.scan.joins:
            return sql.select_ties(self.rows)
        features = [column.alias for column in self.scan.features]
        found = self.run(sql.select_shared(self.rows)).to_arrow_table()
        batches = found.to_batches() or found.schema.empty_table().to_batches()
        whole = pa.Table.from_batches([self.completed(batch, features) for batch in batches])
        self.make_table("shared", whole)
        return sql.select_ties(self.rows, among="FROM shared")

    def _filter(self) -> None:
        """Make the table `passing`, once, where it depends on joins which rows there are."""
        if self._is_filtered:
            return
        self._is_filtered = True
        # DuckDB's own ASOF join is not certain about ties, so all rows are looked at here.
        every = replace(self.rows, scan=self.scan.unfiltered)
        query = every.rows(self._expressions.filter_columns, ordinal=True)
        found = [np.empty(0, dtype=np.int64)]
        for batch in self.con.sql(query).to_arrow_reader(FILTERED_AT_ONCE):
            columns = {name: batch.column(name) for name in batch.schema.names}
            ordinals = batch.column("o").to_numpy()
            found.append(ordinals[self._expressions.passing(columns, ordinals)])
        self.make_table("passing", pa.table({"o": np.concatenate(found)}))

    def _register_arrow_groups(self) -> dict[int, str]:
        names = {}
        for number, group in enumerate(self.scan.groups):
            if group.through_arrow:
                names[number] = f"arrow_{number}"
                self.con.register(names[number], _read_through_arrow(self.scan, group))
        return names

    def _register_folders(self) -> dict[int, str]:
        names = {}
        for number, group in enumerate(self.scan.groups):
            if group.from_folders and not group.through_arrow:
                names[number] = f"folders_{number}"
                self.con.register(names[number], folder_values(self.scan, group))
        return names

    def _local_spans(self, rows: sql.ScanText) -> dict[str, tuple[LocalSpan, ...]]:
        """Return the spans of each naive time column, after the source's policy was asked."""
        return {c.alias: self._spans_of(c, rows) for c in local_columns(self.scan)}

    def _spans_of(self, column: ScanColumn, rows: sql.ScanText) -> tuple[LocalSpan, ...]:
        """Return the spans of the years that a naive column has times in."""
        alias, source = column.alias, self.scan.source
        listed = f"unnest({alias})" if pa.types.is_list(column.dtype) else alias
        inner = f"SELECT {listed} AS t FROM ({rows.rows([alias], naive=alias)})"
        found = self.con.execute(f"SELECT DISTINCT t // {YEAR_US} FROM ({inner})").fetchall()
        years = {local_year(part * YEAR_US) for (part,) in found if part is not None}
        if not years:
            return ()
        spans = policy_spans(source, years)
        self._refuse_times(column, rows, spans)
        return spans

    def _refuse_times(
        self, column: ScanColumn, rows: sql.ScanText, spans: Sequence[LocalSpan]
    ) -> None:
        """Raise the error for the first local time that the source's policy refuses."""
        alias, refused = column.alias, refused_kinds(self.scan.source)
        if refused.isdisjoint(span.kind for span in spans):
            return
        inside = is_refused(alias, spans, refused)
        if pa.types.is_list(column.dtype):
            one = is_refused("t", spans, refused)
            inside = f"len(list_filter({alias}, lambda t: {one})) > 0"
        found = self.con.execute(
            f"SELECT {alias}, o FROM ({rows.rows([alias], ordinal=True, naive=alias)})"
            f" WHERE {inside} ORDER BY o LIMIT 1"
        ).fetchall()
        if found:
            local, ordinal = found[0]
            times = [t for t in (local if isinstance(local, list) else [local]) if t is not None]
            starts = [span.start for span in spans]
            placed = ((t, spans[bisect_right(starts, t) - 1]) for t in times)
            time, span = next((t, s) for t, s in placed if s.kind in refused)
            raise local_time_error(self.scan, column, span, time, ordinal)


class _DuckDBReader(ScanReader):
    """A session's rows by key, and its features by ordinal."""

    def __init__(self, session: _Session) -> None:
        self._session = session
        self._is_running = False

    @override
    def rows(
        self,
        keys: pa.Table,
        columns: Sequence[str] = (),
        *,
        from_us: int | None,
        until_us: int,
    ) -> Iterator[pa.RecordBatch]:
        session = self._session
        session.make_table("wanted", keys)
        query = sql.select_rows(
            session.rows,
            session.scan.read_for(columns),
            from_us=from_us,
            until_us=until_us,
            bounds=keys.schema.names,
        )
        with _errors(f"Source {session.scan.source.name!r}", session.scan):
            query = session.with_superseded(query)
            with self._running():
                for batch in session.run(query).to_arrow_reader(BATCH_ROWS):
                    yield session.completed(batch, columns)

    @override
    def features(self, ordinals: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        session = self._session
        numbers = np.arange(len(ordinals), dtype=np.int64)
        session.make_table("chosen", pa.table({"n": numbers, "o": ordinals}))
        declared = [(c.alias, c.dtype) for c in session.scan.features]
        query = sql.select_features(session.rows)
        with _errors(f"Source {session.scan.source.name!r}", session.scan), self._running():
            for batch in session.run(query).to_arrow_reader(BATCH_ROWS):
                whole = session.completed(batch, [alias for alias, _ in declared])
                yield _cast(whole, [("n", pa.int64()), *declared])

    @override
    def explain(self, keys: pa.Table, *, from_us: int | None, until_us: int) -> str:
        rows = self._session.rows
        bounds = keys.schema.names
        select = sql.select_rows(rows, (), from_us=from_us, until_us=until_us, bounds=bounds)
        before = ""
        if rows.scan.dedup:
            before = f"{dedup.create_superseded(rows)};\n"
            select = dedup.with_superseded(select)
        return f"{before}{select};\n{sql.select_features(rows)};"

    @override
    def progress(self) -> float | None:
        if not self._is_running:
            return None
        with contextlib.suppress(duckdb.Error):  # it ended meanwhile
            # DuckDB keeps half of its per cent for the part of the join that may have been spilled.
            return min(1.0, max(0.0, self._session.con.query_progress()) / 50)
        return None

    @override
    def interrupt(self) -> None:
        with contextlib.suppress(duckdb.Error):  # it is closed
            self._session.con.interrupt()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Run the query whose progress counts: others only prepare it."""
        self._is_running = True
        try:
            yield
        finally:
            self._is_running = False


class _DuckDBLatest(LatestRows):
    """The winners in table `g`, streamed by a join with the source."""

    def __init__(
        self,
        session: _Session,
        scan: SourceScan,
        summary: ScanSummary,
        stack: contextlib.ExitStack,
    ) -> None:
        self.summary = summary
        self._session = session
        self._scan = scan
        self._stack = stack

    @override
    def split(self, count: int) -> Sequence[range]:
        sample = self._session.run(sql.sample_ordinals(SAMPLED_ORDINALS)).to_arrow_table()
        return even_ranges(sample["o"].to_numpy(), count)

    @override
    def batches(self, max_rows: int, ordinals: range | None = None) -> Iterator[pa.RecordBatch]:
        rows = self._session.rows
        if ordinals is not None:
            rows = replace(rows, scan=reading_only(rows.scan, ordinals))
        if any(group.files for group in rows.scan.groups):
            yield from self._stream(sql.select_latest(rows, ordinals), max_rows)

    def _stream(self, query: str, max_rows: int) -> Iterator[pa.RecordBatch]:
        features = [column.alias for column in self._scan.features]
        dtypes = [(column.alias, column.dtype) for column in self._scan.features]
        columns = [*_version_columns(self._scan), *dtypes]
        with _errors(f"Source {self._scan.source.name!r}", self._scan):
            for batch in self._session.run(query).to_arrow_reader(max_rows):
                yield _cast(self._session.completed(batch, features), columns)

    @override
    def close(self) -> None:
        self._stack.close()


def _read_through_arrow(scan: SourceScan, group: FileGroup) -> pa.Table:
    """Return a group's columns under their aliases, with `__ordinal`.

    For files in which DuckDB would find the wrong column: names that differ only by case, or that
    are those of its own virtual columns. What it calls a UUID has the text of one.
    """
    firsts = first_ordinals(scan)
    stored = [c for c in scan.columns if c.alias not in group.from_folders]
    tables = []
    for file, folders in zip(group.files, folder_values(scan, group).to_batches(1), strict=True):
        read = read_file(scan, file, [c.in_file for c in stored])
        columns = {c.alias: plain(read[c.in_file]) for c in stored}
        for alias in group.from_folders:
            columns[alias] = pa.repeat(folders[alias][0], read.num_rows)
        first = firsts[file.path]
        columns["__ordinal"] = pa.array(np.arange(first, first + read.num_rows, dtype=np.int64))
        tables.append(pa.table({name: columns[name] for name in sorted(columns)}))
    return pa.concat_tables(tables)

"""Training sets and newest rows with Polars, in this process.

Arrow reads files, row group by row group; Polars joins rows to keys and groups them by keys. Which
row answers is decided by `as_of`. Nothing spills to disk: held at once are what is known of each
key, and chunks of about a million rows.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
from typing_extensions import override

from featurestore.errors import ResourceLimitError
from featurestore.expressions.check import columns_of
from featurestore.offline.arrow_rows import ArrowRows, Piece
from featurestore.offline.declared import cast_table, version_columns
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
from featurestore.offline.memory import limit_bytes
from featurestore.offline.meter import Meter
from featurestore.offline.ordinals import even_ranges
from featurestore.offline.polars_dedup import find_superseded, with_superseded
from featurestore.offline.polars_frames import (
    GROUPED,
    chunk_rows,
    chunks,
    collect,
    empty_frame,
    passes,
    reduced,
    to_batches,
    usable,
)
from featurestore.offline.read_ahead import as_they_come
from featurestore.offline.scan import SourceScan, check_files
from featurestore.offline.source_errors import first_line, unreadable
from featurestore.time import format_instant, from_micros

Ints = npt.NDArray[np.int64]


class PolarsEngine(OfflineEngine):
    """Runs in this process.

    Args:
        threads: Threads that read files; None for as many as Polars has. Polars itself has one pool
            for the whole process (`POLARS_MAX_THREADS`).
        memory_limit: What a training set is planned to fit into, such as "4GB" or "60%": results
            are computed in parts, and sources read in several passes. None for the machine's size.
        temp_directory: Where a spine in SQL spills to, which DuckDB runs; nothing else does.
    """

    name: ClassVar[str] = "polars"
    capabilities: ClassVar[Capabilities] = Capabilities()

    def __init__(
        self,
        *,
        threads: int | None = None,
        memory_limit: str | None = None,
        temp_directory: Path | None = None,
    ) -> None:
        self._threads = threads
        self._memory_limit = memory_limit
        self._memory_bytes = limit_bytes(memory_limit)
        self._temp_directory = temp_directory

    @property
    @override
    def memory_bytes(self) -> int:
        return self._memory_bytes

    @property
    @override
    def threads(self) -> int:
        return self._threads or pl.thread_pool_size()

    @contextlib.contextmanager
    @override
    def reader(self, scan: SourceScan) -> Iterator[ScanReader]:
        with self._session(scan) as session:
            yield _PolarsReader(session)

    @override
    def latest(self, scan: SourceScan, rows: RowFilter) -> LatestRows:
        with contextlib.ExitStack() as stack:
            session = stack.enter_context(self._session(scan))
            winners, summary = session.find_latest(rows)
            return _PolarsLatest(session, winners, summary, stack.pop_all())

    @override
    def keys(self, scan: SourceScan) -> Iterator[pa.RecordBatch]:
        columns = [(c.alias, c.dtype) for c in scan.keys]
        with self._session(scan) as session:
            yield from to_batches(session.find_keys(), columns)

    @override
    def ties(self, scan: SourceScan) -> Iterator[pa.RecordBatch]:
        with self._session(scan) as session:
            yield from to_batches(session.find_ties(), version_columns(scan))

    @override
    def times(
        self, scan: SourceScan, *, after_us: int | None = None, until_us: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        with self._session(scan) as session:
            for frame in session.find_times(after_us, until_us):
                yield from to_batches(frame, [("e", pa.int64()), ("c", pa.int64())])

    @override
    def query(self, sql_text: str, tables: Mapping[str, SqlTable]) -> pa.Table:
        # Polars' dialect differs, and its SQL can read any file of the machine.
        from featurestore.offline.duckdb_connection import DuckDBLimits
        from featurestore.offline.duckdb_query import run_query

        limits = DuckDBLimits(
            threads=self._threads,
            memory_limit=self._memory_limit,
            temp_directory=self._temp_directory,
        )
        return run_query(limits, sql_text, tables)

    @contextlib.contextmanager
    def _session(self, scan: SourceScan) -> Iterator["_Session"]:
        with _errors(scan):
            session = _Session(scan, threads=self.threads, memory_bytes=self.memory_bytes)
            session.rows.check_local_times()
            yield session
            check_files(scan)


class _Session:
    """The queries over one scan."""

    def __init__(self, scan: SourceScan, *, threads: int, memory_bytes: int) -> None:
        self.scan = scan
        self.rows = ArrowRows(scan, row_joins(scan, threads=threads, memory_bytes=memory_bytes))
        self.keys = [c.alias for c in scan.keys]
        self.created = ["c"] if scan.created else []
        self.threads = threads
        self.meter = Meter()
        self._memory_bytes = memory_bytes
        self._chunk_rows = chunk_rows(memory_bytes)

    @property
    def order(self) -> list[str]:
        """What decides between rows of one key and event time, the most important first."""
        return self.scan.order[1:]

    def _chunks(
        self,
        aliases: Sequence[str],
        *,
        beside: int = 0,
        since_us: int | None = None,
        until_us: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield these columns, an empty frame at least.

        Chunks are larger if what they are joined to (`beside` rows) is large, since each join goes
        over all of that. Rows before `since_us` and after `until_us` need not be there.
        """
        yield empty_frame(self.rows, aliases)
        pieces = self.rows.pieces_within(since_us, until_us)
        self.meter.begin(sum(piece.rows for piece in pieces))
        yield from self._read(self.rows, pieces, aliases, beside)
        self.meter.end()

    def _read(
        self, rows: ArrowRows, pieces: Sequence[Piece], aliases: Sequence[str], beside: int
    ) -> Iterator[pl.DataFrame]:
        least = max(self._chunk_rows, 2 * beside)
        yield from chunks(
            rows, pieces, aliases, least=least, threads=self.threads, meter=self.meter
        )

    @cached_property
    def superseded(self) -> pl.DataFrame:
        """The rows that later versions of their events stand for; see `find_superseded`."""

        def read(rows: ArrowRows, aliases: Sequence[str], beside: int) -> Iterator[pl.DataFrame]:
            yield empty_frame(rows, aliases)
            self.meter.begin(0)  # nobody counts these rows, but they can be interrupted
            yield from self._read(rows, rows.pieces, aliases, beside)

        return find_superseded(self.rows, read, memory_bytes=self._memory_bytes)

    def _reduced(
        self, parts: Iterator[pl.DataFrame], reduce: Callable[[pl.LazyFrame], pl.LazyFrame]
    ) -> pl.DataFrame:
        return reduced(parts, reduce, held_rows=GROUPED * self._chunk_rows)

    def of_keys(
        self, keys: pa.Table, columns: Sequence[str], *, from_us: int | None, until_us: int
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of these keys; see `ScanReader.rows`."""
        inside = pl.col("e") <= until_us
        if from_us is not None:
            inside &= pl.col("e") >= from_us
        own = [pl.col("e") <= pl.col("until")] if "until" in keys.schema.names else []
        if "since" in keys.schema.names:
            own.append(pl.col("e") >= pl.col("since"))
        wanted = pl.DataFrame(keys).lazy()
        superseded = self.superseded if self.scan.dedup else None
        aliases = [*self.keys, "e", *self.order, *columns]
        read = self._chunks(aliases, beside=keys.num_rows, since_us=from_us, until_us=until_us)
        for chunk in read:
            rows = chunk.lazy().filter(inside)
            known = rows.join(wanted, on=self.keys) if self.keys else rows.join(wanted, how="cross")
            found = collect(known.filter(*own).select("g", "e", *self.order, *columns))
            yield found if superseded is None else with_superseded(found, superseded)

    def features(self, ordinals: Ints) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the features of rows, in any order.

        Args:
            ordinals: Of the rows, sorted.

        Returns:
            Runs of rows that `ordinals` has side by side, each with the position of its first.
        """
        aliases = ["o", *(c.alias for c in self.scan.features)]
        pieces = [piece for piece in self.rows.pieces if _has_any(piece, ordinals)]

        def read(piece: Piece) -> Iterator[pa.RecordBatch]:
            return self.rows.read(piece, aliases, chosen=ordinals)

        self.meter.begin(len(ordinals))
        for run in as_they_come(read, pieces, threads=self.threads):
            self.meter.advance(run.num_rows)
            first = int(np.searchsorted(ordinals, run["o"][0].as_py()))
            yield first, run.select(aliases[1:])
        self.meter.end()

    def find_latest(self, wanted: RowFilter) -> tuple[pa.Table, ScanSummary]:
        """Return each key's winning row (`k0..`, `e`, `c`, `o`, sorted by `o`), and what was read.

        First the newest time of each key is found, then what is tied at it is compared.
        """
        newest = self._newest(wanted)
        at = newest.lazy().select(*self.keys, "e")
        aliases = [*self.keys, "e", *self.order]
        tied = pl.concat(
            collect(chunk.lazy().join(at, on=[*self.keys, "e"]))
            for chunk in self._offered(wanted, aliases, beside=newest.height)
        )
        if tied.height > newest.height:
            tied = tied.sort(self.order)
            tied = tied.unique(self.keys, keep="last") if self.keys else tied.tail(1)
        columns = [*version_columns(self.scan), ("o", pa.int64())]
        winners = cast_table(self._with_created(tied).sort("o").to_arrow(), columns)
        return winners, self._summary(newest)

    def _offered(
        self, wanted: RowFilter, aliases: Sequence[str], *, beside: int = 0
    ) -> Iterator[pl.DataFrame]:
        """Yield these columns of the rows that a materialization looks at; see `_chunks`."""
        offered = usable(self.keys) & passes(wanted, has_created=bool(self.created))
        since, until = wanted.after_us, wanted.until_us
        for chunk in self._chunks(aliases, beside=beside, since_us=since, until_us=until):
            yield chunk.filter(offered)

    def _newest(self, wanted: RowFilter) -> pl.DataFrame:
        """Return of each key how many rows it has (`n`), and their greatest times (`e`, `c`)."""

        def greatest(rows: pl.LazyFrame) -> pl.LazyFrame:
            found = [pl.col("n").sum(), pl.col("e", "c").max()]
            if self.keys:
                return rows.group_by(self.keys).agg(found)
            return rows.select(found).filter(pl.col("n") > 0)

        one = pl.lit(1, pl.Int64).alias("n")
        read = self._offered(wanted, [*self.keys, "e", *self.created])
        rows = (self._with_created(chunk).with_columns(one) for chunk in read)
        return self._reduced(rows, greatest)

    def _with_created(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return rows that have a created time, null if the source has none."""
        return rows if self.created else rows.with_columns(c=pl.lit(None, pl.Int64))

    def _summary(self, newest: pl.DataFrame) -> ScanSummary:
        rows, event, created = newest.select(pl.sum("n"), pl.max("e"), pl.max("c")).row(0)
        null_keys, null_times = self._count_unusable() if self.scan.nulls_possible else (0, 0)
        return ScanSummary(
            rows=rows,
            entities=newest.height,
            null_keys=null_keys,
            null_times=null_times,
            max_event_us=event,
            max_created_us=created,
        )

    def _count_unusable(self) -> tuple[int, int]:
        """Return how many rows have no key, and how many a key but no event time."""
        keyed = pl.all_horizontal(pl.col(self.keys).is_not_null()).sum() if self.keys else pl.len()
        counts = [pl.len().alias("n"), keyed.alias("keyed"), usable(self.keys).sum().alias("whole")]
        found = pl.concat(chunk.select(counts) for chunk in self._chunks([*self.keys, "e"]))
        count, keyed_count, whole_count = found.sum().row(0)
        return count - keyed_count, keyed_count - whole_count

    def find_keys(self) -> pl.DataFrame:
        """Return the distinct keys of rows that can be visible."""
        known = (
            chunk.filter(usable(self.keys)).select(self.keys)
            for chunk in self._chunks([*self.keys, "e"])
        )
        return self._reduced(known, pl.LazyFrame.unique)

    def find_times(self, after_us: int | None, until_us: int | None) -> Iterator[pl.DataFrame]:
        """Yield the times of rows in a span of event time; see `OfflineEngine.times`."""
        inside = pl.lit(value=True)
        if after_us is not None:
            inside &= pl.col("e") > after_us
        if until_us is not None:
            inside &= pl.col("e") <= until_us
        for chunk in self._chunks(["e", "c"], since_us=after_us, until_us=until_us):
            yield chunk.filter(inside)

    def find_ties(self) -> pl.DataFrame:
        """Return each version that rows with different features share; see `OfflineEngine.ties`.

        First versions that rows share at all are found, so that few features are held.
        """
        version = [*self.keys, "e", *self.created]
        features = [c.alias for c in self.scan.features]
        offered = usable(self.keys)

        def counted(rows: pl.LazyFrame) -> pl.LazyFrame:
            return rows.group_by(version).agg(pl.col("n").sum())

        one = pl.lit(1, pl.Int64).alias("n")
        rows = (chunk.filter(offered).with_columns(one) for chunk in self._chunks(version))
        shared = self._reduced(rows, counted).filter(pl.col("n") > 1).lazy()
        tied = pl.concat(
            collect(chunk.lazy().join(shared, on=version, how="semi", nulls_equal=True))
            for chunk in self._chunks([*version, *features])
        )
        found = tied.group_by(version).agg(n=pl.struct(features).n_unique())
        return self._with_created(found.filter(pl.col("n") > 1))


class _PolarsReader(ScanReader):
    """A session's rows by key, and its features by ordinal."""

    def __init__(self, session: _Session) -> None:
        self._session = session

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
        schema = session.rows.schema(["e", *session.order, *columns])
        types = [("g", pa.int32()), *((field.name, field.type) for field in schema)]
        types += [("s", pa.int64())] if session.scan.dedup else []
        with _errors(session.scan):
            for frame in session.of_keys(keys, columns, from_us=from_us, until_us=until_us):
                yield from to_batches(frame, types)

    @override
    def features(self, ordinals: Ints) -> Iterator[pa.RecordBatch]:
        for first, run in self._session.features(ordinals):
            numbers = np.arange(first, first + run.num_rows, dtype=np.int64)
            yield pa.record_batch([pa.array(numbers), *run.columns], ["n", *run.schema.names])

    @override
    def explain(self, keys: pa.Table, *, from_us: int | None, until_us: int) -> str:
        scan, pieces = self._session.scan, self._session.rows.pieces
        first = [*scan.keys, scan.event_column, *([scan.created] if scan.created else [])]
        features = scan.read_for([c.alias for c in scan.features])
        read = [c for c in scan.columns if c.alias in features]
        seen = set(scan.needed_for(c.name for c in columns_of(scan.where))) if scan.where else set()
        first += [c for c in scan.inputs if c.alias in seen]
        passing = f"that pass {scan.where_name}, " if seen else ""
        since = "" if from_us is None else f"{_shown(from_us)} <= "
        span = f"{since}{scan.event_column.in_file} <= {_shown(until_us)}"
        event = ", ".join(column.in_file for column in scan.dedup)
        before = f"find the latest version of each {event} among all rows\n" if event else ""
        return (
            f"{before}read {', '.join(c.in_file for c in first)} of {len(pieces):,} row groups,"
            f" {self._session.threads} at a time\n"
            f"keep rows {passing}with {span} and one of {keys.num_rows:,} keys\n"
            f"then read {', '.join(c.in_file for c in read)} of row groups with winners"
        )

    @override
    def progress(self) -> float | None:
        return self._session.meter.share

    @override
    def interrupt(self) -> None:
        self._session.meter.stop()


class _PolarsLatest(LatestRows):
    """The winners by their ordinals; their features are read row group by row group."""

    def __init__(
        self,
        session: _Session,
        winners: pa.Table,
        summary: ScanSummary,
        stack: contextlib.ExitStack,
    ) -> None:
        self.summary = summary
        self._session = session
        self._winners = winners
        self._stack = stack

    @override
    def split(self, count: int) -> Sequence[range]:
        return even_ranges(self._winners["o"].to_numpy(), count)

    @override
    def batches(self, max_rows: int, ordinals: range | None = None) -> Iterator[pa.RecordBatch]:
        scan, winners, numbers = self._session.scan, self._winners, self._winners["o"].to_numpy()
        if ordinals is not None:
            start, stop = np.searchsorted(numbers, [ordinals.start, ordinals.stop])
            winners, numbers = winners.slice(start, stop - start), numbers[start:stop]
        versions = winners.select([name for name, _ in version_columns(scan)])
        with _errors(scan):
            for first, features in self._session.features(numbers):
                version = versions.slice(first, features.num_rows).combine_chunks()
                columns = [*(c.combine_chunks() for c in version.columns), *features.columns]
                names = [*version.column_names, *features.schema.names]
                whole = pa.record_batch(columns, names=names)
                for start in range(0, whole.num_rows, max_rows):
                    yield whole.slice(start, max_rows)

    @override
    def close(self) -> None:
        self._stack.close()


def _shown(micros: int) -> str:
    try:
        return format_instant(from_micros(micros))
    except OverflowError:  # beyond the years that have a name
        return f"{micros} us"


def _has_any(piece: Piece, ordinals: Ints) -> bool:
    low, high = np.searchsorted(ordinals, [piece.first, piece.first + piece.rows])
    return bool(high > low)


@contextlib.contextmanager
def _errors(scan: SourceScan) -> Iterator[None]:
    """Turn Polars' errors into ours, and Arrow's; those of one file are ours already."""
    try:
        yield
    except MemoryError as error:
        raise ResourceLimitError(
            f"Source {scan.source.name!r}: memory ran out ({first_line(error)}).",
            hint="Polars does not spill; offline_store: {type: duckdb} does",
        ) from None
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        check_files(scan)
        raise unreadable(scan, first_line(error), None) from None

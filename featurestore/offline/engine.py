"""The contract between the feature store and whatever computes training sets (SEMANTICS, 2 and 3).

An engine reads, joins to keys and filters. Spines, orders, ties, names, types of results and
everything else is shared and decided elsewhere (`as_of`, `timeline`), so that engines can only
differ in how fast they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.scan import SourceScan

Mode = Literal["complete", "as_served"]


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What an engine promises; the conformance suite holds it to each promise."""

    as_served: bool = True
    sql_spines: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """Which source rows a materialization looks at; all bounds in microseconds.

    Attributes:
        until_us: `event_ts <= until_us`.
        after_us: `event_ts > after_us`, or None.
        created_after_us: With `or_event_after_us`: only rows created after this, with a null
            `created_ts`, or with an `event_ts` beyond the other. None looks at all.
        or_event_after_us: See `created_after_us`.
    """

    until_us: int
    after_us: int | None = None
    created_after_us: int | None = None
    or_event_after_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanSummary:
    """What was read for a materialization.

    Attributes:
        rows: Rows that passed the filter and have a key and a time.
        entities: Distinct keys among them.
        null_keys: Rows without a key (any part null), never visible.
        null_times: Rows with a key and without an event time, never visible.
        max_event_us: Greatest event time read, or None without rows.
        max_created_us: Greatest created time read, or None.
    """

    rows: int
    entities: int
    null_keys: int
    null_times: int
    max_event_us: int | None
    max_created_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlTable:
    """Files that a query may read under one name.

    Attributes:
        paths: The files.
        renamed: Column in the files -> its name in the query.
    """

    paths: tuple[str, ...]
    renamed: Mapping[str, str]


class LatestRows(Protocol):
    """The newest row of every entity, ready to be streamed once."""

    summary: ScanSummary

    def split(self, count: int) -> Sequence[range]:
        """Divide the entities into at most `count` parts of about one size.

        Returns:
            Ranges of ordinals that rise and hold every ordinal together. An entity is in the range
            of its winner's ordinal: a range means the same entities whenever the same rows of the
            same files are looked at, in another process, with another engine.
        """
        ...

    def batches(self, max_rows: int, ordinals: range | None = None) -> Iterator[pa.RecordBatch]:
        """Yield every entity once, in any order; with `ordinals` those of that range.

        Columns `k0..` (declared types), `e` and `c` (int64 microseconds; `c` is always there and
        may be null), `f0..` (declared types).
        """
        ...

    def close(self) -> None:
        """Let go of everything; twice is fine."""
        ...


class ScanReader(Protocol):
    """Reads one source for one call. For one thread, but for `progress` and `interrupt`."""

    def rows(
        self,
        keys: pa.Table,
        columns: Sequence[str] = (),
        *,
        from_us: int | None,
        until_us: int,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of these keys in a span of event time, in any order.

        Args:
            keys: Column `g` (int32, distinct, not null); the join keys `k0..` (declared types,
                not null, distinct as a whole); and either, both or none of `until` and `since`: the
                greatest and the smallest event time of the rows of this key (int64 microseconds,
                not null). A view without join keys has one row.
            columns: Aliases of features to read besides.
            from_us: Smallest event time of any key, or None.
            until_us: Greatest event time of any key.

        Returns:
            Batches with `g` of the row's key; `e`; `c` where the scan has created times (may be
            null); `en` and `cn` where `scan.ties_by_nanoseconds`; `o`, the ordinal (int64, unique,
            in the order that decides ties); `s` where the scan has `dedup`, when the next version
            of the row's event was created: `dedup.NEVER` if there is none, `dedup.LOWEST` if that
            has no created time. Versions are in the order of (created time with null lowest, its
            nanoseconds, ordinal), among all rows of the source, also those that the scan's filter
            leaves out; a row with a null in `dedup` has none. And `columns` with their declared
            types. Times are int64 microseconds.
        """
        ...

    def features(self, ordinals: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        """Yield the features of some rows, in any order.

        Args:
            ordinals: Of rows that `rows` has yielded, sorted, distinct.

        Returns:
            Batches with a row for each ordinal: `n`, its position in `ordinals` (int64), and `f0..`
            (declared types).
        """
        ...

    def explain(self, keys: pa.Table, *, from_us: int | None, until_us: int) -> str:
        """Return what `rows` and `features` would run, for people: SQL or a plan."""
        ...

    def progress(self) -> float | None:
        """Return which part of the call of `rows` or `features` under way is done, 0 to 1.

        For any thread. None if nothing is under way, or nobody knows.
        """
        ...

    def interrupt(self) -> None:
        """End the call of `rows` or `features` under way, soon, with a `JobCancelledError`.

        For any thread. It may have no effect at a moment between two steps: call it again.
        """
        ...


class OfflineEngine(Protocol):
    """Reads histories and finds newest rows. Safe to use from several threads.

    Raises, from every method: `SourceError` when a file cannot be read, `SourceTimeError` for a
    local time that the source's policy refuses, `ResourceLimitError` when memory or temporary space
    runs out.
    """

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    @property
    def memory_bytes(self) -> int:
        """Return how much memory the engine may use, by its configuration or the machine's size."""
        ...

    @property
    def threads(self) -> int:
        """Return how many threads may work at once."""
        ...

    def reader(self, scan: SourceScan) -> AbstractContextManager["ScanReader"]:
        """Open a source; on leaving, a file that has changed meanwhile raises.

        Raises:
            SourceChangedError: On leaving.
        """
        ...

    def latest(self, scan: SourceScan, rows: RowFilter) -> LatestRows:
        """Return the winning row of every entity among the rows that `rows` lets through.

        The winner is the one with the greatest (event_ts, created_ts, ordinal).
        """
        ...

    def keys(self, scan: SourceScan) -> Iterator[pa.RecordBatch]:
        """Yield the distinct keys of rows that can be visible (columns `k0..`) in batches."""
        ...

    def ties(self, scan: SourceScan) -> Iterator[pa.RecordBatch]:
        """Yield each (key, event_ts, created_ts) that rows with different features share.

        Columns `k0..`, `e` and `c` as in `latest`; each once, in any order.
        """
        ...

    def times(
        self, scan: SourceScan, *, after_us: int | None = None, until_us: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the times of all rows, in any order: `e` and `c` (int64 microseconds, or null).

        Args:
            scan: The source's columns; it has created times.
            after_us: Only rows with `event_ts > after_us`, or None.
            until_us: Only rows with `event_ts <= until_us`, or None. With a bound, rows without an
                event time are left out.
        """
        ...

    def query(self, sql_text: str, tables: Mapping[str, SqlTable]) -> pa.Table:
        """Return the rows of a query over named Parquet files, in the order it yields them.

        Args:
            sql_text: One SELECT statement.
            tables: What it may read, by name.

        Raises:
            RequestError: The query is not one SELECT, or cannot be run.
            SourceError: Files that it reads cannot be read; others do not matter.
        """
        ...

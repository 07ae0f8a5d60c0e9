"""The as-of join: which source row answers for each spine row (SEMANTICS, section 3).

First only keys, times and ordinals are read, and the winners found; then the winners' features.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.engine import Mode, OfflineEngine, ScanReader
from featurestore.offline.scan import ScanColumn, SourceScan
from featurestore.offline.spine_keys import NumberedKeys, number_keys
from featurestore.offline.timeline import Ints, Timeline, arrival_order, distinct, search

LOWEST = -(2**63)
"""What a null created time counts as: below every instant."""
NOBODY = -1
"""The ordinal of no row."""
BYTES_PER_ROW = 72
"""What finding winners takes for each row of the source: what was read, and its orders."""
MEMORY_SHARE = 4
"""The part of the engine's memory that may be taken for that: one in so many."""


def as_of(
    engine: OfflineEngine, scan: SourceScan, spine: pa.Table, *, ttl_us: int | None, mode: Mode
) -> pa.Table:
    """Return the features of `scan` as of each spine row.

    Args:
        engine: Reads the files.
        scan: The source's columns. With mode "as_served" it has a created time.
        spine: Columns `q` (int64 microseconds) and `k0..` (the declared types of the scan's
            keys), n rows; nulls are allowed everywhere.
        ttl_us: Greatest age of a row, or None.
        mode: See SEMANTICS, section 3.

    Returns:
        Columns `f0..` of the declared types, n rows in the spine's order, null where nothing is
        visible. The answer never depends on threads, memory or the order of rows in memory.

    Raises:
        SourceError, SourceTimeError, ResourceLimitError: See `OfflineEngine`.
    """
    with engine.reader(scan) as reader:
        ordinals = winners(engine, reader, scan, spine, ttl_us=ttl_us, mode=mode)
        return fetch(reader, scan, ordinals, threads=engine.threads)


def winners(
    engine: OfflineEngine,
    reader: ScanReader,
    scan: SourceScan,
    spine: pa.Table,
    *,
    ttl_us: int | None,
    mode: Mode,
) -> Ints:
    """Return the ordinal of the row that answers for each spine row, -1 where there is none.

    See `as_of` for the arguments. A source that would not fit into memory is read several times,
    for a part of the keys each time.
    """
    keys = number_keys(spine)
    found = np.full(spine.num_rows, NOBODY, dtype=np.int64)
    if not len(keys.rows):
        return found
    span = Span.of(keys, ttl_us)
    for part, asked in key_parts(keys, passes_for(engine, scan)):
        history = History.read(reader, scan, part, span)
        find = _complete if mode == "complete" else _served
        found[keys.rows[asked]] = find(history, keys.groups[asked], keys.times[asked], ttl_us)
    return found


def passes_for(engine: OfflineEngine, scan: SourceScan) -> int:
    """Return how often a source is read so that what is held of it fits into memory."""
    return max(1, -(-scan.row_count * BYTES_PER_ROW * MEMORY_SHARE // engine.memory_bytes))


def explain(engine: OfflineEngine, scan: SourceScan, spine: pa.Table, *, ttl_us: int | None) -> str:
    """Return how `as_of` would compute it, for people."""
    keys = number_keys(spine)
    if not len(keys.rows):
        return "nothing to join: no spine row has both a key and a time"
    span, passes = Span.of(keys, ttl_us), passes_for(engine, scan)
    with engine.reader(scan) as reader:
        text = reader.explain(keys.table, from_us=span.from_us, until_us=span.until_us)
    again = "" if passes == 1 else f", the source read in {passes} passes for a part of them each"
    rows = f"{len(keys.rows):,} rows with a key and a time, {keys.table.num_rows:,} keys"
    return f"{rows}{again}\n{text}"


@dataclass(frozen=True, slots=True)
class Span:
    """The event times that can matter to a spine, both ends included."""

    from_us: int | None
    until_us: int

    @classmethod
    def of(cls, keys: NumberedKeys, ttl_us: int | None) -> "Span":
        """Return the span in which rows can answer; there must be a spine row."""
        return cls(None if ttl_us is None else keys.first_us - ttl_us, keys.last_us)


def key_parts(
    keys: NumberedKeys, count: int
) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64] | slice]]:
    """Yield parts of the keys and which of the numbered spine rows have them."""
    if count == 1:
        yield keys.table, slice(None)
        return
    size = -(-keys.table.num_rows // count)
    for first in range(0, keys.table.num_rows, size):
        inside = (keys.groups >= first) & (keys.groups < first + size)
        yield keys.table.slice(first, size), np.flatnonzero(inside)


@dataclass(frozen=True, slots=True)
class History:
    """Rows of some keys, without their features, in the order of their ordinals.

    Attributes:
        groups: int32, the number of each row's key.
        events: int64 microseconds.
        created: int64 microseconds, `LOWEST` where null; None if the source has none.
        nanoseconds: By how much rounding moved events and created times; None if nothing was.
        ordinals: int64, rising.
        values: Alias -> column, of the columns that were asked for.
    """

    groups: npt.NDArray[np.int32]
    events: Ints
    created: Ints | None
    nanoseconds: tuple[Ints, Ints] | None
    ordinals: Ints
    values: Mapping[str, pa.Array] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        reader: ScanReader,
        scan: SourceScan,
        keys: pa.Table,
        span: Span,
        columns: Sequence[str] = (),
    ) -> "History":
        """Read the rows of these keys, and some of their columns."""
        names = ["g", "e", *(["c"] if scan.created else []), "o"]
        if scan.ties_by_nanoseconds:
            names += ["en", "cn"]
        # Only what is written to takes memory. Copying a batch at once lets its own be used again:
        # the system hands out fresh memory more slowly than DuckDB fills it.
        read: dict[str, npt.NDArray[Any]]
        read = {n: np.empty(scan.row_count, np.int32 if n == "g" else np.int64) for n in names}
        count, held = 0, []
        for batch in reader.rows(keys, columns, from_us=span.from_us, until_us=span.until_us):
            for name, target in read.items():
                target[count : count + batch.num_rows] = _numbers(batch.column(name))
            count += batch.num_rows
            held.append(batch.select(columns))
        order = arrival_order(read["o"][:count])

        def take(name: str) -> Ints:
            column: npt.NDArray[Any] = read.pop(name)[:count]
            return column if order is None else column[order]

        return cls(
            groups=take("g").astype(np.int32, copy=False),
            events=take("e"),
            created=take("c") if scan.created else None,
            nanoseconds=(take("en"), take("cn")) if scan.ties_by_nanoseconds else None,
            ordinals=take("o"),
            values=_columns(scan, columns, held, order),
        )

    @property
    def versions(self) -> list[Ints]:
        """What decides between rows of one key and event time before the ordinal does."""
        created = [] if self.created is None else [self.created]
        return [*created, *(self.nanoseconds or ())]

    def by_event(self) -> Timeline:
        """Return the rows in the order (key, event, created, ordinal)."""
        timeline = Timeline(self.groups, self.events)
        if self.versions:
            timeline.break_ties(*self.versions)
        return timeline


def _columns(
    scan: SourceScan,
    columns: Sequence[str],
    batches: Sequence[pa.RecordBatch],
    order: Ints | None,
) -> dict[str, pa.Array]:
    """Return columns of batches in an order, with their declared types."""
    dtypes = {column.alias: column.dtype for column in scan.features}
    found = {}
    for alias in columns:
        parts = [batch.column(alias).cast(dtypes[alias]) for batch in batches]
        whole = pa.chunked_array(parts, dtypes[alias]).combine_chunks()
        found[alias] = whole if order is None else whole.take(pa.array(order))
    return found


def _numbers(column: pa.Array) -> npt.NDArray[np.int64]:
    filled = column.fill_null(LOWEST) if column.null_count else column
    return np.asarray(filled.to_numpy())


def _complete(
    history: History, groups: npt.NDArray[np.int32], times: Ints, ttl_us: int | None
) -> Ints:
    """Return the ordinals of the winners among all rows."""
    timeline = history.by_event()
    rows = _rows_at(timeline.order, timeline.last(groups, times))
    return _fresh(history, rows, times, ttl_us)


def _served(
    history: History, groups: npt.NDArray[np.int32], times: Ints, ttl_us: int | None
) -> Ints:
    """Return the ordinals of the winners among the rows that were written by each time.

    A row is known from the later of its two times on. The running maximum of the version in that
    order is what a reader would have seen; groups do not mix in it, because the versions of each
    rank above those of the groups before.
    """
    if history.created is None:
        return np.full(len(groups), NOBODY, dtype=np.int64)
    written = np.flatnonzero(history.created != LOWEST)
    by_event = history.by_event()
    rank = np.empty(len(by_event), dtype=np.int64)
    rank[by_event.order] = np.arange(len(by_event))
    known_from = np.maximum(history.events[written], history.created[written])
    by_known = Timeline(history.groups[written], known_from)
    best = np.maximum.accumulate(rank[written[by_known.order]])
    rows = _rows_at(by_event.order[best], by_known.last(groups, times))
    return _fresh(history, rows, times, ttl_us)


def _rows_at(order: Ints, places: Ints) -> Ints:
    """Return the rows at places, `NOBODY` at -1."""
    if not len(order):
        return np.full(len(places), NOBODY, dtype=np.int64)
    return np.where(places >= 0, order[np.maximum(places, 0)], NOBODY)


def _fresh(history: History, rows: Ints, times: Ints, ttl_us: int | None) -> Ints:
    """Return the ordinals of rows, `NOBODY` for none and for those older than the ttl."""
    if not len(history.ordinals):
        return rows
    found = np.maximum(rows, 0)
    answers = rows >= 0
    if ttl_us is not None:
        answers &= history.events[found] >= times - ttl_us
    return np.where(answers, history.ordinals[found], NOBODY)


def fetch(reader: ScanReader, scan: SourceScan, ordinals: Ints, *, threads: int) -> pa.Table:
    """Return the features of the rows with these ordinals (-1: null), in this order.

    Returns:
        Columns `f0..` of the declared types, a row per ordinal.
    """
    features = scan.features
    answered = ordinals != NOBODY
    wanted = distinct(ordinals[answered])
    names = [column.alias for column in features]
    if not len(wanted):
        return pa.table([pa.nulls(len(ordinals), c.dtype) for c in features], names=names)
    found = reader.features(wanted)
    position = np.empty(len(wanted), dtype=np.int64)
    position[found["n"].to_numpy()] = np.arange(found.num_rows)
    # Nobody's position is any; it is masked.
    places = position[np.minimum(search(wanted, ordinals), len(wanted) - 1)]
    return take_columns(found, features, pa.array(places, mask=~answered), threads=threads)


def take_columns(
    table: pa.Table, columns: Sequence[ScanColumn], indices: pa.Array, *, threads: int
) -> pa.Table:
    """Return the given rows of some columns, several columns at once."""

    def take(column: ScanColumn) -> pa.Array:
        return table[column.alias].combine_chunks().take(indices)

    with ThreadPoolExecutor(threads, thread_name_prefix="take") as pool:
        arrays = list(pool.map(take, columns))
    return pa.table(arrays, names=[column.alias for column in columns])

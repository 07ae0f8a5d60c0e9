"""The as-of join: which source row answers for each spine row (SEMANTICS, section 3).

First only keys, times and ordinals are read, and the winners found; then the winners' features.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import SourceError
from featurestore.offline.engine import Mode, OfflineEngine, ScanReader
from featurestore.offline.filled import FilledColumns, WantedRows
from featurestore.offline.history import LOWEST, Arrived, History, numbers_of
from featurestore.offline.row_spans import newest_first
from featurestore.offline.running import FEW_TIMES, RunningWinners
from featurestore.offline.scan import SourceScan
from featurestore.offline.spine_keys import NumberedKeys, number_keys
from featurestore.offline.timeline import NOBODY, Ints, Timeline, rows_at

BYTES_PER_ROW = 72
"""What a row that was read takes while it is brought into order, with its orders."""
MEMORY_SHARE = 4
"""The part of the engine's memory that may be taken for rows: one in so many."""
ORDER_SHARE = 4
"""The part of that for those that are brought into order, a part of the keys on each thread."""

Answers = Callable[[range], Ints]
"""The ordinals that answer for the rows of some keys, in the order of `NumberedKeys`."""


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
        keys = number_keys(spine)
        ordinals = winners(engine, reader, scan, keys, ttl_us=ttl_us, mode=mode)
        return fetch(reader, scan, ordinals, threads=engine.threads)


def winners(
    engine: OfflineEngine,
    reader: ScanReader,
    scan: SourceScan,
    keys: NumberedKeys,
    *,
    ttl_us: int | None,
    mode: Mode,
) -> Ints:
    """Return the ordinal of the row that answers for each spine row, -1 where there is none.

    See `as_of` for the arguments; `keys` are those of the spine, by `number_keys`. A source that
    would not fit into memory is read several times, for a part of the keys each time.
    """
    found = np.full(keys.count, NOBODY, dtype=np.int64)
    if not len(keys.rows):
        return found
    every = range(keys.table.num_rows)
    with ThreadPoolExecutor(engine.threads, thread_name_prefix="as-of") as pool:

        def put(answers: Answers, parts: Iterable[range]) -> None:
            """Put the answers for the keys of several parts where they belong."""

            def put_some(some: range) -> None:
                found[keys.rows[keys.places(some)]] = answers(some)

            for _ in pool.map(put_some, parts):
                pass

        if _runs(engine, scan, keys, mode):
            running = _running(reader, scan, keys, ttl_us)
            put(partial(running.ordinals, ttl_us=ttl_us), key_ranges(every, engine.threads))
            return found
        for part in key_ranges(every, reads_for(engine, scan)):
            arrived = Arrived.read(reader, scan, keys, part, age_us=ttl_us)
            answers = partial(_answers, arrived, keys=keys, ttl_us=ttl_us, mode=mode)
            groups, count = arrived.numbers["g"], _parts_for(engine, arrived)
            put(answers, even_ranges(part, groups, count))
    return found


def _runs(engine: OfflineEngine, scan: SourceScan, keys: NumberedKeys, mode: Mode) -> bool:
    """Whether winners are found while rows come by; else rows are held, and brought into order."""
    held = len(keys.rows) * (8 * (len(scan.order) + 1) + 4)
    are_few = len(keys.rows) <= FEW_TIMES * keys.table.num_rows
    return mode == "complete" and are_few and held <= engine.memory_bytes // MEMORY_SHARE


def _running(
    reader: ScanReader, scan: SourceScan, keys: NumberedKeys, ttl_us: int | None
) -> RunningWinners:
    """Let all rows that can matter come by, and return the winners among them.

    Rows are read from the newest to the oldest, in parts of time, if they lie in the files in about
    that order: then each part is read only for keys with times that newer rows did not answer.
    """
    names, unanswered = scan.order, keys.last_places
    with ThreadPoolExecutor(1, thread_name_prefix="as-of") as pool:
        running = pool.submit(RunningWinners, keys, len(names) - 1)  # while the first rows are read
        for since, until in newest_first(scan.spans, keys.since(ttl_us), keys.last_us):
            wanted = keys.asking(unanswered, since, until, ttl_us)
            if not wanted.num_rows:
                continue
            for batch in reader.rows(wanted, from_us=since, until_us=until):
                numbers = [numbers_of(batch.column(name)) for name in names]
                running.result().add(batch.column("g").to_numpy(), numbers)
            unanswered = running.result().unanswered()
    return running.result()


def _answers(
    arrived: Arrived, some: range, *, keys: NumberedKeys, ttl_us: int | None, mode: Mode
) -> Ints:
    """Return the ordinals of the winners of some keys' rows."""
    asked = keys.places(some)
    find = _complete if mode == "complete" else _served
    return find(arrived.of_keys(some), keys.groups[asked], keys.times[asked], ttl_us)


def reads_for(engine: OfflineEngine, scan: SourceScan) -> int:
    """Return how often keys and times are read so that what is held of them fits into memory."""
    memory = engine.memory_bytes * (ORDER_SHARE - 1) // (MEMORY_SHARE * ORDER_SHARE)
    numbers = 2 + (scan.created is not None) + 2 * scan.ties_by_nanoseconds
    return max(1, -(-scan.row_count * (4 + 8 * numbers) // max(memory, 1)))


def _parts_for(engine: OfflineEngine, arrived: Arrived) -> int:
    """Return into how many parts rows are divided so that their orders fit into memory."""
    memory = engine.memory_bytes // (MEMORY_SHARE * ORDER_SHARE * engine.threads)
    rows = len(arrived.numbers["o"])
    return max(engine.threads, -(-rows * BYTES_PER_ROW // max(memory, 1)))


def passes_for(engine: OfflineEngine, scan: SourceScan) -> int:
    """Return how often a source is read if all that is read of it is brought into order at once."""
    return max(1, -(-scan.row_count * BYTES_PER_ROW * MEMORY_SHARE // engine.memory_bytes))


def explain(
    engine: OfflineEngine,
    scan: SourceScan,
    keys: NumberedKeys,
    *,
    ttl_us: int | None,
    mode: Mode = "complete",
    passes: int | None = None,
) -> str:
    """Return how `winners` would find them, for people; `passes` is how often it would read."""
    if not len(keys.rows):
        return "nothing to join: no spine row has both a key and a time"
    runs = passes is None and _runs(engine, scan, keys, mode)
    passes = passes or (1 if runs else reads_for(engine, scan))
    with engine.reader(scan) as reader:
        if runs:
            wanted = keys.asking(keys.last_places, None, keys.last_us, ttl_us)
        else:
            wanted = keys.wanted(range(keys.table.num_rows), ttl_us)
        text = reader.explain(wanted, from_us=keys.since(ttl_us), until_us=keys.last_us)
    again = "" if passes == 1 else f", the source read in {passes} passes for a part of them each"
    slices = len(list(newest_first(scan.spans, keys.since(ttl_us), keys.last_us))) if runs else 1
    if slices > 1:
        again = f", rows read in {slices} parts of time, the newest first"
    rows = f"{len(keys.rows):,} rows with a key and a time, {keys.table.num_rows:,} keys"
    return f"{rows}{again}\n{text}"


def key_ranges(keys: range, count: int) -> Iterator[range]:
    """Yield a range of keys in at most `count` parts of about the same size."""
    size = max(1, -(-len(keys) // count))
    for first in range(0, len(keys), size):
        yield keys[first : first + size]


def even_ranges(keys: range, groups: npt.NDArray[np.int32], count: int) -> Iterator[range]:
    """Yield a range of keys in at most `count` parts with about as many rows each.

    A key stays whole, so that a part may have more where one key does.

    Args:
        keys: The keys' numbers.
        groups: The key's number of each row, all of them in `keys`.
        count: How many parts.
    """
    until = np.cumsum(np.bincount(groups, minlength=keys.stop)[keys.start :])
    wanted = np.arange(1, count) * len(groups) / count
    ends = [*(keys.start + 1 + np.searchsorted(until, wanted)).tolist(), keys.stop]
    first = keys.start
    for end in ends:
        if end > first:
            yield range(first, end)
            first = end


def _complete(
    history: History, groups: npt.NDArray[np.int32], times: Ints, ttl_us: int | None
) -> Ints:
    """Return the ordinals of the winners among all rows."""
    timeline = history.by_event()
    rows = rows_at(timeline.order, timeline.last(groups, times))
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
    rows = rows_at(by_event.order[best], by_known.last(groups, times))
    return _fresh(history, rows, times, ttl_us)


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

    Raises:
        SourceError: Rows that were found before are not there any more.
    """
    wanted = WantedRows(ordinals)
    filled = FilledColumns(scan.features, ordinals == NOBODY)
    missing = len(wanted.ordinals)
    if missing:
        for batch in reader.features(wanted.ordinals):
            wanted.put(filled, batch, batch.column("n").to_numpy())
            missing -= batch.num_rows
    if missing:
        raise SourceError(
            f"Source {scan.source.name!r}: {missing:,} of the rows that were found are there no"
            " more.",
            source=scan.source.name,
            hint="did a file change while it was read? try again",
        )
    return filled.table(threads=threads)

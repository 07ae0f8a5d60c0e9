"""From newest rows to the online store: encoded here, written by a second thread meanwhile."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from featurestore.definitions import FeatureView
from featurestore.materialize.encode import RowEncoder
from featurestore.materialize.failpoints import Failpoint, hit
from featurestore.offline.engine import LatestRows
from featurestore.online.store import EncodedRows, OnlineStore, TableId, WriteCounts
from featurestore.registry.tasks import Chunk

BATCH_ROWS = 50_000
"""Rows of one write: an embedded store flushes to disk once for each."""
QUEUED_BATCHES = 4

Progress = Callable[[str, int, int], None]
"""Called with (view, rows written so far, rows in all)."""


@dataclass(frozen=True, slots=True)
class _Offered:
    """A batch that was handed to the writing thread; nothing of it if all its rows had expired."""

    counts: Future[WriteCounts] | None
    expired: int

    @property
    def is_settled(self) -> bool:
        return self.counts is None or self.counts.done()


class RowWriter:
    """Writes the chunks of one run to one table, in bounded memory.

    Args:
        store: Where to.
        table: The view's table.
        view: What the rows are of.
        now_us: What a row's age is counted up to.
        batch_rows: How many rows one write has at most.
        overwrite: Replace stored rows even if they are newer.
        chunk_ended: Called when the store has acknowledged all rows of a chunk, in the calling
            thread, in the order of chunks.
        progress: Told of every batch, or None.
    """

    def __init__(
        self,
        store: OnlineStore,
        table: TableId,
        view: FeatureView,
        *,
        now_us: int,
        batch_rows: int,
        overwrite: bool,
        chunk_ended: Callable[[Chunk], None],
        progress: Progress | None,
    ) -> None:
        self._store = store
        self._table = table
        self._view = view
        self._encoder = RowEncoder(view, now_us=now_us)
        self._batch_rows = batch_rows
        self._overwrite = overwrite
        self._chunk_ended = chunk_ended
        self._progress = progress
        self._waiting: deque[_Offered | Chunk] = deque()
        self._written = self._kept = self._expired = 0
        self._done = self._total = 0
        self._ended: list[Chunk] = []
        self._has_failed = False

    def write(self, latest: LatestRows, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Write the chunks that are pending, and return all with what became of their rows.

        A chunk's rows are read while those of the chunk before it are still being written.
        """
        self._ended = [chunk for chunk in chunks if chunk.state == "done"]
        self._total = latest.summary.entities - sum(chunk.entities for chunk in self._ended)
        with ThreadPoolExecutor(1, thread_name_prefix="online-write") as pool:
            try:
                for chunk in chunks:
                    if chunk.state == "pending":
                        self._write_chunk(pool, latest, chunk, alone=len(chunks) == 1)
                self._settle(at_most=0)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what waits would fail as well
                raise
        return self._ended

    def _write_chunk(
        self, pool: ThreadPoolExecutor, latest: LatestRows, chunk: Chunk, *, alone: bool
    ) -> None:
        for batch in latest.batches(self._batch_rows, None if alone else chunk.ordinals):
            hit(Failpoint.BATCH_READ)
            rows = self._encoder.encode(batch)
            counts = pool.submit(self._store_rows, rows) if rows.keys else None
            self._waiting.append(_Offered(counts, batch.num_rows - len(rows.keys)))
            self._settle(at_most=QUEUED_BATCHES)
        self._waiting.append(chunk)

    def _store_rows(self, rows: EncodedRows) -> WriteCounts:
        if self._has_failed:  # the thread that reads may not have come to notice yet
            raise CancelledError
        try:
            counts = self._store.write(self._table, rows, overwrite=self._overwrite)
        except BaseException:
            self._has_failed = True
            raise
        hit(Failpoint.BATCH_WRITTEN)
        return counts

    def _settle(self, *, at_most: int) -> None:
        """Count what is written; wait until no more than some batches are waiting."""
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, Chunk):
                self._end(first)
            elif first.is_settled or len(self._waiting) > at_most:
                self._count(first)
            else:
                return
            self._waiting.popleft()

    def _count(self, offered: _Offered) -> None:
        if offered.counts is not None:
            counts = offered.counts.result()
            self._written += counts.written
            self._kept += counts.kept
        self._expired += offered.expired
        if self._progress is not None:
            done = self._done + self._written + self._kept + self._expired
            self._progress(self._view.name, done, self._total)

    def _end(self, chunk: Chunk) -> None:
        counts = {"written": self._written, "kept": self._kept, "expired": self._expired}
        ended = replace(chunk, state="done", **counts)
        hit(Failpoint.CHUNK_WRITTEN)
        self._chunk_ended(ended)
        hit(Failpoint.CHUNK_RECORDED)
        self._ended.append(ended)
        self._done += ended.entities
        self._written = self._kept = self._expired = 0

"""A computation that tells how far it has got, and ends when somebody wants it to.

It runs in a thread of its own, and whoever asked for it waits in theirs: that one reports and takes
Ctrl-C. DuckDB would look for Ctrl-C only when a whole query is done, and numpy never.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from featurestore.errors import JobCancelledError
from featurestore.offline.engine import ScanReader
from featurestore.offline.row_spans import rows_within
from featurestore.offline.scan import SourceScan

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, rows done, rows in all)."""

TICK_S: Final = 0.05
"""How often the waiting thread looks."""
GRACE_S: Final = 0.25
"""How long a computation has to end."""
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Phase:
    """What is under way: from `low` to `high` of `total` rows, of which `share` is done."""

    what: str
    low: int
    high: int
    total: int
    share: float = 0.0


class Watch:
    """Watches over one computation.

    Args:
        progress: Told how far it has got, in the thread that waits; None for nobody.
        cancelled: Set by whoever wants it to end.
    """

    def __init__(self, progress: Progress | None, cancelled: threading.Event) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._interrupted = threading.Event()
        self._phases: list[_Phase] = []
        self._readers: list[ScanReader] = []
        self._ended: list[tuple[str, int, int]] = []

    # --- in the thread that waits ----------------------------------------------------------------

    def over(self, parts: Generator[T, None, None]) -> Generator[T, None, None]:
        """Yield what a generator yields, while it runs in a thread of its own.

        What comes next is made while a part is looked at, so that two may be there.

        If it is to end and does not within `GRACE_S`, because one step of numpy takes longer, it is
        left alone: it ends itself after that step, and closes what it has open.

        Raises:
            JobCancelledError: Somebody wanted it to end.
        """
        work = _Work(parts)
        try:
            work.thread.start()
            work.asked.put("next")
            while (part := self._wait(work)) is not None:
                work.asked.put("next")
                yield part
        finally:
            work.asked.put(None)
            self._interrupted.set()
            self._end(work)

    def _wait(self, work: "_Work[T]") -> T | None:
        while not work.answered(TICK_S):
            self.check()
            self._report()
        self._report()
        self.check()
        return work.answer()

    def _end(self, work: "_Work[T]") -> None:
        until = time.monotonic() + GRACE_S
        while not work.ended.wait(TICK_S):
            self._interrupt()
            if time.monotonic() > until:
                threading.Thread(target=self._keep_interrupting, args=(work,)).start()
                return

    def _keep_interrupting(self, work: "_Work[T]") -> None:
        while not work.ended.wait(TICK_S):
            self._interrupt()

    def _interrupt(self) -> None:
        # Again and again: what is between two queries would not notice.
        for reader in tuple(self._readers):
            reader.interrupt()

    def _report(self) -> None:
        if self._progress is None:
            return
        while self._ended:
            self._progress(*self._ended.pop(0))
        for phase in self._phases[-1:]:
            shares = [reader.progress() or 0.0 for reader in tuple(self._readers)]
            phase.share = max(phase.share, *shares, 0.0)  # of two queries, the first is forgotten
            done = phase.low + round(phase.share * (phase.high - phase.low))
            self._progress(phase.what, done, phase.total)

    # --- in the thread that works ----------------------------------------------------------------

    def check(self) -> None:
        """Go on, or raise.

        Raises:
            JobCancelledError: Somebody wants it to end.
        """
        if self._cancelled.is_set() or self._interrupted.is_set():
            raise JobCancelledError

    def moved(self, done: int, total: int) -> None:
        """Say how much of the present phase is done, and `check`."""
        self.check()
        for phase in self._phases[-1:]:
            phase.share = done / total

    @contextlib.contextmanager
    def phase(self, what: str, low: int, high: int, total: int) -> Iterator[None]:
        """Do something that brings `what` from `low` to `high` of `total` rows."""
        self.check()
        phase = _Phase(what, low, high, total)
        self._phases.append(phase)
        try:
            yield
            self._ended.append((what, high, total))
        finally:
            self._phases.remove(phase)

    def ended(self, what: str, total: int) -> None:
        """Say that all of `what` is done."""
        self._ended.append((what, total, total))

    @contextlib.contextmanager
    def reading(self, reader: ScanReader) -> Iterator[None]:
        """Call a reader, which can be interrupted meanwhile."""
        self.check()
        self._readers.append(reader)
        try:
            yield
        finally:
            self._readers.remove(reader)


class _Work(Generic[T]):
    """A generator that runs in a thread of its own, a step whenever it is asked for one.

    An executor would do the same, but Ctrl-C in the midst of its `submit` may leave its locks held.
    """

    def __init__(self, parts: Generator[T, None, None]) -> None:
        self._parts = parts
        self._part: T | None = None
        self._error: BaseException | None = None
        self._answered = threading.Event()
        self.asked: SimpleQueue[str | None] = SimpleQueue()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run, name="job")

    def _run(self) -> None:
        try:
            while self.asked.get():
                try:
                    self._part = next(self._parts, None)
                except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                    self._error = error
                self._answered.set()
            self._parts.close()
        finally:
            self.ended.set()

    def answered(self, timeout_s: float) -> bool:
        """Wait; return whether the step is done."""
        return self._answered.wait(timeout_s)

    def answer(self) -> T | None:
        """Return what the step yielded, or None at the end; raise what it raised."""
        self._answered.clear()
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # its frames know this: the job would stay until it is collected
        part, self._part = self._part, None
        return part


class WatchedReader(ScanReader):
    """A reader that a watch knows of.

    Args:
        reader: Does the work.
        watch: Is told.
        what: What reading rows is called.
        scan: What is read.
        passes: How often all of it is read.
    """

    def __init__(
        self, reader: ScanReader, watch: Watch, *, what: str, scan: SourceScan, passes: int = 1
    ) -> None:
        self._reader = reader
        self._watch = watch
        self._what = what
        self._scan = scan
        self._total = passes * scan.row_count
        self._done = 0

    def all_read(self) -> None:
        """Say that the rows have been read, perhaps fewer than there might have been."""
        self._watch.ended(self._what, self._total)

    @override
    def rows(
        self,
        keys: pa.Table,
        columns: Sequence[str] = (),
        *,
        from_us: int | None,
        until_us: int,
    ) -> Iterator[pa.RecordBatch]:
        scan, low = self._scan, self._done
        count = scan.row_count
        if scan.spans is not None:
            count = min(count, rows_within(scan.spans, from_us, until_us))
        self._done += count
        self._total = max(self._total, self._done)
        batches = self._reader.rows(keys, columns, from_us=from_us, until_us=until_us)
        with (
            self._watch.phase(self._what, low, self._done, self._total),
            self._watch.reading(self._reader),
        ):
            for batch in batches:
                self._watch.check()
                yield batch

    @override
    def features(self, ordinals: npt.NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
        with self._watch.reading(self._reader):
            for batch in self._reader.features(ordinals):
                self._watch.check()
                yield batch

    @override
    def explain(self, keys: pa.Table, *, from_us: int | None, until_us: int) -> str:
        return self._reader.explain(keys, from_us=from_us, until_us=until_us)

    @override
    def progress(self) -> float | None:
        return self._reader.progress()

    @override
    def interrupt(self) -> None:
        self._reader.interrupt()

"""Reads and writes that go on while servers fail, and what must be true of them all the same."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.codec import version_bytes
from featurestore.online.store import OnlineStore, TableId
from featurestore.testing.online import read, row, write

KEYS = 240
SETTLED = [b"\x02settled%d" % number for number in range(KEYS)]
CHANGING = [b"\x02changing%d" % number for number in range(KEYS)]
SETTLED_AT = 1_000_000
MOST_S_WITHOUT_A_READ = 10.0


@dataclass
class Traffic:
    """What one writer and one reader did.

    Attributes:
        store: What they use; its writes wait for a replica if rows are never to be lost.
        acknowledged: The last event time of which the writer was told that all rows are stored.
        attempts: How many writes it made.
        reads: How many reads succeeded.
        failures: Errors that the reader met.
        surprises: What ended the writer or the reader.
        longest_gap_s: The longest time without a read that succeeded.
    """

    store: OnlineStore
    table: TableId
    acknowledged: int = 0
    attempts: int = 0
    reads: int = 0
    failures: list[StoreError] = field(default_factory=list)
    surprises: list[BaseException] = field(default_factory=list)
    longest_gap_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def settle(self) -> None:
        """Write rows that stay the newest of their keys."""
        newest = [(key, row(SETTLED_AT, None, b"newest")) for key in SETTLED]
        assert write(self.store, self.table, newest).written == KEYS

    @contextmanager
    def flowing(self) -> Iterator[None]:
        """Read and write all the time, in two threads."""
        threads = [
            threading.Thread(target=self._guarded, args=[f]) for f in (self._write, self._read)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=120)
        assert self.surprises == []
        assert not any(thread.is_alive() for thread in threads)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self.surprises.append(error)
            raise

    def _write(self) -> None:
        """Write newer rows of some keys; and older ones of all, which must have no effect."""
        event = 1
        while not self._stop.is_set():
            rows = [(key, row(event, None, b"event")) for key in CHANGING]
            rows += [(key, row(event // 2, None, b"older")) for key in (*SETTLED, *CHANGING)]
            self.attempts += 1
            try:
                write(self.store, self.table, rows)
            except StoreUnavailableError:
                time.sleep(0.01)
                continue
            self.acknowledged = event
            event += 1

    def _read(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            try:
                values = read(self.store, self.table, *SETTLED, *CHANGING)
            except StoreUnavailableError as error:
                self.failures.append(error)
                time.sleep(0.01)
            else:
                self.reads += 1
                assert all(value is not None for value in values[:KEYS]), "a settled row is gone"
                now = time.monotonic()
                self.longest_gap_s = max(self.longest_gap_s, now - last)
                last = now
        self.longest_gap_s = max(self.longest_gap_s, time.monotonic() - last)

    def wait_for_writes(self, count: int = 2) -> None:
        """Wait until that many more writes were acknowledged."""
        target, deadline = self.acknowledged + count, time.monotonic() + 60
        while self.acknowledged < target:
            assert time.monotonic() < deadline, f"no write was acknowledged; {self.surprises}"
            time.sleep(0.02)

    def check(self) -> None:
        """Nothing was lost or replaced by older rows, and reads came back."""
        settled = read(self.store, self.table, *SETTLED)
        assert settled == [row(SETTLED_AT, None, b"newest")] * KEYS
        least = version_bytes(self.acknowledged, None)
        for value in read(self.store, self.table, *CHANGING):
            assert value is not None
            assert value[3:19] >= least
            assert value.endswith(b"event")
        assert self.reads
        assert self.longest_gap_s < MOST_S_WITHOUT_A_READ
        assert all(error.retryable and error.hint for error in self.failures)

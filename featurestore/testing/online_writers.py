"""Several threads and processes at a time, and what is left when a store is closed."""

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypeAlias

import pytest

from featurestore.errors import StoreError
from featurestore.online.store import OnlineStore, TableId
from featurestore.testing.online_cases import StoreFixtures
from featurestore.testing.online_pairs import (
    KEY,
    Opener,
    Rows,
    events,
    newest,
    read,
    row,
    write,
    write_events,
)

_Call: TypeAlias = Callable[[], object]


class WritersConformance(StoreFixtures):
    """Concurrent writers end in the same state as one after another."""

    @pytest.mark.parametrize(("keys", "count", "batch"), [(60, 600, 20), (2_000, 9_000, 1_500)])
    def test_threads_that_write_at_once_leave_the_newest_rows(
        self, store: OnlineStore, table: TableId, keys: int, count: int, batch: int
    ) -> None:
        shares = [events(writer, keys=keys, count=count) for writer in range(4)]

        def work(rows: Rows) -> int:
            starts = range(0, len(rows), batch)
            counts = [write(store, table, rows[i : i + batch]) for i in starts]
            return sum(c.written + c.kept for c in counts)

        with ThreadPoolExecutor(len(shares)) as pool:
            assert list(pool.map(work, shares)) == [len(rows) for rows in shares]
        expected = newest([pair for rows in shares for pair in rows])
        assert dict(pair for batch in store.scan(table) for pair in batch) == expected

    def test_readers_never_see_time_go_back(self, store: OnlineStore, table: TableId) -> None:
        write(store, table, [(KEY, row(0))])
        done = threading.Event()

        def watch() -> int:
            seen, reads = row(0), 0
            while not (is_last := done.is_set()) or reads == 0:
                (value,) = read(store, table, KEY)
                assert value is not None
                assert value[3:19] >= seen[3:19]
                seen, reads = value, reads + 1
                if is_last:
                    break
            return reads

        with ThreadPoolExecutor(2) as pool:
            watchers = [pool.submit(watch) for _ in range(2)]
            try:
                for number in range(200):
                    write(store, table, [(KEY, row(number)), (KEY, row(number // 2))])
            finally:
                done.set()
            assert all(watcher.result(timeout=60) > 0 for watcher in watchers)

    def test_another_handle_sees_what_one_wrote(
        self, store: OnlineStore, table: TableId, opener: Opener | None
    ) -> None:
        with closing(self._second(store, opener)) as other:
            write(store, table, [(KEY, row(1))])
            assert read(other, table, KEY) == [row(1)]
            write(other, table, [(KEY, row(2)), (b"b", row(2))])
            assert read(store, table, KEY, b"b") == [row(2), row(2)]
        assert read(store, table, KEY) == [row(2)]

    def test_processes_that_write_at_once_leave_the_newest_rows(
        self, store: OnlineStore, table: TableId, opener: Opener | None
    ) -> None:
        self._second(store, opener).close()
        spawn = multiprocessing.get_context("spawn")
        writers = [
            spawn.Process(target=write_events, args=(opener, table, writer, 80, 1_500))
            for writer in range(3)
        ]
        for process in writers:
            process.start()
        write_events(_kept_open(store), table, 99, 80, 1_500)
        for process in writers:
            process.join(timeout=120)
        assert [process.exitcode for process in writers] == [0, 0, 0]
        everything = [pair for w in (0, 1, 2, 99) for pair in events(w, keys=80, count=1_500)]
        found = dict(pair for batch in store.scan(table) for pair in batch)
        assert found == newest(everything)

    def _second(self, store: OnlineStore, opener: Opener | None) -> OnlineStore:
        if not store.capabilities.shared:
            pytest.skip("this store lives in one handle (capabilities.shared)")
        assert opener is not None, "a shared store needs the fixture `opener`"
        return opener()


class ClosingConformance(StoreFixtures):
    """A store says how it is, and refuses to work once it is closed."""

    def test_its_self_check_says_something(self, store: OnlineStore) -> None:
        found = store.check()
        assert found
        assert {finding.status for finding in found} <= {"ok", "warning", "error"}
        assert all(finding.subject and finding.detail for finding in found)

    def test_a_closed_store_refuses_everything_and_can_be_closed_again(
        self, store: OnlineStore, table: TableId
    ) -> None:
        write(store, table, [(KEY, row(1))])
        store.drop(table)
        store.close()
        store.close()
        calls: list[_Call] = [
            lambda: write(store, table, [(KEY, row(1))]),
            lambda: read(store, table, KEY),
            lambda: list(store.scan(table)),
            lambda: store.count(table),
            lambda: store.drop(table),
            store.check,
        ]
        for call in calls:
            with pytest.raises(StoreError, match="closed"):
                call()


class _KeptOpen:
    """A store whose `close` is somebody else's business."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def close(self) -> None:
        """Leave it open."""


def _kept_open(store: OnlineStore) -> Opener:
    return lambda: _KeptOpen(store)  # type: ignore[return-value]

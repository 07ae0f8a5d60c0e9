"""What every online store must do: subclass `OnlineStoreConformance` (needs pytest).

    class TestMyStore(OnlineStoreConformance):
        @pytest.fixture
        def opener(self, tmp_path: Path) -> Opener:
            return partial(MyStore, tmp_path)

`opener` opens the same store each time it is called. If other processes are to see what one wrote
(`capabilities.shared`), it has to survive the way to a spawned process, as a partial of a class
does. A fixture `store` may be given instead for a store that is not shared.
"""

import multiprocessing
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import product
from typing import Any, Final, TypeAlias

import pytest

from featurestore.errors import StoreError
from featurestore.online.codec import tombstone, version_bytes
from featurestore.online.store import (
    EncodedRows,
    OnlineStore,
    ReadRequest,
    TableId,
    WriteCounts,
)

Opener: TypeAlias = Callable[[], OnlineStore]
Rows: TypeAlias = Sequence[tuple[bytes, bytes]]

KEY: Final = b"\x02entity"
NEVER_MS: Final = 3_600_000
SOON_MS: Final = 60
_PATIENCE_S: Final = 10.0

# Neighbours of every byte's ends, where an order of signed bytes, of letters or of doubles differs.
EDGES: Final = (
    *(-(2**63), -(2**63) + 1, -(2**56), -(2**32) - 1, -257, -256, -1, 0, 1, 127, 128, 255, 256),
    *(2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**56 - 1, 2**62, 2**63 - 2, 2**63 - 1),
)

HOSTILE_NAMES: Final = (
    *("a", "aa", "ab", "A", "a b", "a*", "*", "?", "a?", "[a]", "[a-z]*", "a{b}", "{", "}", "{}"),
    *("..", "../a", "a/b", "a:b", "a;--", "'", '"', "`", "$(x)", "%s", "\\", "\\*", "\n", "\x7f"),
    *("é", "e\u0301", "🛫", "\u202e", "a" * 10_000, "a" * 9_999 + "b", "1", "01", ""),
)


def row(event_us: int, created_us: int | None = None, payload: bytes = b"x") -> bytes:
    """Return a value with this version; stores do not look at the rest."""
    return b"\x01\x00\x00" + version_bytes(event_us, created_us) + payload


_AB: Final = [b"a", b"b"]
_TWO: Final = [row(1), row(1)]


def write(store: OnlineStore, table: TableId, rows: Rows, **options: Any) -> WriteCounts:
    """Write pairs of entity bytes and value."""
    remaining_ms = options.pop("remaining_ms", None)
    encoded = EncodedRows(
        keys=[key for key, _ in rows],
        values=[value for _, value in rows],
        remaining_ms=None if remaining_ms is None else [remaining_ms] * len(rows),
    )
    return store.write(table, encoded, **options)


def read(store: OnlineStore, table: TableId, *keys: bytes) -> list[bytes | None]:
    """Return the values of some keys of one table."""
    (values,) = store.read([ReadRequest(table=table, keys=keys)])
    return values


def events(writer: int, *, keys: int, count: int) -> list[tuple[bytes, bytes]]:
    """Return shuffled rows of some keys, corrections and duplicates among them."""
    chance = random.Random(writer)  # noqa: S311 - a test wants the same rows again
    made = []
    for number in range(count):
        event, created = chance.randrange(40), chance.choice([None, *range(5)])
        # The version decides the payload: of equal versions it does not matter which is kept.
        payload = f"{event} {created}".encode()
        made.append((b"\x02%04d" % (number % keys), row(event, created, payload)))
    chance.shuffle(made)
    return made


def newest(rows: Rows) -> dict[bytes, bytes]:
    """Return what must be left of rows written in any order."""
    left: dict[bytes, bytes] = {}
    for key, value in rows:
        if key not in left or value[3:19] >= left[key][3:19]:
            left[key] = value
    return left


def write_events(opener: Opener, table: TableId, writer: int, keys: int, count: int) -> None:
    """Write `events` in small batches: what a writing process runs."""
    rows = events(writer, keys=keys, count=count)
    with closing(opener()) as store:
        for start in range(0, len(rows), 50):
            write(store, table, rows[start : start + 50])


class OnlineStoreConformance:
    """Provide a fixture `opener`; see the module."""

    @pytest.fixture
    def opener(self) -> Opener | None:
        """How to open the same store again; None for a store that is not shared."""
        return None

    @pytest.fixture
    def store(self, opener: Opener | None) -> Iterator[OnlineStore]:
        assert opener is not None, "give the suite a fixture `opener`"
        with closing(opener()) as opened:
            yield opened

    @pytest.fixture
    def table(self, store: OnlineStore) -> Iterator[TableId]:
        """A table that no other test has."""
        made = TableId(project=f"p{uuid.uuid4().hex}", view="view", generation=1)
        yield made
        with suppress(StoreError):  # the test may have closed the store
            store.drop(made)

    # --- what is written is read -----------------------------------------------------------------

    def test_a_row_comes_back_as_it_was_written(self, store: OnlineStore, table: TableId) -> None:
        value = row(5, 6, bytes(range(256)))
        assert write(store, table, [(KEY, value)]) == WriteCounts(written=1, kept=0)
        assert read(store, table, KEY) == [value]

    @pytest.mark.parametrize("payload", [b"", b"\0", b"\r\n$-1\r\n", bytes(1_000_000)])
    def test_a_value_may_be_of_any_bytes_and_length(
        self, store: OnlineStore, table: TableId, payload: bytes
    ) -> None:
        write(store, table, [(KEY, row(1, None, payload))])
        assert read(store, table, KEY) == [row(1, None, payload)]

    def test_keys_may_hold_every_byte(self, store: OnlineStore, table: TableId) -> None:
        keys = [bytes([byte]) for byte in range(256)]
        keys += [b"{", b"{}", b"}{", b"{a}", b"a}", b"}}", b"\0\0", b"a\0", b"k*", b"[ab]", b"\n"]
        keys += [b"x" * 254, b"x" * 255, bytes(255)]
        keys = list(dict.fromkeys(keys))
        rows = [(key, row(1, None, key)) for key in keys]
        assert write(store, table, rows) == WriteCounts(written=len(keys), kept=0)
        assert read(store, table, *keys) == [value for _, value in rows]
        assert sorted(pair for batch in store.scan(table) for pair in batch) == sorted(rows)

    def test_what_was_never_written_is_not_there(self, store: OnlineStore, table: TableId) -> None:
        assert read(store, table, KEY) == [None]
        write(store, table, [(KEY, row(1))])
        assert read(store, table, KEY[:-1], KEY + b"\0", b"\x02") == [None, None, None]

    def test_values_come_in_the_order_of_the_keys_and_duplicates_stay(
        self, store: OnlineStore, table: TableId
    ) -> None:
        write(store, table, [(b"a", row(1)), (b"b", row(2))])
        assert read(store, table, b"b", b"a", b"c", b"b") == [row(2), row(1), None, row(2)]

    def test_one_call_reads_many_tables(self, store: OnlineStore, table: TableId) -> None:
        tables = [
            TableId(project=table.project, view=f"v{i}", generation=g)
            for i in range(5)
            for g in (1, 2)
        ]
        for number, each in enumerate(tables):
            write(store, each, [(KEY, row(number)), (b"k%d" % number, row(-number))])
        requests = [ReadRequest(table=t, keys=[b"k3", KEY]) for t in reversed(tables)]
        requests.insert(4, ReadRequest(table=table, keys=[]))
        found = store.read(requests)
        assert found.pop(4) == []
        expected = [[row(-n) if n == 3 else None, row(n)] for n in range(len(tables))]
        assert found == expected[::-1]
        assert store.read([]) == []
        for each in tables:
            store.drop(each)

    def test_a_big_batch_is_written_and_read_whole(
        self, store: OnlineStore, table: TableId
    ) -> None:
        rows = [(b"\x02%08d" % i, row(i, None, b"%d" % i)) for i in range(30_000)]
        assert write(store, table, rows) == WriteCounts(written=len(rows), kept=0)
        assert read(store, table, *(key for key, _ in rows)) == [value for _, value in rows]
        assert store.count(table) == len(rows)
        assert sum(map(len, store.scan(table, batch_rows=999))) == len(rows)
        assert store.drop(table) == len(rows)

    def test_an_empty_batch_writes_nothing(self, store: OnlineStore, table: TableId) -> None:
        assert write(store, table, []) == WriteCounts(written=0, kept=0)
        assert store.count(table) == 0

    @pytest.mark.parametrize(
        ("rows", "words"),
        [
            (EncodedRows(keys=_AB, values=[row(1)]), "2 keys for 1 values"),
            (EncodedRows(keys=[b"a", b""], values=_TWO), "a key has"),
            (EncodedRows(keys=[b"a", b"x" * 256], values=_TWO), "a key has"),
            (EncodedRows(keys=_AB, values=[row(1), b"short"]), "no version"),
            (EncodedRows(keys=_AB, values=_TWO, remaining_ms=[5]), "1 remaining times"),
            (EncodedRows(keys=_AB, values=_TWO, remaining_ms=[5, 0]), "at least 1 millisecond"),
        ],
    )
    def test_a_batch_that_cannot_be_stored_is_refused_whole(
        self, store: OnlineStore, table: TableId, rows: EncodedRows, words: str
    ) -> None:
        with pytest.raises(ValueError, match=words):
            store.write(table, rows)
        assert store.count(table) == 0

    # --- the newest wins -------------------------------------------------------------------------

    @pytest.mark.parametrize("second", [(5, 5), (5, 6), (6, None), (6, 0)])
    def test_a_row_of_an_equal_or_greater_version_replaces_the_stored_one(
        self, store: OnlineStore, table: TableId, second: tuple[int, int | None]
    ) -> None:
        write(store, table, [(KEY, row(5, 5, b"old"))])
        new = row(*second, b"new")
        assert write(store, table, [(KEY, new)]) == WriteCounts(written=1, kept=0)
        assert read(store, table, KEY) == [new]

    @pytest.mark.parametrize("second", [(4, 9), (5, 4), (5, None)])
    def test_a_row_of_a_lower_version_leaves_the_stored_one(
        self, store: OnlineStore, table: TableId, second: tuple[int, int | None]
    ) -> None:
        write(store, table, [(KEY, row(5, 5, b"old"))])
        counts = write(store, table, [(KEY, row(*second, b"new"))])
        assert counts == WriteCounts(written=0, kept=1)
        assert read(store, table, KEY) == [row(5, 5, b"old")]

    def test_a_row_without_created_time_is_corrected_by_any_with_one(
        self, store: OnlineStore, table: TableId
    ) -> None:
        write(store, table, [(KEY, row(5, None, b"old"))])
        write(store, table, [(KEY, row(5, -(2**62), b"new"))])
        write(store, table, [(KEY, row(5, None, b"late"))])
        assert read(store, table, KEY) == [row(5, -(2**62), b"new")]

    def test_versions_compare_as_times_and_not_as_text_or_doubles(
        self, store: OnlineStore, table: TableId
    ) -> None:
        pairs = list(product(EDGES, EDGES))
        first = [(b"e%d" % n, row(a, 0, b"first")) for n, (a, _) in enumerate(pairs)]
        first += [(b"c%d" % n, row(0, a, b"first")) for n, (a, _) in enumerate(pairs)]
        then = [(b"e%d" % n, row(b, 0, b"then")) for n, (_, b) in enumerate(pairs)]
        then += [(b"c%d" % n, row(0, b, b"then")) for n, (_, b) in enumerate(pairs)]
        write(store, table, first)
        write(store, table, then)
        found = read(store, table, *(key for key, _ in first))
        expected = [a[1] if a[1][3:19] > b[1][3:19] else b[1] for a, b in zip(first, then)]  # noqa: B905
        assert found == expected
        assert sum(a > b for a, b in pairs) * 2 == sum(v.endswith(b"first") for v in expected)

    def test_rows_of_one_call_are_applied_in_order(
        self, store: OnlineStore, table: TableId
    ) -> None:
        rows = [
            (b"a", row(2, None, b"1")),
            (b"b", row(1, None, b"2")),
            (b"a", row(3, None, b"3")),
            (b"a", row(1, None, b"4")),
            (b"b", row(1, None, b"5")),
            (b"a", row(3, None, b"6")),
        ]
        assert write(store, table, rows) == WriteCounts(written=5, kept=1)
        assert read(store, table, b"a", b"b") == [row(3, None, b"6"), row(1, None, b"5")]

    def test_duplicates_far_apart_in_one_call_are_applied_in_order(
        self, store: OnlineStore, table: TableId
    ) -> None:
        others = [(b"o%d" % i, row(1)) for i in range(3_000)]
        ends = [(KEY, row(7, None, b"first")), *others, (KEY, row(7, None, b"last"))]
        write(store, table, ends)
        assert read(store, table, KEY) == [row(7, None, b"last")]

    def test_overwrite_takes_the_comparison_out(self, store: OnlineStore, table: TableId) -> None:
        write(store, table, [(KEY, row(9))])
        rows = [(KEY, row(5, None, b"a")), (KEY, row(3, None, b"b"))]
        assert write(store, table, rows, overwrite=True) == WriteCounts(written=2, kept=0)
        assert read(store, table, KEY) == [row(3, None, b"b")]

    def test_a_deleted_row_is_not_revived_by_older_data(
        self, store: OnlineStore, table: TableId
    ) -> None:
        write(store, table, [(KEY, row(5, 5))])
        assert write(store, table, [(KEY, tombstone(10))]).written == 1
        assert write(store, table, [(KEY, row(10, 9)), (KEY, row(9, 99))]).kept == 2
        assert read(store, table, KEY) == [tombstone(10)]
        assert store.count(table) == 1
        assert write(store, table, [(KEY, row(11))]).written == 1
        assert read(store, table, KEY) == [row(11)]

    # --- remaining time --------------------------------------------------------------------------

    def test_a_row_is_kept_until_its_remaining_time_is_over(
        self, store: OnlineStore, table: TableId
    ) -> None:
        write(store, table, [(KEY, row(1))], remaining_ms=NEVER_MS)
        write(store, table, [(b"for ever", row(1))], remaining_ms=10**15)
        time.sleep(3 * SOON_MS / 1000)
        assert read(store, table, KEY, b"for ever") == [row(1), row(1)]

    def test_a_store_that_expires_drops_rows_one_by_one(
        self, store: OnlineStore, table: TableId
    ) -> None:
        self._needs_expiry(store)
        keys, values = [b"soon", b"late", b"never"], [row(1), row(2), row(3)]
        write(store, table, [(b"never", row(3))])
        store.write(
            table,
            EncodedRows(keys=keys[:2], values=values[:2], remaining_ms=[SOON_MS, NEVER_MS]),
        )
        self._wait_until_gone(store, table, b"soon")
        assert read(store, table, *keys) == [None, row(2), row(3)]
        assert store.count(table) == 2
        assert {key for batch in store.scan(table) for key, _ in batch} == {b"late", b"never"}

    def test_a_row_that_replaces_another_has_its_own_remaining_time(
        self, store: OnlineStore, table: TableId
    ) -> None:
        self._needs_expiry(store)
        for key, then in ((b"limited", NEVER_MS), (b"unlimited", None)):
            write(store, table, [(key, row(1))], remaining_ms=SOON_MS)
            write(store, table, [(key, row(2))], remaining_ms=then)
        write(store, table, [(b"shorter", row(1))], remaining_ms=NEVER_MS)
        write(store, table, [(b"shorter", row(2))], remaining_ms=SOON_MS)
        self._wait_until_gone(store, table, b"shorter")
        assert read(store, table, b"limited", b"unlimited") == [row(2), row(2)]

    def test_a_row_that_loses_leaves_the_remaining_time_alone(
        self, store: OnlineStore, table: TableId
    ) -> None:
        self._needs_expiry(store)
        write(store, table, [(b"kept", row(5))], remaining_ms=NEVER_MS)
        write(store, table, [(b"kept", row(4))], remaining_ms=SOON_MS)
        write(store, table, [(b"gone", row(5))], remaining_ms=SOON_MS)
        write(store, table, [(b"gone", row(4))], remaining_ms=NEVER_MS)
        self._wait_until_gone(store, table, b"gone")
        assert read(store, table, b"kept") == [row(5)]

    def _needs_expiry(self, store: OnlineStore) -> None:
        if not store.capabilities.expires:
            pytest.skip("this store keeps rows for ever (capabilities.expires)")

    def _wait_until_gone(self, store: OnlineStore, table: TableId, key: bytes) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while read(store, table, key) != [None]:
            assert time.monotonic() < deadline, f"{key!r} is still there"
            time.sleep(SOON_MS / 2000)

    # --- tables ----------------------------------------------------------------------------------

    def test_tables_do_not_touch_each_other_whatever_their_names(
        self, store: OnlineStore, table: TableId
    ) -> None:
        names = [*HOSTILE_NAMES, table.project, table.project[:-1]]
        tables = [TableId(project=table.project + n, view="v", generation=1) for n in names]
        tables += [TableId(project=table.project, view=n, generation=1) for n in names]
        tables += [TableId(project=table.project, view="v", generation=g) for g in (0, 1, 11, -1)]
        tables = list(dict.fromkeys(tables))
        for number, each in enumerate(tables):
            write(store, each, [(KEY, row(number)), (b"k%d" % number, row(number))])
        for number, each in enumerate(tables):
            assert read(store, each, KEY, b"k%d" % number) == [row(number), row(number)]
            assert store.count(each) == 2
        for number, each in enumerate(tables):
            assert store.drop(each) == 2
            later = tables[number + 1 :]
            found = store.read([ReadRequest(table=t, keys=[KEY]) for t in later])
            assert found == [[row(n)] for n in range(number + 1, len(tables))]

    def test_a_name_with_a_nul_is_refused(self, store: OnlineStore, table: TableId) -> None:
        for project, view in ((table.project + "\0a", "b"), (table.project, "a\0b")):
            with pytest.raises(ValueError, match="NUL"):
                write(store, TableId(project=project, view=view, generation=1), [(KEY, row(1))])

    @pytest.mark.parametrize("batch_rows", [1, 7, 1_000])
    def test_a_scan_yields_every_row_once(
        self, store: OnlineStore, table: TableId, batch_rows: int
    ) -> None:
        neighbour = TableId(project=table.project, view="view", generation=2)
        rows = [(b"\x02%d" % i, row(i)) for i in range(500)]
        write(store, table, rows)
        write(store, table, [(key, row(1_000)) for key, _ in rows[:100]])
        write(store, neighbour, rows)
        batches = list(store.scan(table, batch_rows=batch_rows))
        assert all(1 <= len(batch) <= batch_rows for batch in batches)
        expected = [(key, row(1_000)) for key, _ in rows[:100]] + rows[100:]
        assert sorted(pair for batch in batches for pair in batch) == sorted(expected)
        store.drop(neighbour)

    def test_a_scan_of_nothing_yields_nothing(self, store: OnlineStore, table: TableId) -> None:
        assert list(store.scan(table)) == []

    def test_a_scan_that_is_given_up_stands_in_nobodys_way(
        self, store: OnlineStore, table: TableId
    ) -> None:
        write(store, table, [(b"%d" % i, row(1)) for i in range(100)])
        scan = store.scan(table, batch_rows=10)
        assert len(next(iter(scan))) == 10
        write(store, table, [(b"%d" % i, row(2)) for i in range(100)])
        assert store.drop(table) == 100

    def test_a_dropped_table_is_empty_and_can_be_used_again(
        self, store: OnlineStore, table: TableId
    ) -> None:
        assert store.drop(table) == 0
        write(store, table, [(KEY, row(9)), (b"b", tombstone(9))])
        assert store.drop(table) == 2
        assert (store.drop(table), store.count(table)) == (0, 0)
        assert read(store, table, KEY) == [None]
        assert write(store, table, [(KEY, row(1))]).written == 1
        assert read(store, table, KEY) == [row(1)]

    # --- many at a time --------------------------------------------------------------------------

    def test_threads_that_write_at_once_leave_the_newest_rows(
        self, store: OnlineStore, table: TableId
    ) -> None:
        shares = [events(writer, keys=60, count=600) for writer in range(4)]

        def work(rows: Rows) -> int:
            counts = [write(store, table, rows[i : i + 20]) for i in range(0, len(rows), 20)]
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

    # --- the end ---------------------------------------------------------------------------------

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
        calls: list[Callable[[], object]] = [
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

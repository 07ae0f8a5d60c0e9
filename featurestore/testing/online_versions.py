"""The newest row wins, exactly, and stays for as long as it may."""

import time
from itertools import product
from typing import Final

import pytest

from featurestore.online.codec import tombstone
from featurestore.online.store import EncodedRows, OnlineStore, TableId, WriteCounts
from featurestore.testing.online_cases import StoreFixtures
from featurestore.testing.online_pairs import KEY, read, row, write

NEVER_MS: Final = 3_600_000
SOON_MS: Final = 60
_PATIENCE_S: Final = 10.0

# Neighbours of every byte's ends, where an order of signed bytes, of letters or of doubles differs.
EDGES: Final = (
    *(-(2**63), -(2**63) + 1, -(2**56), -(2**32) - 1, -257, -256, -1, 0, 1, 127, 128, 255, 256),
    *(2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**56 - 1, 2**62, 2**63 - 2, 2**63 - 1),
)


class NewestWinsConformance(StoreFixtures):
    """A row replaces the stored one iff its version is greater or equal."""

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


class RemainingTimeConformance(StoreFixtures):
    """A row is dropped when its own time is over, and not before."""

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

"""Tables are apart, whatever their names; scans, counts and drops see one of them, whole."""

from contextlib import closing
from typing import Final

import pytest

from featurestore.online.codec import tombstone
from featurestore.online.store import OnlineStore, ReadRequest, TableId
from featurestore.testing.online_cases import StoreFixtures
from featurestore.testing.online_pairs import KEY, Opener, read, row, write

HOSTILE_NAMES: Final = (
    *("a", "aa", "ab", "A", "a b", "a*", "*", "?", "a?", "[a]", "[a-z]*", "a{b}", "{", "}", "{}"),
    *("..", "../a", "a/b", "a:b", "a;--", "'", '"', "`", "$(x)", "%s", "\\", "\\*", "\n", "\x7f"),
    *("é", "e\u0301", "🛫", "\u202e", "a" * 10_000, "a" * 9_999 + "b", "1", "01", ""),
)


class TablesConformance(StoreFixtures):
    """Tables do not touch each other."""

    def test_tables_do_not_touch_each_other_whatever_their_names(
        self, store: OnlineStore, table: TableId
    ) -> None:
        names = [*HOSTILE_NAMES, table.project, table.project[:-1]]
        tables = [TableId(project=table.project + n, view="v", generation=1) for n in names]
        tables += [TableId(project=table.project, view=n, generation=1) for n in names]
        tables += [TableId(project=table.project, view="v", generation=g) for g in (0, 1, 11, -1)]
        # Parts that a careless concatenation would take for each other.
        tables += [TableId(project=table.project, view=v, generation=1) for v in ("av", "v1")]
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

    def test_the_catalogue_names_what_was_written_and_not_dropped(
        self, store: OnlineStore, table: TableId
    ) -> None:
        assert store.tables(table.project) == []
        second = TableId(project=table.project, view="view", generation=2)
        others = [
            TableId(project=table.project + name, view="view", generation=1)
            for name in ("a", "*", "?", " ", ":")
        ]
        others.append(TableId(project=table.project[:-1], view="view", generation=1))
        for each in (table, second, *others):
            write(store, each, [(KEY, row(1))])
        assert sorted(t.generation for t in store.tables(table.project)) == [1, 2]
        assert store.drop(table) == 1
        assert store.tables(table.project) == [second]
        for each in others:
            assert store.tables(each.project) == [each]
            store.drop(each)
        write(store, table, [(KEY, row(1))])
        assert sorted(t.generation for t in store.tables(table.project)) == [1, 2]
        store.drop(second)

    @pytest.mark.parametrize("rows", [1, 1_000])
    def test_a_table_that_was_dropped_elsewhere_is_named_once_it_is_written(
        self, store: OnlineStore, opener: Opener | None, table: TableId, rows: int
    ) -> None:
        if not store.capabilities.shared:
            pytest.skip("this store lives in one handle (capabilities.shared)")
        assert opener is not None, "a shared store needs the fixture `opener`"
        with closing(opener()) as other:
            for turn in range(2):
                for event_us in range(2):  # of which the second replaces rows
                    write(store, table, [(b"\x02%d" % i, row(event_us)) for i in range(rows)])
                    assert other.tables(table.project) == [table], turn
                assert other.drop(table) == rows
                assert store.tables(table.project) == []

    def test_a_drop_tells_of_every_row(self, store: OnlineStore, table: TableId) -> None:
        write(store, table, [(b"\x02%d" % i, row(1)) for i in range(2_500)])
        told: list[int] = []
        assert store.drop(table, pace=told.append) == 2_500
        assert sum(told) == 2_500
        assert all(count > 0 for count in told)

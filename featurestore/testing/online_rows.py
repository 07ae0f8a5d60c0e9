"""What a store keeps is what it was given, whichever bytes that is."""

from typing import Final

import pytest

from featurestore.online.store import EncodedRows, OnlineStore, ReadRequest, TableId, WriteCounts
from featurestore.testing.online_cases import StoreFixtures
from featurestore.testing.online_pairs import KEY, read, row, write

_AB: Final = [b"a", b"b"]
_TWO: Final = [row(1), row(1)]


class StoredRowsConformance(StoreFixtures):
    """What is written is read."""

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

    @pytest.mark.parametrize("odd", [None, "missing", "shorter", "longer"])
    @pytest.mark.parametrize("place", [0, 150, 299])
    def test_rows_of_a_length_that_the_caller_knows_are_what_they_are(
        self, store: OnlineStore, table: TableId, odd: str | None, place: int
    ) -> None:
        """Several requests of different lengths; one row, first, inside or last, is not as told."""
        other = TableId(project=table.project, view="other", generation=1)
        keys = [b"%d" % number for number in range(300)]
        length = len(row(1, None, bytes(80)))
        rows: dict[bytes, bytes | None] = {key: row(1, None, key.rjust(80)) for key in keys}
        if odd:
            payload = {"shorter": b"", "longer": bytes(160)}.get(odd)
            rows[keys[place]] = None if payload is None else row(1, None, payload)
        write(store, table, [(key, value) for key, value in rows.items() if value is not None])
        write(store, other, [(key, row(2)) for key in keys])
        requests = [
            ReadRequest(table=other, keys=keys[::-1], row_bytes=len(row(2))),
            ReadRequest(table=table, keys=keys, row_bytes=length),
            ReadRequest(table=other, keys=[KEY], row_bytes=len(row(2))),
            ReadRequest(table=other, keys=keys[:1], row_bytes=len(row(2))),
        ]
        requests = [requests[i] for i in (0, 1, 3)] if place else requests
        twos: dict[bytes, bytes | None] = dict.fromkeys(keys, row(2))
        expected = {table: rows, other: twos}
        for _ in range(2):  # what one read leaves behind would be the next one's answer
            found = store.read(requests)
            assert [list(values) for values in found] == [
                [expected[request.table].get(key) for key in request.keys] for request in requests
            ]
            assert [values[-1] for values in found] == [[*values][-1] for values in found]

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
        found = [list(values) for values in store.read(requests)]
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
        assert store.tables(table.project) == []

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

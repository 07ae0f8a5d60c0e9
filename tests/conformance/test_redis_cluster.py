"""What only a cluster can do wrong: slots, scripts by node, rows that are split up and put back."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from featurestore.errors import StoreError
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.redis_slots import key_slot, row_slots
from featurestore.online.store import EncodedRows, ReadRequest, TableId
from featurestore.online.tables import table_digest
from featurestore.testing.online import KEY, read, row, write
from featurestore.testing.online_pairs import newest
from tests.conformance.test_redis_failover import move_slot
from tests.servers import local_binary, local_redis
from tests.topologies import LocalCluster, ask, local_cluster

TABLE = TableId(project="shop", view="users", generation=1)
PREFIX = table_digest(TABLE) + b"{"
HOSTILE = [
    b"a",
    b"}",
    b"}}",
    b"{",
    b"{}",
    b"a}b",
    b"a{b}c",
    b"\x00",
    b"\xff" * 255,
    b"\r\n",
    b"\x02}",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster() as started:
        yield started


@pytest.fixture
def store(cluster: LocalCluster) -> Iterator[RedisClusterOnlineStore]:
    with closing(RedisClusterOnlineStore(cluster.url)) as opened:
        yield opened
        opened.drop(TABLE)


def test_slots_are_those_that_the_server_computes(cluster: LocalCluster) -> None:
    node = cluster.nodes[0]
    for entity, slot in zip(HOSTILE, row_slots(PREFIX, HOSTILE), strict=True):
        assert slot == ask(node, "CLUSTER", "KEYSLOT", PREFIX + entity + b"}"), entity
    for key in (b"featurestore:catalogue:{a}b", b"featurestore:catalogue:{}", b"x"):
        assert key_slot(key) == ask(node, "CLUSTER", "KEYSLOT", key)


def test_rows_with_hostile_keys_are_found_again(store: RedisClusterOnlineStore) -> None:
    rows = [(entity, row(number)) for number, entity in enumerate(HOSTILE)]
    assert write(store, TABLE, rows).written == len(rows)
    assert read(store, TABLE, *HOSTILE) == [value for _, value in rows]
    assert sorted(pair for batch in store.scan(TABLE) for pair in batch) == sorted(rows)
    assert store.drop(TABLE) == len(rows)


def test_all_views_of_an_entity_are_in_one_slot() -> None:
    tables = [TableId(project="shop", view=f"view{n}", generation=n) for n in range(50)]
    prefixes = [table_digest(table) + b"{" for table in tables]
    assert len({tuple(row_slots(prefix, [KEY, b"\x02other"])) for prefix in prefixes}) == 1


def test_several_views_are_read_in_the_order_asked(store: RedisClusterOnlineStore) -> None:
    other = TableId(project="shop", view="orders", generation=1)
    keys = [b"\x02%d" % number for number in range(300)]
    write(store, TABLE, [(key, row(1, None, key)) for key in keys])
    write(store, other, [(key, row(2, None, key)) for key in keys[::2]])
    asked = [*reversed(keys), keys[0], b"\x02nobody"]
    found = store.read(
        [
            ReadRequest(table=other, keys=asked),
            ReadRequest(table=TABLE, keys=[]),
            ReadRequest(table=TABLE, keys=asked, row_bytes=len(row(1))),
        ]
    )
    known = set(keys[::2])
    assert found[0] == [row(2, None, key) if key in known else None for key in asked]
    assert found[1] == []
    assert list(found[2]) == [row(1, None, key) for key in asked[:-1]] + [None]
    store.drop(other)


def test_scripts_that_nodes_forgot_are_loaded_again(
    store: RedisClusterOnlineStore, cluster: LocalCluster
) -> None:
    rows = [(b"\x02%d" % number, row(2)) for number in range(2_000)]
    write(store, TABLE, rows)
    write(store, TABLE, rows)
    for node in cluster.nodes:
        ask(node, "SCRIPT", "FLUSH")
    assert write(store, TABLE, [(key, row(1)) for key, _ in rows]).kept == 2_000
    ask(cluster.nodes[1], "SCRIPT", "FLUSH")
    assert write(store, TABLE, rows).written == 2_000


@pytest.mark.parametrize("remaining_ms", [None, 3_600_000])
def test_a_large_write_of_which_some_is_newer_and_some_older(
    store: RedisClusterOnlineStore, remaining_ms: int | None
) -> None:
    keys = [b"\x02%d" % number for number in range(6_000)]
    before = [(key, row(5, None, b"before")) for key in keys[::5]]
    write(store, TABLE, before)
    offered = [(key, row(number % 10, None, b"%d" % number)) for number, key in enumerate(keys)]
    offered += [(key, row(number % 7, None, b"%d" % number)) for number, key in enumerate(keys)]
    counts = write(store, TABLE, offered, remaining_ms=remaining_ms)
    expected = newest([*before, *offered])
    assert read(store, TABLE, *keys) == [expected[key] for key in keys]
    assert counts.written + counts.kept == len(offered)


def test_equal_rows_keep_their_order_when_their_slot_has_moved(
    store: RedisClusterOnlineStore, cluster: LocalCluster
) -> None:
    """The store does not know yet: the first attempt fails for these rows, and for no others."""
    keys = [b"\x02%d" % number for number in range(600)]
    write(store, TABLE, [(KEY, row(0))])
    for slot in row_slots(PREFIX, keys[:20]):
        source = cluster.primary_of(slot)
        target = next(node for node in cluster.nodes if node is not source)
        move_slot(slot, source, target, cluster)
    rows = [(key, row(1, None, b"%d" % turn)) for turn in range(3) for key in keys]
    counts = write(store, TABLE, rows)
    assert (counts.written, counts.kept) == (len(rows), 0)
    assert read(store, TABLE, *keys) == [row(1, None, b"2")] * len(keys)


@pytest.mark.parametrize("count", [1, 3_000])
def test_a_full_node_is_an_error_that_names_it(
    store: RedisClusterOnlineStore, cluster: LocalCluster, count: int
) -> None:
    write(store, TABLE, [(KEY, row(1))])
    [slot] = row_slots(PREFIX, [KEY])
    node = cluster.primary_of(slot)
    ask(node, "CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(StoreError, match=f"127.0.0.1:{node.port} is full") as caught:
            write(store, TABLE, [(KEY, row(2)), *((b"\x02%d" % n, row(1)) for n in range(count))])
    finally:
        ask(node, "CONFIG", "SET", "maxmemory", 0)
    assert not caught.value.retryable
    assert read(store, TABLE, KEY) == [row(1)]


def test_large_values_go_in_more_calls(store: RedisClusterOnlineStore) -> None:
    keys = [b"\x02same}%d" % number for number in range(12)]
    values = [row(1, None, bytes(1 << 20)) for _ in keys]
    assert store.write(TABLE, EncodedRows(keys=keys, values=values)).written == 12
    assert read(store, TABLE, *keys) == values


def test_a_server_that_is_no_cluster_is_told_apart() -> None:
    with (
        local_redis(local_binary()) as server,
        closing(RedisClusterOnlineStore(f"redis+cluster://127.0.0.1:{server.port}")) as store,
    ):
        with pytest.raises(StoreError, match="is no cluster") as caught:
            read(store, TABLE, KEY)
        assert not caught.value.retryable
        assert "redis://" in (caught.value.hint or "")

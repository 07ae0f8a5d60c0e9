"""Primaries that die and slots that move while rows are read and written."""

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any

import pytest

from featurestore.errors import StoreUnavailableError
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.redis_slots import row_slots
from featurestore.online.store import OnlineStore, TableId
from featurestore.online.tables import table_digest
from featurestore.testing.online import KEY, read, row, write
from tests.conformance.traffic import CHANGING, SETTLED, Traffic
from tests.servers import LocalRedis
from tests.topologies import (
    LocalCluster,
    LocalSentinels,
    ask,
    local_cluster,
    local_sentinels,
    wait_until,
)

TABLE = TableId(project="failover", view="view", generation=1)
TIMEOUTS: dict[str, Any] = {"timeout_ms": 1_000, "connect_timeout_ms": 500, "wait_timeout_ms": 500}
OFTEN = [1, pytest.param(30, marks=pytest.mark.proof)]


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with local_cluster(replicas=1) as started:
        yield started


@pytest.fixture
def sentinels() -> Iterator[LocalSentinels]:
    with local_sentinels() as started:
        yield started


def kill(server: LocalRedis) -> None:
    server.process.kill()
    server.process.wait()


@pytest.mark.parametrize("times", OFTEN)
def test_a_cluster_whose_primaries_die_loses_no_row_that_a_replica_had(
    cluster: LocalCluster, times: int
) -> None:
    slots = row_slots(table_digest(TABLE) + b"{", SETTLED)
    with closing(RedisClusterOnlineStore(cluster.url, wait_replicas=1, **TIMEOUTS)) as store:
        traffic = Traffic(store, TABLE)
        traffic.settle()
        with traffic.flowing():
            for number in range(times):
                traffic.wait_for_writes()
                slot = slots[number % len(slots)]
                old = cluster.primary_of(slot)
                kill(old)
                wait_until(lambda: cluster.primary_of(slot) is not old, what="another primary")  # noqa: B023
                cluster.restart(old)
                cluster.wait_until_well()
                traffic.wait_for_writes()
        traffic.check()


@pytest.mark.parametrize("times", OFTEN)
def test_a_primary_that_dies_behind_sentinels_loses_no_row_that_a_replica_had(
    sentinels: LocalSentinels, times: int
) -> None:
    with closing(RedisOnlineStore(sentinels.url, wait_replicas=1, **TIMEOUTS)) as store:
        traffic = Traffic(store, TABLE)
        traffic.settle()
        with traffic.flowing():
            for _ in range(times):
                traffic.wait_for_writes()
                old = sentinels.primary()
                kill(old)
                wait_until(lambda: sentinels.primary() is not old, what="another primary")  # noqa: B023
                new = sentinels.primary()
                sentinels.restart(old, "--replicaof", "127.0.0.1", str(new.port))
                traffic.wait_for_writes()
                sentinels.wait_until_well()
        traffic.check()


def test_a_former_primary_that_comes_back_is_not_asked(sentinels: LocalSentinels) -> None:
    """It has old rows and takes itself for the primary until the Sentinels tell it."""
    with closing(RedisOnlineStore(sentinels.url, **TIMEOUTS)) as store:
        write(store, TABLE, [(KEY, row(1))])
        old = sentinels.primary()
        ask(old, "SAVE")
        kill(old)
        wait_until(lambda: sentinels.primary() is not old, what="another primary")
        with closing(RedisOnlineStore(sentinels.url, **TIMEOUTS)) as other:
            wait_until(lambda: _role(sentinels.primary()) == b"master", what="it is promoted")
            write(other, TABLE, [(KEY, row(2))])
        sentinels.restart(old)
        # The store's connection is to the old one, and there is somebody again.
        assert read(store, TABLE, KEY) == [row(2)]
        assert write(store, TABLE, [(KEY, row(3))]).written == 1
        assert read(store, TABLE, KEY) == [row(3)]


def _role(server: LocalRedis) -> bytes:
    role: bytes = ask(server, "ROLE")[0]
    return role


def test_a_primary_that_was_made_a_replica_is_left(sentinels: LocalSentinels) -> None:
    with closing(RedisOnlineStore(sentinels.url, **TIMEOUTS)) as store:
        write(store, TABLE, [(KEY, row(1))])
        old = sentinels.primary()
        ask(sentinels.sentinels[0], "SENTINEL", "FAILOVER", "features")
        assert write(store, TABLE, [(KEY, row(2))]).written == 1
        wait_until(lambda: sentinels.primary() is not old, what="another primary")
        assert write(store, TABLE, [(KEY, row(3))]).written == 1
        assert read(store, TABLE, KEY) == [row(3)]


@pytest.mark.parametrize("times", OFTEN)
def test_slots_that_move_lose_no_row_and_stop_no_reader(times: int) -> None:
    with (
        local_cluster() as cluster,
        closing(RedisClusterOnlineStore(cluster.url, **TIMEOUTS)) as store,
    ):
        traffic = Traffic(store, TABLE)
        traffic.settle()
        keys = [*SETTLED, *CHANGING]
        slots = sorted(set(row_slots(table_digest(TABLE) + b"{", keys)))
        with traffic.flowing():
            for number in range(times):
                traffic.wait_for_writes()
                for slot in slots[number::30]:
                    source = cluster.primary_of(slot)
                    position = cluster.nodes.index(source)
                    target = cluster.nodes[(position + 1) % len(cluster.nodes)]
                    move_slot(slot, source, target, cluster)
                traffic.wait_for_writes()
        traffic.check()
        assert traffic.failures == []
        assert store.count(TABLE) == len(keys)


def move_slot(
    slot: int,
    source: LocalRedis,
    target: LocalRedis,
    cluster: LocalCluster,
    between: Callable[[], object] = lambda: None,
) -> None:
    """Move a slot key by key, as `redis-cli --cluster reshard` does."""
    names = {node.port: ask(node, "CLUSTER", "MYID") for node in (source, target)}
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", names[source.port])
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", names[target.port])
    between()
    while keys := ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1):
        ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
        between()
    for node in (target, source, *cluster.nodes):
        ask(node, "CLUSTER", "SETSLOT", slot, "NODE", names[target.port])
    # With the slot the target took a new epoch: until all have heard of it, what others say of the
    # slot in the next move may count for more, and the nodes disagree for good.
    wait_until(
        lambda: len({epoch_of(names[target.port], n) for n in cluster.nodes}) == 1,
        what="all know the new epoch",
    )


def epoch_of(name: bytes, node: LocalRedis) -> bytes:
    """Return which epoch a node has heard of from the one of that name."""
    told: bytes = ask(node, "CLUSTER", "NODES")
    [known] = (line for line in told.splitlines() if line.startswith(name))
    return known.split()[6]


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalCluster]:
    with local_cluster() as started:
        yield started


def test_rows_of_a_slot_that_is_moving_are_read_and_written(shared: LocalCluster) -> None:
    """Some are on one node, some on the other, and new ones on neither."""
    table = TableId(project="moving", view="view", generation=1)
    # Braces inside of the entity choose its slot: all of these have one.
    there = [b"\x02same}%d" % number for number in range(20)]
    fresh = [b"\x02same}fresh%d" % number for number in range(20)]
    [slot] = set(row_slots(table_digest(table) + b"{", [*there, *fresh]))
    with closing(RedisClusterOnlineStore(shared.url, **TIMEOUTS)) as store:
        write(store, table, [(key, row(0)) for key in there])
        event = 0

        def use() -> None:
            nonlocal event
            event += 1
            rows = [(key, row(event)) for key in (*there, *fresh[: event + 1])]
            # Equal versions: the last one of a call stays, also when it is written row by row.
            rows += [(key, row(event, None, b"last")) for key in (*there, *fresh[: event + 1])]
            rows += [(key, row(event // 2)) for key in there]
            counts = write(store, table, rows)
            older = len(there) if event // 2 < event else 0
            assert (counts.written, counts.kept) == (len(rows) - older, older)
            expected = [row(event, None, b"last")] * len(there)
            assert read(store, table, *there) == expected
            assert read(store, table, *fresh[: event + 1]) == expected[: event + 1]

        source = shared.primary_of(slot)
        target = next(node for node in shared.nodes if node is not source)
        move_slot(slot, source, target, shared, use)
        assert event > len(there)
        assert store.count(table) == len(there) + min(event + 1, len(fresh))
        assert store.drop(table) == len(there) + min(event + 1, len(fresh))


def test_a_scan_while_a_slot_moves_misses_no_row(shared: LocalCluster) -> None:
    table = TableId(project="scanned", view="view", generation=1)
    keys = [b"\x02same}%d" % number for number in range(40)]
    [slot] = set(row_slots(table_digest(table) + b"{", keys))
    with closing(RedisClusterOnlineStore(shared.url, **TIMEOUTS)) as store:
        write(store, table, [(key, row(1)) for key in keys])
        source = shared.primary_of(slot)
        counts: list[int] = []
        for target in (node for node in shared.nodes if node is not source):
            move_slot(slot, source, target, shared, lambda: counts.append(store.count(table)))
            source = target
        assert set(counts) == {len(keys)}
        assert store.drop(table) == len(keys)


def test_a_node_that_is_cut_off_from_the_others_is_not_believed() -> None:
    """It answers, and knows of nobody's slots but its own."""
    with (
        local_cluster() as cluster,
        closing(RedisClusterOnlineStore(cluster.url, **TIMEOUTS)) as store,
    ):
        slots = row_slots(table_digest(TABLE) + b"{", SETTLED)
        lonely = cluster.primary_of(0)
        theirs = [
            key
            for key, slot in zip(SETTLED, slots, strict=True)
            if cluster.primary_of(slot) is not lonely
        ]
        write(store, TABLE, [(key, row(1)) for key in SETTLED])
        for other in cluster.nodes:
            if other is not lonely:
                ask(lonely, "CLUSTER", "FORGET", ask(other, "CLUSTER", "MYID"))
        wait_until(
            lambda: b"cluster_state:fail" in ask(lonely, "CLUSTER", "INFO"), what="it is lonely"
        )
        for _ in range(3):
            with pytest.raises(StoreUnavailableError, match="cluster is down"):
                read(store, TABLE, *SETTLED)
            assert read(store, TABLE, *theirs) == [row(1)] * len(theirs)


def use_many_connections(store: OnlineStore, server: LocalRedis, count: int) -> None:
    """Read at the same time from so many threads, that each needs a connection of its own."""
    ask(server, "CLIENT", "PAUSE", 300)
    with ThreadPoolExecutor(count) as pool:
        found = [pool.submit(read, store, TABLE, KEY) for _ in range(count)]
        assert [each.result() for each in found] == [[row(1)]] * count


@contextmanager
def stopped(server: LocalRedis) -> Iterator[None]:
    """A server that keeps its connections and is silent, as one on a machine that hangs."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def test_of_many_connections_to_a_primary_that_hangs_one_has_to_fail(
    sentinels: LocalSentinels,
) -> None:
    with closing(RedisOnlineStore(sentinels.url, **TIMEOUTS)) as store:
        write(store, TABLE, [(KEY, row(1))])
        old = sentinels.primary()
        use_many_connections(store, old, 12)
        with stopped(old):
            wait_until(lambda: sentinels.primary() is not old, what="another primary")
            wait_until(lambda: _role(sentinels.primary()) == b"master", what="it is promoted")
            with pytest.raises(StoreUnavailableError):
                read(store, TABLE, KEY)
            assert read(store, TABLE, KEY) == [row(1)]
            assert write(store, TABLE, [(KEY, row(2))]).written == 1
        assert read(store, TABLE, KEY) == [row(2)]


def test_of_many_connections_to_a_node_that_hangs_one_has_to_fail(cluster: LocalCluster) -> None:
    with closing(RedisClusterOnlineStore(cluster.url, **TIMEOUTS)) as store:
        write(store, TABLE, [(KEY, row(1))])
        [slot] = row_slots(table_digest(TABLE) + b"{", [KEY])
        old = cluster.primary_of(slot)
        use_many_connections(store, old, 12)
        with stopped(old):
            others = [node for node in cluster.nodes if node is not old]
            wait_until(
                lambda: all(_owner(node, slot) != old.port for node in others),
                what="another primary",
            )
            with pytest.raises(StoreUnavailableError):
                read(store, TABLE, KEY)
            assert read(store, TABLE, KEY) == [row(1)]
            assert write(store, TABLE, [(KEY, row(2))]).written == 1
        assert read(store, TABLE, KEY) == [row(2)]


def _owner(node: LocalRedis, slot: int) -> int:
    ranges = ask(node, "CLUSTER", "SLOTS")
    return next(int(primary[1]) for first, last, primary, *_ in ranges if first <= slot <= last)

"""What `doctor` learns of real servers, of those behind Sentinels and of clusters."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from featurestore.errors import StoreUnavailableError
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.store import Finding, OnlineStore, TableId
from featurestore.testing.online import KEY, read, row, write
from tests.servers import local_binary, local_redis
from tests.topologies import (
    LocalCluster,
    TlsServer,
    ask,
    local_cluster,
    local_sentinels,
    wait_until,
)

TABLE = TableId(project="shop", view="users", generation=1)


def found(store: OnlineStore, subject: str) -> list[tuple[str, str]]:
    return [(f.status, f.detail) for f in store.check() if f.subject == subject]


def bad(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(f.subject, f.status) for f in findings if f.status != "ok"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with local_cluster("--appendonly", "yes", primaries=3, replicas=1) as started:
        yield started


@pytest.fixture
def store(cluster: LocalCluster) -> Iterator[RedisClusterOnlineStore]:
    with closing(RedisClusterOnlineStore(cluster.url, timeout_ms=1_000)) as opened:
        yield opened


def test_of_a_cluster_that_is_well_nothing_bad_is_said(store: RedisClusterOnlineStore) -> None:
    assert bad(store.check()) == set()
    expected = "all slots are covered by 3 primaries; 6 servers answer"
    assert found(store, "cluster") == [("ok", expected)]
    assert found(store, "eviction") == [("ok", "noeviction (all 6 servers)")]


def test_a_node_that_evicts_is_named(store: RedisClusterOnlineStore, cluster: LocalCluster) -> None:
    node = cluster.nodes[1]
    ask(node, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        [warning] = [detail for status, detail in found(store, "eviction") if status == "warning"]
    finally:
        ask(node, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert warning.endswith(f"(127.0.0.1:{node.port})")


def test_slots_that_move_or_have_no_node_are_told(
    store: RedisClusterOnlineStore, cluster: LocalCluster
) -> None:
    source, target = cluster.nodes[:2]
    name = ask(target, "CLUSTER", "MYID")
    ask(source, "CLUSTER", "SETSLOT", 0, "MIGRATING", name)
    assert [status for status, _ in found(store, "slots")] == ["warning"]
    ask(source, "CLUSTER", "SETSLOT", 0, "STABLE")
    for node in cluster.nodes:
        ask(node, "CLUSTER", "DELSLOTS", 0)
    try:
        [(status, detail)] = found(store, "cluster")
        assert (status, "1 of 16,384 slots have no node" in detail) == ("error", True)
    finally:
        ask(source, "CLUSTER", "ADDSLOTS", 0)
        cluster.wait_until_well()


def test_replicas_and_primaries_that_are_gone_are_told() -> None:
    with (
        local_cluster("--cluster-require-full-coverage", "no", replicas=1) as cluster,
        closing(RedisClusterOnlineStore(cluster.url, timeout_ms=500)) as store,
    ):
        replica = cluster.nodes[3]
        replica.stop()
        wait_until(lambda: ("replicas", "warning") in bad(store.check()), what="a primary is alone")
        cluster.nodes[0].stop()
        [detail] = [detail for status, detail in found(store, "nodes") if status == "error"]
        assert f"127.0.0.1:{cluster.nodes[0].port}" in detail


def test_sentinels_that_do_not_answer_are_told() -> None:
    with local_sentinels() as group, closing(RedisOnlineStore(group.url)) as store:
        assert found(store, "sentinels") == [("ok", "3 of 3 answer")]
        assert found(store, "replicas") == [("ok", "1 in sync (Sentinel's 'features')")]
        assert len(found(store, "role")) == 2
        group.sentinels[0].stop()
        [(status, detail)] = found(store, "sentinels")
        assert (status, detail.partition(":")[0]) == ("warning", "2 of 3 answer")
        group.sentinels[1].stop()
        assert [status for status, _ in found(store, "sentinels")] == ["error"]
        assert read(store, TABLE, KEY) == [None]


def test_certificates_that_are_not_checked_are_told(redis_tls: TlsServer) -> None:
    with closing(RedisOnlineStore(redis_tls.url, **redis_tls.options)) as store:
        assert found(store, "tls") == []
    options = {**redis_tls.options, "tls_verify": False}
    with closing(RedisOnlineStore(redis_tls.url, **options)) as store:
        assert [status for status, _ in found(store, "tls")] == ["warning"]


# --- wait_replicas -------------------------------------------------------------------------------


def test_a_write_that_no_replica_has_is_a_retryable_error() -> None:
    with (
        local_redis(local_binary()) as server,
        closing(RedisOnlineStore(server.url, wait_replicas=1)) as store,
    ):
        with pytest.raises(StoreUnavailableError, match="only 0 of 1 replicas") as caught:
            write(store, TABLE, [(KEY, row(1))])
        assert caught.value.hint
        assert [status for status, _ in found(store, "replicas")] == ["error"]
        assert read(store, TABLE, KEY) == [row(1)]
        with local_redis(local_binary(), "--replicaof", "127.0.0.1", str(server.port)) as replica:
            wait_until(
                lambda: ("replicas", "error") not in bad(store.check()), what="it is in sync"
            )
            assert write(store, TABLE, [(KEY, row(2))]).written == 1
            with closing(RedisOnlineStore(replica.url)) as other:
                assert read(other, TABLE, KEY) == [row(2)]


def test_a_drop_that_no_replica_has_is_a_retryable_error() -> None:
    with (
        local_redis(local_binary()) as server,
        closing(RedisOnlineStore(server.url)) as store,
        closing(RedisOnlineStore(server.url, wait_replicas=1, wait_timeout_ms=50)) as careful,
    ):
        write(store, TABLE, [(KEY, row(1))])
        with pytest.raises(StoreUnavailableError, match="only 0 of 1 replicas"):
            careful.drop(TABLE)
        assert store.tables(TABLE.project) == [TABLE]


def test_a_cluster_waits_for_the_replicas_of_each_node(cluster: LocalCluster) -> None:
    rows = [(b"\x02%d" % number, row(number)) for number in range(1_000)]
    options = {"timeout_ms": 1_000, "wait_timeout_ms": 500, "failover_timeout_ms": 2_000}
    with closing(RedisClusterOnlineStore(cluster.url, wait_replicas=1, **options)) as store:  # type: ignore[arg-type]
        assert write(store, TABLE, rows).written == 1_000
        assert write(store, TABLE, rows).written == 1_000
        store.drop(TABLE)
    greedy = RedisClusterOnlineStore(cluster.url, wait_replicas=2, **options)  # type: ignore[arg-type]
    with closing(greedy), pytest.raises(StoreUnavailableError, match="only 1 of 2 replicas"):
        write(greedy, TABLE, rows)

"""Networks that are slow, silent or cut: calls end in time, and all goes on when they are well."""

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, NamedTuple, TypeAlias

import psutil
import pytest

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.redis_slots import row_slots
from featurestore.online.store import OnlineStore, ReadRequest, TableId
from featurestore.online.tables import table_digest
from featurestore.testing.online import KEY, read, row, write
from tests.proxy import Fault, Proxy, proxy_to
from tests.servers import local_binary, local_redis
from tests.topologies import local_cluster, local_sentinels

TABLE = TableId(project="network", view="view", generation=1)
TIMEOUT_MS, CONNECT_MS = 300, 300
TIMES: dict[str, Any] = {
    "timeout_ms": TIMEOUT_MS,
    "connect_timeout_ms": CONNECT_MS,
    "failover_timeout_ms": 1_000,
}
LIMIT_S = (TIMEOUT_MS + CONNECT_MS) / 1_000
SLACK_S = 1.5
"""For a machine that has other things to do: a call that waits for ever waits longer."""
MANY = [(b"\x02%d" % number, row(number, None, bytes(100))) for number in range(3_000)]
KEYS = [key for key, _ in MANY]


class Reached(NamedTuple):
    """A store, and the proxies on the way to its servers."""

    store: OnlineStore
    proxies: list[Proxy]

    def fail(self, fault: Fault) -> None:
        for proxy in self.proxies:
            proxy.fault = fault

    def be_well(self) -> None:
        for proxy in self.proxies:
            proxy.fault, proxy.latency_s, proxy.replies_left = Fault.NONE, 0.0, None


Servers: TypeAlias = tuple[Callable[[], OnlineStore], list[Proxy]]


def cluster_behind_proxies(stack: ExitStack) -> tuple[str, list[Proxy]]:
    """Start nodes that tell clients to come through a proxy each; return the URL of these."""
    proxies = [stack.enter_context(proxy_to(0)) for _ in range(3)]
    ports = [proxy.port for proxy in proxies]
    cluster = stack.enter_context(local_cluster(announced=ports))
    for proxy, node in zip(proxies, cluster.nodes, strict=True):
        proxy.target = node.port
    return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports), proxies


@pytest.fixture(scope="module", params=["server", "cluster"])
def servers(request: pytest.FixtureRequest) -> Iterator[Servers]:
    """How to open a store, and the proxies on the way."""
    with ExitStack() as stack:
        if request.param == "server":
            server = stack.enter_context(local_redis(local_binary()))
            proxies = [stack.enter_context(proxy_to(server.port))]
            url = f"redis://127.0.0.1:{proxies[0].port}"
            yield lambda: RedisOnlineStore(url, **TIMES), proxies
        else:
            url, proxies = cluster_behind_proxies(stack)
            yield lambda: RedisClusterOnlineStore(url, **TIMES), proxies


@pytest.fixture
def reached(servers: Servers) -> Iterator[Reached]:
    opener, proxies = servers
    with closing(opener()) as store:
        found = Reached(store, proxies)
        found.be_well()
        write(store, TABLE, MANY)
        assert read(store, TABLE, *KEYS) == [value for _, value in MANY]
        yield found
        found.be_well()


def assert_unavailable_in_time(call: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    start = time.monotonic()
    with pytest.raises(StoreUnavailableError) as caught:
        call()
    assert time.monotonic() - start < limit_s + SLACK_S
    assert caught.value.retryable
    assert caught.value.hint


def assert_well(reached: Reached) -> None:
    """All rows are there, and new ones are taken, without anything being opened again."""
    reached.be_well()
    give_up = time.monotonic() + 10
    while True:
        try:
            assert read(reached.store, TABLE, *KEYS) == [value for _, value in MANY]
        except StoreUnavailableError:
            assert time.monotonic() < give_up
        else:
            break
    write(reached.store, TABLE, [(b"\x02other", row(1))])
    assert read(reached.store, TABLE, b"\x02other") == [row(1)]


def test_latency_makes_calls_slower_and_no_more(reached: Reached) -> None:
    for proxy in reached.proxies:
        proxy.latency_s = 0.02
    assert read(reached.store, TABLE, *KEYS[:50]) == [value for _, value in MANY[:50]]
    assert write(reached.store, TABLE, MANY[:50]).written == 50


def test_latency_beyond_the_timeout_ends_reads_in_time(reached: Reached) -> None:
    for proxy in reached.proxies:
        proxy.latency_s = 2.0
    assert_unavailable_in_time(lambda: read(reached.store, TABLE, KEY))
    for proxy in reached.proxies:
        proxy.reset_all()
    assert_well(reached)


@pytest.mark.parametrize("fault", [Fault.SILENCE, Fault.NO_REPLIES])
def test_reads_end_at_the_deadline_of_their_caller(servers: Servers, fault: Fault) -> None:
    # With connections that are open, and then, as those are closed, with none.
    _, proxies = servers
    patient: dict[str, Any] = {"timeout_ms": 20_000, "connect_timeout_ms": 20_000}
    is_cluster = len(proxies) > 1
    hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
    url = f"redis+cluster://{hosts}" if is_cluster else f"redis://{hosts}"
    opener = RedisClusterOnlineStore if is_cluster else RedisOnlineStore
    with closing(opener(url, **patient)) as store:
        reached = Reached(store, proxies)
        reached.be_well()
        write(store, TABLE, MANY)
        request = ReadRequest(table=TABLE, keys=KEYS, row_bytes=len(MANY[0][1]))
        for _ in range(2):
            soon = store.read([request], until=time.monotonic() + 20)
            assert list(soon[0]) == [value for _, value in MANY]
            reached.fail(fault)
            for _ in range(3):
                start = time.monotonic()
                with pytest.raises(StoreUnavailableError):
                    store.read([request], until=start + 0.1)
                assert time.monotonic() - start < 0.1 + SLACK_S
            reached.be_well()
            for proxy in reached.proxies:
                proxy.reset_all()
        assert list(store.read([request])[0]) == [value for _, value in MANY]


@pytest.mark.parametrize("fault", list(Fault)[1:])
def test_reads_end_in_time_whatever_fails(reached: Reached, fault: Fault) -> None:
    reached.fail(fault)
    for count in (1, 40, len(KEYS)):
        assert_unavailable_in_time(lambda: read(reached.store, TABLE, *KEYS[:count]))  # noqa: B023
    assert_well(reached)


@pytest.mark.parametrize("fault", list(Fault)[1:])
def test_writes_end_in_time_whatever_fails(reached: Reached, fault: Fault) -> None:
    reached.fail(fault)
    # On a cluster they wait for a failover first, and then for the attempt under way.
    limit_s = 1.0 + 3 * LIMIT_S
    assert_unavailable_in_time(lambda: write(reached.store, TABLE, MANY), limit_s)
    assert_well(reached)


def test_a_reset_of_all_connections_goes_unnoticed_by_the_next_read(reached: Reached) -> None:
    for proxy in reached.proxies:
        proxy.reset_all()
    time.sleep(0.05)
    assert read(reached.store, TABLE, *KEYS) == [value for _, value in MANY]


@pytest.mark.parametrize("size", [0, 1, 100, 5_000, 100_000])
def test_replies_that_break_off_are_never_taken_for_whole(reached: Reached, size: int) -> None:
    for proxy in reached.proxies:
        proxy.reset_all()
        proxy.replies_left = 300 + size  # connections say hello first
    try:
        found = read(reached.store, TABLE, *KEYS)
    except StoreUnavailableError:
        pass
    else:
        assert found == [value for _, value in MANY]
    assert_well(reached)


def test_writes_that_break_off_are_finished_by_writing_again(reached: Reached) -> None:
    newer = [(key, row(10_000 + number)) for number, key in enumerate(KEYS)]
    for size in (1, 40, 400, 4_000):
        for proxy in reached.proxies:
            proxy.reset_all()
            proxy.replies_left = 300 + size
        with suppress(StoreUnavailableError):
            write(reached.store, TABLE, newer)
        reached.be_well()
    write(reached.store, TABLE, newer)
    write(reached.store, TABLE, MANY)
    assert read(reached.store, TABLE, *KEYS) == [value for _, value in newer]
    reached.store.drop(TABLE)
    write(reached.store, TABLE, MANY)


def test_failures_leave_no_threads_and_no_connections(reached: Reached) -> None:
    process = psutil.Process()
    assert_well(reached)
    gc.collect()
    threads, connections = threading.active_count(), len(process.net_connections())
    for number in range(12):
        reached.fail(list(Fault)[1 + number % 3])
        with pytest.raises(StoreError):
            read(reached.store, TABLE, *KEYS)
        for proxy in reached.proxies:
            proxy.reset_all()
        reached.be_well()
    assert_well(reached)
    gc.collect()
    # Twelve of our connections would be lost, and as many of the proxies, which are in this
    # process, too, with two threads for each connection.
    assert len(process.net_connections()) < connections + 12
    assert threading.active_count() < threads + 12


def test_one_silent_node_stops_only_reads_of_its_rows() -> None:
    with ExitStack() as stack:
        url, proxies = cluster_behind_proxies(stack)
        store = stack.enter_context(closing(RedisClusterOnlineStore(url, **TIMES)))
        write(store, TABLE, MANY)
        slots = row_slots(table_digest(TABLE) + b"{", KEYS)
        of_first = [key for key, slot in zip(KEYS, slots, strict=True) if slot < 16_384 // 3]
        of_others = [key for key in KEYS if key not in set(of_first)]
        proxies[0].fault = Fault.SILENCE
        for _ in range(3):
            assert_unavailable_in_time(lambda: read(store, TABLE, *of_first))
            assert None not in read(store, TABLE, *of_others)
        proxies[0].fault = Fault.NONE
        assert None not in read(store, TABLE, *KEYS)


def test_a_silent_sentinel_is_passed_over() -> None:
    with local_sentinels() as group, ExitStack() as stack:
        proxies = [stack.enter_context(proxy_to(sentinel.port)) for sentinel in group.sentinels]
        hosts = ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)
        url = f"redis+sentinel://{hosts}/features"
        for silent in ([0], [0, 1], [2, 0]):
            for number, proxy in enumerate(proxies):
                proxy.fault = Fault.SILENCE if number in silent else Fault.NONE
            with closing(RedisOnlineStore(url, **TIMES)) as store:
                assert read(store, TABLE, KEY) == [None]
        for proxy in proxies:
            proxy.fault = Fault.SILENCE
        with closing(RedisOnlineStore(url, **TIMES)) as store:
            assert_unavailable_in_time(lambda: read(store, TABLE, KEY), 2 * CONNECT_MS / 1_000)


def test_a_silent_seed_of_a_cluster_stops_one_read_at_most(redis_cluster_url: str) -> None:
    with proxy_to(0) as silent:
        silent.target = int(redis_cluster_url.rpartition(":")[2])
        silent.fault = Fault.SILENCE
        url = redis_cluster_url.replace("://", f"://127.0.0.1:{silent.port},")
        with closing(RedisClusterOnlineStore(url, **TIMES)) as store:
            assert_unavailable_in_time(lambda: read(store, TABLE, KEY))
            assert read(store, TABLE, KEY) == [None]

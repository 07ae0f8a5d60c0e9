"""Redis that is killed and started again while rows are read and written."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from featurestore.errors import StoreUnavailableError
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.store import TableId
from featurestore.testing.online import KEY, read, row, write
from tests.conformance.traffic import Traffic
from tests.servers import LocalRedis, free_port, local_binary, local_redis
from tests.topologies import ask, local_cluster

T = TypeVar("T")
TABLE = TableId(project="restart", view="view", generation=1)
ROWS = [(b"\x02%d" % number, row(number)) for number in range(2_000)]
OFTEN = [1, pytest.param(30, marks=pytest.mark.proof)]


class Restarted:
    """A server that can be killed and started again at its place.

    Args:
        folder: Where its files are.
        options: Those of redis.conf, as arguments.
    """

    def __init__(self, stack: ExitStack, folder: Path, *options: str) -> None:
        self._stack = stack
        self._folder = folder
        self._options = options
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._server: LocalRedis = self._start()

    def _start(self) -> LocalRedis:
        started = local_redis(local_binary(), *self._options, port=self.port, folder=self._folder)
        return self._stack.enter_context(started)

    def kill(self) -> None:
        self._server.process.kill()
        self._server.process.wait()

    def restart(self) -> None:
        self.kill()
        self._server = self._start()


@contextmanager
def restarted(folder: Path, *options: str) -> Iterator[Restarted]:
    with ExitStack() as stack:
        yield Restarted(stack, folder, *options)


@pytest.mark.parametrize("times", OFTEN)
def test_a_server_with_an_append_only_file_loses_no_row_it_took(tmp_path: Path, times: int) -> None:
    with (
        restarted(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server,
        closing(RedisOnlineStore(server.url, timeout_ms=1_000)) as store,
    ):
        traffic = Traffic(store, TABLE)
        traffic.settle()
        with traffic.flowing():
            for _ in range(times):
                traffic.wait_for_writes()
                server.restart()
                traffic.wait_for_writes()
        traffic.check()


def test_a_server_that_keeps_nothing_is_filled_again(tmp_path: Path) -> None:
    """The script, the rows and the catalogue are gone; the store has to notice."""
    with restarted(tmp_path) as server, closing(RedisOnlineStore(server.url)) as store:
        write(store, TABLE, ROWS)
        write(store, TABLE, [(KEY, row(1))])
        server.kill()
        with pytest.raises(StoreUnavailableError):
            write(store, TABLE, ROWS)
        server.restart()
        assert read(store, TABLE, KEY) == [None]
        assert store.tables("restart") == []
        assert write(store, TABLE, [(KEY, row(0))]).written == 1
        assert store.tables("restart") == [TABLE]
        assert write(store, TABLE, ROWS).written == len(ROWS)
        assert write(store, TABLE, [(key, row(-1)) for key, _ in ROWS]).kept == len(ROWS)


def _once_loaded(ask: Callable[[], T]) -> T:
    """Ask a server that was just started, which may still load its data."""
    give_up = time.monotonic() + 20
    while True:
        try:
            return ask()
        except StoreUnavailableError:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def test_a_scan_does_not_go_on_in_a_server_that_was_started_again(tmp_path: Path) -> None:
    """It keeps its keys, but in another order: a cursor from before would leave some out."""
    with (
        restarted(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server,
        closing(RedisOnlineStore(server.url)) as store,
    ):
        write(store, TABLE, ROWS)
        scan = store.scan(TABLE, batch_rows=100)
        assert len(next(scan)) == 100
        server.restart()
        with pytest.raises(StoreUnavailableError):
            list(scan)
        assert _once_loaded(lambda: store.count(TABLE)) == len(ROWS)

        def restart(_: int) -> None:
            server.restart()

        with pytest.raises(StoreUnavailableError):
            store.drop(TABLE, pace=restart)
        assert _once_loaded(lambda: store.tables("restart")) == [TABLE]
        store.drop(TABLE)
        assert (store.count(TABLE), store.tables("restart")) == (0, [])


def test_a_cluster_that_keeps_nothing_is_filled_again() -> None:
    with (
        local_cluster() as cluster,
        closing(RedisClusterOnlineStore(cluster.url, timeout_ms=1_000)) as store,
    ):
        write(store, TABLE, ROWS)
        for node in list(cluster.nodes):
            node.process.kill()
            node.process.wait()
            cluster.restart(node)
        cluster.wait_until_well()
        assert set(read(store, TABLE, *(key for key, _ in ROWS))) == {None}
        assert store.tables("restart") == []
        assert write(store, TABLE, ROWS).written == len(ROWS)
        assert store.tables("restart") == [TABLE]
        assert write(store, TABLE, [(key, row(-1)) for key, _ in ROWS]).kept == len(ROWS)
        assert store.drop(TABLE) == len(ROWS)
        assert store.tables("restart") == []


@pytest.mark.parametrize("rows", [1, 1_000])
def test_a_server_that_was_emptied_without_a_word_is_filled_again(rows: int) -> None:
    with local_redis(local_binary()) as server, closing(RedisOnlineStore(server.url)) as store:
        for _ in range(2):
            assert write(store, TABLE, ROWS[:rows]).written == rows
            assert store.tables("restart") == [TABLE]
            ask(server, "FLUSHALL")
            ask(server, "SCRIPT", "FLUSH")


@pytest.mark.parametrize("rows", [1, 1_000])
def test_a_cluster_that_was_emptied_without_a_word_is_filled_again(rows: int) -> None:
    with (
        local_cluster() as cluster,
        closing(RedisClusterOnlineStore(cluster.url)) as store,
    ):
        for _ in range(2):
            assert write(store, TABLE, ROWS[:rows]).written == rows
            assert store.tables("restart") == [TABLE]
            for node in cluster.nodes:
                ask(node, "FLUSHALL")
                ask(node, "SCRIPT", "FLUSH")

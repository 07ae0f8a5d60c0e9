"""What a lane answers when its server goes away: no row counts as written that no replica has."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from featurestore.online.redis_address import RedisOptions, read_address
from featurestore.online.redis_commands import packed
from featurestore.online.redis_connection import Connections
from featurestore.online.redis_lanes import Lane, Piece, exchange
from tests.proxy import Proxy, proxy_to
from tests.servers import LocalRedis, local_binary, local_redis
from tests.topologies import ask

OK = b"+OK\r\n"
PIECES = [
    Piece(b"".join(packed(b"SET", b"%d" % key, b"x") for key in keys), len(keys))
    for keys in ([1, 2], [3])
]
ONE_REPLICA = (1, 50)
NO_REPLICA = (0, 0)


@pytest.fixture
def server() -> Iterator[LocalRedis]:
    with local_redis(local_binary()) as started:
        yield started


@pytest.fixture
def proxy(server: LocalRedis) -> Iterator[Proxy]:
    with proxy_to(server.port) as started:
        yield started


@pytest.fixture
def connections(proxy: Proxy) -> Iterator[Connections]:
    options: RedisOptions = {"timeout_ms": 2_000}
    address = read_address(f"redis://127.0.0.1:{proxy.port}", options)
    with closing(Connections(address.servers[0])) as opened:
        opened.call("TIME")  # what a new connection begins with has come
        proxy.latency_s = 0.02  # all pieces are sent before the first answer, and the end, comes
        yield opened


def answers(connections: Connections, pieces: list[Piece], wait: tuple[int, int]) -> list[bool]:
    """Send pieces, and return for each command whether it counts as done."""
    lane = Lane(connections, pieces, wait)
    exchange([lane])
    assert [len(found) for found in lane.answers] == [piece.replies for piece in pieces]
    return [not isinstance(answer, Exception) for found in lane.answers for answer in found]


@pytest.mark.parametrize("pieces", [PIECES[:1], PIECES], ids=["at WAIT", "between pieces"])
def test_nothing_is_done_when_the_server_is_lost_before_it_told_of_its_replicas(
    connections: Connections, proxy: Proxy, server: LocalRedis, pieces: list[Piece]
) -> None:
    proxy.replies_left = len(OK) * PIECES[0].replies
    assert not any(answers(connections, pieces, ONE_REPLICA))
    assert ask(server, "GET", "1") == b"x"  # it did get there


def test_without_a_wait_what_was_answered_is_done(connections: Connections, proxy: Proxy) -> None:
    proxy.replies_left = len(OK) * PIECES[0].replies
    assert answers(connections, PIECES, NO_REPLICA) == [True, True, False]


def test_nothing_is_done_when_the_server_does_not_permit_the_wait(
    connections: Connections, server: LocalRedis
) -> None:
    ask(server, "ACL", "SETUSER", "default", "-wait")
    assert not any(answers(connections, PIECES, ONE_REPLICA))


def test_nothing_is_done_when_too_few_replicas_have_it(connections: Connections) -> None:
    assert not any(answers(connections, PIECES, ONE_REPLICA))
    assert all(answers(connections, PIECES, NO_REPLICA))

"""Slow, half-open and hostile HTTP clients hurt nobody else."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from featurestore_server.http import connections
from featurestore_server.http.connections import MAX_HEAD_BYTES, Patience

from featurestore.online.store import OnlineStore

from . import shop
from .gated import gated
from .http_calls import Client, http_served, post_once

ONE = {"feature_service": "checkout", "entities": {"user_id": [1]}}
IMPATIENT = Patience(head_s=0.5, body_s=0.5, idle_s=1)
HEAD = b"POST /v1/online-features HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def _connect(client: Client) -> socket.socket:
    host, port = client.address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def _rest(connection: socket.socket) -> bytes:
    """Everything until the server closes, which it has to do by itself."""
    received = b""
    try:
        while more := connection.recv(65_536):
            received += more
    except ConnectionResetError:
        pass
    return received


def _error(raw: bytes) -> tuple[int, str]:
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["reason"]


@pytest.fixture
def client(store: OnlineStore) -> Iterator[Client]:
    with http_served(shop.catalog(), store, patience=IMPATIENT) as (client, *_):
        yield client


def test_slow_heads_are_given_up_while_others_are_served(client: Client) -> None:
    slow = [_connect(client) for _ in range(50)]
    for connection in slow:
        connection.sendall(HEAD)
    began = time.monotonic()
    while time.monotonic() - began < 1.5:  # slower than one may be, faster than one may idle
        for number, connection in enumerate(slow):
            try:
                connection.sendall(b"X-%d: y\r\n" % number)
            except OSError:
                continue
        assert post_once(client.address, ONE).status == 200
        time.sleep(0.1)
    for connection in slow:
        with closing(connection):
            assert _rest(connection) == b""


def test_a_connection_that_says_nothing_is_closed(client: Client) -> None:
    with closing(_connect(client)) as connection:
        assert _rest(connection) == b""


def test_a_connection_that_idles_after_a_reply_is_closed(client: Client) -> None:
    text = json.dumps(ONE).encode()
    with closing(_connect(client)) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        assert _rest(connection).startswith(b"HTTP/1.1 200 OK")


def test_a_second_head_is_waited_for_no_longer_than_the_first(client: Client) -> None:
    text = json.dumps(ONE).encode()
    with closing(_connect(client)) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(text), text) + HEAD)
        assert _rest(connection).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_given_up(client: Client, framing: bytes) -> None:
    with closing(_connect(client)) as connection:
        connection.sendall(HEAD + framing + b"\r\n\r\n")
        assert _error(_rest(connection)) == (504, "DEADLINE_PASSED")


def test_a_client_that_leaves_in_the_middle_of_a_body_is_let_go(client: Client) -> None:
    for _ in range(20):
        with closing(_connect(client)) as connection:
            connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert client.post(ONE).status == 200


def test_heads_have_a_limit(client: Client) -> None:
    with closing(_connect(client)) as connection:
        connection.sendall(HEAD)
        try:
            for _ in range(2 * MAX_HEAD_BYTES // 1_000):
                connection.sendall(b"X: " + b"y" * 1_000 + b"\r\n")
        except OSError:
            return  # refused so early that the rest could not be sent
        raw = _rest(connection)
    # The kernel may throw away the reply together with what was not read.
    assert raw == b"" or _error(raw) == (431, "LIMIT_EXCEEDED")


@pytest.mark.parametrize("start", [b"1;x=", b"1\r\n{\r\n0\r\nX: "])
def test_what_frames_a_body_has_a_limit(store: OnlineStore, start: bytes) -> None:
    patient = Patience(head_s=60, body_s=60)
    with (
        http_served(shop.catalog(), store, patience=patient) as (client, *_),
        closing(_connect(client)) as connection,
    ):
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + start)
        with suppress(OSError):  # refused so early that the rest cannot be sent
            for _ in range(100):
                connection.sendall(b"y" * 10_000)
        raw = _rest(connection)
        assert raw == b"" or int(raw.split()[1]) in (400, 431)
        assert post_once(client.address, ONE).status == 200


def test_a_body_in_chunks_of_one_byte_is_a_body(client: Client) -> None:
    text = json.dumps(ONE | {"project": "shop"}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in text) + b"0\r\n\r\n"
    with closing(_connect(client)) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)
        assert _rest(connection).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\x16\x03\x01 not http\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        HEAD + b"Content-Length: abc\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: gzip, chunked, x\r\n\r\n",
        HEAD + b"Bad Header: x\r\n\r\n",
        HEAD + b"X: a\x00b\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/online-features HTTP/9.9\r\n\r\n",
        b"POST http://[ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_or_closed(client: Client, raw: bytes) -> None:
    with closing(_connect(client)) as connection:
        connection.sendall(raw)
        received = _rest(connection)
    assert b"Traceback" not in received
    assert b"uvicorn" not in received.lower()
    assert received == b"" or received.startswith(b"HTTP/1.1 ")
    assert client.post(ONE).status == 200


def test_a_client_that_does_not_read_its_reply_is_cut_off(store: OnlineStore) -> None:
    many = {"feature_service": "types", "entities": {"id": [1] * 10_000}}
    text = json.dumps(many).encode()
    with (
        http_served(shop.catalog(), store, patience=IMPATIENT) as (client, _, twin),
        closing(_connect(client)) as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
        assert connection.recv(4_096).startswith(b"HTTP/1.1 200 OK")
        assert twin.connections == 1
        give_up = time.monotonic() + 60
        while twin.connections:
            assert time.monotonic() < give_up
            time.sleep(0.05)


def test_a_stop_finishes_calls_under_way_and_takes_no_new_ones() -> None:
    replies: list[int] = []
    with gated() as store, http_served(shop.catalog(), store) as (client, *_):
        asking = threading.Thread(
            target=lambda: replies.append(post_once(client.address, ONE).status)
        )
        asking.start()
        assert store.waiting.acquire(timeout=30)
        opener = threading.Timer(0.5, store.gate.set)
        opener.start()
    asking.join()
    opener.join()
    assert replies == [200]


def test_an_upgrade_is_refused_and_its_body_is_no_request(client: Client) -> None:
    # The body of a request that asks for another protocol is not parsed as one: it would be taken
    # for the next request, which a proxy in between has never seen.
    hidden = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    with closing(_connect(client)) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(hidden))
        with suppress(OSError):
            time.sleep(0.1)
            connection.sendall(hidden)
        received = _rest(connection)
    assert received.count(b"HTTP/1.1 400 ") == 1
    assert b"HTTP/1.1 200" not in received
    assert _error(received) == (400, "MESSAGE_MALFORMED")
    assert b"--http1.1" in received


def test_a_connection_is_not_used_for_ever(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(ONE).encode()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(text) + text
    with closing(_connect(client)) as connection:
        connection.sendall(request)
        assert b"connection: close" not in connection.recv(65_536).lower()
        monkeypatch.setattr(connections, "MAX_AGE_S", 0.0)
        connection.sendall(request)
        assert b"connection: close" in _rest(connection).lower()

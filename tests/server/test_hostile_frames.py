"""Bytes that are no HTTP/2, or no gRPC, on real connections: nobody else notices."""

import random
import socket
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import grpc
import psutil
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesResponse
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.service import LOOKUP_METHOD

from benchmarks.http2 import PREFACE
from featurestore.online.store import OnlineStore

from . import shop
from .calls import Dial, lookup
from .fixtures import Serve

CONNECTIONS = 1_500
AT_ONCE = 50
GROWTH = 64 << 20
ONE = Values(int64s=[1, 2, 3])


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value


def _call(stream: int) -> list[bytes]:
    """The frames of one good call."""
    headers = b"\x83\x86\x04" + _text(LOOKUP_METHOD.encode()) + b"\x01" + _text(b"localhost")
    for name, value in ((b"content-type", b"application/grpc"), (b"te", b"trailers")):
        headers += b"\x00" + _text(name) + _text(value)
    body = lookup("checkout", user_id=ONE).SerializeToString()
    message = struct.pack(">BI", 0, len(body)) + body
    return [_frame(1, 4, stream, headers), _frame(0, 1, stream, message)]


SETTINGS = _frame(4, 0, 0, b"")


def _hostile(draw: random.Random) -> bytes:
    """A connection's bytes with something wrong in them."""
    frames = [SETTINGS, *_call(1), *_call(3), *_call(5)]
    kind = draw.randrange(6)
    if kind == 0:  # bytes changed anywhere
        whole = bytearray(PREFACE + b"".join(frames))
        for _ in range(draw.randint(1, 8)):
            whole[draw.randrange(len(whole))] = draw.randrange(256)
        return bytes(whole)
    if kind == 1:  # cut off
        whole = bytearray(PREFACE + b"".join(frames))
        return bytes(whole[: draw.randrange(len(whole))])
    if kind == 2:  # frames in any order, any number of times
        return PREFACE + SETTINGS + b"".join(draw.choices(frames, k=draw.randint(1, 20)))
    if kind == 3:  # frames of any kind
        made = [
            _frame(
                draw.randrange(16),
                draw.randrange(256),
                draw.choice([0, 1, 2, 3, 5, 2**31 - 1]),
                draw.randbytes(draw.choice([0, 1, 4, 5, 8, 9, 64, 1_000])),
            )
            for _ in range(draw.randint(1, 20))
        ]
        return PREFACE + SETTINGS + b"".join(made)
    if kind == 4:  # streams opened and reset again
        resets = [
            _call(stream)[0] + _frame(3, 0, stream, struct.pack(">I", 8))
            for stream in range(1, 2 * draw.randint(1, 60), 2)
        ]
        return PREFACE + SETTINGS + b"".join(resets)
    return draw.randbytes(draw.randint(1, 300))  # no HTTP at all


def _attack(port: int, streams: Sequence[bytes]) -> None:
    """Send each on a connection of its own, all at the same time; look at no answer."""
    open_: list[socket.socket] = []
    for stream in streams:
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        open_.append(connection)
        with suppress(OSError):
            connection.sendall(stream)
    for connection in open_:
        connection.settimeout(0.005)
        with suppress(OSError):
            connection.recv(1 << 16)
        connection.close()


def _with_patience(call: Callable[[], GetOnlineFeaturesResponse]) -> object:
    """Return the features of a reply; a call that was refused is made again, as clients do."""
    for _ in range(5):
        try:
            return call().features
        except grpc.RpcError as error:
            refused = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            if cast("grpc.Call", error).code() not in refused:
                raise
            time.sleep(0.1)
    return None


def test_hostile_connections_hurt_nobody(serve: Serve, store: OnlineStore, dial: Dial) -> None:
    address = serve(shop.catalog(), store)
    stub = ServingServiceStub(dial(address))
    good = lookup("checkout", user_id=ONE)
    expected = stub.GetOnlineFeatures(good, timeout=20).features
    draw = random.Random(7)  # noqa: S311
    process = psutil.Process()
    _attack(int(address.rpartition(":")[2]), [_hostile(draw) for _ in range(AT_ONCE)])
    before = process.memory_info().rss
    for _ in range(CONNECTIONS // AT_ONCE):
        _attack(int(address.rpartition(":")[2]), [_hostile(draw) for _ in range(AT_ONCE)])
        assert _with_patience(lambda: stub.GetOnlineFeatures(good, timeout=20)) == expected
    assert process.memory_info().rss - before < GROWTH


def test_connections_that_say_nothing_hold_nobody_up(
    serve: Serve,
    store: OnlineStore,
    dial: Dial,
    fast_lookups: bool,  # noqa: FBT001 - a fixture
) -> None:
    # In grpcio's own server each call that was begun holds a thread until its request has come.
    begun = 2 if fast_lookups else 0
    address = serve(shop.catalog(), store)
    where = ("127.0.0.1", int(address.rpartition(":")[2]))
    stub = ServingServiceStub(dial(address))
    good = lookup("checkout", user_id=ONE)
    stub.GetOnlineFeatures(good, timeout=20)
    silent = [socket.create_connection(where, timeout=5) for _ in range(300)]
    for number, connection in enumerate(silent):
        if number % 3:  # some begin, and some begin a call
            call = _call(1)[0] if number % 3 == begun else b""
            connection.sendall(PREFACE + SETTINGS + call)
    try:
        started = time.monotonic()
        for _ in range(50):
            assert stub.GetOnlineFeatures(good, timeout=5).features
        assert time.monotonic() - started < 5
    finally:
        for connection in silent:
            connection.close()


def test_clients_that_read_slowly_hold_nobody_up(
    serve: Serve, store: OnlineStore, dial: Dial
) -> None:
    # They ask for as much as they may, and take nothing of it.
    address = serve(shop.catalog(), store)
    where = ("127.0.0.1", int(address.rpartition(":")[2]))
    stub = ServingServiceStub(dial(address))
    good = lookup("checkout", user_id=ONE)
    stub.GetOnlineFeatures(good, timeout=20)
    calls = b"".join(frame for stream in range(1, 11, 2) for frame in _call(stream))
    slow = [socket.create_connection(where, timeout=5) for _ in range(20)]
    for connection in slow:
        no_window = struct.pack(">HI", 4, 0)
        connection.sendall(PREFACE + _frame(4, 0, 0, no_window) + calls)
    time.sleep(0.3)  # all of them are answered, as far as the server can
    try:
        started = time.monotonic()
        for _ in range(50):
            assert stub.GetOnlineFeatures(good, timeout=5).features
        assert time.monotonic() - started < 10
    finally:
        for connection in slow:
            connection.close()

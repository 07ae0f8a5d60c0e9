"""A TCP proxy that fails on demand: what a network does to connections, on loopback."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto

_CHUNK = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Fault(Enum):
    """What happens to bytes on their way."""

    NONE = auto()
    SILENCE = auto()
    """Nothing arrives, in either direction; connections are taken all the same."""
    NO_REPLIES = auto()
    """Requests arrive, replies do not."""
    RESET = auto()
    """Connections are reset, also new ones."""


class Proxy:
    """Sends on what it gets, with the latency and the fault of the moment.

    Attributes:
        port: Where it listens, on loopback.
        target: The port that it sends to.
        fault: What goes wrong now.
        latency_s: How long each piece takes, one way.
        replies_left: Bytes of replies until connections are reset; None for no end.
    """

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.fault = Fault.NONE
        self.latency_s = 0.0
        self.replies_left: int | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                return
            with self._lock:
                self._open |= {client, server}
            self._start(self._send_requests, client, server)
            self._start(self._send_replies, server, client)

    def _send_requests(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            for data in self._received(client):
                if self.fault is not Fault.SILENCE:
                    server.sendall(data)
        self._close(client, server)

    def _send_replies(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            for data in self._received(server):
                if self.fault is Fault.NONE:
                    client.sendall(self._left_of(data))
                    if self.replies_left == 0:
                        break
        self._close(server, client)

    def _received(self, source: socket.socket) -> Iterator[bytes]:
        while data := source.recv(_CHUNK):
            if self.latency_s:
                time.sleep(self.latency_s)
            if self.fault is Fault.RESET:
                return
            yield data

    def _left_of(self, reply: bytes) -> bytes:
        """What of a reply is sent on before connections are reset."""
        if self.replies_left is None:
            return reply
        reply = reply[: self.replies_left]
        self.replies_left -= len(reply)
        return reply

    def _close(self, *sockets: socket.socket) -> None:
        with self._lock:
            mine = [each for each in sockets if each in self._open]
            self._open -= set(mine)
        for each in mine:
            with suppress(OSError):
                if self.fault is Fault.RESET or self.replies_left is not None:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    each.shutdown(socket.SHUT_RD)  # sends nothing, and wakes the thread that reads
                else:
                    each.shutdown(socket.SHUT_RDWR)
            each.close()

    def reset_all(self) -> None:
        """Reset all connections that there are; new ones are as `fault` says."""
        with self._lock:
            there = list(self._open)
        for each in there:
            with suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End all connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.reset_all()
        for thread in self._threads:
            thread.join(timeout=10)
        assert not any(thread.is_alive() for thread in self._threads), "a thread waits for ever"


@contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    made = Proxy(port)
    try:
        yield made
    finally:
        made.close()

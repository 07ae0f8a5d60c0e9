"""Connections to one Redis server: a pool, and the short way for reads."""

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

from redis import exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.connection import Connection, ConnectionPool
from redis.exceptions import NoScriptError

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.redis_address import Server
from featurestore.online.redis_errors import TooFewReplicasError, is_passing, store_error, tellable
from featurestore.online.redis_replies import ReplyShape

__all__ = ["Channel", "Command", "Connections", "NoScriptError", "received_all"]

_LEAST_S: Final = 0.001
_CONNECTING_AT_ONCE: Final = 8
"""Connections begun at the same time on behalf of callers with a deadline."""

Command = Sequence[str | bytes | int]


class Channel:
    """A connection for the time that one thread has it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._ahead = b""
        self._unheeded = 0

    def send_ahead(self, command: bytes) -> None:
        """Have a command go out in one piece with the next one, in front of it.

        Its reply is not returned; if it is an error, the next `receive` raises it.
        """
        self._ahead += command
        self._unheeded += 1

    def send(self, *command: str | bytes | int) -> None:
        """Send a command without waiting for its reply."""
        self._send(self._connection.pack_command(*command))  # type: ignore[no-untyped-call]

    def send_packed(self, commands: bytes) -> None:
        """Send commands that are bytes already, without waiting for their replies."""
        self._send([commands])

    def _send(self, parts: Sequence[bytes]) -> None:
        if self._ahead:
            parts, self._ahead = [b"".join([self._ahead, *parts])], b""
        self._connection.send_packed_command(parts)  # type: ignore[no-untyped-call]

    def receive(self) -> Any:
        """Return the next reply; an error reply is raised, and those behind it stay readable."""
        while self._unheeded:
            self._unheeded -= 1
            self._connection.read_response(disconnect_on_error=False)
        return self._connection.read_response(disconnect_on_error=False)

    def call(self, *command: str | bytes | int) -> Any:
        """Send a command and return its reply."""
        self.send(*command)
        return self.receive()

    def wait(self, replicas: int, timeout_ms: int) -> None:
        """Wait until so many replicas have what this connection wrote.

        Raises:
            TooFewReplicasError: They had it not when the time was over.
        """
        if replicas and (found := self.call("WAIT", replicas, timeout_ms)) < replicas:
            raise TooFewReplicasError(found, replicas)


class Connections:
    """A pool of connections to one server. Threads share it; each takes a connection of its own.

    Args:
        server: The server.
    """

    def __init__(self, server: Server) -> None:
        self.address = server.address
        self._timeout_ms = server.timeout_ms
        self._moves = server.moves
        self._is_closed = False
        self._connecting = threading.BoundedSemaphore(_CONNECTING_AT_ONCE)
        self._idle: list[Connection] = []
        self._idle_of = os.getpid()
        self._pool = ConnectionPool(**server.options)

    @contextlib.contextmanager
    def channel(self) -> Iterator[Channel]:
        """Lend a connection. After an error it is closed, as replies may still be on their way."""
        if self._is_closed:
            raise StoreError("The online store is closed.")
        with self._errors():
            connection = self._pool.get_connection()
            is_clean = False
            try:
                yield Channel(connection)
                is_clean = True
            finally:
                self.give_back(connection, is_clean=is_clean)

    def take(self, until: float | None = None) -> Connection:
        """Return a connection, which has to be given back.

        Args:
            until: When to stop waiting for it, by the monotonic clock.

        Raises:
            RedisError, OSError: The client's own; there is no connection.
        """
        if self._is_closed:
            raise StoreError("The online store is closed.")
        return self._pool.get_connection() if until is None else self._taken(until)

    def _taken(self, until: float) -> Connection:
        """Connect in a thread: a connection, once begun, has times of its own.

        One that comes too late is of use to the next caller.
        """
        left_s = until - time.monotonic()
        if not self._connecting.acquire(timeout=max(left_s, _LEAST_S)):
            raise exceptions.TimeoutError("Timeout connecting to server")
        attempt = _Attempt(self._pool, self._connecting)
        attempt.start()
        return attempt.result(until)

    def give_back(self, connection: Connection, *, is_clean: bool) -> None:
        """Take a connection back; it is closed if replies may still be on their way."""
        if not is_clean:
            connection.disconnect()  # type: ignore[no-untyped-call]
        self._pool.release(connection)

    def call(self, *command: str | bytes | int, until: float | None = None) -> Any:
        """Send one command and return its reply, which may take until `until`."""
        if until is None:
            with self.channel() as channel:
                return channel.call(*command)
        with self._errors():
            connection, is_clean = self.take(until), False
            try:
                connection.send_command(*command)  # type: ignore[no-untyped-call]
                reply = _next_reply(connection, until)
                is_clean = True
            finally:
                self.give_back(connection, is_clean=is_clean)
            return reply

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one round trip and return their replies."""
        with self.channel() as channel:
            for command in commands:
                channel.send(*command)
            return [channel.receive() for _ in commands]

    def read_all(
        self,
        packed: bytes,
        replies: int,
        shape: ReplyShape | None = None,
        *,
        until: float | None = None,
    ) -> list[Any] | bytearray:
        """Send commands that change nothing, packed for the wire, and return their replies.

        Where `shape` is what the one reply looks like, that reply comes back as it was read. They
        have the time that the connections have, and end at `until` by the monotonic clock.

        A connection stays at hand for the next read instead of going back to the pool, whose
        bookkeeping and look at the socket cost as much as the reply of a small read. So one may be
        used that the server closed meanwhile: then, and only then, the commands are sent again.
        """
        if self._is_closed:
            raise StoreError("The online store is closed.")
        try:
            connection = self._idle_connection()
            try:
                first = connection or self.take(until)
                return self._read(first, packed, replies, shape, until)
            except exceptions.ConnectionError as error:
                # Its subclasses are answers of the server.
                if connection is None or type(error) is not exceptions.ConnectionError:
                    raise
                return self._read(self.take(until), packed, replies, shape, until)
        except exceptions.TimeoutError as error:
            if until is not None and time.monotonic() >= until:
                # The caller's time is over, which says nothing about the server.
                raise StoreUnavailableError(
                    f"Redis at {self.address} did not answer before the caller's deadline."
                ) from None
            self._raise_error(error)
        except (exceptions.RedisError, OSError) as error:
            self._raise_error(error)

    def _idle_connection(self) -> Connection | None:
        if self._idle_of != os.getpid():  # a fork's child must not share sockets with its parent
            self._idle, self._idle_of = [], os.getpid()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _read(
        self,
        connection: Connection,
        packed: bytes,
        replies: int,
        shape: ReplyShape | None,
        until: float | None,
    ) -> list[Any] | bytearray:
        try:
            connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
            if until is not None:
                until = min(until, time.monotonic() + self._timeout_ms / 1e3)
            found: list[Any] | bytearray | None = None
            if shape:
                found = _received(connection, shape, until)
            if found is None:
                found = [_next_reply(connection, until) for _ in range(replies)]
            if until is not None and shape:
                self._restore_time(connection)
        except BaseException:
            connection.disconnect()  # type: ignore[no-untyped-call]
            self._pool.release(connection)
            raise
        self._idle.append(connection)
        return found

    @staticmethod
    def _restore_time(connection: Any) -> None:
        connection._sock.settimeout(connection.socket_timeout)  # noqa: SLF001

    def drop_idle(self) -> None:
        """Close the connections that nobody uses; the next ones are made anew."""
        while connection := self._idle_connection():
            self.give_back(connection, is_clean=False)
        self._pool.disconnect(inuse_connections=False)

    def close(self) -> None:
        """Close all connections; twice is fine."""
        self._is_closed = True
        self._pool.disconnect()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (exceptions.RedisError, OSError) as error:
            self._raise_error(error)

    def _raise_error(self, error: Exception) -> NoReturn:
        if self._moves and is_passing(error):
            self.drop_idle()
        server = f"Redis at {self.address}"
        failure = store_error(error, server=server, timeout_ms=self._timeout_ms)
        raise failure from tellable(error)


class _Attempt(threading.Thread):
    """Takes a connection from a pool, for a caller who may have gone by then."""

    def __init__(self, pool: ConnectionPool, connecting: threading.Semaphore) -> None:
        super().__init__(name="redis-connect", daemon=True)
        self._pool = pool
        self._connecting = connecting
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._is_wanted = True
        self._connection: Connection | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            connection = self._pool.get_connection()
            with self._lock:
                if self._is_wanted:
                    self._connection = connection
                    return
            self._pool.release(connection)
        except Exception as error:  # noqa: BLE001 - whoever waits raises it
            self._error = error
        finally:
            self._is_over.set()
            self._connecting.release()

    def result(self, until: float) -> Connection:
        """Return the connection.

        Raises:
            RedisError, OSError: There is none, or not in time.
        """
        self._is_over.wait(max(until - time.monotonic(), _LEAST_S))
        with self._lock:
            self._is_wanted = False
        if self._connection is not None:
            return self._connection
        raise self._error or exceptions.TimeoutError("Timeout connecting to server")


def _next_reply(connection: Any, until: float | None) -> Any:
    if until is None:
        return connection.read_response(disconnect_on_error=False)
    left_s = max(until - time.monotonic(), _LEAST_S)
    return connection.read_response(disconnect_on_error=False, timeout=left_s)


def _received(connection: Any, shape: ReplyShape, until: float | None) -> bytearray | None:
    """Return the next reply if it is of this shape; else leave it to the client's parser."""
    # Private, but there is no other way past the parser; redis-py is held below its next major.
    sock, reader = connection._sock, connection._parser._reader  # noqa: SLF001
    if reader.has_data():
        return None
    reply = bytearray(shape.size)
    view = memoryview(reply)
    size = 0
    while size < shape.size:
        try:
            if until is not None:
                sock.settimeout(max(until - time.monotonic(), _LEAST_S))
            more = sock.recv_into(view[size:])
        except TimeoutError as error:
            raise exceptions.TimeoutError("Timeout reading from socket") from error
        if not more:
            raise exceptions.ConnectionError("Connection closed by server.")
        if not shape.fits(reply, size, size + more):
            reader.feed(reply, 0, size + more)
            return None
        size += more
    return reply


def received_all(connection: Any, count: int, until: float | None) -> list[Any]:
    """Return the next replies, an error reply as an exception.

    Args:
        connection: Where they come from.
        count: How many to wait for.
        until: When to stop waiting, by the monotonic clock; None for the connection's own time.
    """
    # Private, as above: the way through the client costs three times what a small reply does.
    parser = connection._parser  # noqa: SLF001
    next_reply = parser._reader.gets  # noqa: SLF001
    found: list[Any] = []
    while len(found) < count:
        reply = next_reply()
        if reply is not NOT_ENOUGH_DATA:
            found.append(reply)
        elif until is None:
            parser.read_from_socket()
        else:
            parser.read_from_socket(timeout=max(until - time.monotonic(), _LEAST_S))
    return found

"""Connections to Redis: from a URL to a pool, and from the client's errors to ours."""

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from featurestore.errors import ConfigError, MissingExtraError, StoreError, StoreUnavailableError
from featurestore.online.redis_replies import ReplyShape

try:
    from redis import exceptions
    from redis.backoff import NoBackoff
    from redis.connection import Connection, ConnectionPool, UnixDomainSocketConnection, parse_url
    from redis.exceptions import NoScriptError
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtraError(
        package="redis", extra="redis", purpose="The Redis online store"
    ) from error

__all__ = ["PERMISSIONS", "Channel", "Command", "Connections", "NoScriptError"]

MAX_CONNECTIONS: Final = 256
_READ_BUFFER_BYTES: Final = 1 << 18
_MAX_SHOWN_REPLY: Final = 200

PERMISSIONS: Final = (
    "~* +evalsha +script|load +getrange +set +mget +scan +unlink +hset +hvals +info +time"
)
"""What a user of the server has to be allowed."""

_URL_FORMS: Final = "redis://host:6379/0, rediss://host:6379/0 (TLS) or unix:///path/to/socket?db=0"
_ERROR_CODE: Final = re.compile(r"(?:^|-)([A-Z]{3,})(?: |$)")

_TRY_AGAIN: Final = {
    "LOADING": "is loading its data",
    "BUSY": "is busy running a script",
    "TRYAGAIN": "is moving this key to another node",
    "CLUSTERDOWN": "says that its cluster is down",
    "MASTERDOWN": "has lost its primary",
    "NOREPLICAS": "has too few replicas to take writes",
    "READONLY": "is a replica and takes no writes",
}
_REFUSED: Final = {
    "OOM": ("is full", "raise maxmemory, or materialize fewer features; reads still work"),
    "MISCONF": ("takes no writes, because it cannot save its data", "look at the server's disk"),
    "NOAUTH": ("wants a password", "put user and password into the URL"),
    "WRONGPASS": ("refuses the user or password", "check user and password in the URL"),
    "NOPERM": ("does not permit this user what is needed", f"grant it: ACL {PERMISSIONS}"),
    "MOVED": ("is a node of a Redis Cluster", "use a standalone Redis or Valkey server"),
    "CROSSSLOT": ("is a Redis Cluster", "use a standalone Redis or Valkey server"),
    "WRONGTYPE": ("holds another kind of value under one of our keys", "use a database of its own"),
}


Command = Sequence[str | bytes | int]


class Channel:
    """A connection for the time that one thread has it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def send(self, *command: str | bytes | int) -> None:
        """Send a command without waiting for its reply."""
        self._connection.send_command(*command)  # type: ignore[no-untyped-call]

    def send_packed(self, commands: bytes) -> None:
        """Send commands that are bytes already, without waiting for their replies."""
        self._connection.send_packed_command([commands])  # type: ignore[no-untyped-call]

    def receive(self) -> Any:
        """Return the next reply; an error reply is raised, and those behind it stay readable."""
        return self._connection.read_response(disconnect_on_error=False)

    def call(self, *command: str | bytes | int) -> Any:
        """Send a command and return its reply."""
        self.send(*command)
        return self.receive()


class Connections:
    """A pool of connections to one server. Threads share it; each takes a connection of its own.

    Args:
        url: `redis://`, `rediss://` or `unix://`. No message ever shows it: it may hold a password.
        timeout_ms: How long to wait for each reply.
        connect_timeout_ms: How long to wait for a connection.

    Raises:
        ConfigError: The URL cannot be used.
    """

    def __init__(self, url: str, *, timeout_ms: int, connect_timeout_ms: int) -> None:
        options = _options(url)
        self.address = _address(options)
        self._timeout_ms = timeout_ms
        self._is_closed = False
        self._idle: list[Connection] = []
        self._idle_of = os.getpid()
        fixed: dict[str, Any] = {
            "protocol": 3,
            "decode_responses": False,
            "socket_timeout": timeout_ms / 1000,
            "socket_connect_timeout": connect_timeout_ms / 1000,
            "socket_read_size": _READ_BUFFER_BYTES,
            "max_connections": MAX_CONNECTIONS,
            # Who calls decides whether to try again; a hidden retry would outlive the deadline.
            "retry": Retry(NoBackoff(), 0),
        }
        try:
            self._pool = ConnectionPool(**(options | fixed))
            self._pool.make_connection()  # only here an unknown option is found
        except (TypeError, ValueError, exceptions.RedisError):
            raise ConfigError(
                "The Redis URL has an option that the client does not know.",
                hint=f"write {_URL_FORMS}",
            ) from None

    @contextlib.contextmanager
    def channel(self) -> Iterator[Channel]:
        """Lend a connection. After an error it is closed, as replies may still be on their way."""
        if self._is_closed:
            raise StoreError("The online store is closed.")
        with self._errors():
            connection = self._pool.get_connection()
            try:
                yield Channel(connection)
            except BaseException:
                connection.disconnect()  # type: ignore[no-untyped-call]
                raise
            finally:
                self._pool.release(connection)

    def call(self, *command: str | bytes | int) -> Any:
        """Send one command and return its reply."""
        with self.channel() as channel:
            return channel.call(*command)

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one round trip and return their replies."""
        with self.channel() as channel:
            for command in commands:
                channel.send(*command)
            return [channel.receive() for _ in commands]

    def read_all(
        self, packed: bytes, replies: int, shape: ReplyShape | None = None
    ) -> list[Any] | bytearray:
        """Send commands that change nothing, packed for the wire, and return their replies.

        Where `shape` is what the one reply looks like, that reply comes back as it was read.

        A connection stays at hand for the next read instead of going back to the pool, whose
        bookkeeping and look at the socket cost as much as the reply of a small read. So one may be
        used that the server closed meanwhile: then, and only then, the commands are sent again.
        """
        if self._is_closed:
            raise StoreError("The online store is closed.")
        try:
            connection = self._idle_connection()
            try:
                return self._read(connection or self._pool.get_connection(), packed, replies, shape)
            except exceptions.ConnectionError as error:
                # Its subclasses are answers of the server.
                if connection is None or type(error) is not exceptions.ConnectionError:
                    raise
                return self._read(self._pool.get_connection(), packed, replies, shape)
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
        self, connection: Connection, packed: bytes, replies: int, shape: ReplyShape | None
    ) -> list[Any] | bytearray:
        try:
            connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
            reply = _received(connection, shape) if shape else None
            found = reply or [
                connection.read_response(disconnect_on_error=False) for _ in range(replies)
            ]
        except BaseException:
            connection.disconnect()  # type: ignore[no-untyped-call]
            self._pool.release(connection)
            raise
        self._idle.append(connection)
        return found

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
        if isinstance(error, exceptions.TimeoutError):
            raise StoreUnavailableError(
                f"Redis at {self.address} did not answer within {self._timeout_ms} ms.",
                hint="try again; or raise online_store.timeout_ms",
            ) from error
        server, code = f"Redis at {self.address}", _code(error)
        if code in _TRY_AGAIN:
            raise StoreUnavailableError(
                f"{server} {_TRY_AGAIN[code]}.", hint="try again"
            ) from error
        if code in _REFUSED:
            what, hint = _REFUSED[code]
            raise StoreError(f"{server} {what}.", hint=hint) from error
        if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
            what, hint = _REFUSED["WRONGPASS"]
            raise StoreError(f"{server} {what}.", hint=hint) from error
        text = str(error)[:_MAX_SHOWN_REPLY]
        if isinstance(error, exceptions.ConnectionError | OSError):
            hint = "check that the server runs, and online_store.url"
            raise StoreUnavailableError(f"{server} cannot be reached: {text}", hint=hint) from error
        raise StoreError(f"{server} answered: {text}", hint="run 'featurestore doctor'") from error


def _received(connection: Any, shape: ReplyShape) -> bytearray | None:
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


def _code(error: Exception) -> str:
    """Return the code of a server's error, also of one that passed through a script."""
    if (code := getattr(error, "status_code", None)) in _TRY_AGAIN | _REFUSED.keys():
        return str(code)
    if not isinstance(error, exceptions.ResponseError):
        return ""
    found: list[str] = _ERROR_CODE.findall(str(error))
    return found[-1] if found else ""


def _options(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        place = parts.path.strip("/")
        # The client takes "/x" for database 0, and a socket without a path for one called "".
        is_usable = bool(place) if parts.scheme == "unix" else not place or place.isdecimal()
    except ValueError:
        is_usable, options = False, {}
    if not is_usable:
        # The client's own message may quote parts of the URL.
        raise ConfigError("The Redis URL cannot be read.", hint=f"write {_URL_FORMS}")
    return options


def _address(options: dict[str, Any]) -> str:
    if options.get("connection_class") is UnixDomainSocketConnection:
        return f"unix://{options['path']}"
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return f"{host}:{port}/{options.get('db', 0)}"

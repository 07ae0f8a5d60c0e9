"""The primary that Sentinels name: every new connection asks them, so that none goes to an old one.

A failover ends the connections to the former primary. Should that one come back, as a primary with
old rows until it learns better, nobody connects to it: the Sentinels name another by then.
"""

import time
from typing import Any, Final

from redis import exceptions
from redis.connection import Connection, SSLConnection

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.redis_address import Address, Server
from featurestore.online.redis_connection import Connections

_MIN_WAIT_S: Final = 0.05


class Sentinels:
    """Those who know which server is the primary.

    Args:
        address: Where they are, and what they call the primary.
    """

    def __init__(self, address: Address) -> None:
        self.name = address.primary
        self._wait_s = address.options["connect_timeout_ms"] / 1000
        self._servers = [Connections(_sentinel(server, address)) for server in address.servers]

    def primary(self) -> tuple[str, int]:
        """Return host and port of the primary.

        Takes `connect_timeout_ms` at most, and the part of it that one Sentinel may take.

        Raises:
            StoreError: They know no primary of this name, or refuse our user.
            StoreUnavailableError: None of them answers.
        """
        failure: StoreError | None = None
        give_up = time.monotonic() + self._wait_s
        for server in list(self._servers):
            try:
                found = server.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
            except StoreUnavailableError as error:
                failure = error
                if time.monotonic() > give_up:
                    break
                continue
            # The one that answered is asked first the next time.
            self._servers = [server, *(other for other in self._servers if other is not server)]
            if found is None:
                raise StoreError(
                    f"The Sentinel at {server.address} knows no primary {self.name!r}.",
                    hint="online_store.url ends with the name: redis+sentinel://host:26379/name",
                )
            return found[0].decode(), int(found[1])
        raise StoreUnavailableError(
            f"No Sentinel of {self.name!r} answers: {failure.message if failure else ''}",
            hint="try again; or check the addresses in online_store.url",
        ) from failure

    def states(self) -> list[tuple[str, str]]:
        """Return the address of each Sentinel, and what keeps it from helping, or ""."""
        return [(server.address, self._state(server)) for server in self._servers]

    def _state(self, server: Connections) -> str:
        try:
            found = server.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        except StoreError as error:
            return error.message
        return "" if found else f"knows no primary {self.name!r}"

    def close(self) -> None:
        """Close all connections; twice is fine."""
        for server in self._servers:
            server.close()


def _sentinel(server: Server, address: Address) -> Server:
    options, given = dict(server.options), address.options
    share_s = given["connect_timeout_ms"] / 1000 / len(address.servers)
    options |= {
        "db": 0,
        "username": given.get("sentinel_username"),
        "password": given.get("sentinel_password"),
        "socket_timeout": max(share_s, _MIN_WAIT_S),
        "socket_connect_timeout": max(share_s, _MIN_WAIT_S),
    }
    shown = server.address.rpartition("/")[0]
    return Server(address=shown, options=options, timeout_ms=int(share_s * 1000))


def primary_server(address: Address, sentinels: Sentinels) -> Server:
    """Return the primary as a server whose every connection finds out where it is."""
    template = address.servers[0]
    is_tls = template.options.get("connection_class") is SSLConnection
    options = template.options | {
        "connection_class": _TlsPrimaryConnection if is_tls else _PrimaryConnection,
        "sentinels": sentinels,
    }
    return Server(
        address=f"Sentinel's {sentinels.name!r}", options=options, timeout_ms=template.timeout_ms
    )


class _PrimaryConnection(Connection):
    """A connection to whichever server is the primary when it is made."""

    def __init__(self, *, sentinels: Sentinels, **options: Any) -> None:
        self._sentinels = sentinels
        super().__init__(**options)  # type: ignore[no-untyped-call]

    def _connect(self) -> Any:
        self.host, self.port = self._sentinels.primary()
        return super()._connect()  # type: ignore[no-untyped-call]

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the client's
        super().on_connect_check_health(check_health)
        said: Any = self.handshake_metadata or {}
        if said.get(b"role") != b"master":
            message = f"{self.host}:{self.port} is no primary yet, or none any more"
            raise exceptions.ConnectionError(message)


class _TlsPrimaryConnection(_PrimaryConnection, SSLConnection):
    """The same through TLS."""

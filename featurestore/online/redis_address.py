"""Where Redis is: from a URL and options to servers, and to what the client needs for each.

Three forms, each with `rediss` in place of `redis` for TLS:

    redis://user:password@host:6379/0                       one server; also unix:///path?db=0
    redis+sentinel://user:password@host:26379,host/name/0   the primary that these Sentinels name
    redis+cluster://user:password@host:6379,host:6379       a cluster, found through any of these
"""

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypedDict
from urllib.parse import SplitResult, urlsplit

from featurestore.errors import ConfigError, MissingExtraError, shown

try:
    from redis import exceptions
    from redis.backoff import NoBackoff
    from redis.connection import Connection, UnixDomainSocketConnection, parse_url
    from redis.maint_notifications import MaintNotificationsConfig
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtraError(
        package="redis", extra="redis", purpose="The Redis online store"
    ) from error

MAX_CONNECTIONS: Final = 256
MAX_NODES: Final = 100
SENTINEL_PORT: Final = 26_379
_READ_BUFFER_BYTES: Final = 1 << 18
_URL_FORMS: Final = (
    "redis://host:6379/0, rediss://host:6379/0 (TLS), unix:///path/to/socket?db=0,"
    " redis+sentinel://host:26379,host:26379/name or redis+cluster://host:6379,host:6379"
)
_SCHEMES: Final = ("redis", "rediss", "unix")
_URL: Final = re.compile(
    r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*)://(?P<netloc>[^/?#]*)(?P<path>[^?#]*)"
    r"(\?(?P<query>[^#]*))?(#(?P<fragment>.*))?"
)

Kind = Literal["server", "sentinel", "cluster"]


class RedisOptions(TypedDict, total=False):
    """How to reach Redis, besides the URL.

    Attributes:
        timeout_ms: How long to wait for each reply (2,000).
        connect_timeout_ms: How long to wait for a connection (1,000).
        failover_timeout_ms: How long a write waits for a primary that takes it, behind Sentinel
            and on a cluster (30,000). Reads do not wait.
        username: The user; wins over the URL's.
        password: Its password; wins over the URL's.
        sentinel_username: The user for the Sentinels themselves.
        sentinel_password: Its password.
        tls_ca: File of the certificates to trust; the system's without it.
        tls_certificate: File of our own certificate, where the server asks for one.
        tls_key: File of its key, where that is a file of its own.
        tls_verify: Whether the server's certificate and name are checked (yes).
        wait_replicas: How many replicas have to have a write before it counts as done (0).
        wait_timeout_ms: How long to wait for them (1,000); below `timeout_ms`.
    """

    timeout_ms: int
    connect_timeout_ms: int
    failover_timeout_ms: int
    username: str | None
    password: str | None
    sentinel_username: str | None
    sentinel_password: str | None
    tls_ca: str | Path | None
    tls_certificate: str | Path | None
    tls_key: str | Path | None
    tls_verify: bool
    wait_replicas: int
    wait_timeout_ms: int


DEFAULTS: Final[RedisOptions] = {
    "timeout_ms": 2_000,
    "connect_timeout_ms": 1_000,
    "failover_timeout_ms": 30_000,
    "tls_verify": True,
    "wait_replicas": 0,
    "wait_timeout_ms": 1_000,
}


@dataclass(frozen=True, kw_only=True)
class Server:
    """One server.

    Attributes:
        address: What it is called in messages; no user, no password.
        options: Arguments of the client's connection pool.
        timeout_ms: How long to wait for each reply.
        moves: Whether another server may take its place: connections that nobody uses are closed
            when one of them fails, as each would have to fail by itself.
    """

    address: str
    options: dict[str, Any]
    timeout_ms: int
    moves: bool = False

    def at(self, host: str, port: int) -> "Server":
        """Return another server that is reached in the same way."""
        options = self.options | {"host": host, "port": port}
        return Server(address=f"{host}:{port}", options=options, timeout_ms=self.timeout_ms)


@dataclass(frozen=True, kw_only=True)
class Address:
    """What a URL and options say.

    Attributes:
        kind: Which of the three forms the URL has.
        servers: The servers that it names; one if the kind is "server".
        primary: What the Sentinels call the primary, else "".
        options: All options.
    """

    kind: Kind
    servers: tuple[Server, ...]
    primary: str
    options: RedisOptions


def read_address(url: str, given: RedisOptions) -> Address:
    """Return where a store is, and how to reach it.

    Raises:
        ConfigError: The URL has none of the forms, or the options do not go together. No message
            shows the URL, which may hold a password.
    """
    options = DEFAULTS | given
    if options["wait_replicas"] and options["wait_timeout_ms"] >= options["timeout_ms"]:
        raise ConfigError("online_store.wait_timeout_ms has to be less than timeout_ms.")
    parts = _split(url)
    scheme, _, kind = parts.scheme.partition("+")
    if kind == "cluster":
        hosts, primary = _hosts(parts), ""
        urls = [_part_of(parts, scheme, host, "") for host in hosts]
        if parts.path.strip("/"):
            raise ConfigError("A cluster has no numbered databases.", hint=f"write {_URL_FORMS}")
        servers = [_server(each, options) for each in urls]
        return Address(kind="cluster", servers=tuple(servers), primary=primary, options=options)
    if kind == "sentinel":
        primary, _, database = parts.path.strip("/").partition("/")
        if not primary:
            raise _unreadable()
        urls = [_part_of(parts, scheme, host, database) for host in _hosts(parts)]
        servers = [_server(each, options, port=SENTINEL_PORT) for each in urls]
        return Address(kind="sentinel", servers=tuple(servers), primary=primary, options=options)
    if kind:
        raise _unreadable()
    return Address(kind="server", servers=(_server(url, options),), primary="", options=options)


def _split(url: str) -> SplitResult:
    """Return the parts of a URL that may name several hosts.

    By its grammar (RFC 3986, appendix B) and not by `urlsplit`, which refuses, in Pythons that had
    a certain mend, an IPv6 address behind the name of another host.
    """
    found = _URL.fullmatch(url)
    if not found or found["scheme"].lower().partition("+")[0] not in _SCHEMES:
        raise _unreadable()
    path, query, fragment = found["path"], found["query"] or "", found["fragment"] or ""
    return SplitResult(found["scheme"].lower(), found["netloc"], path, query, fragment)


def _hosts(parts: SplitResult) -> list[str]:
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if not all(hosts) or len(hosts) > MAX_NODES:
        raise _unreadable()
    return hosts


def _part_of(parts: SplitResult, scheme: str, host: str, database: str) -> str:
    """Return the URL of one of several servers."""
    user, at, _ = parts.netloc.rpartition("@")
    place = parts._replace(scheme=scheme, netloc=f"{user}{at}{host}", path=f"/{database}")
    return place.geturl()


def _server(url: str, options: RedisOptions, *, port: int = 6_379) -> Server:
    parsed = _parsed(url)
    if "path" not in parsed:
        parsed = {"host": "localhost", "port": port} | parsed
    parsed |= {k: options[k] for k in ("username", "password") if options.get(k)}
    parsed |= _tls(options, is_tls=url.startswith("rediss:"))
    fixed: dict[str, Any] = {
        "protocol": 3,
        "decode_responses": False,
        "socket_timeout": options["timeout_ms"] / 1000,
        "socket_connect_timeout": options["connect_timeout_ms"] / 1000,
        "socket_read_size": _READ_BUFFER_BYTES,
        "max_connections": MAX_CONNECTIONS,
        # Who calls decides whether to try again; a hidden retry would outlive the deadline.
        "retry": Retry(NoBackoff(), 0),
        # Commands that nobody asked for, and that a user may not be permitted.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    made = Server(address=_shown(parsed), options=parsed | fixed, timeout_ms=options["timeout_ms"])
    _check(made)
    return made


def _parsed(url: str) -> dict[str, Any]:
    try:
        parts = urlsplit(url)
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
        place = parts.path.strip("/")
        # The client takes "/x" for database 0, and a socket without a path for one called "".
        is_usable = bool(place) if parts.scheme == "unix" else not place or place.isdecimal()
    except ValueError:
        is_usable, options = False, {}
    if not is_usable:
        raise _unreadable()
    return options


def _tls(options: RedisOptions, *, is_tls: bool) -> dict[str, Any]:
    files = {
        name: str(options[name])
        for name in ("tls_ca", "tls_certificate", "tls_key")
        if options.get(name)
    }
    if not is_tls:
        if files:
            raise ConfigError(
                f"online_store.{min(files)} is set, but the URL is not one for TLS.",
                hint="write rediss:// in place of redis://",
            )
        return {}
    if "tls_key" in files and "tls_certificate" not in files:
        raise ConfigError("online_store.tls_key is set, but tls_certificate is not.")
    _check_files(files)
    made: dict[str, Any] = {
        "ssl_ca_certs": files.get("tls_ca"),
        "ssl_certfile": files.get("tls_certificate"),
        "ssl_keyfile": files.get("tls_key"),
    }
    if not options["tls_verify"]:
        made |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return {name: value for name, value in made.items() if value is not None}


def _check_files(files: dict[str, str]) -> None:
    context = ssl.create_default_context()
    name = ""
    try:
        if path := files.get("tls_ca"):
            name = "tls_ca"
            context.load_verify_locations(path)
        if path := files.get("tls_certificate"):
            name = "tls_certificate"
            context.load_cert_chain(path, files.get("tls_key"))
    except OSError as error:  # those of ssl are among them
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"online_store.{name}: {shown(files[name])} cannot be used: {reason}.",
            hint="it has to be a PEM file; tls_key names the key of tls_certificate",
        ) from None


def _check(server: Server) -> None:
    """Refuse options in the URL that the client does not know."""
    options = {k: v for k, v in server.options.items() if k != "max_connections"}
    connection_class = options.pop("connection_class", Connection)
    try:
        connection_class(**options)
    except (TypeError, ValueError, exceptions.RedisError):
        raise ConfigError(
            "The Redis URL has an option that the client does not know.",
            hint=f"write {_URL_FORMS}",
        ) from None


def _unreadable() -> ConfigError:
    # The client's own message may quote parts of the URL.
    return ConfigError("The Redis URL cannot be read.", hint=f"write {_URL_FORMS}")


def _shown(options: dict[str, Any]) -> str:
    if options.get("connection_class") is UnixDomainSocketConnection:
        return f"unix://{options['path']}"
    return f"{options['host']}:{options['port']}/{options.get('db', 0)}"

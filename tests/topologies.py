"""Redis as it is run in production, on loopback: clusters, Sentinels, TLS.

Timeouts are short, so that a failover takes two seconds instead of twenty.
"""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import redis
from redis.connection import UnixDomainSocketConnection

from tests.certificates import Authority
from tests.servers import LocalRedis, free_port, local_binary, local_redis, valkey_binary

NODE_TIMEOUT_MS = 1_000
DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 2_000
SLOTS = 16_384
PATIENCE_S = 30.0
_BUS_PORT_DISTANCE = 10_000
_LAST_PORT = 65_535


def wait_until(condition: Callable[[], object], *, what: str) -> None:
    """Wait until a condition holds; errors of a server that changes its role count as "not yet"."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"{what}: not after {PATIENCE_S} s"
        time.sleep(0.02)


def ask(server: LocalRedis, *command: str | bytes | int) -> Any:
    """Send one command to one server, past any cluster or Sentinel, and return its plain reply."""
    # To tell who asks, each connection would read the metadata of the client's package: that takes
    # longer than all the rest.
    made: Any = UnixDomainSocketConnection(  # type: ignore[abstract, no-untyped-call]
        path=str(server.socket), socket_timeout=10, driver_info=None
    )
    with closing_connection(made) as connection:
        connection.send_command(*command)
        return connection.read_response()


@contextmanager
def closing_connection(connection: Any) -> Iterator[Any]:
    try:
        yield connection
    finally:
        connection.disconnect()


# --- Clusters ------------------------------------------------------------------------------------


@dataclass
class LocalCluster:
    """Nodes that we started.

    Attributes:
        nodes: All that were started, the first primaries before their replicas.
        options: How to start a node again.
    """

    stack: ExitStack
    binary: Path
    options: Sequence[str]
    is_tls: bool = False
    announced: Sequence[int] = ()
    nodes: list[LocalRedis] = field(default_factory=list)
    tls_ports: list[int] = field(default_factory=list)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    @property
    def tls_url(self) -> str:
        return "rediss+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.tls_ports)

    def primary_of(self, slot: int) -> LocalRedis:
        """The node that has a slot, as the living ones say."""
        for node in self.living():
            for first, last, primary, *_ in ask(node, "CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    return next(n for n in self.nodes if n.port == primary[1])
        raise AssertionError(f"nobody has slot {slot}")

    def living(self) -> list[LocalRedis]:
        return [node for node in self.nodes if node.process.poll() is None]

    def start(self) -> LocalRedis:
        options = []
        if self.announced:
            options = ["--cluster-announce-port", str(self.announced[len(self.nodes)])]
        if self.is_tls:
            # Nodes tell clients of each other's TLS ports only if they use these themselves.
            self.tls_ports.append(_cluster_port())
            options = ["--tls-port", str(self.tls_ports[-1]), "--tls-cluster", "yes"]
        node = self._started(_cluster_port(), None, *options)
        self.nodes.append(node)
        return node

    def restart(self, node: LocalRedis) -> None:
        """Start a node that was ended again: at its place, with what it knows of the others."""
        self.nodes[self.nodes.index(node)] = self._started(node.port, node.socket.parent)

    def _started(self, port: int, folder: Path | None, *more: str) -> LocalRedis:
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
        options += ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]
        # A replica counts once it has an offset, which in an empty server the first ping brings.
        options += ["--repl-ping-replica-period", "1"]
        options += [*self.options, *more]
        return self.stack.enter_context(
            local_redis(self.binary, *options, port=port, folder=folder)
        )

    def meet(self, nodes: Sequence[LocalRedis]) -> None:
        """Make nodes members."""
        ports = dict(zip(map(id, self.nodes), self.tls_ports, strict=False))
        for node in nodes:
            port = ports.get(id(node), node.port)
            ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", port)
        wait_until(self._all_know_each_other, what="all nodes know each other")

    def _all_know_each_other(self) -> bool:
        living = self.living()
        said = [ask(node, "CLUSTER", "NODES").decode().splitlines() for node in living]
        return all(sum("handshake" not in line for line in x) == len(living) for x in said)

    def follow(self, replica: LocalRedis, primary: LocalRedis) -> None:
        """Make a node the replica of another, and wait until it has all data."""
        name = ask(primary, "CLUSTER", "MYID")
        wait_until(lambda: ask(replica, "CLUSTER", "REPLICATE", name), what="it has a primary")
        wait_until(lambda: is_in_sync(replica), what="the replica is in sync")

    def wait_until_well(self) -> None:
        """Wait until all nodes say so, and each knows of each as a primary or a replica."""
        wait_until(lambda: all(map(self._is_ok, self.living())), what="the cluster is well")

    def _is_ok(self, node: LocalRedis) -> bool:
        ranges = ask(node, "CLUSTER", "SLOTS")
        known = {other[1] for _, _, *others in ranges for other in others}
        is_known = len(known) == len(self.living())
        return is_known and b"cluster_state:ok" in ask(node, "CLUSTER", "INFO")


def is_in_sync(replica: LocalRedis) -> bool:
    return b"master_link_status:up" in ask(replica, "INFO", "replication")


def _cluster_port() -> int:
    """A port that is free, as is the one by which nodes of a cluster talk with each other."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            if port + _BUS_PORT_DISTANCE > _LAST_PORT:
                continue
            try:
                second.bind(("127.0.0.1", port + _BUS_PORT_DISTANCE))
            except OSError:
                continue
            return port


@contextmanager
def local_cluster(
    *options: str,
    primaries: int = 3,
    replicas: int = 0,
    binary: Path | None = None,
    tls: bool = False,
    announced: Sequence[int] = (),
) -> Iterator[LocalCluster]:
    """Start a cluster; each primary has as many replicas.

    Args:
        options: Those of redis.conf, as arguments of every node.
        primaries: How many primaries share the slots.
        replicas: How many replicas each of them has.
        binary: The server; without it the one on the PATH.
        tls: Whether each node takes TLS connections at a port of its own.
        announced: Where the nodes send clients to, if not to themselves.
    """
    with ExitStack() as stack:
        cluster = LocalCluster(stack, binary or local_binary(), options, tls, announced)
        for number in range(primaries * (1 + replicas)):
            node = cluster.start()
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < primaries:
                first, last = (SLOTS * n // primaries for n in (number, number + 1))
                ask(node, "CLUSTER", "ADDSLOTS", *range(first, last))
        cluster.meet(cluster.nodes[1:])
        for number, replica in enumerate(cluster.nodes[primaries:]):
            cluster.follow(replica, cluster.nodes[number % primaries])
        cluster.wait_until_well()
        yield cluster


# --- Sentinels -----------------------------------------------------------------------------------

PRIMARY_NAME = "features"


@dataclass
class LocalSentinels:
    """A primary, its replicas, and the Sentinels that watch them; we started them all.

    Attributes:
        is_tls: Whether they talk through TLS.
        servers: The first primary and its replicas.
        sentinels: Those who watch.
        ports: Where each server and each Sentinel takes connections, by its plain port.
    """

    stack: ExitStack
    binary: Path
    options: Sequence[str]
    is_tls: bool = False
    servers: list[LocalRedis] = field(default_factory=list)
    sentinels: list[LocalRedis] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)

    @property
    def url(self) -> str:
        scheme = "rediss" if self.is_tls else "redis"
        hosts = ",".join(f"127.0.0.1:{self.ports[each.port]}" for each in self.sentinels)
        return f"{scheme}+sentinel://{hosts}/{PRIMARY_NAME}"

    def primary(self) -> LocalRedis:
        """The server that the Sentinels name."""
        _, port = ask(self.sentinels[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY_NAME)
        return next(server for server in self.servers if self.ports[server.port] == int(port))

    def start(self, *options: str) -> LocalRedis:
        own, port = self._own_options()
        server = self.stack.enter_context(local_redis(self.binary, *own, *options))
        self.servers.append(server)
        self.ports[server.port] = port or server.port
        return server

    def _own_options(self) -> tuple[list[str], int | None]:
        options = ["--repl-diskless-sync-delay", "0", *self.options]
        if not self.is_tls:
            return options, None
        port = free_port()
        return [*options, "--tls-port", str(port), "--tls-replication", "yes"], port

    def restart(self, server: LocalRedis, *options: str) -> None:
        """Start a server that was ended again, at its place."""
        started = local_redis(
            self.binary,
            *("--repl-diskless-sync-delay", "0", *self.options, *options),
            port=server.port,
            folder=server.socket.parent,
        )
        self.servers[self.servers.index(server)] = self.stack.enter_context(started)

    def watch(self) -> None:
        """Start a Sentinel."""
        watched = self.ports[self.servers[0].port]
        options = ["--sentinel", f"monitor {PRIMARY_NAME} 127.0.0.1 {watched} 2"]
        options += ["--sentinel", f"down-after-milliseconds {PRIMARY_NAME} {DOWN_AFTER_MS}"]
        options += ["--sentinel", f"failover-timeout {PRIMARY_NAME} {FAILOVER_TIMEOUT_MS}"]
        port = None
        if self.is_tls:
            own, port = self._own_options()
            options += own[2:]  # a Sentinel has no replicas of its own
        sentinel = self.stack.enter_context(_local_sentinel(self.binary, options))
        self.sentinels.append(sentinel)
        self.ports[sentinel.port] = port or sentinel.port

    def wait_until_well(self) -> None:
        """Wait until each Sentinel knows the others and all replicas, and all are in sync."""
        wait_until(self._are_well, what="Sentinels and replicas are well")

    def _are_well(self) -> bool:
        primary = self.primary()
        others = [server for server in self.servers if server is not primary]
        living = [server for server in others if server.process.poll() is None]
        return all(map(is_in_sync, living)) and all(map(self._knows_all, self.sentinels))

    def _knows_all(self, sentinel: LocalRedis) -> bool:
        found = ask(sentinel, "SENTINEL", "MASTER", PRIMARY_NAME)
        replicas, others = len(self.servers) - 1, len(self.sentinels) - 1
        return (int(found[b"num-slaves"]), int(found[b"num-other-sentinels"])) == (replicas, others)


@contextmanager
def _local_sentinel(binary: Path, options: Sequence[str]) -> Iterator[LocalRedis]:
    """Start a Sentinel, which keeps what it learns in its file."""
    with TemporaryDirectory(prefix="fs-sentinel-") as folder:
        file = Path(folder, "sentinel.conf")
        pairs = zip(options[::2], options[1::2], strict=True)
        file.write_text("".join(f"{name.removeprefix('--')} {value}\n" for name, value in pairs))
        with local_redis(binary, folder=Path(folder), sentinel=file) as started:
            yield started


@contextmanager
def local_sentinels(
    *options: str, replicas: int = 1, binary: Path | None = None, tls: bool = False
) -> Iterator[LocalSentinels]:
    """Start a primary with replicas, and three Sentinels.

    Args:
        options: Those of redis.conf, as arguments of every server.
        replicas: How many replicas the primary has.
        binary: The server; without it the one on the PATH.
        tls: Whether they talk through TLS; `options` have the certificates.
    """
    with ExitStack() as stack:
        made = LocalSentinels(stack, binary or local_binary(), options, tls)
        primary = made.start()
        for _ in range(replicas):
            made.start("--replicaof", "127.0.0.1", str(made.ports[primary.port]))
        for _ in range(3):
            made.watch()
        made.wait_until_well()
        yield made


# --- TLS -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TlsServer:
    """A server that takes TLS connections, and wants a certificate of its clients.

    Attributes:
        port: Where it takes them.
        authority: Who signed its certificate, and has to have signed those of clients.
        certificate: A client's certificate.
        key: Its key.
    """

    server: LocalRedis
    port: int
    authority: Authority
    certificate: Path
    key: Path

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.port}/0"

    @property
    def options(self) -> dict[str, Any]:
        """What a store has to be given to be let in."""
        ca = str(self.authority.certificate)
        return {"tls_ca": ca, "tls_certificate": str(self.certificate), "tls_key": str(self.key)}


def tls_options(authority: Authority) -> list[str]:
    """Return options of a server that speaks TLS with certificates of this authority."""
    certificate, key = authority.sign("server", "DNS:localhost", "IP:127.0.0.1")
    options = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    return [*options, "--tls-ca-cert-file", str(authority.certificate)]


def skip_without_tls(binary: Path) -> None:
    """Skip a test if this server was built without TLS."""
    command = [str(binary), "--port", "0", "--tls-port", "1", "--tls-cert-file", "/nowhere"]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if "Failed to configure TLS" not in tried.stdout or "not support" in tried.stdout:
        pytest.skip(f"{binary.name} was built without TLS")


@contextmanager
def tls_server(folder: Path, *options: str) -> Iterator[TlsServer]:
    """Start a server on the PATH that takes TLS connections."""
    skip_without_tls(local_binary())
    authority = Authority(folder)
    port = free_port()
    with local_redis(
        local_binary(), "--tls-port", str(port), *tls_options(authority), *options
    ) as server:
        yield TlsServer(server, port, authority, *authority.sign("client"))


# --- Fixtures ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_cluster_url() -> Iterator[str]:
    """A cluster of three primaries, shared with other tests: names must be your own."""
    with local_cluster() as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def valkey_cluster_url() -> Iterator[str]:
    """A cluster of Valkey servers, shared with other tests."""
    with local_cluster(binary=valkey_binary()) as cluster:
        yield cluster.url


@pytest.fixture(scope="session")
def sentinel_url() -> Iterator[str]:
    """A primary with a replica behind three Sentinels, shared: names must be your own."""
    with local_sentinels() as sentinels:
        yield sentinels.url


@pytest.fixture(scope="session")
def redis_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    """A server that takes TLS connections, shared with other tests: names must be your own."""
    with tls_server(tmp_path_factory.mktemp("tls")) as started:
        yield started

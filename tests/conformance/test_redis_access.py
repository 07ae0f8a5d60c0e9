"""Who is let in, and how: TLS, certificates, users with exactly the documented permissions."""

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.online.redis_errors import PERMISSIONS, SENTINEL_PERMISSIONS
from featurestore.online.store import OnlineStore, TableId
from featurestore.testing.online import KEY, read, row, write
from tests.certificates import Authority
from tests.servers import LocalRedis, free_port, local_binary, local_redis
from tests.topologies import (
    TlsServer,
    ask,
    local_cluster,
    local_sentinels,
    skip_without_tls,
    tls_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = TableId(project="shop", view="users", generation=1)
MANY = [(b"\x02%d" % number, row(number)) for number in range(600)]
SECRET = "hunter2"  # noqa: S105 - of servers of this test


def use_everything(store: OnlineStore) -> None:
    """Call everything that a store can do, on a table of no other test."""
    with closing(store):
        write(store, TABLE, MANY)
        write(store, TABLE, MANY, remaining_ms=100_000)
        write(store, TABLE, [(KEY, row(1))], overwrite=True)
        assert read(store, TABLE, KEY, *(key for key, _ in MANY)) == [row(1), *(v for _, v in MANY)]
        assert sum(map(len, store.scan(TABLE))) == 601
        assert (store.count(TABLE), store.drop(TABLE)) == (601, 601)
        assert store.tables("shop") == []
        assert {finding.status for finding in store.check()} <= {"ok", "warning"}


def assert_refused(store: OnlineStore, words: str, *, retryable: bool = False) -> None:
    with closing(store), pytest.raises(StoreError, match=words) as caught:
        read(store, TABLE, KEY)
    assert caught.value.retryable is retryable
    assert caught.value.hint
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no server knows."""
    return Authority(tmp_path_factory.mktemp("other"))


def test_a_server_whose_authority_is_not_trusted_is_refused(
    redis_tls: TlsServer, other: Authority
) -> None:
    assert_refused(RedisOnlineStore(redis_tls.url), "certificate that is not trusted")
    options = {**redis_tls.options, "tls_ca": str(other.certificate)}
    assert_refused(RedisOnlineStore(redis_tls.url, **options), "certificate that is not trusted")


def test_a_server_of_another_name_is_refused(tmp_path: Path) -> None:
    skip_without_tls(local_binary())
    authority, port = Authority(tmp_path / "ca"), free_port()
    certificate, key = authority.sign("elsewhere.example.com")
    options = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    options += ["--tls-ca-cert-file", str(authority.certificate), "--tls-auth-clients", "no"]
    ca: dict[str, Any] = {"tls_ca": str(authority.certificate)}
    url = f"rediss://localhost:{port}"
    with local_redis(local_binary(), "--tls-port", str(port), *options):
        assert_refused(RedisOnlineStore(url, **ca), "certificate that is not trusted")
        with closing(RedisOnlineStore(url, tls_verify=False)) as store:
            assert read(store, TABLE, KEY) == [None]


def test_a_client_without_a_certificate_is_told_so(redis_tls: TlsServer, other: Authority) -> None:
    ca: dict[str, Any] = {"tls_ca": str(redis_tls.authority.certificate)}
    assert refusal(redis_tls.url, **ca) == "wants a certificate from us"
    certificate, key = other.sign("client")
    own: dict[str, Any] = {"tls_certificate": str(certificate), "tls_key": str(key)}
    assert refusal(redis_tls.url, **ca, **own) == "does not trust our certificate"


def refusal(url: str, **options: Any) -> str:
    """What a server says to a client that it closes the connection to, if it is heard at all."""
    for _ in range(100):
        store = RedisOnlineStore(url, **options)
        with closing(store), pytest.raises(StoreError) as caught:
            read(store, TABLE, KEY)
        if not isinstance(caught.value, StoreUnavailableError):
            return caught.value.message.partition("/0 ")[2].rstrip(".")
    raise AssertionError("only closed connections, and never a reason")


def test_a_cluster_is_reached_through_tls(tmp_path: Path) -> None:
    skip_without_tls(local_binary())
    authority = Authority(tmp_path / "ca")
    options = [*tls_options(authority), "--tls-auth-clients", "no"]
    ca: dict[str, Any] = {"tls_ca": str(authority.certificate)}
    with local_cluster(*options, tls=True) as cluster:
        use_everything(RedisClusterOnlineStore(cluster.tls_url, **ca))
        assert_refused(RedisClusterOnlineStore(cluster.tls_url), "certificate that is not trusted")


def test_sentinels_and_their_primary_are_reached_through_tls(tmp_path: Path) -> None:
    skip_without_tls(local_binary())
    authority = Authority(tmp_path / "ca")
    options = [*tls_options(authority), "--tls-auth-clients", "no"]
    ca: dict[str, Any] = {"tls_ca": str(authority.certificate)}
    with local_sentinels(*options, tls=True) as sentinels:
        use_everything(RedisOnlineStore(sentinels.url, **ca))
        assert_refused(RedisOnlineStore(sentinels.url), "certificate that is not trusted")


# --- Users ---------------------------------------------------------------------------------------


def permit(servers: list[LocalRedis], permissions: str = PERMISSIONS) -> None:
    for server in servers:
        ask(server, "ACL", "SETUSER", "writer", "reset", "on", f">{SECRET}", *permissions.split())


def denied(servers: list[LocalRedis]) -> list[str]:
    """What users tried that they are not permitted."""
    return [entry[b"object"].decode() for server in servers for entry in ask(server, "ACL", "LOG")]


@pytest.mark.parametrize("topology", ["server", "sentinel", "cluster"])
def test_a_user_with_the_permissions_of_the_documents_can_do_everything(topology: str) -> None:
    user: dict[str, Any] = {"username": "writer", "password": SECRET}
    with ExitStack() as stack:
        if topology == "server":
            server = stack.enter_context(local_redis(local_binary()))
            servers = [server]
            opener: Callable[..., OnlineStore] = partial(RedisOnlineStore, server.url)
        elif topology == "sentinel":
            group = stack.enter_context(local_sentinels())
            user |= {"sentinel_username": "writer", "sentinel_password": SECRET, "wait_replicas": 1}
            permit(group.sentinels, SENTINEL_PERMISSIONS)
            servers, opener = group.servers, partial(RedisOnlineStore, group.url)
        else:
            cluster = stack.enter_context(local_cluster(replicas=1))
            user |= {"wait_replicas": 1}
            servers, opener = cluster.nodes, partial(RedisClusterOnlineStore, cluster.url)
        permit(servers)
        use_everything(opener(**user))
        assert denied(servers) == []
        assert_refused(opener(**user | {"password": "wrong"}), "refuses the user or password")


def test_every_permission_of_the_documents_is_needed() -> None:
    commands = [word for word in PERMISSIONS.split() if word.startswith("+")]
    needed_by_clusters = {"+get", "+wait", "+asking", "+cluster|slots", "+cluster|nodes"}
    with local_redis(local_binary()) as server:
        for left_out in set(commands) - needed_by_clusters:
            permit([server], PERMISSIONS.replace(left_out, ""))
            store = RedisOnlineStore(server.url, username="writer", password=SECRET)
            with pytest.raises(StoreError, match="does not permit this user"):
                use_everything(store)


def test_a_server_too_old_for_us_does_not_make_the_password_known() -> None:
    """It repeats the command that it does not know, with all that belongs to it."""
    with local_redis(local_binary(), "--rename-command", "HELLO", "") as server:
        store = RedisOnlineStore(server.url, password=SECRET)
        assert_refused(store, "is too old")

"""URLs and options of Redis: what they mean, and what is said of those that mean nothing."""

from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest

from featurestore.errors import ConfigError
from featurestore.online import redis_address
from featurestore.online.factory import open_store
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_address import Address, RedisOptions, read_address
from featurestore.online.redis_cluster import RedisClusterOnlineStore

SECRET = "hunter2"  # noqa: S105 - of nothing


def parts(address: Address) -> list[tuple[Any, ...]]:
    names = ("host", "port", "username", "password", "db")
    return [tuple(server.options.get(name) for name in names) for server in address.servers]


def test_a_url_names_one_server() -> None:
    found = read_address("redis://me:hunter2%2F@example.com:7000/3", {})
    assert found.kind == "server"
    assert parts(found) == [("example.com", 7000, "me", "hunter2/", 3)]
    assert found.servers[0].address == "example.com:7000/3"


def test_a_url_names_sentinels_and_their_primary() -> None:
    url = "redis+sentinel://me:hunter2@a,b:26380,[::1]:26381/features/2"
    found = read_address(url, {})
    assert (found.kind, found.primary) == ("sentinel", "features")
    assert parts(found) == [
        ("a", 26_379, "me", SECRET, 2),
        ("b", 26_380, "me", SECRET, 2),
        ("::1", 26_381, "me", SECRET, 2),
    ]


def test_a_url_names_nodes_of_a_cluster() -> None:
    found = read_address("redis+cluster://:hunter2@a:7000,b", {})
    assert (found.kind, found.primary) == ("cluster", "")
    assert parts(found) == [("a", 7000, None, SECRET, None), ("b", 6379, None, SECRET, None)]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost", RedisOnlineStore),
        ("redis+sentinel://localhost/features", RedisOnlineStore),
        ("redis+cluster://localhost", RedisClusterOnlineStore),
        ("rediss+cluster://localhost", RedisClusterOnlineStore),
    ],
)
def test_the_url_chooses_the_store(url: str, kind: type) -> None:
    store = open_store("redis", url=url)
    assert type(store) is kind
    store.close()


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
def test_user_and_password_may_be_given_apart_from_the_url(scheme: str) -> None:
    place = "/features" if scheme == "redis+sentinel" else ""
    url = f"{scheme}://old:older@a:1{place}"
    found = read_address(url, {"username": "me", "password": SECRET})
    [server] = found.servers
    assert (server.options["username"], server.options["password"]) == ("me", SECRET)


def test_certificates_are_checked_unless_that_is_switched_off() -> None:
    [server] = read_address("rediss://a", {}).servers
    connection = server.options["connection_class"](**without_pool(server.options))
    assert (connection.cert_reqs.name, connection.check_hostname) == ("CERT_REQUIRED", True)
    [server] = read_address("rediss://a", {"tls_verify": False}).servers
    connection = server.options["connection_class"](**without_pool(server.options))
    assert (connection.cert_reqs.name, connection.check_hostname) == ("CERT_NONE", False)


def without_pool(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if k not in {"connection_class", "max_connections"}}


@pytest.mark.parametrize(
    "url",
    [
        f"redis+sentinel://:{SECRET}@a:1",
        f"redis+sentinel://:{SECRET}@a:1/name/zero",
        f"redis+sentinel://:{SECRET}@a:1,,b:2/name",
        f"redis+sentinel://:{SECRET}@/name",
        f"redis+cluster://:{SECRET}@a:port",
        f"redis+cluster://:{SECRET}@a:1,",
        f"redis+cluster://:{SECRET}@a:1/3",
        f"redis+cluster://:{SECRET}@" + ",".join(f"h{i}" for i in range(101)),
        f"redis+cloud://:{SECRET}@a:1",
        f"unix+cluster://:{SECRET}@/path",
        f"redis+cluster://:{SECRET}@a?no_such_option=1",
    ],
)
def test_a_url_that_means_nothing_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_address(url, {})
    assert SECRET not in str(caught.value)
    assert caught.value.hint
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("redis://a", {"tls_ca": "ca.pem"}, "tls_ca is set, but the URL is not one for TLS"),
        ("rediss://a", {"tls_ca": "none.pem"}, "'none.pem' cannot be used: No such file"),
        ("rediss://a", {"tls_ca": "{here}/text"}, "text' cannot be used"),
        ("rediss://a", {"tls_certificate": "{here}/text"}, "tls_certificate: .* cannot be used"),
        ("rediss://a", {"tls_key": "{here}/text"}, "tls_key is set, but tls_certificate is not"),
        ("redis://a", {"wait_replicas": 1, "wait_timeout_ms": 2_000}, "less than timeout_ms"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, url: str, options: RedisOptions, words: str
) -> None:
    (tmp_path / "text").write_text("no certificate")
    filled: Any = {
        name: value.format(here=tmp_path) if isinstance(value, str) else value
        for name, value in options.items()
    }
    with pytest.raises(ConfigError, match=words):
        read_address(url, filled)


@pytest.mark.parametrize("url", ["redis+cluster://a", "redis://a"])
def test_each_store_refuses_the_others_urls(url: str) -> None:
    wrong = RedisOnlineStore if "cluster" in url else RedisClusterOnlineStore
    with pytest.raises(ConfigError, match="cluster"):
        wrong(url)


def test_hosts_in_brackets_stand_anywhere_in_a_list(monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(url: str) -> SplitResult:
        """What Pythons do that were mended: one host, and brackets around all of it."""
        if "," in urlsplit(url).netloc:
            raise ValueError("Invalid IPv6 URL")
        return urlsplit(url)

    monkeypatch.setattr(redis_address, "urlsplit", strict)
    found = read_address("redis+cluster://a:7000,[::1]:7001,b", {})
    assert [part[:2] for part in parts(found)] == [("a", 7000), ("::1", 7001), ("b", 6379)]
    found = read_address("redis+sentinel://me:x@a,[::1]/features/2?socket_timeout=1", {})
    assert [part[:2] for part in parts(found)] == [("a", 26_379), ("::1", 26_379)]

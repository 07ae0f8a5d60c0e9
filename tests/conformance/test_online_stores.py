"""All online stores, all promises."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_cluster import RedisClusterOnlineStore
from featurestore.testing.online import OnlineStoreConformance, Opener
from tests.depth import every_run
from tests.topologies import TlsServer

OPENERS: dict[str, Callable[[pytest.FixtureRequest], Opener]] = {
    "memory": lambda _: MemoryOnlineStore,
    "lmdb": lambda request: partial(LmdbOnlineStore, _folder(request)),
    "redis": lambda request: partial(RedisOnlineStore, request.getfixturevalue("redis_url")),
    "valkey": lambda request: partial(RedisOnlineStore, request.getfixturevalue("valkey_url")),
    "tls": lambda request: _tls(request.getfixturevalue("redis_tls")),
    "sentinel": lambda request: partial(RedisOnlineStore, request.getfixturevalue("sentinel_url")),
    "redis cluster": lambda request: _cluster(request, "redis_cluster_url"),
    "valkey cluster": lambda request: _cluster(request, "valkey_cluster_url"),
}

# The others are these stores over a secured connection, behind a sentinel, or on the other
# server. `tests/e2e/test_redis_topologies.py` fills, verifies and serves from each in every run.
IN_EVERY_RUN = {"memory", "lmdb", "redis", "valkey cluster"}


def _cluster(request: pytest.FixtureRequest, fixture: str) -> Opener:
    return partial(RedisClusterOnlineStore, request.getfixturevalue(fixture))


def _tls(server: TlsServer) -> Opener:
    return partial(RedisOnlineStore, server.url, **server.options)


def _folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("tmp_path")
    return path / "online"


class TestOnlineStores(OnlineStoreConformance):
    """All stores, all promises."""

    @pytest.fixture(
        params=[
            pytest.param(make, id=name, marks=every_run(when=name in IN_EVERY_RUN))
            for name, make in OPENERS.items()
        ]
    )
    def opener(self, request: pytest.FixtureRequest) -> Opener:
        make: Callable[[pytest.FixtureRequest], Opener] = request.param
        return make(request)

"""From the configuration to a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar, Unpack

from featurestore.errors import ConfigError
from featurestore.online.store import OnlineStore

if TYPE_CHECKING:
    from featurestore.online.redis_address import RedisOptions

T = TypeVar("T")
StoreKind = Literal["lmdb", "redis", "memory"]
CLUSTER_SCHEMES: Final = ("redis+cluster", "rediss+cluster")


def open_store(
    kind: StoreKind,
    *,
    path: Path | None = None,
    url: str | None = None,
    **options: "Unpack[RedisOptions]",
) -> OnlineStore:
    """Return a store of this kind. Nothing is opened or connected before its first use.

    Args:
        kind: Which backend; only that one is imported.
        path: The folder of an LMDB store.
        url: The address of a Redis store: of a server, of Sentinels or of a cluster.
        options: How to reach Redis.

    Raises:
        ConfigError: What the kind needs is missing, or the URL or an option cannot be used.
        MissingExtraError: The backend's client is not installed.
    """
    if kind == "memory":
        from featurestore.online.memory import MemoryOnlineStore

        return MemoryOnlineStore()
    if kind == "lmdb":
        from featurestore.online.lmdb import LmdbOnlineStore

        return LmdbOnlineStore(_given(path, kind, "path"))
    address = _given(url, kind, "url")
    if address.partition("://")[0] in CLUSTER_SCHEMES:
        from featurestore.online.redis_cluster import RedisClusterOnlineStore

        return RedisClusterOnlineStore(address, **options)
    from featurestore.online.redis import RedisOnlineStore

    return RedisOnlineStore(address, **options)


def _given(value: T | None, kind: str, name: str) -> T:
    if value is None:
        raise ConfigError(f"online_store is {kind}, but online_store.{name} is not set.")
    return value

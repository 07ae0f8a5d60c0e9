"""From the configuration to a store."""

from pathlib import Path
from typing import Literal, TypeVar

from featurestore.errors import ConfigError
from featurestore.online.store import OnlineStore

T = TypeVar("T")
StoreKind = Literal["lmdb", "redis", "memory"]


def open_store(
    kind: StoreKind,
    *,
    path: Path | None = None,
    url: str | None = None,
    timeout_ms: int = 2_000,
    connect_timeout_ms: int = 1_000,
) -> OnlineStore:
    """Return a store of this kind. Nothing is opened or connected before its first use.

    Args:
        kind: Which backend; only that one is imported.
        path: The folder of an LMDB store.
        url: The address of a Redis store.
        timeout_ms: How long a Redis store waits for each reply.
        connect_timeout_ms: How long a Redis store waits for a connection.

    Raises:
        ConfigError: What the kind needs is missing, or the URL cannot be used.
        MissingExtraError: The backend's client is not installed.
    """
    if kind == "memory":
        from featurestore.online.memory import MemoryOnlineStore

        return MemoryOnlineStore()
    if kind == "lmdb":
        from featurestore.online.lmdb import LmdbOnlineStore

        return LmdbOnlineStore(_given(path, kind, "path"))
    from featurestore.online.redis import RedisOnlineStore

    address = _given(url, kind, "url")
    return RedisOnlineStore(address, timeout_ms=timeout_ms, connect_timeout_ms=connect_timeout_ms)


def _given(value: T | None, kind: str, name: str) -> T:
    if value is None:
        raise ConfigError(f"online_store is {kind}, but online_store.{name} is not set.")
    return value

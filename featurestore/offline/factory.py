"""Opens the engine that the configuration names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from featurestore.offline.engine import OfflineEngine
from featurestore.offline.memory import limit_bytes
from featurestore.settings import OfflineStoreConfig

if TYPE_CHECKING:
    from featurestore.offline.duckdb_connection import DuckDBLimits

UNLIMITED: Final = "80%"
"""What engines that share the machine have together where no limit is configured: DuckDB's own."""


def open_engine(config: OfflineStoreConfig, *, root: Path, shares: int = 1) -> OfflineEngine:
    """Return the engine; relative paths of the configuration start at `root`.

    Args:
        config: The engine's settings.
        root: Where relative paths start.
        shares: How many engines share the threads and the memory of one.
    """
    if shares > 1:
        config = share_of(config, shares)
    temp = config.temp_directory
    temp_directory = None if temp is None else (root / temp).absolute()
    if config.type == "polars":
        from featurestore.offline.polars import PolarsEngine

        return PolarsEngine(
            threads=config.threads,
            memory_limit=config.memory_limit,
            temp_directory=temp_directory,
        )
    from featurestore.offline.duckdb import DuckDBEngine

    return DuckDBEngine(
        threads=config.threads,
        memory_limit=config.memory_limit,
        temp_directory=temp_directory,
    )


def duckdb_limits(config: OfflineStoreConfig, *, root: Path) -> "DuckDBLimits":
    """Return what DuckDB may use where it works beside the engine, whichever that is."""
    from featurestore.offline.duckdb_connection import DuckDBLimits

    temp = config.temp_directory
    return DuckDBLimits(
        threads=config.threads,
        memory_limit=config.memory_limit,
        temp_directory=None if temp is None else (root / temp).absolute(),
    )


def share_of(config: OfflineStoreConfig, shares: int) -> OfflineStoreConfig:
    """Return the settings of each of several engines that share the threads and memory of one."""
    threads = config.threads or len(os.sched_getaffinity(0))
    memory = limit_bytes(config.memory_limit or UNLIMITED)
    share = {"threads": max(1, threads // shares), "memory_limit": f"{memory // shares}B"}
    return config.model_copy(update=share)

"""Opens the engine that the configuration names."""

from pathlib import Path

from featurestore.config import OfflineStoreConfig
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine


def open_engine(config: OfflineStoreConfig, *, root: Path) -> OfflineEngine:
    """Return the engine; relative paths of the configuration start at `root`."""
    temp = config.temp_directory
    return DuckDBEngine(
        threads=config.threads,
        memory_limit=config.memory_limit,
        temp_directory=None if temp is None else (root / temp).absolute(),
    )

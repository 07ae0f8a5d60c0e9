"""Opens the engine that the configuration names."""

from pathlib import Path

from featurestore.config import OfflineStoreConfig
from featurestore.offline.engine import OfflineEngine


def open_engine(config: OfflineStoreConfig, *, root: Path) -> OfflineEngine:
    """Return the engine; relative paths of the configuration start at `root`."""
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

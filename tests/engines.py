"""Engines that are to give the same answers, however little they have."""

from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.polars import PolarsEngine


class Cramped(DuckDBEngine):
    """Believes that there is no memory: reads sources in many passes, makes results row by row."""

    memory_bytes = 300


class CrampedPolars(PolarsEngine):
    """Believes the same."""

    memory_bytes = 300


ENGINES: dict[str, OfflineEngine] = {
    "duckdb, 1 thread": DuckDBEngine(threads=1),
    "duckdb, 2 threads": DuckDBEngine(threads=2),
    "duckdb, no memory": Cramped(threads=2),
    "polars, 1 thread": PolarsEngine(threads=1),
    "polars, 2 threads": PolarsEngine(threads=2),
    "polars, no memory": CrampedPolars(threads=2),
}
IN_EVERY_RUN = ("duckdb, 2 threads", "polars, 2 threads")
"""The whole conformance suite asks these in every run, and all of them in the proof."""
NOT_IN_EVERY_RUN = [engine for name, engine in ENGINES.items() if name not in IN_EVERY_RUN]
"""Properties of any history ask these: the suite draws as many for the others."""

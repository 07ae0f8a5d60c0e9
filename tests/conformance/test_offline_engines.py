"""Every offline engine keeps every promise."""

from typing import cast

import pytest

from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.polars import PolarsEngine
from featurestore.testing.offline import OfflineEngineConformance


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


@pytest.fixture(scope="module", params=list(ENGINES.values()), ids=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> OfflineEngine:
    return cast("OfflineEngine", request.param)


class TestOfflineEngines(OfflineEngineConformance):
    """All engines, all promises."""

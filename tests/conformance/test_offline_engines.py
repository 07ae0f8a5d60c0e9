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


PROOF = pytest.mark.proof
ENGINES = [
    pytest.param(DuckDBEngine(threads=1), id="duckdb, 1 thread", marks=PROOF),
    pytest.param(DuckDBEngine(threads=2), id="duckdb, 2 threads"),
    pytest.param(Cramped(threads=2), id="duckdb, no memory"),
    pytest.param(PolarsEngine(threads=1), id="polars, 1 thread", marks=PROOF),
    pytest.param(PolarsEngine(threads=2), id="polars, 2 threads"),
    pytest.param(CrampedPolars(threads=2), id="polars, no memory", marks=PROOF),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> OfflineEngine:
    return cast("OfflineEngine", request.param)


class TestOfflineEngines(OfflineEngineConformance):
    """All engines, all promises."""

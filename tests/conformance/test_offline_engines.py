"""Every offline engine keeps every promise."""

import pytest

from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.testing.offline import OfflineEngineConformance

# Up to 64 spine rows DuckDB joins by another plan than above; 0 turns that plan off.
ENGINES = {
    f"duckdb, {threads} threads, loop join up to {rows} rows": DuckDBEngine(
        threads=threads, settings={"asof_loop_join_threshold": rows}
    )
    for threads in (1, 2)
    for rows in (0, 64)
}


@pytest.fixture(scope="module", params=list(ENGINES.values()), ids=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> OfflineEngine:
    made: OfflineEngine = request.param
    return made


class TestOfflineEngines(OfflineEngineConformance):
    """All engines, all promises."""

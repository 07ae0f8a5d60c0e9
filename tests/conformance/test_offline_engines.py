"""Every offline engine keeps every promise."""

from typing import cast

import pytest

from featurestore.offline.engine import OfflineEngine
from featurestore.testing.offline import OfflineEngineConformance
from tests.depth import every_run
from tests.engines import ENGINES, IN_EVERY_RUN


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(engine, id=name, marks=every_run(when=name in IN_EVERY_RUN))
        for name, engine in ENGINES.items()
    ],
)
def engine(request: pytest.FixtureRequest) -> OfflineEngine:
    return cast("OfflineEngine", request.param)


class TestOfflineEngines(OfflineEngineConformance):
    """All engines, all promises."""

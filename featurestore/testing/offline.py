"""The conformance suite of offline engines.

Subclass it and give it a fixture called `engine`:

    class TestMyEngine(OfflineEngineConformance):
        @pytest.fixture
        def engine(self) -> OfflineEngine:
            return MyEngine()

Every answer is compared with the oracle's (`featurestore.testing.oracle`). What an engine does not
promise in its `capabilities` it must refuse with an `UnsupportedError`. For property tests of your
own there are `check_training_set`, `check_windows` and `check_latest`.
"""

from featurestore.testing.offline_aggregates import AggregateConformance
from featurestore.testing.offline_cases import check_latest, check_training_set
from featurestore.testing.offline_dedup import DedupConformance
from featurestore.testing.offline_jobs import JobConformance
from featurestore.testing.offline_latest import LatestRowsConformance
from featurestore.testing.offline_sources import SourceConformance
from featurestore.testing.offline_training import TrainingSetConformance
from featurestore.testing.offline_types import PhysicalTypeConformance
from featurestore.testing.offline_windows import WindowConformance
from featurestore.testing.window_cases import check_windows

__all__ = ["OfflineEngineConformance", "check_latest", "check_training_set", "check_windows"]


class OfflineEngineConformance(
    TrainingSetConformance,
    SourceConformance,
    PhysicalTypeConformance,
    LatestRowsConformance,
    WindowConformance,
    AggregateConformance,
    DedupConformance,
    JobConformance,
):
    """All that an engine promises."""

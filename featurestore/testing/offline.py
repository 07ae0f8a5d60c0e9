"""What every offline engine must do. Subclass the suite and give it a fixture called `engine`.

    class TestMyEngine(OfflineEngineConformance):
        @pytest.fixture
        def engine(self) -> OfflineEngine:
            return MyEngine()

Every answer is compared with the oracle's. `check_training_set` and `check_latest` do that for any
history, for property tests of your own.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.offline.scan import open_scan
from featurestore.registry.state import RegistryState
from featurestore.testing.oracle import (
    SourceRow,
    historical,
    read_source,
)
from featurestore.testing.plain import PlainTable, difference, from_array, to_array
from featurestore.testing.strategies import History, TrainingCase
from featurestore.training.retrieve import retrieve


def check_training_set(engine: OfflineEngine, case: TrainingCase) -> None:
    """Make sure that an engine's training set is the oracle's.

    Raises:
        AssertionError: It names the first cell that differs.
    """
    with TemporaryDirectory() as folder:
        case.history.write(Path(folder))
        found = training_set(engine, case, root=Path(folder))
    assert (text := difference(found, expected_training_set(case))) is None, text


def training_set(engine: OfflineEngine, case: TrainingCase, *, root: Path) -> pa.Table:
    """Return a case's training set as `engine` computes it from files below `root`."""
    return retrieve(
        entity_df=case.spine.to_arrow(),
        features=[case.history.view],
        state=RegistryState(project="conformance"),
        engine=engine,
        root=root,
        full_feature_names=False,
        timestamp_field="event_timestamp",
        timezone=case.timezone,
        mode=case.mode,
    ).to_arrow()


def expected_training_set(case: TrainingCase) -> pa.Table:
    """Return a case's training set as the oracle computes it."""
    view = case.history.view
    rows = historical(
        [view.select()],
        {view.source.name: case.history.rows},
        case.spine,
        timezone=case.timezone,
        mode=case.mode,
    )
    features = {field.name: field.dtype for field in view.fields}
    return PlainTable({**case.spine.columns, **features}, rows).to_arrow()



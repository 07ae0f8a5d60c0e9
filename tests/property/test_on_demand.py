"""On-demand features end to end: a training set and a lookup of the same rows say the same."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from featurestore.definitions import (
    Entity,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.errors import ComputationError, DefinitionError
from featurestore.store import FeatureStore
from featurestore.types import Int64
from tests.property import expressions
from tests.property.test_expressions import bits

THEN = datetime(2024, 1, 1, tzinfo=UTC)
CONFIG = {"project": "p", "online_store": "memory", "clock": "2024-01-02T00:00:00Z"}


def _fields(table: pa.Table, side: str) -> list[Field]:
    return [Field(name=f.name, dtype=f.type) for f in table.schema if f.name.startswith(side)]


@given(
    texts=st.lists(expressions.texts(), min_size=1, max_size=3, unique=True),
    table=expressions.rows(),
    missing=st.integers(0, 1),
)
def test_training_and_lookup_agree(texts: list[str], table: pa.Table, missing: int) -> None:
    """The columns x_ are a view's, y_ come with the request; the last key may be unknown."""
    stored = table.slice(0, table.num_rows - missing)
    keys = pa.array(range(table.num_rows), pa.int64())
    request = RequestSource(name="request", schema=_fields(table, "y_"))
    view = FeatureView(
        name="stored",
        entities=[Entity(name="row", join_keys={"id": Int64})],
        source=FileSource(name="rows", path="rows.parquet", timestamp_field="at"),
        schema=_fields(table, "x_"),
    )
    try:
        features = {f"out{n}": text for n, text in enumerate(texts)}
        computed = OnDemandFeatureView(name="computed", sources=[view, request], features=features)
    except DefinitionError:
        reject()
    with tempfile.TemporaryDirectory() as folder:
        at = pa.array([THEN] * table.num_rows, pa.timestamp("us", "UTC"))
        history = stored.append_column("id", keys[: stored.num_rows])
        history = history.append_column("at", at[: stored.num_rows])
        pq.write_table(history, Path(folder) / "rows.parquet")
        store = FeatureStore(folder, config=CONFIG)
        store.apply([computed])
        store.materialize()
        brought = table.select([f.name for f in request.fields]).append_column("id", keys)
        spine = brought.append_column("event_timestamp", at)
        entities = {name: brought[name] for name in brought.column_names}
        try:
            trained = store.get_historical_features(spine, [computed]).to_arrow()
        except ComputationError as error:
            _fails_alike(store, computed, entities, error)
            return
        served = store.get_online_features([computed], entities).to_arrow()
    for name, text in features.items():
        assert served[name].type == trained[name].type
        assert bits(served[name]) == bits(trained[name]), text


def _fails_alike(
    store: FeatureStore,
    computed: OnDemandFeatureView,
    entities: dict[str, pa.ChunkedArray],
    error: ComputationError,
) -> None:
    with pytest.raises(ComputationError) as other:
        store.get_online_features([computed], entities)
    assert (other.value.feature, other.value.row) == (error.feature, error.row)

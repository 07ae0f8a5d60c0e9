"""What explain() says of windows before they are computed, beside what they hold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.definitions import Aggregation, FeatureView
from featurestore.offline.scan import open_scan
from featurestore.offline.windows.estimate import estimate_windows
from featurestore.store import FeatureStore
from featurestore.time import to_micros
from tests.unit.projects import FILE, THEN, UTC_US, project, source, view, write

ROWS, KEYS, DAY_US = 60_000, 200, 86_400_000_000
WINDOWS = ["1d", "7d", "30d", None]
COUNTS = FeatureView(
    name="reading",
    entities=view().entities,
    source=source(),
    aggregations=[Aggregation("x", ["count", "sum"], windows=WINDOWS)],
)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    draw = np.random.default_rng(1)
    events = to_micros(THEN) + np.sort(draw.integers(0, 90 * DAY_US, ROWS))
    keys, values = draw.integers(0, KEYS, ROWS), draw.random(ROWS)
    columns = {"k": keys, "t": pa.array(events, UTC_US), "x": values}
    write(tmp_path / FILE, columns, row_group_size=10_000)
    opened = project(tmp_path, clock="2025-01-01T00:00:00Z")
    opened.apply([COUNTS])
    return opened


def spine() -> pa.Table:
    draw = np.random.default_rng(2)
    times = to_micros(THEN) + draw.integers(0, 90 * DAY_US, 5_000)
    keys = draw.integers(0, KEYS, len(times))
    return pa.table({"k": keys, "event_timestamp": pa.array(times, UTC_US)})


def test_an_estimate_is_near_what_windows_hold(store: FeatureStore) -> None:
    asked = spine()
    features = [f"reading:x_count_{name or 'all'}" for name in WINDOWS]
    table = store.get_historical_features(asked, features).to_arrow()
    held = [np.mean(table[name.partition(":")[2]].to_numpy()) for name in features]
    scan = open_scan(store.get_feature_view("reading"), ["x_count_1d"], store.config.root)
    lengths = [DAY_US, 7 * DAY_US, 30 * DAY_US, None]
    found = estimate_windows(scan, lengths, asked["event_timestamp"].cast(pa.int64()).to_numpy())
    assert found is not None
    assert found.keys == KEYS
    assert list(found.rows.values()) == pytest.approx(held, rel=0.05)


def test_explain_says_it(store: FeatureStore) -> None:
    text = store.get_historical_features(
        spine(), ["reading:x_sum_1d", "reading:x_sum_all"]
    ).explain()
    assert "about 200 keys in the source" in text
    assert "even: 1d 3.3" in text
    assert "sums laid out and by blocks" in text
    short = store.get_historical_features(spine(), ["reading:x_sum_1d"]).explain()
    assert "sums laid out:" in short


def test_nothing_is_estimated_without_times_in_the_footers(store: FeatureStore) -> None:
    path = store.config.root / FILE
    table = pq.read_table(path)
    write(path, table, write_statistics=False)
    text = store.get_historical_features(spine(), ["reading:x_sum_1d"]).explain()
    assert "is not known: the footers have no times" in text


def test_a_spine_without_keys_has_nothing_to_estimate(store: FeatureStore) -> None:
    nobody = pa.table({"k": pa.nulls(2, pa.int64()), "event_timestamp": spine()[1][:2]})
    text = store.get_historical_features(nobody, ["reading:x_sum_1d"]).explain()
    assert "nothing to join" in text

"""A project of one view, over Parquet files that a test writes itself with the types it wants."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.definitions import Entity, FeatureView, Field, FileSource
from featurestore.errors import FeatureStoreError
from featurestore.store import FeatureStore
from featurestore.types import Float64, Int64

NAIVE_US = pa.timestamp("us")
UTC_US = pa.timestamp("us", tz="UTC")
NOW = "2024-06-01T00:00:00Z"
THEN = datetime(2024, 1, 1, tzinfo=UTC)
"""When all rows happened unless a test says otherwise."""
LATER = datetime(2024, 2, 1, tzinfo=UTC)
"""When features are wanted unless a test says otherwise."""
FILE = "data.parquet"

QUICK: dict[str, Any] = {"offline_store": "polars"}
"""For tests of what comes before and after engines, which agree: Polars starts in no time, DuckDB
takes 25 ms."""

Columns = Mapping[str, Any]


def rows(count: int = 1, /, **columns: Any) -> dict[str, Any]:
    """Return the columns k (1, 2, ...), t (`THEN`) and x (1.0, 2.0, ...), some of them replaced."""
    numbers = range(1, count + 1)
    times = pa.repeat(pa.scalar(THEN, UTC_US), count)
    return {"k": list(numbers), "t": times, "x": [float(n) for n in numbers]} | columns


def write(path: Path, columns: Columns | pa.Table, **options: Any) -> Path:
    """Write a Parquet file with exactly these columns, and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    pq.write_table(table, path, **options)
    return path


def micros(*values: int | None, unit: str = "us", zone: str | None = "UTC") -> pa.Array:
    """Return times given as their integers."""
    return pa.array(values, pa.int64()).view(pa.timestamp(unit, tz=zone))


def source(path: str | Path = FILE, **more: Any) -> FileSource:
    """Return a source of the columns that `rows` makes."""
    defaults: dict[str, Any] = {"name": "readings", "path": path, "timestamp_field": "t"}
    return FileSource(**(defaults | more))


def view(
    path: str | Path = FILE,
    *,
    keys: Mapping[str, pa.DataType] | None = None,
    features: Mapping[str, pa.DataType] | None = None,
    reads: Mapping[str, Any] | None = None,
    **more: Any,
) -> FeatureView:
    """Return a view of the columns that `rows` makes.

    Args:
        path: Of the source.
        keys: Join keys; none at all for a view without entity.
        features: Features.
        reads: More fields of the source.
        more: More fields of the view.
    """
    join_keys = {"k": Int64} if keys is None else keys
    fields = {"x": Float64} if features is None else features
    defaults: dict[str, Any] = {
        "name": "reading",
        "entities": [Entity(name="sensor", join_keys=dict(join_keys))] if join_keys else [],
        "source": source(path, **(reads or {})),
        "schema": [Field(name=name, dtype=dtype) for name, dtype in fields.items()],
    }
    return FeatureView(**(defaults | more))


def project(root: Path, **settings: Any) -> FeatureStore:
    """Return a store below `root`, in memory unless the settings say otherwise."""
    defaults = {"project": "plant", "clock": NOW, "online_store": "memory"}
    return FeatureStore(root, config=defaults | settings)


def spine(*keys: object, at: datetime | pa.Array = LATER, name: str = "k") -> pa.Table:
    """Return a spine of these keys."""
    times = pa.repeat(pa.scalar(at, UTC_US), len(keys)) if isinstance(at, datetime) else at
    return pa.table({name: pa.array(keys), "event_timestamp": times})


def train(store: FeatureStore, of: FeatureView, entity_df: object, **options: Any) -> list[Any]:
    """Return the first feature of a view for each row of a spine."""
    table = store.get_historical_features(entity_df, [of], **options).to_arrow()
    values: list[Any] = table[of.feature_names[0]].to_pylist()
    return values


def everywhere(store: FeatureStore, of: FeatureView, entity_df: pa.Table) -> list[Any]:
    """Return the first feature, after making sure that lookups say the same as the training set.

    The view is applied, trained, materialized, looked up and verified.
    """
    store.apply([of])
    table = store.get_historical_features(entity_df, [of]).to_arrow()
    trained = table.select(list(of.feature_names))
    store.materialize()
    keys = {key: entity_df[key] for key in of.join_keys}
    served = store.get_online_features([of], keys).to_arrow().select(list(of.feature_names))
    assert served.equals(trained), f"{served} is not {trained}"
    report = store.verify()
    assert report.ok, report
    values: list[Any] = trained.column(0).to_pylist()
    return values


def says(error: FeatureStoreError, *words: object, hint: bool = True) -> bool:
    """Whether an error's message holds all these words, has a hint, and is safe to print."""
    text = str(error)
    missing = [str(word) for word in words if str(word) not in text]
    assert not missing, f"{text!r} does not say {missing}"
    assert bool(error.hint) is hint, f"{text!r}: hint {error.hint!r}"
    assert len(text) < 3_000, f"a message of {len(text)} characters"
    assert all(c.isprintable() or c == "\n" for c in text), f"{text!r} holds control characters"
    text.encode()
    return True


def broken(content: bytes, at: int, replacement: bytes) -> bytes:
    """Return `content` with some bytes replaced."""
    return content[:at] + replacement + content[at + len(replacement) :]

"""Feast's side: answers cases that lie in folders. Runs under Feast's own Python, never under ours.

    python feast_worker.py FOLDER_OF_CASES

Beside each case it writes `feast-complete.parquet` and `feast-as_served.parquet`, or the text of an
error with `.txt` in their place.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

REPOSITORY = """\
project: differential
provider: local
registry: {folder}/feast.db
offline_store:
    type: duckdb
online_store: null
entity_key_serialization_version: 3
"""


def answer(folder: Path) -> None:
    """Apply a case's views and ask for all their features, in both modes."""
    from feast import FeatureStore

    case = json.loads((folder / "case.json").read_text())
    (folder / "feature_store.yaml").write_text(REPOSITORY.format(folder=folder))
    store = FeatureStore(str(folder))
    entities = {key: _entity(key, dtype) for key, dtype in case["key_types"].items()}
    store.apply([*entities.values(), *(_view(view, entities, folder) for view in case["views"])])
    references = [f"{view['name']}:{f}" for view in case["views"] for f in view["features"]]
    for mode in ("complete", "as_served"):
        if mode == "as_served" and not all(view["has_created"] for view in case["views"]):
            continue
        _ask(store, references, folder, mode)


def _ask(store: Any, references: list[str], folder: Path, mode: str) -> None:
    import pyarrow.parquet as pq

    spine = pq.read_table(folder / "spine.parquet").to_pandas()
    options = {"filter_by_created_timestamp": True} if mode == "as_served" else {}
    try:
        job = store.get_historical_features(
            entity_df=spine, features=references, full_feature_names=True, **options
        )
        pq.write_table(job.to_arrow(), folder / f"feast-{mode}.parquet")
    except Exception as error:  # noqa: BLE001 - what it says is compared
        text = f"{type(error).__name__}: {error}"
        (folder / f"feast-{mode}.txt").write_text(text)


def _entity(key: str, dtype: str) -> Any:
    from feast import Entity, ValueType

    kind = ValueType.INT64 if dtype == "int64" else ValueType.STRING
    return Entity(name=f"{key}_entity", join_keys=[key], value_type=kind)


def _view(view: dict[str, Any], entities: dict[str, Any], folder: Path) -> Any:
    from feast import FeatureView, Field, FileSource
    from feast.types import Bool, Float64, Int64, String

    types = {"float64": Float64, "int64": Int64, "string": String, "bool": Bool}
    source = FileSource(
        name=f"{view['name']}_rows",
        path=str(folder / f"{view['name']}.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created" if view["has_created"] else "",
    )
    return FeatureView(
        name=view["name"],
        entities=[entities[key] for key in view["keys"]],
        ttl=timedelta(hours=view["ttl_hours"] or 0),
        schema=[Field(name=name, dtype=types[dtype]) for name, dtype in view["features"].items()],
        source=source,
    )


if __name__ == "__main__":
    for found in sorted(Path(sys.argv[1]).iterdir()):
        answer(found)

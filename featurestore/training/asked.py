"""What a training set was asked for: all that its values depend on beside files and definitions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurestore.definitions import FeatureService
from featurestore.offline.engine import Mode
from featurestore.registry.state import RegistryState
from featurestore.training.labels import label_names, spine_origin
from featurestore.training.query import FeatureRequest, Selection
from featurestore.training.spine import SqlSpine


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for historical features, with its names resolved to definitions.

    Attributes:
        selections: What was asked for, in order.
        service: The feature service that was asked for, if one was.
        full_feature_names: Whether columns are called `view__feature`.
        timestamp_field: The spine's time column.
        timezone: Zone in which naive times of the spine were read.
        mode: What was taken to be known at a spine row's time.
        origin: Where the spine came from, JSON-ready; see `origin_of`.
        project: The project.
    """

    selections: tuple[Selection, ...]
    service: FeatureService | None
    full_feature_names: bool
    timestamp_field: str
    timezone: str
    mode: Mode
    origin: Mapping[str, Any]
    project: str


def service_of(features: FeatureRequest, state: RegistryState) -> FeatureService | None:
    """Return the feature service that is asked for, if one is."""
    if isinstance(features, str):
        return state.service(features)
    return features if isinstance(features, FeatureService) else None


def origin_of(entity_df: object, spine: pa.Table) -> Mapping[str, Any]:
    """Return where a spine came from: a query's text, a file's path, or the type of a table.

    Of one that knows how it was made, the steps are in `made`; `labels` are its marked columns.
    """
    found: dict[str, Any] = {}
    if isinstance(entity_df, SqlSpine):
        found |= {"kind": "sql", "sql": entity_df.text}
    elif isinstance(entity_df, Path):
        found |= {"kind": "file", "path": str(entity_df)}
    else:
        kind = type(entity_df)
        name = f"{kind.__module__.split('.')[0]}.{kind.__qualname__}"
        found |= {"kind": "table", "type": name}
    if (made := spine_origin(spine.schema)) is not None:
        found["made"] = made
    if labels := label_names(spine.schema):
        found["labels"] = list(labels)
    return found

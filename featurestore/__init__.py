"""A feature store: define features once, train on them and serve them with the same values.

Names are imported when they are first used, so that `import featurestore` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurestore.datasets.dataset import Dataset
    from featurestore.definitions import (
        Aggregation,
        Entity,
        FeatureService,
        FeatureView,
        FeatureViewSelection,
        Field,
        FileSource,
        Fresh,
        InRange,
        Matches,
        NotNull,
        OnDemandFeatureView,
        OnDemandSelection,
        OneOf,
        RequestSource,
        RowCount,
        Sql,
        Unique,
    )
    from featurestore.errors import FeatureStoreError
    from featurestore.store import FeatureStore
    from featurestore.training.job import RetrievalJob
    from featurestore.training.spine import sql

__version__ = "0.1.0"

__all__ = [
    "Aggregation",
    "Dataset",
    "Entity",
    "FeatureService",
    "FeatureStore",
    "FeatureStoreError",
    "FeatureView",
    "FeatureViewSelection",
    "Field",
    "FileSource",
    "Fresh",
    "InRange",
    "Matches",
    "NotNull",
    "OnDemandFeatureView",
    "OnDemandSelection",
    "OneOf",
    "RequestSource",
    "RetrievalJob",
    "RowCount",
    "Sql",
    "Unique",
    "sql",
]

_HOMES = {
    "Aggregation": "definitions",
    "Dataset": "datasets.dataset",
    "Entity": "definitions",
    "FeatureService": "definitions",
    "FeatureStore": "store",
    "FeatureStoreError": "errors",
    "FeatureView": "definitions",
    "FeatureViewSelection": "definitions",
    "Field": "definitions",
    "FileSource": "definitions",
    "Fresh": "definitions",
    "InRange": "definitions",
    "Matches": "definitions",
    "NotNull": "definitions",
    "OnDemandFeatureView": "definitions",
    "OnDemandSelection": "definitions",
    "OneOf": "definitions",
    "RequestSource": "definitions",
    "RetrievalJob": "training.job",
    "RowCount": "definitions",
    "Sql": "definitions",
    "Unique": "definitions",
    "sql": "training.spine",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

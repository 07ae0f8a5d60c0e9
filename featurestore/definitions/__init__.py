"""What users write: entities, sources, views, services. Frozen, plain data, no I/O."""

from featurestore.definitions.aggregation import Aggregation
from featurestore.definitions.base import Definition
from featurestore.definitions.contract import (
    Fresh,
    InRange,
    Matches,
    NotNull,
    OneOf,
    RowCount,
    Sql,
    Unique,
)
from featurestore.definitions.entity import Entity
from featurestore.definitions.field import Field
from featurestore.definitions.on_demand import OnDemandFeatureView, OnDemandSelection
from featurestore.definitions.request import RequestSource
from featurestore.definitions.service import FeatureService
from featurestore.definitions.source import FileSource
from featurestore.definitions.view import FeatureView, FeatureViewSelection

__all__ = [
    "Aggregation",
    "Definition",
    "Entity",
    "FeatureService",
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
    "RowCount",
    "Sql",
    "Unique",
]

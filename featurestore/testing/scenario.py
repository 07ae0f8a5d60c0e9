"""What a scenario is made of, once it is read: definitions, rows, calls and their answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.testing.oracle import Status
from featurestore.testing.oracle_rows import Mode
from featurestore.testing.plain import PlainTable

Features = str | tuple[str, ...]
"""Name of a feature service, or `view:feature` names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedError:
    """Which error must be raised: its class, or a subclass of it, and words of its text."""

    type: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """A training set and what it must be: the spine with its features, or an error."""

    features: Features
    spine: PlainTable
    expected: PlainTable | None
    error: ExpectedError | None = None
    mode: Mode = "complete"
    timezone: str = "UTC"
    timestamp_field: str = "event_timestamp"
    full_feature_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """An online request and its answer.

    Attributes:
        entities: One row per entity.
        expected: The entities with their features in order, null where withheld.
        statuses: Feature -> one status per entity.
        event_times: View or role -> microseconds, or None where no row was found.
    """

    features: Features
    entities: PlainTable
    expected: PlainTable | None = None
    statuses: Mapping[str, Sequence[Status]] = field(default_factory=dict)
    event_times: Mapping[str, Sequence[int | None]] = field(default_factory=dict)
    error: ExpectedError | None = None
    full_feature_names: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Materialize:
    """A materialization; times are microseconds, no views means all."""

    end_us: int
    start_us: int | None = None
    views: tuple[str, ...] = ()
    incremental: bool = False
    error: ExpectedError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Rows that come to a source: a new file, or more rows at the end of one."""

    source: str
    file: str
    rows: PlainTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Rows of a view's source that an application writes into the online store."""

    view: str
    rows: PlainTable
    error: ExpectedError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """An entity that is deleted from all online views about it: join key -> value."""

    entity: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SetClock:
    """From here on it is this time, in microseconds since the epoch."""

    now_us: int


Step = Train | LookUp | Materialize | Append | Push | Delete | SetClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One scenario file, read."""

    id: str
    name: str
    now_us: int
    entities: Mapping[str, Entity]
    sources: Mapping[str, FileSource]
    views: Mapping[str, FeatureView]
    services: Mapping[str, FeatureService]
    files: Mapping[str, Mapping[str, PlainTable]]
    """Source -> path within the source's folder -> rows."""
    steps: Sequence[Step]
    request_sources: Mapping[str, RequestSource] = field(default_factory=dict)
    on_demand_views: Mapping[str, OnDemandFeatureView] = field(default_factory=dict)
    modules: Mapping[str, str] = field(default_factory=dict)
    """Modules of Python functions: path within their root -> text."""

    def definitions(self) -> list[Definition]:
        """Return all definitions, those first that others use."""
        return [
            *self.entities.values(),
            *self.sources.values(),
            *self.request_sources.values(),
            *self.views.values(),
            *self.on_demand_views.values(),
            *self.services.values(),
        ]

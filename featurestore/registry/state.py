"""What is registered in one project, at one revision: a frozen snapshot."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, TypeVar

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.definitions.base import fingerprint
from featurestore.errors import (
    FeatureStoreError,
    NotFoundError,
    RegistryError,
    RequestError,
    shown,
)

T = TypeVar("T")

KINDS: Final[tuple[type[Definition], ...]] = (
    Entity,
    FileSource,
    RequestSource,
    FeatureView,
    OnDemandFeatureView,
    FeatureService,
)
"""The kinds of objects in order of dependency: each refers only to those before it."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Names one object: kinds have names of their own, so a view and a service may share one."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRecord:
    """The newest version of one object, as a registry keeps it.

    Attributes:
        version: Counts up from 1 with every change, also across a deletion.
        generation: Of a view, see `RegisteredView`; None for the other kinds.
        deleted: Whether this version is a deletion; `document` is then the last one there was.
        document: What `Definition.to_document` wrote.
    """

    kind: str
    name: str
    version: int
    generation: int | None
    deleted: bool
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredView:
    """A view with what only the registry knows of it.

    Attributes:
        definition: The view, with the entities and the source of the same snapshot.
        generation: Counts up from 1 with every change of the view's meaning, never down: a view
            that is deleted and defined again goes on behind its last one, because an online store
            may still hold rows of it.
        version: Counts up with every change of any kind.
    """

    definition: FeatureView
    generation: int
    version: int


_MAPPINGS: Final = (
    "entities",
    "sources",
    "request_sources",
    "views",
    "on_demand_views",
    "services",
    "retired",
)


@dataclass(frozen=True, kw_only=True)
class RegistryState:
    """A project at one revision; mappings go from name to object, in order of names.

    Attributes:
        project: The project's name.
        revision: Counts the applied plans; 0 means that nothing was ever applied.
        retired: Name of a deleted view -> its last generation.
    """

    project: str
    revision: int = 0
    entities: Mapping[str, Entity] = field(default_factory=dict)
    sources: Mapping[str, FileSource] = field(default_factory=dict)
    request_sources: Mapping[str, RequestSource] = field(default_factory=dict)
    views: Mapping[str, RegisteredView] = field(default_factory=dict)
    on_demand_views: Mapping[str, OnDemandFeatureView] = field(default_factory=dict)
    services: Mapping[str, FeatureService] = field(default_factory=dict)
    retired: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _MAPPINGS:
            in_order = dict(sorted(getattr(self, name).items()))
            object.__setattr__(self, name, MappingProxyType(in_order))

    def entity(self, name: str) -> Entity:
        """Return the entity called `name`.

        Raises:
            NotFoundError: It is not registered; names that look alike are suggested.
        """
        return self._find(Entity.kind, name, self.entities)

    def source(self, name: str) -> FileSource:
        """Return the source called `name`; raises NotFoundError like `entity`."""
        return self._find(FileSource.kind, name, self.sources)

    def view(self, name: str) -> RegisteredView:
        """Return the view called `name`; raises NotFoundError like `entity`."""
        return self._find(FeatureView.kind, name, self.views)

    def online_views(self, names: Sequence[str] | None = None) -> list[RegisteredView]:
        """Return the views that are served online: all of them, or those named, in that order.

        Raises:
            NotFoundError: There is no such view.
            RequestError: One that was named is not served online.
        """
        if names is None:
            return [view for view in self.views.values() if view.definition.online]
        views = [self.view(name) for name in names]
        for view in views:
            if not view.definition.online:
                raise RequestError(f"View {view.definition.name!r} is not served online.")
        return views

    def request_source(self, name: str) -> RequestSource:
        """Return the request source called `name`; raises NotFoundError like `entity`."""
        return self._find(RequestSource.kind, name, self.request_sources)

    def on_demand_view(self, name: str) -> OnDemandFeatureView:
        """Return the on-demand view called `name`; raises NotFoundError like `entity`."""
        return self._find(OnDemandFeatureView.kind, name, self.on_demand_views)

    def service(self, name: str) -> FeatureService:
        """Return the service called `name`; raises NotFoundError like `entity`."""
        return self._find(FeatureService.kind, name, self.services)

    def _find(self, kind: str, name: str, known: Mapping[str, T]) -> T:
        if name not in known:
            raise NotFoundError(kind, name, known=known, where=f" in project {self.project!r}")
        return known[name]

    @property
    def definitions(self) -> tuple[Definition, ...]:
        """All objects, in order of dependency, then of name."""
        views = [view.definition for view in self.views.values()]
        return (
            *self.entities.values(),
            *self.sources.values(),
            *self.request_sources.values(),
            *views,
            *self.on_demand_views.values(),
            *self.services.values(),
        )

    @cached_property
    def content_hash(self) -> str:
        """A hash of what is defined, equal for equal definitions in any project or registry.

        Revision, versions and generations are not part of it: they say how it came to be.
        """
        return fingerprint([[d.kind, d.name, d.to_document()] for d in self.definitions])

    @cached_property
    def users(self) -> Mapping[ObjectRef, tuple[ObjectRef, ...]]:
        """Which views and services use an object, directly or through a view; unused ones lack."""
        found: dict[ObjectRef, list[ObjectRef]] = {}
        for definition in reversed(self.definitions):
            ref = ref_of(definition)
            users = [ref, *found.get(ref, ())]
            for used in parts_of(definition):
                found.setdefault(ref_of(used), []).extend(users)
        order = {ref_of(d): n for n, d in enumerate(self.definitions)}
        return {
            used: tuple(sorted(dict.fromkeys(users), key=order.__getitem__))
            for used, users in found.items()
        }


def ref_of(definition: Definition) -> ObjectRef:
    """Return what names a definition."""
    return ObjectRef(definition.kind, definition.name)


def parts_of(definition: Definition) -> tuple[Definition, ...]:
    """Return the definitions that one refers to directly."""
    if isinstance(definition, FeatureView):
        return (*definition.entities, definition.source, *definition.joins)
    if isinstance(definition, OnDemandFeatureView):
        return tuple(
            s.view if isinstance(s, FeatureViewSelection) else s for s in definition.origins
        )
    if isinstance(definition, FeatureService):
        return tuple(selection.view for selection in definition.selections)
    return ()


def build_state(project: str, revision: int, records: Iterable[ObjectRecord]) -> RegistryState:
    """Return the state that `records` (the newest version of each object) describe.

    Raises:
        RegistryError: A document is no definition, or names one that is not there; it says which.
    """
    live: dict[str, list[ObjectRecord]] = {kind.kind: [] for kind in KINDS}
    retired: dict[str, int] = {}
    for record in records:
        if not record.deleted:
            live.setdefault(record.kind, []).append(record)
        elif record.kind == FeatureView.kind:
            retired[record.name] = record.generation or 0
    _refuse_unknown_kinds(live)
    return _build(project, revision, live, retired)


def _refuse_unknown_kinds(live: Mapping[str, list[ObjectRecord]]) -> None:
    for kind in live.keys() - {known.kind for known in KINDS}:
        raise RegistryError(
            f"The registry holds {shown(kind)} {shown(live[kind][0].name)}, a kind of object that"
            " this version does not know.",
            hint="upgrade featurestore to the version that wrote it",
        )


def _build(
    project: str,
    revision: int,
    live: Mapping[str, list[ObjectRecord]],
    retired: Mapping[str, int],
) -> RegistryState:
    entities = {r.name: _read(r, Entity.from_document) for r in live[Entity.kind]}
    sources = {r.name: _read(r, FileSource.from_document) for r in live[FileSource.kind]}
    requests = {r.name: _read(r, RequestSource.from_document) for r in live[RequestSource.kind]}

    def read_view(document: Mapping[str, Any]) -> FeatureView:
        return FeatureView.from_document(document, entities=entities, sources=sources)

    def read_on_demand(document: Mapping[str, Any]) -> OnDemandFeatureView:
        return OnDemandFeatureView.from_document(
            document, views=definitions, request_sources=requests
        )

    def read_service(document: Mapping[str, Any]) -> FeatureService:
        return FeatureService.from_document(document, views=definitions, on_demand_views=on_demand)

    views = {r.name: _registered(r, _read(r, read_view)) for r in live[FeatureView.kind]}
    definitions = {name: view.definition for name, view in views.items()}
    on_demand = {r.name: _read(r, read_on_demand) for r in live[OnDemandFeatureView.kind]}
    services = {r.name: _read(r, read_service) for r in live[FeatureService.kind]}
    return RegistryState(
        project=project,
        revision=revision,
        entities=entities,
        sources=sources,
        request_sources=requests,
        views=views,
        on_demand_views=on_demand,
        services=services,
        retired=retired,
    )


def _registered(record: ObjectRecord, view: FeatureView) -> RegisteredView:
    if record.generation is None:
        raise _unreadable(record, "it has no generation")
    return RegisteredView(definition=view, generation=record.generation, version=record.version)


Read = TypeVar("Read", bound=Definition)


def _read(record: ObjectRecord, from_document: Callable[[Mapping[str, Any]], Read]) -> Read:
    """Parse one document; whatever is wrong with it becomes a RegistryError that names it."""
    try:
        definition = from_document(record.document)
    except FeatureStoreError as error:
        raise _unreadable(record, error.message) from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise _unreadable(record, f"{type(error).__name__} {error}") from error
    if definition.name != record.name:
        raise _unreadable(record, f"its document is called {shown(definition.name)}")
    return definition


def _unreadable(record: ObjectRecord, reason: str) -> RegistryError:
    return RegistryError(
        f"The registry's {record.kind} {shown(record.name)} (version {record.version}) cannot be"
        f" read: {reason}",
        hint="upgrade featurestore if a newer version wrote it, or restore the registry's backup",
    )

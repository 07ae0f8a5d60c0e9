"""From the objects that somebody wants applied to all definitions that there should be."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

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
from featurestore.definitions.base import Document
from featurestore.errors import DefinitionError, FeatureStoreError, shown
from featurestore.naming import duplicate_name
from featurestore.registry.fields import field_changes
from featurestore.registry.state import KINDS, ObjectRef, RegistryState, parts_of

D = TypeVar("D", bound=Definition)

MAX_OBJECTS: Final = 20_000
"""How many objects one project may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definitions:
    """Definitions that fit together: whatever one refers to is there, with the same content."""

    entities: Mapping[str, Entity]
    sources: Mapping[str, FileSource]
    request_sources: Mapping[str, RequestSource]
    views: Mapping[str, FeatureView]
    on_demand_views: Mapping[str, OnDemandFeatureView]
    services: Mapping[str, FeatureService]

    def of(self, kind: str) -> Mapping[str, Definition]:
        """Return the definitions of one kind by name."""
        by_kind: dict[str, Mapping[str, Definition]] = {
            Entity.kind: self.entities,
            FileSource.kind: self.sources,
            RequestSource.kind: self.request_sources,
            FeatureView.kind: self.views,
            OnDemandFeatureView.kind: self.on_demand_views,
            FeatureService.kind: self.services,
        }
        return by_kind.get(kind, {})


def definitions_of(state: RegistryState) -> Definitions:
    """Return what is registered."""
    return Definitions(
        entities=state.entities,
        sources=state.sources,
        request_sources=state.request_sources,
        views={name: view.definition for name, view in state.views.items()},
        on_demand_views=state.on_demand_views,
        services=state.services,
    )


def collect(desired: Iterable[Definition]) -> Definitions:
    """Return the objects given and all that they refer to.

    Raises:
        DefinitionError: Something is not a definition; one name has two different definitions; two
            names differ only by case.
    """
    found: dict[ObjectRef, _Found] = {}
    for definition in desired:
        if not isinstance(definition, KINDS):
            kinds = ", ".join(kind.__name__ for kind in KINDS)
            raise DefinitionError(
                f"A {type(definition).__name__} cannot be applied; what can is {kinds}."
            )
        _add(found, definition, "listed by itself")
    return checked(
        Definitions(
            entities=_of_type(found, Entity),
            sources=_of_type(found, FileSource),
            request_sources=_of_type(found, RequestSource),
            views=_of_type(found, FeatureView),
            on_demand_views=_of_type(found, OnDemandFeatureView),
            services=_of_type(found, FeatureService),
        )
    )


@dataclass(frozen=True, slots=True)
class _Found:
    definition: Definition
    document: Document
    origin: str


def _add(found: dict[ObjectRef, _Found], definition: Definition, origin: str) -> None:
    ref = ObjectRef(definition.kind, definition.name)
    known = found.get(ref)
    if known is not None and known.definition is definition:
        return
    new = _Found(definition, definition.to_document(), origin)
    if known is None:
        found[ref] = new
    elif known.document != new.document:
        raise _contradiction(ref, known, new)
    for part in parts_of(definition):
        _add(found, part, f"used by {definition.kind} {definition.name!r}")


def _contradiction(ref: ObjectRef, known: _Found, new: _Found) -> DefinitionError:
    first = field_changes(known.document, new.document)[0]
    return DefinitionError(
        f"There are two different definitions of {ref.kind} {ref.name!r}: one is {known.origin},"
        f" the other {new.origin}; they differ in {first.path}.",
        hint="define it once and use that object everywhere",
    )


def _of_type(found: Mapping[ObjectRef, _Found], kind: type[D]) -> dict[str, D]:
    return {
        ref.name: item.definition
        for ref, item in found.items()
        if isinstance(item.definition, kind)
    }


def checked(definitions: Definitions) -> Definitions:
    """Return `definitions` if their names differ by more than case and they are not too many.

    Raises:
        DefinitionError: They are not so.
    """
    total = 0
    for kind in KINDS:
        names = definitions.of(kind.kind)
        total += len(names)
        if (pair := duplicate_name(names)) is not None:
            raise DefinitionError(
                f"The names of {kind.kind} {shown(pair[0])} and {kind.kind} {shown(pair[1])} differ"
                " only by case.",
                hint="rename one of them",
            )
    _check_view_names(definitions)
    if total > MAX_OBJECTS:
        raise DefinitionError(f"{total:,} objects are too many; {MAX_OBJECTS:,} are allowed.")
    return definitions


def with_views(definitions: Definitions, views: Mapping[str, FeatureView]) -> Definitions:
    """Return `definitions` with other views under their names, which all others then use.

    Raises:
        DefinitionError: An on-demand view does not fit the types that views have now.
    """
    requests = definitions.request_sources
    on_demand = {
        name: OnDemandFeatureView.from_document(
            view.to_document(), views=views, request_sources=requests
        )
        for name, view in definitions.on_demand_views.items()
    }
    services = {n: _fitted_service(s, views, on_demand) for n, s in definitions.services.items()}
    return replace(definitions, views=views, on_demand_views=on_demand, services=services)


def with_on_demand_views(
    definitions: Definitions, on_demand: Mapping[str, OnDemandFeatureView]
) -> Definitions:
    """Return `definitions` with other on-demand views under their names, for services as well."""
    services = {
        name: _fitted_service(service, definitions.views, on_demand)
        for name, service in definitions.services.items()
    }
    return replace(definitions, on_demand_views=on_demand, services=services)


def _check_view_names(definitions: Definitions) -> None:
    """Refuse a view and an on-demand view of one name: "name:feature" would mean both."""
    taken = {name.casefold(): name for name in definitions.views}
    for name in definitions.on_demand_views:
        if (view := taken.get(name.casefold())) is not None:
            raise DefinitionError(
                f"Feature view {shown(view)} and on-demand feature view {shown(name)} share a name,"
                " by which features are asked for.",
                hint="rename one of them",
            )


def merged(state: RegistryState, given: Definitions) -> Definitions:
    """Return what is registered with `given` laid over it.

    Registered views and services that use something given use the new definition from then on.

    Raises:
        DefinitionError: A registered object does not fit a new definition; names clash.
    """
    entities = {**state.entities, **given.entities}
    sources = {**state.sources, **given.sources}
    views = {
        name: _fitted_view(registered.definition, entities, sources)
        for name, registered in state.views.items()
        if name not in given.views
    } | dict(given.views)
    requests = {**state.request_sources, **given.request_sources}
    on_demand = {
        name: _fitted_on_demand(view, views, requests)
        for name, view in state.on_demand_views.items()
        if name not in given.on_demand_views
    } | dict(given.on_demand_views)
    services = {
        name: _fitted_service(service, views, on_demand)
        for name, service in state.services.items()
        if name not in given.services
    } | dict(given.services)
    return checked(
        Definitions(
            entities=entities,
            sources=sources,
            request_sources=requests,
            views=views,
            on_demand_views=on_demand,
            services=services,
        )
    )


def _fitted_view(
    view: FeatureView, entities: Mapping[str, Entity], sources: Mapping[str, FileSource]
) -> FeatureView:
    is_same = all(sources[source.name] is source for source in (view.source, *view.joins))
    if is_same and all(entities[entity.name] is entity for entity in view.entities):
        return view
    try:
        return FeatureView.from_document(view.to_document(), entities=entities, sources=sources)
    except FeatureStoreError as error:
        raise _misfit(view, error) from None


def _fitted_on_demand(
    view: OnDemandFeatureView,
    views: Mapping[str, FeatureView],
    requests: Mapping[str, RequestSource],
) -> OnDemandFeatureView:
    def is_same(source: FeatureViewSelection | RequestSource) -> bool:
        if isinstance(source, FeatureViewSelection):
            return views[source.view.name] is source.view
        return requests[source.name] is source

    if all(map(is_same, view.origins)):
        return view
    try:
        return OnDemandFeatureView.from_document(
            view.to_document(), views=views, request_sources=requests
        )
    except FeatureStoreError as error:
        raise _misfit(view, error) from None


def _fitted_service(
    service: FeatureService,
    views: Mapping[str, FeatureView],
    on_demand: Mapping[str, OnDemandFeatureView],
) -> FeatureService:
    known: Mapping[str, FeatureView | OnDemandFeatureView] = {**views, **on_demand}
    if all(known[selection.view.name] is selection.view for selection in service.selections):
        return service
    try:
        return FeatureService.from_document(
            service.to_document(), views=views, on_demand_views=on_demand
        )
    except FeatureStoreError as error:
        raise _misfit(service, error) from None


def _misfit(definition: Definition, error: FeatureStoreError) -> DefinitionError:
    return DefinitionError(
        f"The registered {definition.kind} {definition.name!r} does not fit the new definitions:"
        f" {error.message}",
        hint=f"apply a {definition.kind} {definition.name!r} that does, together with them",
    )

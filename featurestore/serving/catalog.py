"""From the registry's state to what serving needs: plain data, handed to servers as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from featurestore.definitions import (
    FeatureService,
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
)
from featurestore.definitions.on_demand_inputs import Input, Scope
from featurestore.expressions.features import ComputedFeature, bound
from featurestore.online.store import TableId
from featurestore.registry.generations import LiveState
from featurestore.registry.state import RegisteredView
from featurestore.serving.computed import ServingFunction, ServingInput, ServingOnDemand
from featurestore.serving.plan import (
    ServingCatalog,
    ServingSelection,
    ServingService,
    ServingView,
)
from featurestore.time import Clock
from featurestore.types import type_name


def catalog_from_live(live: LiveState, *, clock: Clock) -> ServingCatalog:
    """Return all views that are served online, and all services made of them alone.

    While an older generation of a view is served, what is made of the view is served as it was
    then, unless it can be made of that generation as well.
    """
    state = live.state
    views = {view.name: serving_view(view.served, state.project) for view in live.online_views()}
    waiting = tuple(view.name for view in live.online_views() if view.is_pending)
    on_demand: dict[str, ServingOnDemand] = {}
    for name in state.on_demand_views:
        found = (s.on_demand_views.get(name) for s in (state, *live.older))
        view = next((v for v in found if v is not None and _can_compute(v, views)), None)
        if view is not None:
            on_demand[name] = serving_on_demand(view)
    services: dict[str, ServingService] = {}
    for name in state.services:
        known = (s.services.get(name) for s in (state, *live.older))
        service = next(
            (s for s in known if s is not None and _can_serve(s, views, on_demand)), None
        )
        if service is not None:
            services[name] = _as_defined(service, waiting) if waiting else serving_service(service)
    return ServingCatalog(
        project=state.project,
        revision=state.revision,
        switches=live.switches,
        clock=str(clock),
        views=views,
        services=services,
        on_demand=on_demand,
        waiting=waiting,
    )


def _as_defined(service: FeatureService, waiting: Sequence[str]) -> ServingService:
    """Return a service with the features that it was defined with, not all that are served."""
    selections = (
        replace(serving_selection(s), features=tuple(s.feature_names))
        if s.view.name in waiting
        else serving_selection(s)
        for s in service.selections
    )
    return ServingService(name=service.name, selections=tuple(selections))


def _can_compute(view: OnDemandFeatureView, views: Mapping[str, ServingView]) -> bool:
    """Whether the views that are served have all inputs, of the types that it was checked with."""
    origins = [s for s in view.origins if isinstance(s, FeatureViewSelection)]
    if not view.is_resolved or not all(_has_keys(s, views) for s in origins):
        return False
    return all(
        (given.name, type_name(given.dtype)) in views[given.origin.view.name].columns
        for given in view.inputs_of(view.feature_names)
        if isinstance(given.origin, FeatureViewSelection)
    )


def _can_serve(
    service: FeatureService,
    views: Mapping[str, ServingView],
    on_demand: Mapping[str, ServingOnDemand],
) -> bool:
    """Whether what is served has all features that a service names."""
    return all(
        set(selection.feature_names) <= _features(selection, views, on_demand)
        for selection in service.selections
    )


def _features(
    selection: FeatureViewSelection | OnDemandSelection,
    views: Mapping[str, ServingView],
    on_demand: Mapping[str, ServingOnDemand],
) -> set[str]:
    """Return the features that are served of what a selection is of."""
    if isinstance(selection, OnDemandSelection):
        found = on_demand.get(selection.name)
        return set() if found is None else set(found.types)
    if not _has_keys(selection, views):
        return set()
    return {name for name, _ in views[selection.view.name].columns}


def _has_keys(selection: FeatureViewSelection, views: Mapping[str, ServingView]) -> bool:
    """Whether the view is served, by the join keys that a selection knows."""
    view = views.get(selection.view.name)
    return view is not None and {name for name, _ in view.keys} == set(selection.view.join_keys)


def serving_view(view: RegisteredView, project: str) -> ServingView:
    """Return what a lookup needs to know of a view."""
    definition = view.definition
    return ServingView(
        name=definition.name,
        table=TableId(project=project, view=definition.name, generation=view.generation),
        ttl_us=definition.ttl_us,
        keys=tuple((name, type_name(dtype)) for name, dtype in definition.join_keys.items()),
        columns=tuple((field.name, type_name(field.dtype)) for field in definition.fields),
        empty=tuple(feature.empty_json() for feature in definition.window_features),
    )


def serving_service(service: FeatureService) -> ServingService:
    """Return what a lookup needs to know of a service."""
    return ServingService(
        name=service.name, selections=tuple(serving_selection(s) for s in service.selections)
    )


def serving_on_demand(view: OnDemandFeatureView) -> ServingOnDemand:
    """Return what a lookup needs to know of an on-demand view."""
    inputs = view.inputs_of(view.feature_names)
    scope, places = Scope(view.origins), [str(given) for given in inputs]
    features = (
        ComputedFeature(
            feature.name,
            type_name(feature.dtype),
            bound(feature.tree, lambda column: places.index(str(scope.find(column)))),
        )
        for feature in view.computed
    )
    return ServingOnDemand(
        name=view.name,
        keys=tuple((name, type_name(dtype)) for name, dtype in view.key_columns.items()),
        fields=tuple((name, type_name(dtype)) for name, dtype in view.request_fields.items()),
        inputs=tuple(map(_serving_input, inputs)),
        features=tuple(features),
        function=_serving_function(view),
    )


def _serving_function(view: OnDemandFeatureView) -> ServingFunction | None:
    if view.reference is None:
        return None
    return ServingFunction(
        reference=view.reference.path,
        sha256=view.reference.sha256,
        columns=tuple(view.columns),
        outputs=tuple((name, type_name(dtype)) for name, dtype in view.types.items()),
    )


def _serving_input(given: Input) -> ServingInput:
    dtype = type_name(given.dtype)
    if not isinstance(given.origin, FeatureViewSelection):
        return ServingInput(name=given.name, dtype=dtype)
    return ServingInput(
        name=given.name,
        dtype=dtype,
        view=given.origin.view.name,
        alias=given.origin.alias,
        key_columns=tuple(given.origin.key_columns.items()),
    )


def serving_selection(selection: FeatureViewSelection | OnDemandSelection) -> ServingSelection:
    """Return what a lookup needs to know of a view as it is used."""
    if isinstance(selection, OnDemandSelection):
        return ServingSelection(view=selection.name, features=selection.features)
    return ServingSelection(
        view=selection.view.name,
        alias=selection.alias,
        features=selection.features,
        key_columns=tuple(selection.key_columns.items()),
    )

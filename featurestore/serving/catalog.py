"""From the registry's state to what serving needs: plain data, handed to servers as JSON."""

from featurestore.definitions import (
    FeatureService,
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
)
from featurestore.definitions.on_demand_inputs import Input, Scope
from featurestore.expressions.features import ComputedFeature, bound
from featurestore.online.store import TableId
from featurestore.registry.state import RegisteredView, RegistryState
from featurestore.serving.computed import ServingFunction, ServingInput, ServingOnDemand
from featurestore.serving.plan import (
    ServingCatalog,
    ServingSelection,
    ServingService,
    ServingView,
)
from featurestore.time import Clock
from featurestore.types import type_name


def catalog_from_state(state: RegistryState, *, clock: Clock) -> ServingCatalog:
    """Return all views that are served online, and all services made of them alone."""
    views = {
        name: serving_view(view, state.project)
        for name, view in state.views.items()
        if view.definition.online
    }
    on_demand = {
        name: serving_on_demand(view)
        for name, view in state.on_demand_views.items()
        if view.is_resolved
        and all(s.view.name in views for s in view.origins if isinstance(s, FeatureViewSelection))
    }
    services = {
        name: serving_service(service)
        for name, service in state.services.items()
        if all(s.view.name in views or s.view.name in on_demand for s in service.selections)
    }
    return ServingCatalog(
        project=state.project,
        revision=state.revision,
        clock=str(clock),
        views=views,
        services=services,
        on_demand=on_demand,
    )


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

"""From the registry's state to what serving needs: plain data, handed to servers as JSON."""

from featurestore.definitions import FeatureService, FeatureViewSelection
from featurestore.online.store import TableId
from featurestore.registry.state import RegisteredView, RegistryState
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
    services = {
        name: serving_service(service)
        for name, service in state.services.items()
        if all(s.view.name in views for s in service.selections)
    }
    return ServingCatalog(
        project=state.project,
        revision=state.revision,
        clock=str(clock),
        views=views,
        services=services,
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


def serving_selection(selection: FeatureViewSelection) -> ServingSelection:
    """Return what a lookup needs to know of a view as it is used."""
    return ServingSelection(
        view=selection.view.name,
        alias=selection.alias,
        features=selection.features,
        key_columns=tuple(selection.key_columns.items()),
    )

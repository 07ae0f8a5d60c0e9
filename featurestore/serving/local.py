"""Lookups in this process: what `FeatureStore.get_online_features` does."""

from collections.abc import Mapping, Sequence
from typing import Any

from featurestore.definitions import (
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
)
from featurestore.errors import EntityValueError, RequestError
from featurestore.functions import FunctionLoader
from featurestore.online.store import OnlineStore
from featurestore.serving.catalog import serving_selection, serving_service
from featurestore.serving.on_demand import open_lookup
from featurestore.serving.plan import ServingCatalog, ServingSelection, ServingService
from featurestore.serving.response import OnlineResponse
from featurestore.time import Clock

Selectable = FeatureView | FeatureViewSelection | OnDemandFeatureView | OnDemandSelection
EntityRows = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]


def look_up(
    store: OnlineStore,
    catalog: ServingCatalog,
    features: str | FeatureService | Sequence[str | Selectable],
    entity_rows: EntityRows,
    *,
    clock: Clock,
    functions: FunctionLoader,
    full_feature_names: bool,
) -> OnlineResponse:
    """Return the newest features of some entities; see `FeatureStore.get_online_features`."""
    asked = _request(features, catalog)
    plan = catalog.prepare(asked, full_feature_names=full_feature_names)
    lookup = open_lookup(store, plan, clock, functions=functions)
    count = None if isinstance(entity_rows, Mapping) else len(entity_rows)
    return OnlineResponse(lookup.run(to_columns(entity_rows), count=count))


def _request(
    features: str | FeatureService | Sequence[str | Selectable],
    catalog: ServingCatalog,
) -> str | ServingService | list[str | ServingSelection]:
    if isinstance(features, str):
        return features
    if isinstance(features, FeatureService):
        service = serving_service(features)
        _check_served([s.view for s in service.selections], catalog)
        return service
    asked: list[str | ServingSelection] = []
    for item in features:
        if isinstance(item, str):
            asked.append(item)
        elif isinstance(item, Selectable):
            whole = FeatureView | OnDemandFeatureView
            selection = item.select() if isinstance(item, whole) else item
            _check_served([selection.view.name], catalog)
            asked.append(serving_selection(selection))
        else:
            raise RequestError(f"A feature cannot be asked for by a {type(item).__name__}.")
    return asked


def _check_served(views: Sequence[str], catalog: ServingCatalog) -> None:
    for view in views:
        if view not in catalog.on_demand:
            catalog.view(view)


def to_columns(entity_rows: EntityRows) -> dict[str, Sequence[Any]]:
    """Return rows as columns; a dict of columns is taken as it is.

    Raises:
        EntityValueError: Rows do not all have the same fields; it names the field and the row.
        RequestError: There is no row.
    """
    if isinstance(entity_rows, Mapping):
        return dict(entity_rows)
    rows = list(entity_rows)
    if not rows:
        raise RequestError("The request holds no entity.", hint="pass at least one row")
    names = list(rows[0])
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            field = str(next(iter(row.keys() ^ rows[0].keys())))
            raise EntityValueError(
                f"Row {number} and row 0 do not have the same fields: {field!r} is in one of them.",
                field=field,
                row=number,
            )
    return {name: [row[name] for row in rows] for name in names}

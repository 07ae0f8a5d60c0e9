"""How `list` and `describe` show request sources and on-demand feature views."""

from typing import TYPE_CHECKING, Any

from featurestore.cli.output import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from featurestore.definitions import OnDemandFeatureView, RequestSource
    from featurestore.registry.state import RegistryState
    from featurestore.store import FeatureStore

Listing = tuple["Sequence[str]", list[tuple[object, ...]], dict[str, Any]]
Table = tuple[tuple[str, ...], list[tuple[object, ...]]]


def list_request_sources(store: "FeatureStore") -> Listing:
    """Return headers and rows for people, and the same as JSON."""
    sources = store.list_request_sources()
    rows: list[tuple[object, ...]] = [(s.name, fields_text(s), s.description) for s in sources]
    documents = [source.to_document() for source in sources]
    return ("request source", "fields", "description"), rows, {"request_sources": documents}


def list_on_demand_views(store: "FeatureStore") -> Listing:
    """Return headers and rows for people, and the same as JSON."""
    views = store.list_on_demand_feature_views()
    headers = ("on-demand view", "features", "from", "owner", "description")
    rows: list[tuple[object, ...]] = [
        (v.name, len(v.types), sources_text(v), v.owner, v.description) for v in views
    ]
    return headers, rows, {"on_demand_views": [view_document(v) for v in views]}


def fields_text(source: "RequestSource") -> str:
    """Return a request source's fields with their types: `amount float64, device string`."""
    from featurestore.types import type_name

    return listed(f"{name} {type_name(dtype)}" for name, dtype in source.schema_types.items())


def sources_text(view: "OnDemandFeatureView") -> str:
    """Return what an on-demand view is computed from."""
    return listed(source.name for source in view.origins)


def view_document(view: "OnDemandFeatureView") -> dict[str, Any]:
    """Return an on-demand view as JSON-ready data, without what its expressions were read into."""
    document = view.to_document()
    if view.reference is not None:
        return document
    features = [{k: v for k, v in f.items() if k != "tree"} for f in document["features"]]
    return {**document, "features": features}


def field_table(source: "RequestSource") -> Table:
    """Return a request source's fields as a table."""
    rows = [(f["name"], f["dtype"], f["description"]) for f in source.to_document()["schema"]]
    return ("field", "type", "description"), list(rows)


def feature_table(view: "OnDemandFeatureView") -> Table:
    """Return an on-demand view's features as a table."""
    document = view_document(view)
    if view.reference is not None:
        outputs = [(f["name"], f["dtype"], f["description"]) for f in document["schema"]]
        return ("feature", "type", "description"), list(outputs)
    rows = [(f["name"], f["dtype"], f["expression"]) for f in document["features"]]
    return ("feature", "type", "expression"), list(rows)


def function_facts(view: "OnDemandFeatureView") -> dict[str, str]:
    """Return which function yields an on-demand view's features, and what it gets; or nothing."""
    if view.reference is None:
        return {}
    return {
        "function": view.reference.path,
        "module's SHA-256": view.reference.sha256,
        "gets": listed(view.columns),
    }


def brought_text(view: "OnDemandFeatureView") -> str:
    """Return the request fields that a caller brings."""
    return listed(view.request_fields) or "nothing"


def names(state: "RegistryState") -> dict[str, Any]:
    """Return the objects of this module by the names of their kinds in `describe`."""
    return {"request": state.request_sources, "on-demand": state.on_demand_views}

"""`list`: what is registered, and the runs that materialized it."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli.completion import complete_views
from featurestore.cli.on_demand import list_on_demand_views, list_request_sources
from featurestore.cli.output import listed, print_table
from featurestore.cli.session import Session

if TYPE_CHECKING:
    from featurestore.definitions import Entity, FeatureService, FileSource
    from featurestore.registry.generations import LiveView
    from featurestore.registry.runs import RunRecord, Watermark
    from featurestore.store import FeatureStore


RUN_HEADERS: Final = (
    "view",
    "kind",
    "up to",
    "status",
    "read",
    "written",
    "kept newer",
    "skipped",
    "seconds",
    "finished",
    "error",
)


class Kind(StrEnum):
    """What can be listed."""

    ENTITIES = "entities"
    SOURCES = "sources"
    REQUEST_SOURCES = "request-sources"
    VIEWS = "views"
    ON_DEMAND_VIEWS = "on-demand-views"
    SERVICES = "services"
    RUNS = "runs"


def list_objects(
    context: typer.Context,
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list [default: all objects].", show_default=False)
    ] = None,
    *,
    view: Annotated[
        str | None,
        typer.Option(
            "--view",
            metavar="NAME",
            help="Runs of this view only.",
            autocompletion=complete_views,
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many runs.")] = 50,
) -> None:
    """List registered objects, or runs."""
    session = Session.of(context)
    with session.store() as store:
        if kind is Kind.RUNS:
            headers, rows, document = _runs(store, view, limit)
        elif kind is None:
            headers, rows, document = _everything(store)
        else:
            headers, rows, document = _LISTS[kind](store)
        project = store.project
    if session.as_json:
        session.answer({"project": project, **document})
    elif rows:
        print_table(session.out, headers, rows)
    else:
        session.note(f"Project {project} has no {kind or 'objects'} yet.")


Listing = tuple[Sequence[str], list[tuple[object, ...]], dict[str, Any]]
"""Headers and rows for people, and the same as JSON."""


def _everything(store: "FeatureStore") -> Listing:
    state = store.state()
    rows = [(d.kind, d.name, d.owner, d.description) for d in state.definitions]
    document = {"revision": state.revision}
    for lists in _LISTS.values():
        document |= lists(store)[2]
    return ("kind", "name", "owner", "description"), list(rows), document


def _entities(store: "FeatureStore") -> Listing:
    entities = store.list_entities()
    headers = ("entity", "join keys", "description")
    rows = [(e.name, keys_text(e), e.description) for e in entities]
    return headers, list(rows), {"entities": [e.to_document() for e in entities]}


def keys_text(entity: "Entity") -> str:
    """Return an entity's keys with their types: `origin string, dest string`."""
    from featurestore.types import type_name

    return listed(f"{name} {type_name(dtype)}" for name, dtype in entity.join_keys.items())


def _sources(store: "FeatureStore") -> Listing:
    sources = store.list_sources()
    headers = ("source", "path", "event time", "created time", "zone", "description")
    rows = [_source_row(source) for source in sources]
    return headers, rows, {"sources": [s.to_document() for s in sources]}


def _source_row(source: "FileSource") -> tuple[object, ...]:
    return (
        source.name,
        source.path,
        source.timestamp_field or "static",
        source.created_timestamp_column,
        source.timezone,
        source.description,
    )


def _views(store: "FeatureStore") -> Listing:
    views = store.live_state().views
    marks = {name: watermark(store, view) for name, view in views.items()}
    headers = ("view", "entities", "features", "source", "ttl", "online", "gen.", "online up to")
    rows = [_view_row(view, marks[name]) for name, view in views.items()]
    documents = [view_document(view, marks[name]) for name, view in views.items()]
    return headers, rows, {"views": documents}


def watermark(store: "FeatureStore", view: "LiveView") -> "Watermark | None":
    """Return how far the generation of a view that lookups read is materialized."""
    return store.registry.watermark(store.project, view.name, view.served.generation)


def _view_row(view: "LiveView", mark: "Watermark | None") -> tuple[object, ...]:
    definition = view.newest.definition
    return (
        definition.name,
        listed(entity.name for entity in definition.entities),
        len(definition.fields),
        definition.source.name,
        definition.to_document()["ttl"],
        "yes" if definition.online else "no",
        live_text(view),
        end_text(mark) or ("never" if definition.online else None),
    )


def generation_text(*, served: int, newest: int, kept: int | None) -> str:
    """Return what is served and what is written besides."""
    besides = sorted({newest, *(() if kept is None else (kept,))} - {served})
    return f"{served} (and {', '.join(map(str, besides))})" if besides else str(served)


def live_text(view: "LiveView") -> str:
    """Return the generations of a view that are alive."""
    kept = None if view.kept is None else view.kept.generation
    return generation_text(served=view.served.generation, newest=view.newest.generation, kept=kept)


def end_text(mark: "Watermark | None") -> str | None:
    """Return the end of the last run that counts, RFC 3339."""
    from featurestore.time import format_instant, from_micros

    return None if mark is None else format_instant(from_micros(mark.end_us))


def view_document(view: "LiveView", mark: "Watermark | None") -> dict[str, Any]:
    """Return a view with what only the registry knows of it, as JSON-ready data."""
    return {
        **view.newest.definition.to_document(),
        "generation": view.newest.generation,
        "served_generation": view.served.generation,
        "version": view.newest.version,
        "materialized_until": end_text(mark),
    }


def _services(store: "FeatureStore") -> Listing:
    services = store.list_feature_services()
    headers = ("service", "features", "views", "owner", "description")
    rows = [_service_row(service) for service in services]
    return headers, rows, {"services": [s.to_document() for s in services]}


def _service_row(service: "FeatureService") -> tuple[object, ...]:
    return (
        service.name,
        sum(len(s.feature_names) for s in service.selections),
        listed(s.name for s in service.selections),
        service.owner,
        service.description,
    )


def _runs(store: "FeatureStore", view: str | None, limit: int) -> Listing:
    if view is not None:
        store.state().view(view)
    runs = store.registry.runs(store.project, view, limit=limit)
    rows = [run_row(run) for run in runs]
    return RUN_HEADERS, rows, {"runs": [run_document(run) for run in runs]}


def run_row(run: "RunRecord") -> tuple[object, ...]:
    """Return a recorded run as a row below `RUN_HEADERS`."""
    document = run_document(run)
    return (
        run.view,
        run.kind,
        document["end"],
        run.status,
        run.rows_read,
        run.rows_written,
        run.rows_kept,
        run.rows_skipped,
        f"{run.seconds:.2f}",
        document["finished_at"],
        run.error,
    )


def run_document(run: "RunRecord") -> dict[str, Any]:
    """Return a recorded run as JSON-ready data; times are RFC 3339."""
    from featurestore.time import format_instant, from_micros

    start = None if run.start_us is None else format_instant(from_micros(run.start_us))
    return {
        "view": run.view,
        "generation": run.generation,
        "kind": run.kind,
        "start": start,
        "end": format_instant(from_micros(run.end_us)),
        "status": run.status,
        "rows_read": run.rows_read,
        "rows_written": run.rows_written,
        "rows_kept": run.rows_kept,
        "rows_skipped": run.rows_skipped,
        "files": run.file_count,
        "seconds": round(run.seconds, 3),
        "started_at": format_instant(run.started_at),
        "finished_at": format_instant(run.finished_at),
        "error": run.error,
    }


_LISTS: Final[dict[Kind, Callable[["FeatureStore"], Listing]]] = {
    Kind.ENTITIES: _entities,
    Kind.SOURCES: _sources,
    Kind.REQUEST_SOURCES: list_request_sources,
    Kind.VIEWS: _views,
    Kind.ON_DEMAND_VIEWS: list_on_demand_views,
    Kind.SERVICES: _services,
}

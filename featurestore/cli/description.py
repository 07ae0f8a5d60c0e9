"""`describe`: all that is known of one object."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli import on_demand
from featurestore.cli.completion import complete_objects
from featurestore.cli.lateness import describe_lateness
from featurestore.cli.listing import (
    end_text,
    keys_text,
    live_text,
    run_document,
    view_document,
    watermark,
)
from featurestore.cli.output import counted, listed, print_facts, print_heading, print_table
from featurestore.cli.profiles import Charts, Svg, describe_statistics
from featurestore.cli.session import Session, UsageError
from featurestore.cli.validation import last_validation, last_validation_text
from featurestore.errors import NotFoundError, RequestError, SourceError

if TYPE_CHECKING:
    from featurestore.definitions import Definition, FeatureService, FeatureView, FileSource
    from featurestore.registry.state import ObjectRef, RegistryState
    from featurestore.registry.validations import ValidationRecord
    from featurestore.store import FeatureStore

MAX_SHOWN_FILES: Final = 20


Lateness = Annotated[
    bool,
    typer.Option(
        "--lateness", help="Of a source: read how long after their event rows were written."
    ),
]
Stats = Annotated[
    bool, typer.Option("--stats", help="Of a view or source: read it for its statistics.")
]
Start = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="TIME",
        help="--lateness or --stats of events after this RFC 3339 instant.",
    ),
]
End = Annotated[
    str | None,
    typer.Option(
        "--end", metavar="TIME", help="--lateness or --stats of events up to this instant."
    ),
]


@dataclass(kw_only=True)
class Description:
    """What is told of an object.

    Attributes:
        kind: As in "feature view".
        name: Its name.
        facts: What fits a line each.
        tables: Heading -> headers and rows.
        document: The same as JSON.
    """

    kind: str
    name: str
    facts: dict[str, object]
    document: dict[str, Any]
    tables: dict[str, tuple[Sequence[str], list[tuple[object, ...]]]] = field(default_factory=dict)


def describe(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A name, or kind/name: entity/x, source/x, request/x, view/x, on-demand/x,"
            " service/x.",
            autocompletion=complete_objects,
        ),
    ],
    *,
    lateness: Lateness = False,
    stats: Stats = False,
    start: Start = None,
    end: End = None,
    svg: Svg = None,
    charts: Charts = False,
) -> None:
    """Show all that is known of one object.

    Its schema, its files, how far it is materialized, who uses it.
    """
    session = Session.of(context)
    _check(lateness=lateness, stats=stats, bounded=start or end, drawn=svg or charts)
    with session.store() as store:
        kind, plain_name = _find(name, store.state())
        if stats:
            bounds = {"start": start, "end": end}
            describe_statistics(session, store, kind, plain_name, **bounds, svg=svg, charts=charts)
            return
        if lateness:
            describe_lateness(session, store, kind, plain_name, start=start, end=end)
            return
        told = _DESCRIBERS[kind](store, store.state(), plain_name)
    if session.as_json:
        session.answer({"kind": told.kind, "name": told.name, **told.document})
        return
    print_heading(session.out, f"{told.kind} {told.name}", apart=False)
    print_facts(session.out, told.facts)
    for heading, (headers, rows) in told.tables.items():
        print_heading(session.out, heading)
        print_table(session.out, headers, rows)


def _check(*, lateness: bool, stats: bool, bounded: object, drawn: object) -> None:
    """Refuse options that do not go together."""
    if lateness and stats:
        raise UsageError("--lateness and --stats are asked for one at a time.")
    if bounded and not (lateness or stats):
        raise UsageError("--start and --end are bounds of --lateness or --stats.")
    if drawn and not stats:
        raise UsageError("--svg and --charts draw --stats.")


def _find(name: str, state: "RegistryState") -> tuple[str, str]:
    """Return the kind and the name of the object that `NAME` or `KIND/NAME` means.

    Raises:
        NotFoundError: There is none.
        RequestError: There are several.
    """
    kind, slash, rest = name.partition("/")
    if slash:
        if kind not in _DESCRIBERS:
            raise NotFoundError("kind of object", kind, known=_DESCRIBERS)
        return kind, rest
    known = _names(state)
    kinds = [kind for kind, names in known.items() if name in names]
    if not kinds:
        everything = {each for names in known.values() for each in names}
        where = f" in project {state.project!r}"
        raise NotFoundError("object", name, known=sorted(everything), where=where)
    if len(kinds) > 1:
        raise RequestError(
            f"{name!r} names several objects.",
            hint=f"write {' or '.join(f'{kind}/{name}' for kind in kinds)}",
        )
    return kinds[0], name


def _names(state: "RegistryState") -> Mapping[str, Mapping[str, object]]:
    return {
        "entity": state.entities,
        "source": state.sources,
        "view": state.views,
        "service": state.services,
        **on_demand.names(state),
    }


def _common(definition: "Definition", state: "RegistryState") -> dict[str, object]:
    return {
        "description": definition.description,
        "owner": definition.owner,
        "tags": listed(f"{key}={value}" for key, value in definition.tags.items()),
        "used by": listed(_users(definition, state)),
    }


def _users(definition: "Definition", state: "RegistryState") -> "Sequence[ObjectRef]":
    from featurestore.registry.state import ObjectRef

    return state.users.get(ObjectRef(definition.kind, definition.name), ())


def _used_by(definition: "Definition", state: "RegistryState") -> dict[str, Any]:
    users = _users(definition, state)
    return {"used_by": [{"kind": user.kind, "name": user.name} for user in users]}


def _entity(_store: "FeatureStore", state: "RegistryState", name: str) -> Description:
    entity = state.entity(name)
    return Description(
        kind=entity.kind,
        name=name,
        facts={"join keys": keys_text(entity), **_common(entity, state)},
        document={**entity.to_document(), **_used_by(entity, state)},
    )


def _source(store: "FeatureStore", state: "RegistryState", name: str) -> Description:
    source = state.source(name)
    document = source.to_document()
    files, problem = _files(source, store)
    rows = [file["rows"] for file in files]
    facts = {
        "path": source.path,
        "event time": source.timestamp_field or "none: static, as it is today, for all times",
        "created time": source.created_timestamp_column,
        "zone": f"{source.timezone} (ambiguous: {source.ambiguous}, missing: {source.missing})",
        "lateness": document["lateness"] if source.lateness else None,
        "renamed": listed(f"{old} -> {new}" for old, new in source.field_mapping.items()),
        "dedup keys": listed(source.dedup_keys or ()),
        "files": f"{counted(len(files), 'file')}, {counted(sum(rows), 'row')}",
        "problem": problem,
        "last validation": last_validation_text(_validation(store, source)),
        **_common(source, state),
    }
    shown = [(file["path"], file["rows"], file["bytes"]) for file in files[:MAX_SHOWN_FILES]]
    title = "files" if len(shown) == len(files) else f"the first {len(shown)} files"
    return Description(
        kind=source.kind,
        name=name,
        facts=facts,
        tables={
            **_contract_table(source),
            **({title: (("file", "rows", "bytes"), list(shown))} if shown else {}),
        },
        document={
            **document,
            "files": files,
            "problem": problem,
            "last_validation": last_validation(_validation(store, source)),
            **_used_by(source, state),
        },
    )


def _files(source: "FileSource", store: "FeatureStore") -> tuple[list[dict[str, Any]], str | None]:
    """Return a source's files with what their footers say, or why there is nothing to say."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from featurestore.offline.files import list_files

    try:
        found = list_files(source, store.config.root)
    except SourceError as error:
        return [], error.message
    files: list[dict[str, Any]] = []
    for file in found:
        try:
            rows = pq.read_metadata(file.path).num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            return files, f"{file.path} is not a readable Parquet file ({type(error).__name__})"
        files.append({"path": file.path, "rows": rows, "bytes": file.size})
    return files, None


def _view(store: "FeatureStore", state: "RegistryState", name: str) -> Description:
    view = store.live_state().view(name)
    definition = view.newest.definition
    mark = watermark(store, view)
    runs = store.registry.runs(store.project, name, limit=1)
    document = view_document(view, mark)
    transform = definition.row_transform
    return Description(
        kind=definition.kind,
        name=name,
        facts={
            "entities": listed(f"{e.name} ({keys_text(e)})" for e in definition.entities) or "none",
            "source": definition.source.name,
            "transform": None if transform is None else " ".join(transform.sql.split()),
            "joins": "; ".join(map(_join_text, definition.joins)),
            "ttl": document["ttl"] or "none: values never expire",
            "online": "yes" if definition.online else "no",
            "generation": live_text(view),
            "version": str(view.newest.version),
            "online up to": end_text(mark) or "never materialized",
            "last run": _last_run(run_document(runs[0])) if runs else None,
            "last validation": last_validation_text(_validation(store, definition)),
            **_common(definition, state),
        },
        tables={
            "features": _feature_table(definition, document["schema"]),
            **_contract_table(definition),
        },
        document={
            **document,
            "last_run": run_document(runs[0]) if runs else None,
            "last_validation": last_validation(_validation(store, definition)),
            **_used_by(definition, state),
        },
    )


def _contract_table(
    owner: "FileSource | FeatureView",
) -> dict[str, tuple[Sequence[str], list[tuple[object, ...]]]]:
    """Return the rules of a source or view under their heading; without any, nothing."""
    rules: list[tuple[object, ...]] = [(r.name, r.policy, r.text) for r in owner.contract]
    return {"contract": (("rule", "policy", "what holds"), rules)} if rules else {}


def _validation(store: "FeatureStore", owner: "Definition") -> "ValidationRecord | None":
    found = store.registry.validations(store.project, owner.kind, owner.name, limit=1)
    return found[0] if found else None


def _join_text(source: "FileSource") -> str:
    if source.static:
        return f"static: {source.name} - its rows are taken as they are today, for all times"
    return f"{source.name}, as of each row's time"


def _feature_table(
    view: "FeatureView", fields: list[dict[str, Any]]
) -> tuple[Sequence[str], list[tuple[object, ...]]]:
    """Return the features; with the columns that they come from, where these are others."""
    shown = [(f["name"], f["dtype"], f["description"], _tags(f["tags"])) for f in fields]
    headers = ("feature", "type", "description", "tags")
    if all(columns == [name] for name, columns in view.lineage.items()):
        return headers, list(shown)
    origins = view.lineage
    return (*headers, "from"), [(*row, listed(origins[str(row[0])])) for row in shown]


def _last_run(run: Mapping[str, Any]) -> str:
    text = (
        f"{run['status']} at {run['finished_at']}: {run['kind']}, {run['rows_written']:,} written"
    )
    return f"{text}; {run['error']}" if run["error"] else text


def _tags(tags: Mapping[str, str]) -> str:
    return listed(f"{key}={value}" for key, value in tags.items())


def _request_source(_store: "FeatureStore", state: "RegistryState", name: str) -> Description:
    source = state.request_source(name)
    return Description(
        kind=source.kind,
        name=name,
        facts=_common(source, state),
        tables={"fields": on_demand.field_table(source)},
        document={**source.to_document(), **_used_by(source, state)},
    )


def _on_demand_view(_store: "FeatureStore", state: "RegistryState", name: str) -> Description:
    view = state.on_demand_view(name)
    return Description(
        kind=view.kind,
        name=name,
        facts={
            "computed from": on_demand.sources_text(view),
            **on_demand.function_facts(view),
            "asks for": on_demand.brought_text(view),
            **_common(view, state),
        },
        tables={"features": on_demand.feature_table(view)},
        document={**on_demand.view_document(view), **_used_by(view, state)},
    )


def _service(_store: "FeatureStore", state: "RegistryState", name: str) -> Description:
    from featurestore.types import type_name

    service = state.service(name)
    features: list[dict[str, Any]] = [
        {
            "name": feature,
            "type": type_name(selection.view.field(feature).dtype),
            "view": selection.view.name,
            "role": selection.name,
            "keys": getattr(selection, "key_columns", {}),
        }
        for selection in service.selections
        for feature in selection.feature_names
    ]
    keys = dict.fromkeys(column for f in features for column in f["keys"].values())
    keys |= _brought(service)
    rows = [(f["name"], f["type"], f["role"], f["view"], _keys(f["keys"])) for f in features]
    return Description(
        kind=service.kind,
        name=name,
        facts={"asked by": listed(keys) or "nothing", **_common(service, state)},
        tables={"features": (("feature", "type", "role", "view", "keys"), list(rows))},
        document={**service.to_document(), "columns": features, "keys": list(keys)},
    )


def _brought(service: "FeatureService") -> dict[str, None]:
    """Return the keys and request fields that the service's on-demand features need."""
    from featurestore.definitions import FeatureViewSelection, OnDemandSelection

    found: dict[str, None] = {}
    for selection in service.selections:
        if isinstance(selection, OnDemandSelection):
            for given in selection.view.inputs_of(selection.feature_names):
                if isinstance(given.origin, FeatureViewSelection):
                    found |= dict.fromkeys(given.origin.key_columns.values())
            found |= dict.fromkeys(selection.view.request_fields)
    return found


def _keys(columns: Mapping[str, str]) -> str:
    pairs = columns.items()
    return listed(key if key == column else f"{key} = {column}" for key, column in pairs)


_DESCRIBERS: Final[dict[str, Callable[["FeatureStore", "RegistryState", str], Description]]] = {
    "entity": _entity,
    "source": _source,
    "request": _request_source,
    "view": _view,
    "on-demand": _on_demand_view,
    "service": _service,
}

"""`get-online` and `serve`: what the online store has, here and over the network."""

from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli.completion import complete_features
from featurestore.cli.features import feature_request
from featurestore.cli.output import print_table
from featurestore.cli.session import Session
from featurestore.cli.values import entity_row, json_column, text
from featurestore.errors import MissingExtraError, UnsupportedError
from featurestore.time import MICROSECOND, format_instant

if TYPE_CHECKING:
    from datetime import timedelta

    from featurestore.config import RepoConfig
    from featurestore.serving.plan import LookupPlan
    from featurestore.serving.response import OnlineResponse
    from featurestore.store import FeatureStore

SERVERS: Final = "featurestore.server"
"""Entry points that can serve: the core does not know the wire, it finds who does."""


def get_online(
    context: typer.Context,
    features: Annotated[
        list[str],
        typer.Argument(
            metavar="SERVICE|VIEW:FEATURE,...",
            help="A feature service, or features by name.",
            autocompletion=complete_features,
        ),
    ],
    *,
    entity: Annotated[
        list[str] | None,
        typer.Option(
            "--entity",
            "-e",
            metavar="KEY=VALUE,...",
            help="Whose features: user_id=42, or origin=JFK,dest=LAX, or a JSON object; may be"
            " repeated.",
        ),
    ] = None,
    full_feature_names: Annotated[
        bool, typer.Option("--full-feature-names", help="Name columns view__feature.")
    ] = False,
) -> None:
    """Look up the newest features of entities, with their statuses and their age."""
    session = Session.of(context)
    request = feature_request(features)
    with session.store() as store:
        plan = store.serving_catalog().prepare(request, full_feature_names=full_feature_names)
        types = dict(plan.columns)
        rows = [entity_row(e, types, row=n) for n, e in enumerate(entity or [""])]
        response = store.get_online_features(
            request, rows, full_feature_names=full_feature_names
        )
    _show(session, plan, response)


def _show(session: Session, plan: "LookupPlan", response: "OnlineResponse") -> None:
    keys = [name for name, _ in plan.columns]
    cells = list(_cells(plan, response))
    if not session.as_json:
        headers = (*keys, "feature", "value", "status", "age", "event time")
        print_table(session.out, headers, (_row(cell) for cell in cells))
        return
    entities: list[dict[str, Any]] = []
    for cell in cells:
        if cell["feature"] == plan.outputs[0].name:
            entities.append({"keys": dict(zip(keys, cell["keys"], strict=True)), "features": {}})
        told = {k: cell[k] for k in ("value", "status", "event_time", "age_s")}
        entities[-1]["features"][cell["feature"]] = told
    session.answer(
        {
            "request_time": format_instant(response.request_timestamp),
            "features": [
                {"name": o.name, "type": o.dtype, "view": plan.reads[o.read].role}
                for o in plan.outputs
            ],
            "entities": entities,
        }
    )


def _cells(plan: "LookupPlan", response: "OnlineResponse") -> Iterator[dict[str, Any]]:
    """Yield every value with what belongs to it: entities as asked, then features as asked."""
    table = response.to_arrow()
    columns = {name: json_column(table.column(name)) for name in table.column_names}
    for row in range(table.num_rows):
        keys = [columns[name][row] for name, _ in plan.columns]
        for output in plan.outputs:
            event = response.event_timestamps[plan.reads[output.read].role][row]
            age = None if event is None else response.request_timestamp - event
            yield {
                "keys": keys,
                "feature": output.name,
                "value": columns[output.name][row],
                "status": response.statuses[output.name][row].name,
                "event_time": None if event is None else format_instant(event),
                "age": age,
                "age_s": None if age is None else age.total_seconds(),
            }


def _row(cell: dict[str, Any]) -> Sequence[object]:
    age = "" if cell["age"] is None else age_text(cell["age"])
    keys = map(text, cell["keys"])
    return (*keys, cell["feature"], text(cell["value"]), cell["status"], age, cell["event_time"])


def age_text(age: "timedelta") -> str:
    """Return an age in its two largest units: `3d 4h`, `2m 5s`, `12s`, `250ms`."""
    sign, micros = ("-", -age) if age < 0 * age else ("", age)
    seconds, rest = divmod(micros // MICROSECOND, 10**6)
    if not seconds:
        return f"{sign}{rest // 1000}ms"
    parts = {"d": seconds // 86_400, "h": seconds // 3_600 % 24, "m": seconds // 60 % 60}
    parts["s"] = seconds % 60
    said = [f"{count}{unit}" for unit, count in parts.items() if count]
    return sign + " ".join(said[:2])


def serve(
    context: typer.Context,
    *,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            metavar="HOST:PORT",
            help="Where to listen; port 0 picks a free one [default: of feature_store.yaml].",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="How many processes serve.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option("--insecure", help="Allow an address that other machines can reach."),
    ] = False,
) -> None:
    """Serve online features over gRPC until stopped (Ctrl-C, SIGTERM)."""
    session = Session.of(context)
    server = find_server()
    with session.store() as store:
        chosen = store.settings.server
        options = server.ServeOptions(
            catalog_json=store.serving_catalog().to_json(),
            online_store=online_store_settings(store.config),
            address=address or chosen.address,
            workers=workers or chosen.workers,
            threads=chosen.threads,
            insecure=insecure or chosen.insecure,
            reflection=chosen.reflection,
            limits=server.Limits(max_entities=chosen.max_entities),
        )
        _refuse_private_store(store)
    server.serve(options, on_ready=lambda ready: _announce(session, ready))


def find_server() -> Any:
    """Return the package that serves, which is a distribution of its own.

    Raises:
        MissingExtraError: It is not installed.
    """
    for found in entry_points(group=SERVERS, name="grpc"):
        try:
            return found.load()
        except ImportError:
            continue
    raise MissingExtraError(package="featurestore-server", extra="server", purpose="serve")


def online_store_settings(config: "RepoConfig") -> dict[str, Any]:
    """Return the online store's settings for a process that works in another folder."""
    settings: dict[str, Any] = config.settings.online_store.model_dump(mode="json")
    settings["path"] = str(config.path(config.settings.online_store.path))
    return settings


def _refuse_private_store(store: "FeatureStore") -> None:
    chosen = store.settings.online_store.type
    if chosen == "memory":
        raise UnsupportedError(
            "The online store 'memory' lives in one process: a server would find it empty.",
            hint="set online_store to lmdb, or to the address of a Redis server",
        )


def _announce(session: Session, ready: Any) -> None:
    """Say that the server is ready: what waits for that reads it from standard output."""
    if session.as_json:
        facts = {k: getattr(ready, k) for k in ("address", "project", "revision", "workers", "clock")}
        session.answer(facts)
    else:
        session.out.write(f"{ready}\n")
    session.out.flush()

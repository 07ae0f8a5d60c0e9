"""`get-online` and `serve`: what the online store has, here and over the network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli.features import FeaturesArgument, feature_request
from featurestore.cli.output import print_table
from featurestore.cli.session import Session
from featurestore.errors import MissingExtraError, UnsupportedError

if TYPE_CHECKING:
    from featurestore.serving.response import OnlineResponse
    from featurestore.settings import ServerConfig
    from featurestore.store import FeatureStore

SERVERS: Final = "featurestore.server"
"""Entry points that can serve: the core does not know the wire, it finds who does."""


def get_online(
    context: typer.Context,
    features: FeaturesArgument,
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
    """Look up the newest features of entities.

    Every value comes with its status and the age of its row.
    """
    from featurestore.cli.values import entity_row

    session = Session.of(context)
    request = feature_request(features)
    with session.store() as store, session.foreign_code():
        prepared = store.prepare_online(request, full_feature_names=full_feature_names)
        types = prepared.request_columns
        rows = [entity_row(e, types, row=n) for n, e in enumerate(entity or [""])]
        response = prepared.get(rows)
    _show(session, response)


def _show(session: Session, response: "OnlineResponse") -> None:
    if session.as_json:
        session.answer(_document(response))
        return
    headers = (*response.entity_names, "feature", "value", "status", "age", "event time")
    rows = ((entity, cell) for entity, cells in _entities(response) for cell in cells)
    print_table(session.out, headers, (_row(entity, cell) for entity, cell in rows))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value of a reply with what belongs to it; times are microseconds."""

    feature: str
    value: Any
    status: str
    event_us: int | None
    age_us: int | None

    @property
    def event_time(self) -> str | None:
        """When the row served took place, RFC 3339."""
        from featurestore.time import instant_text

        return None if self.event_us is None else instant_text(self.event_us, "us", aware=True)

    def to_document(self) -> dict[str, Any]:
        """Return this as JSON-ready data, without the feature's name."""
        age_s = None if self.age_us is None else self.age_us / 1e6
        times = {"event_time": self.event_time, "age_s": age_s}
        return {"value": self.value, "status": self.status, **times}


def _entities(response: "OnlineResponse") -> Iterator[tuple[list[Any], list[Cell]]]:
    """Yield for every entity, as asked, its keys and its values, as asked; values are JSON."""
    from featurestore.cli.values import json_column

    table = response.to_arrow()
    columns = {name: json_column(table.column(name)) for name in table.column_names}
    statuses = response.statuses
    for row in range(len(response)):
        cells = []
        for output in response.result.features:
            times = response.result.views[output.view_index]
            event_us = int(times.event_us[row]) if times.found[row] else None
            age_us = None if event_us is None else response.result.request_us - event_us
            cell = Cell(
                feature=output.name,
                value=columns[output.name][row],
                status=statuses[output.name][row].name,
                event_us=event_us,
                age_us=age_us,
            )
            cells.append(cell)
        yield [columns[name][row] for name in response.entity_names], cells


def _document(response: "OnlineResponse") -> dict[str, Any]:
    from featurestore.time import instant_text

    return {
        "request_time": instant_text(response.result.request_us, "us", aware=True),
        "features": [
            {"name": f.name, "type": f.dtype, "view": response.result.views[f.view_index].name}
            for f in response.result.features
        ],
        "entities": [
            {
                "keys": dict(zip(response.entity_names, entity, strict=True)),
                "features": {cell.feature: cell.to_document() for cell in cells},
            }
            for entity, cells in _entities(response)
        ],
    }


def _row(entity: Sequence[Any], cell: Cell) -> Sequence[object]:
    from featurestore.cli.values import text

    age = None if cell.age_us is None else age_text(cell.age_us)
    known = (cell.feature, text(cell.value), cell.status, age, cell.event_time)
    return (*map(text, entity), *known)


def age_text(micros: int) -> str:
    """Return an age in its two largest units: `3d 4h`, `2m 5s`, `12s`, `250ms`."""
    sign = "-" if micros < 0 else ""
    seconds, rest = divmod(abs(micros), 10**6)
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
    http_address: Annotated[
        str | None,
        typer.Option(
            "--http-address",
            metavar="HOST:PORT",
            help="Where to serve HTTP, too [default: of feature_store.yaml, else nowhere].",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="How many processes serve.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Allow plain text on an address that other machines can reach."
        ),
    ] = False,
) -> None:
    """Serve online features over gRPC, and HTTP.

    HTTP is served where server.http_address or --http-address says so. The server serves until it
    is stopped by Ctrl-C or SIGTERM, and finishes the calls under way. What is applied meanwhile,
    and a generation that becomes complete, is served soon after.
    """
    session = Session.of(context)
    server = find_server()
    with session.store() as store:
        chosen, watched = store.settings.server, WatchedCatalog(store)
        keys = WatchedKeys(store) if chosen.auth == "api_keys" else None
        options = server.ServeOptions(
            **_configured(server, store),
            catalog_json=watched.catalog.to_json(),
            keys_json=keys.newer() if keys else None,
            address=address or chosen.address,
            workers=workers or chosen.workers,
            insecure=insecure or chosen.insecure,
            http=_http_options(server, http_address or chosen.http_address, chosen),
        )
        _refuse_private_store(store)
        if options.keys_json == "[]":
            session.note("There are no keys yet, so nobody may call: featurestore keys create")
        server.serve(
            options,
            on_ready=lambda ready: _announce(session, ready),
            newer_catalog=watched.newer,
            newer_keys=keys.newer if keys else None,
            view_statuses=store.status,
        )


def _configured(server: Any, store: "FeatureStore") -> dict[str, Any]:
    """Return the arguments of the server's options that only the configuration decides."""
    chosen = store.settings.server
    return {
        "online_store": store.config.online_store_arguments(),
        "function_roots": tuple(str(root) for root in store.functions.roots),
        "threads": chosen.threads,
        "reflection": chosen.reflection,
        "fast_lookups": chosen.fast_lookups,
        "reload_every_s": chosen.reload_every_ms / 1e3,
        "limits": server.Limits(max_entities=chosen.max_entities),
        "tls": store.config.tls_files(),
        "access_log": chosen.access_log,
        "observing": _observing(server, store),
        "backend": backend_options(store, server.BackendOptions, server.BackendLimits),
    }


def _observing(server: Any, store: "FeatureStore") -> Any:
    """Return what operators get to see, as the server's package takes it."""
    chosen = store.settings.server
    log = chosen.served_log
    served_log = log.path and server.ServedLogOptions(
        path=str(store.config.path(log.path)),
        sample=log.sample,
        max_file_rows=log.max_file_rows,
        max_file_s=log.max_file_ms / 1e3,
    )
    return server.Observing(
        metrics_address=chosen.metrics_address,
        log_format=chosen.log_format,
        served_log=served_log,
    )


def backend_options(store: "FeatureStore", options: Any, limits: Any) -> Any:
    """Return what training sets, pushes and the registry are answered with, or None.

    Args:
        store: Its configuration, and its clock, are the backend's.
        options: The server's class of what a backend works with.
        limits: The server's class of what its callers may take.
    """
    chosen, config = store.settings.server.backend, store.config
    if not chosen.enabled:
        return None
    return options(
        settings=config.settings.model_dump(mode="json"),
        root=str(config.root),
        clock=str(store.clock),
        source_roots=tuple(str(config.path(root)) for root in chosen.source_roots),
        limits=limits(
            training_jobs=chosen.training_jobs,
            waiting_jobs=chosen.waiting_jobs,
            max_spine_rows=chosen.max_spine_rows,
            max_spine_bytes=chosen.max_spine_bytes,
            idle_s=chosen.idle_ms / 1e3,
        ),
    )


def _http_options(server: Any, address: str | None, chosen: "ServerConfig") -> Any:
    if address is None:
        return None
    return server.HttpOptions(address=address, cors_origins=chosen.http_cors_origins)


class WatchedCatalog:
    """What a store serves, and what it serves once that has changed.

    Args:
        store: Stays open as long as this is asked.
    """

    def __init__(self, store: "FeatureStore") -> None:
        self._store = store
        self._version = self._read_version()
        self.catalog = store.serving_catalog()

    def _read_version(self) -> object:
        return self._store.registry.version(self._store.project)

    def newer(self) -> str | None:
        """Return the catalog as JSON if it has changed since it was last returned."""
        version = self._read_version()  # first: what is applied meanwhile differs from it next time
        if version == self._version:
            return None
        self.catalog = self._store.serving_catalog()
        self._version = version
        return self.catalog.to_json()


class WatchedKeys:
    """The keys of a store's project, and what they are once that has changed.

    Args:
        store: Stays open as long as this is asked.
    """

    def __init__(self, store: "FeatureStore") -> None:
        self._store = store
        self._stamp: object = None
        self._known: str | None = None

    def newer(self) -> str | None:
        """Return all keys as JSON if they are others than were last returned."""
        from featurestore.access import keys_to_json

        stamp = self._store.registry.stamp()  # first: what is written meanwhile has another
        if stamp is not None and stamp == self._stamp:
            return None
        found = keys_to_json(self._store.api_keys.list())
        self._stamp = stamp
        if found == self._known:
            return None
        self._known = found
        return found


def find_server() -> Any:
    """Return the package that serves, which is a distribution of its own.

    Raises:
        MissingExtraError: It is not installed.
    """
    from importlib.metadata import entry_points

    for found in entry_points(group=SERVERS, name="grpc"):
        try:
            return found.load()
        except ImportError:
            continue
    raise MissingExtraError(package="featurestore-server", extra="server", purpose="serve")


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
        names = (
            "address",
            "http_address",
            "project",
            "revision",
            "workers",
            "clock",
            "encrypts",
            "asks_for_keys",
            "metrics_address",
        )
        facts = {name: getattr(ready, name) for name in names}
        session.answer(facts)
    else:
        session.out.write(f"{ready}\n")
    session.out.flush()

"""HTTP calls as a client without any library makes them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

from featurestore_server.http.connections import Patience
from featurestore_server.http.server import HttpServer
from featurestore_server.server import FeatureServer

from featurestore.online.store import OnlineStore
from featurestore.serving.plan import ServingCatalog

PATH = "/v1/online-features"
AS_JSON = {"Content-Type": "application/json"}
PATIENT = Patience(head_s=60, body_s=60, idle_s=60)


class Reply(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def error(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/json"
        assert self.status >= 400
        assert list(self.body) == ["error"]
        error: dict[str, Any] = self.body["error"]
        return error

    @property
    def fields(self) -> list[str]:
        return [violation["field"] for violation in self.error["field_violations"]]


class Served(NamedTuple):
    """A server of both, and a client of its HTTP."""

    client: "Client"
    server: FeatureServer
    twin: HttpServer


class Client:
    """Keeps one connection."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.connection = HTTPConnection(address, timeout=30)

    def post(self, document: object, **headers: str) -> Reply:
        """Look up; a document that is bytes goes as it is."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", PATH, body, AS_JSON | named)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        self.connection.request(method, path, body, dict(headers or {}))
        response = self.connection.getresponse()
        content = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, found, json.loads(content) if content else None)


def post_once(address: str, document: object) -> Reply:
    """Look up, over a connection of its own."""
    client = Client(address)
    try:
        return client.post(document)
    finally:
        client.connection.close()


@contextmanager
def http_served(
    catalog: ServingCatalog,
    store: OnlineStore,
    *,
    patience: Patience = PATIENT,
    cors_origins: tuple[str, ...] = (),
    **options: Any,
) -> Iterator[Served]:
    """A server of both, of which only HTTP is listened to; `options` are a FeatureServer's."""
    server = FeatureServer(catalog, store, **options)
    server.listen("127.0.0.1:0")
    server.start()
    twin = HttpServer(
        server.online_features,
        store_answers=server.store_answers,
        threads=options.get("threads", 4),
        limits=options.get("limits"),
        observer=server.observer,
        cors_origins=cors_origins,
        patience=patience,
    )
    port = twin.listen("127.0.0.1:0")
    twin.start()
    client = Client(f"127.0.0.1:{port}")
    try:
        yield Served(client, server, twin)
    finally:
        client.connection.close()
        twin.stop(5)
        server.stop(5)

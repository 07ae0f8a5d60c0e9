"""The HTTP twin: what it takes, what it answers, and how it refuses."""

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from featurestore_server import Limits
from featurestore_server.calls import Call, Caller, Gate, Observer, Permission
from featurestore_server.errors import PermissionDeniedError, UnauthenticatedError

from featurestore.errors import StoreDataError, StoreUnavailableError
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import OnlineStore

from . import shop
from .gated import gated
from .http_calls import AS_JSON, PATH, Client, http_served, post_once

ONE = {"feature_service": "checkout", "entities": {"user_id": [1]}}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    store = MemoryOnlineStore()
    shop.fill(store)
    with http_served(shop.catalog(), store) as (client, *_):
        yield client


def test_columns_are_answered_with_columns(client: Client) -> None:
    reply = client.post({"feature_service": "checkout", "entities": {"user_id": [1, "2", 3, None]}})
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["cache-control"] == "no-store"
    found = reply.body
    assert (found["project"], found["revision"]) == ("shop", 7)
    assert found["request_timestamp"] == "2024-03-05T12:00:00Z"
    assert found["entities"] == {"user_id": ["1", "2", "3", None]}
    assert found["features"]["visits"] == {
        "dtype": "int64",
        "view": "users",
        "values": ["10", "20", None, None],
        "statuses": ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
    }
    assert found["features"]["credit"]["values"] == [1.5, None, None, None]
    assert found["features"]["credit"]["statuses"][1] == "NULL_VALUE"
    assert list(found["features"]) == ["credit", "country", "visits", "rate"]
    assert found["views"]["users"]["event_timestamps"] == [
        "2024-03-05T11:00:00Z",
        "2024-03-04T12:00:00Z",
        "2024-03-04T11:59:59.999999Z",
        None,
    ]


def test_rows_are_answered_with_rows(client: Client) -> None:
    rows = [{"user_id": 1}, {"user_id": 9}]
    found = client.post({"feature_service": "checkout", "entities": rows}).body
    assert found["features"]["rate"] == {"dtype": "float32", "view": "rates"}
    assert found["rows"][1] == {
        "entity": {"user_id": "9"},
        "features": {"credit": None, "country": None, "visits": None, "rate": 0.25},
        "statuses": {
            "credit": "NOT_FOUND",
            "country": "NOT_FOUND",
            "visits": "NOT_FOUND",
            "rate": "PRESENT",
        },
        "event_timestamps": {"users": None, "rates": "2024-03-05T12:00:00Z"},
    }


def test_either_form_can_be_asked_for(client: Client) -> None:
    rows = client.post(ONE | {"format": "rows"}).body
    columns = client.post(ONE | {"entities": [{"user_id": 1}], "format": "columns"}).body
    assert [row["features"]["credit"] for row in rows["rows"]] == [1.5]
    assert columns["features"]["credit"]["values"] == [1.5]


@pytest.mark.parametrize("entities", [[], {"user_id": []}])
@pytest.mark.parametrize("form", ["rows", "columns"])
def test_no_entities_are_no_failure(client: Client, entities: object, form: str) -> None:
    found = client.post(ONE | {"entities": entities, "format": form}).body
    if form == "rows":
        assert found["rows"] == []
    else:
        assert found["features"]["credit"]["values"] == []


def test_features_without_a_join_key_are_asked_for_by_count(client: Client) -> None:
    rates = {"features": ["rates:rate"], "full_feature_names": True}
    assert client.post(rates).body["features"]["rates__rate"]["values"] == [0.25]
    three = client.post(rates | {"entity_count": 3}).body
    assert three["features"]["rates__rate"]["values"] == [0.25] * 3
    two = client.post(rates | {"entities": [{}, {}]}).body
    assert [row["features"] for row in two["rows"]] == [{"rates__rate": 0.25}] * 2


def test_roles_and_names_are_as_over_grpc(client: Client) -> None:
    asked = {"feature_service": "transfer", "entities": {"from_id": [1], "to_id": [2]}}
    found = client.post(asked | {"full_feature_names": True}).body
    assert found["features"]["sender__credit"]["values"] == [1.5]
    assert found["features"]["receiver__credit"]["statuses"] == ["NULL_VALUE"]
    assert list(found["views"]) == ["sender", "receiver"]


# --- Requests that are refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "status", "reason", "fields", "words"),
    [
        ({"entities": {}}, 400, "ENTITY_VALUE_INVALID", ["entities.user_id"], "missing"),
        (
            {"entities": {"user_id": [1], "usr_id": [1]}},
            400,
            "ENTITY_VALUE_INVALID",
            ["entities.usr_id"],
            "did you mean 'user_id'",
        ),
        (
            {"entities": {"user_id": [1, "x"]}},
            400,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[1]"],
            "the text 'x'",
        ),
        (
            {"entities": {"user_id": [True]}},
            400,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[0]"],
            "holds true",
        ),
        (
            {"entities": {"user_id": [1, 1.5]}},
            400,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[1]"],
            "whole number",
        ),
        (
            {"entities": {"user_id": [2**63]}},
            400,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[0]"],
            "outside",
        ),
        (
            {"entities": {"user_id": [{}]}},
            400,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[0]"],
            "an object",
        ),
        ({"entities": {"user_id": 1}}, 400, "MESSAGE_MALFORMED", ["entities.user_id"], "no array"),
        ({"entities": [1]}, 400, "MESSAGE_MALFORMED", ["entities"], "neither"),
        (
            {"entities": [{"user_id": 1}, {}]},
            400,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[1]"],
            "differ",
        ),
        (
            {"feature_service": "chekout"},
            404,
            "FEATURE_SERVICE_NOT_FOUND",
            [],
            "did you mean 'checkout'",
        ),
        (
            {"feature_service": None, "features": ["user:credit"]},
            404,
            "FEATURE_VIEW_NOT_FOUND",
            [],
            "did you mean 'users'",
        ),
        (
            {"feature_service": None, "features": ["users:kredit"]},
            404,
            "FEATURE_NOT_FOUND",
            [],
            "did you mean",
        ),
        ({"project": "shops"}, 404, "PROJECT_NOT_FOUND", [], "did you mean 'shop'"),
        (
            {"feature_service": None, "features": ["users:credit"] * 2},
            400,
            "REQUEST_INVALID",
            [],
            "twice",
        ),
        ({"feature_service": None}, 400, "MESSAGE_MALFORMED", ["selection"], "names no features"),
        ({"features": ["a:b"]}, 400, "MESSAGE_MALFORMED", ["selection"], "both"),
        ({"feature_service": 1}, 400, "MESSAGE_MALFORMED", ["feature_service"], "not text"),
        ({"feature_service": None, "features": "a:b"}, 400, "MESSAGE_MALFORMED", ["features"], ""),
        ({"feature_servise": "x"}, 400, "MESSAGE_MALFORMED", ["feature_servise"], "did you mean"),
        ({"full_feature_names": 1}, 400, "MESSAGE_MALFORMED", ["full_feature_names"], "true or"),
        ({"entity_count": -1}, 400, "MESSAGE_MALFORMED", ["entity_count"], "outside"),
        ({"entity_count": True}, 400, "MESSAGE_MALFORMED", ["entity_count"], "whole number"),
        ({"format": "csv"}, 400, "MESSAGE_MALFORMED", ["format"], "neither"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(  # noqa: PLR0917 - columns of the table above
    client: Client,
    change: dict[str, Any],
    status: int,
    reason: str,
    fields: list[str],
    words: str,
) -> None:
    reply = client.post(ONE | change)
    assert (reply.status, reply.error["reason"], reply.fields) == (status, reason, fields)
    assert words in reply.error["message"]
    assert not reply.error["retryable"]


def test_what_was_not_found_comes_with_suggestions(client: Client) -> None:
    assert client.post(ONE | {"feature_service": "chekout"}).error["suggestions"] == ["checkout"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no JSON"),
        (b"\xff", "no UTF-8"),
        (b"[]", "no JSON object"),
        (b"{", "no JSON"),
        (b"{} {}", "no JSON"),
        (b'{"project": "a", "project": "b"}', "'project' twice"),
        (b'{"entities": {"user_id": [1], "user_id": [2]}}', "'user_id' twice"),
        (b'{"entities": {"user_id": [NaN]}}', "NaN is no JSON"),
        (b'{"entities": {"user_id": [-Infinity]}}', "-Infinity is no JSON"),
        (b'{"entities": {"user_id": [1e400]}}', "more than a float"),
        (b'{"entities": {"user_id": [' + b"9" * 5_000 + b"]}}", "too large"),
        (b'{"entities": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"entities": ' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"project": "\\ud800"}', "lone surrogate"),
        (b'{"project": "\xed\xa0\x80"}', "no UTF-8"),
        (b'{"project": "a\nb"}', "no JSON"),
    ],
)
def test_what_is_no_json_is_refused(client: Client, body: bytes, words: str) -> None:
    reply = client.post(body)
    assert (reply.status, reply.error["reason"]) == (400, "MESSAGE_MALFORMED")
    assert words in reply.error["message"]


def test_a_byte_order_mark_is_no_obstacle(client: Client) -> None:
    assert client.post(b"\xef\xbb\xbf" + json.dumps(ONE).encode()).status == 200


def test_text_in_escapes_is_text(client: Client) -> None:
    escaped = b'{"features": ["prices:price"], "entities": {"item": ["te\\u0061"],'
    found = client.post(escaped + b'"country": ["AT"]}}').body
    assert found["features"]["price"]["values"] == ["9.90"]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data", "json"]
)
def test_only_json_is_taken_so_that_no_form_of_a_page_can_call(client: Client, kind: str) -> None:
    reply = client.post(ONE, Content_Type=kind)
    assert (reply.status, reply.error["reason"]) == (415, "CONTENT_TYPE_UNSUPPORTED")
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON; charset=UTF-8", 'application/json;charset="utf-8"'],
)
def test_json_may_say_that_it_is_utf_8(client: Client, kind: str) -> None:
    assert client.post(ONE, Content_Type=kind).status == 200


def test_other_charsets_and_compressed_bodies_are_refused(client: Client) -> None:
    latin = client.post(ONE, Content_Type="application/json; charset=latin-1")
    gzip = client.post(ONE, Content_Encoding="gzip")
    assert (latin.status, gzip.status) == (415, 415)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_is_refused_and_told_which_there_is(client: Client, method: str) -> None:
    reply = client.request(method, PATH)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        assert reply.error["reason"] == "METHOD_NOT_ALLOWED"


@pytest.mark.parametrize("path", ["/", "/v1/online-featres", "/v1/online-features/", "/docs", "//"])
def test_an_unknown_path_is_not_found(client: Client, path: str) -> None:
    reply = client.request("POST", path, b"{}", AS_JSON)
    assert (reply.status, reply.error["reason"]) == (404, "PATH_NOT_FOUND")


def test_a_failure_leaves_the_connection_usable(client: Client) -> None:
    for _ in range(3):
        assert client.post(ONE | {"project": "other"}).status == 404
        assert client.post(ONE).status == 200


# --- Pages of other origins ----------------------------------------------------------------------

ORIGIN = "https://app.example.com"


def test_pages_may_not_call_by_default(client: Client) -> None:
    reply = client.post(ONE, Origin=ORIGIN)
    assert (reply.status, reply.error["reason"]) == (403, "ORIGIN_REFUSED")
    assert not any(name.startswith("access-control") for name in reply.headers)
    # DNS rebinding: a page of a host whose name leads here is of "the same" origin.
    rebound = client.post(ONE, Host="evil.example", Origin="http://evil.example")
    assert rebound.status == 403
    assert client.post(ONE, Origin="null").status == 403


@pytest.mark.parametrize("allowed", [ORIGIN, "*"])
def test_pages_of_allowed_origins_may_call(store: OnlineStore, allowed: str) -> None:
    with http_served(shop.catalog(), store, cors_origins=(allowed,)) as (client, *_):
        wanted = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,x-timeout-ms",
        }
        client.connection.request("OPTIONS", PATH, headers=wanted)
        preflight = client.connection.getresponse()
        preflight.read()
        assert preflight.status == 200
        assert preflight.headers["access-control-allow-origin"] == allowed
        reply = client.post(ONE, Origin=ORIGIN)
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == allowed
        assert "access-control-allow-credentials" not in reply.headers
        failed = client.post(ONE | {"project": "x"}, Origin=ORIGIN)
        assert failed.headers["access-control-allow-origin"] == allowed
        if allowed != "*":
            assert client.post(ONE, Origin="https://evil.example").status == 403


# --- Limits --------------------------------------------------------------------------------------


def test_what_is_too_much_is_refused(store: OnlineStore) -> None:
    limits = Limits(max_entities=2, max_features=1, max_request_bytes=2_000)
    with http_served(shop.catalog(), store, limits=limits) as (client, *_):
        three = client.post(ONE | {"entities": {"user_id": [1, 2, 3]}})
        rows = client.post(ONE | {"entities": [{"user_id": 1}] * 3})
        names = {"features": ["users:credit", "users:visits"], "entities": {"user_id": [1]}}
        features = client.post(names)
        assert [r.error["reason"] for r in (three, rows, features)] == ["LIMIT_EXCEEDED"] * 3
        assert three.fields + rows.fields + features.fields == [
            "entities.user_id",
            "entities",
            "features",
        ]
        assert client.post(ONE).status == 200


def test_a_body_that_is_too_large_is_refused_before_it_comes(store: OnlineStore) -> None:
    with http_served(shop.catalog(), store, limits=Limits(max_request_bytes=100)) as (client, *_):
        client.connection.putrequest("POST", PATH)
        client.connection.putheader("Content-Type", "application/json")
        client.connection.putheader("Content-Length", str(1 << 40))
        client.connection.endheaders()
        response = client.connection.getresponse()
        assert response.status == 413
        error = json.loads(response.read())["error"]
        assert (error["reason"], response.headers["connection"]) == ("REQUEST_TOO_LARGE", "close")


def test_a_body_of_unknown_length_is_counted_while_it_comes(store: OnlineStore) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(1_000):
            yield b" " * 1_000

    with http_served(shop.catalog(), store, limits=Limits(max_request_bytes=10_000)) as (
        client,
        *_,
    ):
        try:
            client.connection.request("POST", PATH, pieces(), AS_JSON)
        except (BrokenPipeError, ConnectionResetError):
            return  # refused so early that the rest could not be sent
        assert client.connection.getresponse().status == 413


def test_a_body_in_chunks_is_a_body(client: Client) -> None:
    text = json.dumps(ONE).encode()
    client.connection.request("POST", PATH, iter([text[:9], text[9:]]), AS_JSON)
    response = client.connection.getresponse()
    assert response.status == 200
    assert json.loads(response.read())["features"]["credit"]["values"] == [1.5]


# --- Deadlines and overload ----------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "soon", "9" * 30, "٣", ""])
def test_a_deadline_that_is_none_is_refused(client: Client, text: str) -> None:
    reply = client.post(ONE, X_Timeout_Ms=text.encode("utf-8").decode("latin-1"))
    assert (reply.status, reply.fields) == (400, ["x-timeout-ms"])


def test_a_call_is_answered_no_later_than_its_deadline() -> None:
    with gated() as store, http_served(shop.catalog(), store) as (client, *_):
        reply = client.post(ONE, X_Timeout_Ms="50")
        assert (reply.status, reply.error["reason"]) == (504, "DEADLINE_PASSED")
        assert reply.error["code"] == "DEADLINE_EXCEEDED"
        store.gate.set()
        assert client.post(ONE, X_Timeout_Ms="20000").status == 200


def test_calls_that_wait_are_answered_with_one_trip() -> None:
    with gated() as store, http_served(shop.catalog(), store, threads=1) as (client, *_):
        replies: list[int] = []

        def ask() -> None:
            replies.append(post_once(client.address, ONE).status)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        threads[0].start()
        assert store.waiting.acquire(timeout=30)
        for thread in threads[1:]:
            thread.start()
        time.sleep(0.5)  # for them to arrive; if one does not, there is one trip more
        store.gate.set()
        for thread in threads:
            thread.join()
        assert replies == [200] * 8
        assert store.reads < 8


def test_a_call_whose_body_comes_slowly_takes_a_place(store: OnlineStore) -> None:
    with http_served(shop.catalog(), store, limits=Limits(max_calls=1)) as (client, *_):
        client.connection.putrequest("POST", PATH)
        client.connection.putheader("Content-Type", "application/json")
        client.connection.putheader("Content-Length", "10")
        client.connection.putheader("Expect", "100-continue")
        client.connection.endheaders()
        assert client.connection.sock.recv(100).startswith(b"HTTP/1.1 100")  # it reads the body
        assert post_once(client.address, ONE).error["reason"] == "OVERLOADED"


def test_more_calls_than_are_taken_are_told_to_come_back() -> None:
    limits = Limits(max_calls=1)
    with gated() as store, http_served(shop.catalog(), store, limits=limits) as (client, *_):
        first = threading.Thread(target=post_once, args=(client.address, ONE))
        first.start()
        assert store.waiting.acquire(timeout=30)
        reply = client.post(ONE)
        assert (reply.status, reply.error["reason"]) == (503, "OVERLOADED")
        assert (reply.error["retryable"], reply.headers["retry-after"]) == (True, "1")
        store.gate.set()
        first.join()
        assert client.post(ONE).status == 200


# --- The store, and what is behind it ------------------------------------------------------------


class Failing(MemoryOnlineStore):
    """A store whose reads fail as they are told."""

    error: Exception | None = None

    def read(self, requests: Any, *, until: float | None = None) -> Any:
        if self.error:
            raise self.error
        return super().read(requests, until=until)


PRIVATE = "redis://user:secret@10.0.0.7 /var/lib/online"


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (StoreUnavailableError(PRIVATE), 503, "ONLINE_STORE_UNAVAILABLE"),
        (StoreDataError(PRIVATE), 500, "STORED_ROW_UNREADABLE"),
        (RuntimeError(PRIVATE), 500, "INTERNAL"),
    ],
)
def test_what_fails_inside_is_told_by_an_id_alone(
    error: Exception, status: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing()
    shop.fill(store)
    with http_served(shop.catalog(), store) as (client, *_):
        store.error = error
        reply = client.post(ONE)
        store.error = None
    assert (reply.status, reply.error["reason"]) == (status, reason)
    assert "secret" not in json.dumps(reply.body) + repr(reply.headers)
    assert len(reply.error["error_id"]) == 16
    assert reply.error["error_id"] in caplog.text
    assert ("retry-after" in reply.headers) == reply.error["retryable"] == (status == 503)


def test_a_store_that_is_gone_makes_the_server_unready_and_no_less_alive() -> None:
    store = Failing()
    shop.fill(store)
    with http_served(shop.catalog(), store) as (client, server, _):
        assert client.request("GET", "/readyz").body == {"status": "SERVING"}
        store.error = StoreUnavailableError("gone")
        _wait_until(lambda: not server.store_answers())
        ready = client.request("GET", "/readyz")
        assert (ready.status, ready.body) == (503, {"status": "NOT_SERVING"})
        assert client.request("GET", "/healthz").status == 200
        assert client.post(ONE).error["reason"] == "ONLINE_STORE_UNAVAILABLE"
        store.error = None
        _wait_until(server.store_answers)
        assert client.request("GET", "/readyz").status == 200


def _wait_until(condition: Any) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def test_another_catalog_is_served_from_the_next_call_on(store: OnlineStore) -> None:
    with http_served(shop.catalog(), store) as (client, server, _):
        assert client.post(ONE).body["revision"] == 7
        server.replace_catalog(replace(shop.catalog(), revision=8, services={}))
        assert client.post(ONE).error["reason"] == "FEATURE_SERVICE_NOT_FOUND"
        named = {"features": ["users:credit"], "entities": {"user_id": [1]}}
        assert client.post(named).body["revision"] == 8


# --- Who may call, and who is told ---------------------------------------------------------------


class Doorman(Gate):
    """Knows one key, of a caller who may look up one service."""

    def admit(self, call: Call) -> Caller:
        assert call.peer().startswith("ipv4:127.0.0.1:")
        if dict(call.metadata).get("authorization") != "Bearer fs_key":
            raise UnauthenticatedError("There is no key.")
        return Caller("page", frozenset({(Permission.READ_ONLINE, "types")}))

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        if not {(permission, None), (permission, service)} & caller.grants:
            raise PermissionDeniedError(f"{caller.name} may not look up {service!r}.")


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Call, Exception | None]] = []

    def ended(self, call: Call, error: Exception | None) -> None:
        self.calls.append((call, error))


def test_the_gate_and_the_observers_are_those_of_grpc(store: OnlineStore) -> None:
    notes = Notes()
    with http_served(shop.catalog(), store, gate=Doorman(), observer=notes) as (client, *_):
        nobody = client.post(ONE)
        assert (nobody.status, nobody.headers["www-authenticate"]) == (401, "Bearer")
        key = {"Authorization": "Bearer fs_key"}
        assert client.post(ONE, **key).status == 403
        types = {"feature_service": "types", "entities": {"id": [1, 2]}}
        assert client.post(types, **key).status == 200
        assert client.post(b"x", Content_Type="text/plain").status == 415
    ended = [(call.service, call.entities, type(error).__name__) for call, error in notes.calls]
    assert ended == [
        ("", 0, "UnauthenticatedError"),
        ("checkout", 0, "PermissionDeniedError"),
        ("types", 2, "NoneType"),
        ("", 0, "ContentTypeError"),
    ]
    assert notes.calls[2][0].caller == Caller(
        "page", frozenset({(Permission.READ_ONLINE, "types")})
    )

"""Who is let in, and who is not: every case over a real server, on both paths of a lookup."""

import dataclasses
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.access_log import AccessLog
from featurestore_server.calls import Call, Observer
from featurestore_server.errors import UnauthenticatedError
from featurestore_server.keys import KeyGate
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from featurestore.access import Grant, KeyRecord, Permission, Token
from featurestore.certificates import TlsFiles
from featurestore.online.store import OnlineStore
from tests.certificates import Authority

from . import shop
from .calls import Dial, fails, lookup
from .fixtures import Serve

SERVICE = "checkout"
NAMES = ["users:country"]
NOW_US = int(time.time() * 1e6)
HOUR_US = 3_600_000_000

READ, OFFLINE = Permission.READ_ONLINE, Permission.READ_OFFLINE


class Made(NamedTuple):
    token: Token
    record: KeyRecord

    @property
    def text(self) -> str:
        return str(self.token)


def make(name: str, *grants: Grant, **facts: Any) -> Made:
    token = Token.new()
    record = KeyRecord(
        id=token.id,
        name=name,
        hash=token.hash.hex(),
        grants=frozenset(grants),
        created_us=NOW_US,
        created_by="test",
    )
    return Made(token, dataclasses.replace(record, **facts))


READER = make("reader", Grant(READ))
ADMIN = make("root", Grant(Permission.ADMIN))
ONE_SERVICE = make("checkout-only", Grant(READ, SERVICE))
OTHER_SERVICE = make("other-only", Grant(READ, "returns"))
OFFLINE_ONLY = make("trainer", Grant(OFFLINE))
WRITER = make("writer", Grant(Permission.WRITE))
NOTHING = make("nothing")
EXPIRED = make("expired", Grant(READ), expires_us=NOW_US - 1)
EXPIRES = make("expires", Grant(READ), expires_us=NOW_US + HOUR_US)
REVOKED = make("revoked", Grant(READ), revoked_us=NOW_US - 1)
FOREIGN = make("of another project", Grant(Permission.ADMIN))  # the server does not have it
KEYS = [
    made.record
    for made in (
        READER,
        ADMIN,
        ONE_SERVICE,
        OTHER_SERVICE,
        OFFLINE_ONLY,
        WRITER,
        NOTHING,
        EXPIRED,
        EXPIRES,
        REVOKED,
    )
]

Metadata = list[tuple[str, str]]


def bearer(text: object, scheme: str = "Bearer") -> Metadata:
    return [("authorization", f"{scheme} {text}")]


class Log(Observer):
    """A server's access log."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self._log = AccessLog(self._write)
        self._told = threading.Semaphore(0)

    def ended(self, call: Call, error: Exception | None) -> None:
        self._log.ended(call, error)
        self._told.release()

    def lines(self, count: int = 1) -> list[dict[str, Any]]:
        """Wait for this many calls to end, end the log, and return what was written to it."""
        for _ in range(count):
            assert self._told.acquire(timeout=20)
        self._log.close()
        os.close(self._write)
        with os.fdopen(self._read) as lines:
            return [json.loads(line) for line in lines]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def stub(serve: Serve, store: OnlineStore, dial: Dial, log: Log) -> ServingServiceStub:
    address = serve(shop.catalog(), store, gate=KeyGate(KEYS), observer=log)
    return ServingServiceStub(dial(address))


def ask(
    stub: ServingServiceStub, metadata: Metadata, features: str | list[str] = SERVICE
) -> Callable[[], Any]:
    request = lookup(features, user_id=Values(int64s=[2, 1]))
    return lambda: stub.GetOnlineFeatures(request, metadata=tuple(metadata), timeout=20)


# --- who is let in ------------------------------------------------------------------------------


class Welcome(NamedTuple):
    metadata: Metadata
    caller: Made
    features: str | list[str] = SERVICE


WELCOME = {
    "key": Welcome(bearer(READER.text), READER),
    "key, by names": Welcome(bearer(READER.text), READER, NAMES),
    "scheme in lower case": Welcome(bearer(READER.text, "bearer"), READER),
    "scheme in upper case": Welcome(bearer(READER.text, "BEARER"), READER),
    "two spaces": Welcome(bearer(f" {READER.text}"), READER),
    "beside other metadata": Welcome([("x", "y"), *bearer(READER.text)], READER),
    "admin": Welcome(bearer(ADMIN.text), ADMIN, NAMES),
    "one service": Welcome(bearer(ONE_SERVICE.text), ONE_SERVICE),
    "expires later": Welcome(bearer(EXPIRES.text), EXPIRES),
}


@pytest.mark.parametrize("case", WELCOME.values(), ids=WELCOME.keys())
def test_who_has_a_key_is_answered(stub: ServingServiceStub, log: Log, case: Welcome) -> None:
    metadata = [*case.metadata, ("x-request-id", "order-17")]
    reply = ask(stub, metadata, case.features)()
    assert len(reply.features) > 0
    [line] = log.lines()
    named = case.features if isinstance(case.features, str) else ""
    assert line["time"].endswith("Z")
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert line["duration_ms"] > 0
    assert {key: line[key] for key in line if key not in ("time", "peer", "duration_ms")} == {
        "request_id": "order-17",
        "caller": case.caller.record.name,
        "key_id": case.caller.token.id,
        "method": "/featurestore.v1.ServingService/GetOnlineFeatures",
        "feature_service": named,
        "entities": 2,
        "status": "OK",
        "reason": "",
        "cause": "",
    }


# --- who is not ---------------------------------------------------------------------------------


class Refused(NamedTuple):
    """A call, why the log says it was refused, and what the caller is told."""

    metadata: Metadata
    cause: str
    message: str = "The API key is not valid."
    key: Made | None = None


def _other_secret(made: Made) -> str:
    return str(made.token._replace(secret=Token.new().secret))


NO_KEY = "The call carries no API key."
UNAUTHENTICATED = {
    "nothing": Refused([], "no key", NO_KEY),
    "another header": Refused([("x-api-key", READER.text)], "no key", NO_KEY),
    "empty header": Refused([("authorization", "")], "other scheme"),
    "no scheme": Refused([("authorization", READER.text)], "other scheme"),
    "scheme alone": Refused([("authorization", "Bearer")], "malformed key"),
    "scheme and a space": Refused([("authorization", "Bearer ")], "malformed key"),
    "basic": Refused(bearer(READER.text, "Basic"), "other scheme"),
    "digest": Refused(bearer(READER.text, "Digest"), "other scheme"),
    "no key at all": Refused(bearer("hello"), "malformed key"),
    "truncated": Refused(bearer(READER.text[:-1]), "malformed key"),
    "one character more": Refused(bearer(READER.text + "A"), "malformed key"),
    "a space after": Refused([("authorization", f"Bearer {READER.text} x")], "malformed key"),
    "in upper case": Refused(bearer(READER.text.upper()), "malformed key"),
    "wrong prefix": Refused(bearer(f"fx{READER.text[2:]}"), "malformed key"),
    "id alone": Refused(bearer(f"fs_{READER.token.id}_"), "malformed key"),
    "hash for the secret": Refused(
        bearer(f"fs_{READER.token.id}_{READER.record.hash}"), "malformed key"
    ),
    "secret alone": Refused(bearer(READER.token.secret), "malformed key"),
    "never made": Refused(bearer(Token.new()), "unknown key"),
    "of another project": Refused(bearer(FOREIGN.text), "unknown key"),
    "wrong secret": Refused(bearer(_other_secret(READER)), "wrong secret", key=READER),
    "another key's secret": Refused(
        bearer(READER.token._replace(secret=ADMIN.token.secret)), "wrong secret", key=READER
    ),
    "another key's id": Refused(
        bearer(ADMIN.token._replace(secret=READER.token.secret)), "wrong secret", key=ADMIN
    ),
    "id of an expired key": Refused(bearer(_other_secret(EXPIRED)), "wrong secret", key=EXPIRED),
    "id of a revoked key": Refused(bearer(_other_secret(REVOKED)), "wrong secret", key=REVOKED),
    "expired": Refused(
        bearer(EXPIRED.text), "expired key", "The API key has expired.", key=EXPIRED
    ),
    "revoked": Refused(
        bearer(REVOKED.text), "revoked key", "The API key was revoked.", key=REVOKED
    ),
    "header twice": Refused([*bearer(READER.text), *bearer(READER.text)], "several keys"),
    "right and wrong": Refused([*bearer(READER.text), *bearer("x")], "several keys"),
    "very long": Refused(bearer("fs_" + "a" * 5_000), "malformed key"),
    "key and a lot": Refused(bearer(READER.text + "=" * 5_000), "malformed key"),
    "SQL": Refused(bearer("fs_' OR 1=1 --"), "malformed key"),
    "format string": Refused(bearer("%s%n{0}"), "malformed key"),
}


@pytest.mark.parametrize("case", UNAUTHENTICATED.values(), ids=UNAUTHENTICATED.keys())
def test_who_has_no_valid_key_is_refused_and_learns_nothing(
    stub: ServingServiceStub, log: Log, caplog: pytest.LogCaptureFixture, case: Refused
) -> None:
    failed = fails(ask(stub, case.metadata))
    assert (failed.code.name, failed.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    assert failed.message == (
        f"{case.message} Hint: send the metadata 'authorization: Bearer fs_...' with a key of this"
        " project"
    )
    [line] = log.lines()
    assert (line["status"], line["cause"]) == ("UNAUTHENTICATED", case.cause)
    assert line["caller"] == ""
    assert line["key_id"] == (case.key.token.id if case.key else "")
    assert f"for: {case.cause}" in caplog.text
    said = failed.everything + json.dumps(line) + caplog.text
    for made in (READER, ADMIN, EXPIRED, REVOKED, FOREIGN):
        assert made.token.secret not in said
        assert str(made.record.hash) not in said


# gRPC's own client refuses to send these; a header of HTTP/2 may have them.
@pytest.mark.parametrize("text", ["\t", "ключ", "fs_\x00", "Bearer\x00", "\ud800", "é" * 59])
def test_keys_that_no_client_sends_are_refused(text: str) -> None:
    gate = KeyGate(KEYS)
    for header in (text, f"Bearer {text}", f"Bearer {READER.text}{text}"):
        with pytest.raises(UnauthenticatedError):
            gate.admit(Call("/m", b"", [("authorization", header)]))
    with pytest.raises(UnauthenticatedError):
        gate.admit(Call("/m", b"", [("authorization", f"Bearer {READER.text}".encode())]))


class Forbidden(NamedTuple):
    key: Made
    features: str | list[str] = SERVICE


FORBIDDEN = {
    "another service": Forbidden(OTHER_SERVICE),
    "names, with one service": Forbidden(ONE_SERVICE, NAMES),
    "a service that is not": Forbidden(ONE_SERVICE, "nothing"),
    "service in upper case": Forbidden(ONE_SERVICE, SERVICE.upper()),
    "offline for online": Forbidden(OFFLINE_ONLY),
    "offline for online, by names": Forbidden(OFFLINE_ONLY, NAMES),
    "write for read": Forbidden(WRITER),
    "no grants": Forbidden(NOTHING),
    "no grants, by names": Forbidden(NOTHING, NAMES),
}


@pytest.mark.parametrize("case", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_who_may_do_something_else_is_denied(
    stub: ServingServiceStub, log: Log, case: Forbidden
) -> None:
    failed = fails(ask(stub, bearer(case.key.text), case.features))
    assert (failed.code.name, failed.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    name = case.key.record.name
    assert failed.message.startswith(f"The key {name!r} has no permission read_online of ")
    assert "country" not in failed.everything
    [line] = log.lines()
    assert (line["status"], line["caller"]) == ("PERMISSION_DENIED", name)
    assert line["key_id"] == case.key.token.id


# --- other methods --------------------------------------------------------------------------------


def test_health_needs_no_key_and_reflection_does(
    serve: Serve, store: OnlineStore, dial: Dial, log: Log
) -> None:
    channel = dial(serve(shop.catalog(), store, gate=KeyGate(KEYS), observer=log))
    check = health_pb2_grpc.HealthStub(channel).Check
    assert check(health_pb2.HealthCheckRequest(), timeout=20).status == 1
    info = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
    question = reflection_pb2.ServerReflectionRequest(list_services="")

    def services(metadata: Metadata) -> list[Any]:
        return list(info(iter([question]), metadata=metadata, timeout=20))

    assert fails(lambda: services([])).code is grpc.StatusCode.UNAUTHENTICATED
    assert fails(lambda: services(bearer(REVOKED.text))).code is grpc.StatusCode.UNAUTHENTICATED
    [answer] = services(bearer(NOTHING.text))  # any key will do
    assert "featurestore.v1.ServingService" in str(answer)
    lines = log.lines(3)
    assert [line["status"] for line in lines] == ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"]
    assert {line["method"].rpartition("/")[2] for line in lines} == {"ServerReflectionInfo"}


# --- certificates ---------------------------------------------------------------------------------


class Certified(NamedTuple):
    """Names in a client's certificate, a key it also sends, and who it is then: "" for nobody."""

    names: tuple[str, ...]
    caller: str
    key: Made | None = None
    cause: str = ""


CERTIFIED = {
    "alternative name": Certified(("DNS:ada.example",), "ada"),
    "second alternative name": Certified(("DNS:x.example", "URI:spiffe://shop/ada"), "ada-uri"),
    "unknown name": Certified(("DNS:eve.example",), "", cause="unknown certificate"),
    # The common name is another's: it does not count beside alternative names.
    "common name beside others": Certified(("DNS:x.example",), "", cause="unknown certificate"),
    "expired": Certified(("DNS:old.example",), "", cause="expired key"),
    "revoked": Certified(("DNS:gone.example",), "", cause="unknown certificate"),
    "key before certificate": Certified(("DNS:ada.example",), "root", key=ADMIN),
    "unknown name and a key": Certified(("DNS:eve.example",), "reader", key=READER),
    "wrong key beside a known name": Certified(
        ("DNS:ada.example",), "", key=FOREIGN, cause="unknown key"
    ),
}


def bound(name: str, certificate: str, **facts: Any) -> KeyRecord:
    return make(name, Grant(READ), hash=None, certificate=certificate, **facts).record


CERTIFICATE_KEYS = [
    *KEYS,
    bound("ada", "ada.example"),
    bound("ada-uri", "spiffe://shop/ada"),
    bound("by-common-name", "common"),
    bound("old", "old.example", expires_us=NOW_US - 1),
    bound("gone", "gone.example", revoked_us=NOW_US - 1),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> TlsFiles:
    certificate, key = authority.sign("localhost", "DNS:localhost")
    return TlsFiles(certificate=certificate, key=key, client_ca=authority.certificate)


@pytest.mark.parametrize("case", CERTIFIED.values(), ids=CERTIFIED.keys())
def test_a_certificate_stands_for_a_key(  # noqa: PLR0917 - fixtures
    serve: Serve,
    store: OnlineStore,
    log: Log,
    authority: Authority,
    files: TlsFiles,
    case: Certified,
) -> None:
    gate = KeyGate(CERTIFICATE_KEYS)
    address = serve(shop.catalog(), store, gate=gate, observer=log, tls=files)
    own, key = authority.sign("common", *case.names)
    credentials = grpc.ssl_channel_credentials(
        authority.certificate.read_bytes(), key.read_bytes(), own.read_bytes()
    )
    with grpc.secure_channel(f"localhost:{address.rpartition(':')[2]}", credentials) as channel:
        call = ask(ServingServiceStub(channel), bearer(case.key.text) if case.key else [])
        if case.caller:
            call()
        else:
            assert fails(call).code is grpc.StatusCode.UNAUTHENTICATED
    [line] = log.lines()
    assert (line["caller"], line["cause"]) == (case.caller, case.cause)


def test_a_certificate_without_alternative_names_goes_by_its_common_name() -> None:
    gate = KeyGate(CERTIFICATE_KEYS)
    assert gate.admit(Call("/m", b"", identities=lambda: ["common"])).name == "by-common-name"


# --- what changes ---------------------------------------------------------------------------------


def test_a_key_expires_while_the_server_runs() -> None:
    clock = [NOW_US / 1e6]
    gate = KeyGate(KEYS, now=lambda: clock[0])
    call = Call("/m", b"", bearer(EXPIRES.text))
    assert gate.admit(call).name == "expires"
    clock[0] += 3_600.001
    with pytest.raises(UnauthenticatedError, match="has expired"):
        gate.admit(call)


def test_other_keys_are_gone_by_from_the_next_call_on(
    serve: Serve, store: OnlineStore, dial: Dial
) -> None:
    gate = KeyGate(KEYS)
    stub = ServingServiceStub(dial(serve(shop.catalog(), store, gate=gate)))
    ask(stub, bearer(READER.text))()
    gate.replace([FOREIGN.record, dataclasses.replace(READER.record, revoked_us=NOW_US)])
    assert "was revoked" in fails(ask(stub, bearer(READER.text))).message
    assert "not valid" in fails(ask(stub, bearer(ADMIN.text))).message
    ask(stub, bearer(FOREIGN.text))()


def test_refusals_are_mentioned_at_times(caplog: pytest.LogCaptureFixture) -> None:
    gate = KeyGate(KEYS)
    with caplog.at_level(logging.WARNING):
        for _ in range(1_000):
            with pytest.raises(UnauthenticatedError):
                gate.admit(Call("/m", b"", bearer(_other_secret(READER)), peer=lambda: "ipv4:x"))
    [record] = caplog.records
    assert record.getMessage() == (
        f"calls refused: 1; the last, from ipv4:x, for: wrong secret {READER.token.id}"
    )

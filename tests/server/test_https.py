"""The HTTP twin behind the same certificates and keys as gRPC."""

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from featurestore_server.calls import Call
from featurestore_server.errors import UnauthenticatedError
from featurestore_server.http.tls import names_in
from featurestore_server.keys import KeyGate

from featurestore.access import Grant, KeyRecord, Permission, Token
from featurestore.certificates import TlsFiles
from featurestore.online.store import OnlineStore
from tests.certificates import Authority

from . import shop
from .http_calls import AS_JSON, PATH, Served, http_served

TOKEN = Token.new()
FACTS: dict[str, Any] = {
    "grants": frozenset([Grant(Permission.READ_ONLINE)]),
    "created_us": 0,
    "created_by": "test",
}
GATE = [
    KeyRecord(id=TOKEN.id, name="web", hash=TOKEN.hash.hex(), **FACTS),
    KeyRecord(id="0" * 12, name="ada", hash=None, certificate="ada.example", **FACTS),
]
BODY = json.dumps({"feature_service": "checkout", "entities": {"user_id": [1]}}).encode()
HERE = ("DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def files(authority: Authority) -> TlsFiles:
    certificate, key = authority.sign("localhost", *HERE)
    return TlsFiles(certificate=certificate, key=key)


@pytest.fixture
def served(store: OnlineStore, files: TlsFiles) -> Iterator[Served]:
    with http_served(shop.catalog(), store, gate=KeyGate(GATE), tls=files) as made:
        yield made


def context(authority: Authority, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=authority.certificate)
    if own:
        made.load_cert_chain(*own)
    return made


def post(served: Served, how: ssl.SSLContext, **headers: str) -> tuple[int, str, str]:
    """Look up; the status, the reason if it failed, and the certificate that was shown."""
    port = int(served.client.address.rpartition(":")[2])
    connection = http.client.HTTPSConnection("localhost", port, context=how, timeout=20)
    try:
        connection.request("POST", PATH, BODY, AS_JSON | headers)
        sock: Any = connection.sock
        shown = str(sock.getpeercert()["serialNumber"])
        response = connection.getresponse()
        body = json.loads(response.read())
        return response.status, body.get("error", {}).get("reason", ""), shown
    finally:
        connection.close()


def test_a_key_is_asked_for_over_https(served: Served, authority: Authority) -> None:
    how = context(authority)
    assert post(served, how, authorization=f"Bearer {TOKEN}")[:2] == (200, "")
    assert post(served, how, authorization=f"bearer {TOKEN}")[:2] == (200, "")
    assert post(served, how)[:2] == (401, "UNAUTHENTICATED")
    for header in (
        "",
        "Basic eDp5",
        f"Bearer {TOKEN}x",
        f"Bearer\t{TOKEN}",
        f"Bearer {TOKEN}\xe9",  # HTTP lets through what clients of gRPC do not send
        "Bearer fs_" + "\xff" * 50,
        "Bearer " + "a" * 10_000,
    ):
        assert post(served, how, authorization=header)[:2] == (401, "UNAUTHENTICATED")


def test_plain_http_is_not_answered(served: Served) -> None:
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        served.client.post(json.loads(BODY))


def test_renewed_files_are_used_by_the_next_connection(
    served: Served, authority: Authority, files: TlsFiles
) -> None:
    who = f"Bearer {TOKEN}"
    first = post(served, context(authority), authorization=who)[2]
    kept = files.key.read_bytes()
    files.key.write_bytes(b"")
    assert post(served, context(authority), authorization=who)[2] == first
    files.key.write_bytes(kept)
    authority.sign("localhost", *HERE)
    assert post(served, context(authority), authorization=who)[2] != first


def test_a_certificate_stands_for_a_key(
    store: OnlineStore, authority: Authority, files: TlsFiles, tmp_path: Path
) -> None:
    mutual = TlsFiles(certificate=files.certificate, key=files.key, client_ca=authority.certificate)
    other = Authority(tmp_path / "other")
    with http_served(shop.catalog(), store, gate=KeyGate(GATE), tls=mutual) as served:
        ada = context(authority, authority.sign("ada", "DNS:ada.example"))
        eve = context(authority, authority.sign("eve", "DNS:eve.example"))
        assert post(served, ada)[:2] == (200, "")
        assert post(served, eve)[:2] == (401, "UNAUTHENTICATED")
        for stranger in (
            context(authority),
            context(authority, other.sign("ada", "DNS:ada.example")),
            context(authority, authority.sign("ada", "DNS:ada.example", days=-1)),
        ):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                post(served, stranger)


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        (None, []),
        ({}, []),
        ({"subject": ((("commonName", "first"),), (("commonName", "last"),))}, ["first"]),
        ({"subject": ((("organizationName", "x"),), (("commonName", "ada"),))}, ["ada"]),
        (
            {
                "subject": ((("commonName", "ada"),),),
                "subjectAltName": (("DNS", "a"), ("URI", "b")),
            },
            ["a", "b"],
        ),
    ],
)
def test_names_are_those_that_grpc_sees(
    certificate: dict[str, Any] | None, names: list[str]
) -> None:
    assert names_in(certificate) == names


def test_a_header_that_comes_twice_is_refused() -> None:
    pairs = [("authorization", f"Bearer {TOKEN}")] * 2
    with pytest.raises(UnauthenticatedError):
        KeyGate(GATE).admit(Call("/m", b"", pairs))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_does_not_outlive_the_authority_that_it_began_with(
    store: OnlineStore,
    authority: Authority,
    files: TlsFiles,
    tmp_path: Path,
    version: ssl.TLSVersion,
) -> None:
    first, second = Authority(tmp_path / "first"), Authority(tmp_path / "second")
    trusted = tmp_path / "clients.pem"
    trusted.write_bytes(first.certificate.read_bytes())
    mutual = TlsFiles(certificate=files.certificate, key=files.key, client_ca=trusted)
    how = context(authority, first.sign("ada", "DNS:ada.example"))
    how.minimum_version = how.maximum_version = version
    with http_served(shop.catalog(), store, gate=KeyGate(GATE), tls=mutual) as served:
        status, session = _resumed(served, how, None)
        assert status == 200
        trusted.write_bytes(second.certificate.read_bytes())
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            _resumed(served, how, session)


def _resumed(
    served: Served, how: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[int, ssl.SSLSession | None]:
    """Look up in a TLS session, a new one without; the status, and the session to go on with."""
    port = int(served.client.address.rpartition(":")[2])
    plain = socket.create_connection(("localhost", port), timeout=20)
    with how.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
        connection = http.client.HTTPConnection("localhost", port)
        connection.sock = sock
        connection.request("POST", PATH, BODY, AS_JSON)
        response = connection.getresponse()
        response.read()
        return response.status, sock.session

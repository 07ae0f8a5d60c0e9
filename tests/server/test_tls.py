"""Encrypted connections: who gets one, with which certificate, and how files are renewed."""

import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server import InsecureAddressError, ServeOptions, Supervisor
from featurestore_server.calls import Call, Observer
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featurestore.certificates import TlsFiles, read_tls, validities_in
from featurestore.errors import CertificateError
from featurestore.online.store import OnlineStore
from tests.certificates import Authority

from . import shop
from .calls import fails, lookup
from .fixtures import Serve

ONE = lookup("checkout", user_id=Values(int64s=[1]))
HERE = ("DNS:localhost", "IP:127.0.0.1")


class Pair(NamedTuple):
    """Files of a certificate and of its key."""

    certificate: Path
    key: Path


class World(NamedTuple):
    """Two authorities, and what the first has signed for a server."""

    authority: Authority
    other: Authority
    server: Pair

    def files(self, *, mutual: bool = False) -> TlsFiles:
        ca = self.authority.certificate if mutual else None
        return TlsFiles(certificate=self.server.certificate, key=self.server.key, client_ca=ca)


@pytest.fixture
def world(tmp_path: Path) -> World:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    return World(authority, other, Pair(*authority.sign("localhost", *HERE)))


class Names(Observer):
    """Keeps the names in the certificates of those who called."""

    def __init__(self) -> None:
        self.seen: list[list[str]] = []

    def ended(self, call: Call, error: Exception | None) -> None:
        self.seen.append([] if error else list(call.identities()))

    def wait(self) -> list[list[str]]:
        until = time.monotonic() + 10
        while not self.seen and time.monotonic() < until:
            time.sleep(0.01)
        return self.seen


def secure(port: str, trusted: Path, own: Pair | None = None, name: str = "") -> grpc.Channel:
    pair = (own.key.read_bytes(), own.certificate.read_bytes()) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(trusted.read_bytes(), *pair)
    options = [("grpc.ssl_target_name_override", name)] if name else []
    return grpc.secure_channel(f"localhost:{port}", credentials, options)


def ask(channel: grpc.Channel) -> int:
    with channel:
        reply = ServingServiceStub(channel).GetOnlineFeatures(ONE, timeout=10)
    return len(reply.features)


def port_of(address: str) -> str:
    return address.rpartition(":")[2]


def test_lookups_and_health_are_encrypted(world: World, serve: Serve, store: OnlineStore) -> None:
    port = port_of(serve(shop.catalog(), store, tls=world.files()))
    assert ask(secure(port, world.authority.certificate)) == 4
    with secure(port, world.authority.certificate) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1


def test_a_clients_certificate_says_who_calls(
    world: World, serve: Serve, store: OnlineStore
) -> None:
    names = Names()
    port = port_of(serve(shop.catalog(), store, tls=world.files(mutual=True), observer=names))
    ada = Pair(*world.authority.sign("ada", "DNS:ada.example", "URI:spiffe://shop/ada"))
    assert ask(secure(port, world.authority.certificate, ada)) == 4
    assert names.wait() == [["ada.example", "spiffe://shop/ada"]]


class Stranger(NamedTuple):
    """A client that gets no connection, and whether the server asks for certificates."""

    mutual: bool
    trusts_other: bool = False
    is_plain: bool = False
    name: str = ""
    own: str = "none"


STRANGERS = {
    "plain text": Stranger(mutual=False, is_plain=True),
    "plain text, where certificates are asked for": Stranger(mutual=True, is_plain=True),
    "trusts another authority": Stranger(mutual=False, trusts_other=True),
    "looks for another host": Stranger(mutual=False, name="shop.example"),
    "has no certificate": Stranger(mutual=True),
    "certificate of another authority": Stranger(mutual=True, own="other"),
    "signed by itself": Stranger(mutual=True, own="self"),
    "expired certificate": Stranger(mutual=True, own="expired"),
}


@pytest.mark.parametrize("case", STRANGERS.values(), ids=STRANGERS.keys())
def test_a_stranger_gets_no_connection(
    world: World, serve: Serve, store: OnlineStore, case: Stranger
) -> None:
    names = Names()
    files = world.files(mutual=case.mutual)
    port = port_of(serve(shop.catalog(), store, tls=files, observer=names))
    owns: dict[str, Callable[[], Pair | None]] = {
        "none": lambda: None,
        "other": lambda: Pair(*world.other.sign("ada")),
        "self": lambda: Pair(*world.other.own),
        "expired": lambda: Pair(*world.authority.sign("ada", days=-1)),
    }
    trusted = (world.other if case.trusts_other else world.authority).certificate
    if case.is_plain:
        channel = grpc.insecure_channel(f"localhost:{port}")
    else:
        channel = secure(port, trusted, owns[case.own](), case.name)
    assert fails(lambda: ask(channel)).code is grpc.StatusCode.UNAVAILABLE
    assert names.seen == []
    ada = Pair(*world.authority.sign("ada")) if case.mutual else None
    assert ask(secure(port, world.authority.certificate, ada)) == 4, "others are served as before"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_of_tls_are_refused(
    world: World, serve: Serve, store: OnlineStore, version: ssl.TLSVersion
) -> None:
    port = port_of(serve(shop.catalog(), store, tls=world.files()))
    context = trusting(world)
    context.set_ciphers("ALL:@SECLEVEL=0")  # else our own side would not even offer it
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError, match=r"EOF|PROTOCOL_VERSION"):
        shown_serial(port, context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shown_serial(port, context)


def trusting(world: World) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=world.authority.certificate)
    context.set_alpn_protocols(["h2"])
    return context


def shown_serial(port: str, context: ssl.SSLContext) -> str:
    """The serial number of the certificate that a new connection is shown."""
    with (
        socket.create_connection(("127.0.0.1", int(port)), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as shown,
    ):
        return str((shown.getpeercert() or {})["serialNumber"])


def test_renewed_files_are_used_without_a_restart(
    world: World, serve: Serve, store: OnlineStore, caplog: pytest.LogCaptureFixture
) -> None:
    port = port_of(serve(shop.catalog(), store, tls=world.files()))
    first = shown_serial(port, trusting(world))
    with secure(port, world.authority.certificate) as old:
        stub = ServingServiceStub(old)
        stub.GetOnlineFeatures(ONE, timeout=10)
        kept = world.server.certificate.read_bytes()
        world.server.certificate.write_bytes(b"half of a certifi")
        assert shown_serial(port, trusting(world)) == first, "a broken file replaces nothing"
        world.server.certificate.write_bytes(kept)
        with caplog.at_level(logging.INFO):
            world.authority.sign("localhost", *HERE)
            assert shown_serial(port, trusting(world)) != first
        assert ask(secure(port, world.authority.certificate)) == 4
        stub.GetOnlineFeatures(ONE, timeout=10)  # an open connection is none the worse
    assert "the certificate was renewed; it expires at" in caplog.text


def test_a_key_that_is_renewed_after_its_certificate_is_waited_for(
    world: World, serve: Serve, store: OnlineStore, caplog: pytest.LogCaptureFixture
) -> None:
    port = port_of(serve(shop.catalog(), store, tls=world.files()))
    first = shown_serial(port, trusting(world))
    new = Pair(*world.authority.sign("new", *HERE))
    shutil.copy(new.certificate, world.server.certificate)
    assert shown_serial(port, trusting(world)) == first
    assert "is not that of the certificate" in caplog.text
    shutil.copy(new.key, world.server.key)
    assert shown_serial(port, trusting(world)) != first


# --- files that cannot be used --------------------------------------------------------------------


def _mismatch(world: World) -> TlsFiles:
    return TlsFiles(certificate=world.server.certificate, key=world.other.own[1])


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _encrypted(world: World) -> TlsFiles:
    to = world.server.key.with_suffix(".locked")
    command: list[str | Path] = [
        "openssl",
        "pkey",
        "-in",
        world.server.key,
        "-aes128",
        "-passout",
        "pass:x",
    ]
    subprocess.run([*command, "-out", to], check=True, capture_output=True)
    return TlsFiles(certificate=world.server.certificate, key=to)


def _expired(world: World) -> TlsFiles:
    certificate, key = world.authority.sign("late", *HERE, days=-1)
    return TlsFiles(certificate=certificate, key=key)


UNUSABLE: dict[str, Callable[[World], TlsFiles]] = {
    "is not that of the certificate": _mismatch,
    "is encrypted": _encrypted,
    "expired at": _expired,
    "cannot be read: No such file": lambda w: TlsFiles(
        certificate=w.server.certificate.with_name("none"), key=w.server.key
    ),
    "cannot be read: Is a directory": lambda w: TlsFiles(
        certificate=w.server.certificate, key=w.server.key.parent
    ),
    "holds no certificate that can be read": lambda w: TlsFiles(
        certificate=w.server.key, key=w.server.key
    ),
    "holds no key that can be used": lambda w: TlsFiles(
        certificate=w.server.certificate, key=w.server.certificate
    ),
    "is larger than": lambda w: TlsFiles(
        certificate=_written(w.server.key.with_name("large"), b"x" * (1 << 20) + b"x"),
        key=w.server.key,
    ),
    "authority.pem holds no certificate": lambda w: TlsFiles(
        certificate=w.server.certificate,
        key=w.server.key,
        client_ca=_written(w.server.key.with_name("authority.pem"), b"none"),
    ),
    "broken.pem holds no certificate": lambda w: TlsFiles(
        certificate=_written(
            w.server.key.with_name("broken.pem"),
            w.server.certificate.read_bytes().replace(b"M", b"A", 1),
        ),
        key=w.server.key,
    ),
}


@pytest.mark.parametrize("said", UNUSABLE)
def test_files_that_cannot_be_used_stop_the_start(world: World, said: str) -> None:
    options = ServeOptions(
        catalog_json=shop.catalog().to_json(),
        online_store={"type": "memory"},
        address="127.0.0.1:0",
        tls=UNUSABLE[said](world),
    )
    with pytest.raises(CertificateError, match=said) as refused:
        Supervisor(options)
    assert refused.value.file in refused.value.message


def test_a_certificate_of_tomorrow_is_refused(world: World) -> None:
    early = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(CertificateError, match="not valid before"):
        read_tls(world.files(), now=early)


def test_dates_are_those_that_openssl_reads(world: World) -> None:
    for days in (1, 400, 20_000):  # 20,000 days on, years take four digits
        file, _ = world.authority.sign("dated", days=days)
        [validity] = validities_in(file.read_bytes(), file)
        known = ssl._ssl._test_decode_cert(str(file))  # type: ignore[attr-defined]
        assert validity.begins.timestamp() == ssl.cert_time_to_seconds(known["notBefore"])
        assert validity.ends.timestamp() == ssl.cert_time_to_seconds(known["notAfter"])


def test_an_address_for_other_machines_needs_encryption(world: World) -> None:
    plain = ServeOptions(
        catalog_json=shop.catalog().to_json(),
        online_store={"type": "memory"},
        address="0.0.0.0:0",
    )
    with pytest.raises(InsecureAddressError, match=r"set server\.tls"):
        Supervisor(plain)
    Supervisor(
        ServeOptions(
            catalog_json=plain.catalog_json,
            online_store=plain.online_store,
            address=plain.address,
            tls=world.files(),
        )
    ).stop()

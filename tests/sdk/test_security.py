"""Encrypted connections, and who asks."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from featurestore_sdk import (
    AccessDeniedError,
    ClientError,
    FeatureStoreClient,
    RetryPolicy,
    TlsOptions,
    UnauthenticatedError,
    UnavailableError,
)
from google.rpc.error_details_pb2 import ErrorInfo

from tests.certificates import Authority
from tests.sdk.clients import Connect
from tests.sdk.scripted import EMPTY_REPLY, Context, Script, Scripted, fail

KEY = "fs_read_online_0123456789"
ONCE = RetryPolicy(attempts=1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def pairs(authority: Authority, stranger: Authority) -> dict[str, tuple[Path, Path]]:
    """Certificates and keys by whose they are."""
    return {
        "server": authority.sign("server", "IP:127.0.0.1"),
        "named": authority.sign("features.internal"),
        "client": authority.sign("client"),
        "strange": stranger.sign("client"),
    }


def _credentials(
    pair: tuple[Path, Path], clients: Authority | None = None
) -> grpc.ServerCredentials:
    certificate, key = (path.read_bytes() for path in pair)
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=clients.certificate.read_bytes() if clients else None,
        require_client_auth=clients is not None,
    )


def _project(client: FeatureStoreClient) -> str:
    return client.get_online_features("any", {"id": [1]}).project


def test_a_server_of_a_known_authority_is_talked_to(
    script: Script, connect: Connect, authority: Authority, pairs: Any
) -> None:
    server = script(credentials=_credentials(pairs["server"]))
    for ca in (
        authority.certificate,
        str(authority.certificate),
        authority.certificate.read_bytes(),
    ):
        client = connect(server.address, tls=TlsOptions(ca=ca), timeout_s=30)
        assert _project(client) == "scripted"


def test_a_certificate_may_be_for_another_name_that_is_given(
    script: Script, connect: Connect, authority: Authority, pairs: Any
) -> None:
    address = script(credentials=_credentials(pairs["named"])).address
    tls = TlsOptions(ca=authority.certificate, server_name="features.internal")
    assert _project(connect(address, tls=tls, timeout_s=30)) == "scripted"
    plain = connect(address, tls=TlsOptions(ca=authority.certificate), timeout_s=30, retry=ONCE)
    with pytest.raises(UnavailableError):
        _project(plain)


def test_a_server_of_another_authority_gets_no_request(
    script: Script, connect: Connect, stranger: Authority, pairs: Any
) -> None:
    server = script(credentials=_credentials(pairs["server"]))
    for tls in (TlsOptions(ca=stranger.certificate), True, False):
        client = connect(server.address, tls=tls, timeout_s=30, retry=ONCE)
        with pytest.raises(UnavailableError):
            _project(client)
    assert server.calls == []


def test_a_client_shows_its_own_certificate(
    script: Script, connect: Connect, authority: Authority, pairs: Any
) -> None:
    server = script(credentials=_credentials(pairs["server"], clients=authority))

    def client(name: str | None) -> FeatureStoreClient:
        certificate, key = pairs[name] if name else (None, None)
        tls = TlsOptions(ca=authority.certificate, certificate=certificate, key=key)
        return connect(server.address, tls=tls, timeout_s=30, retry=ONCE)

    assert _project(client("client")) == "scripted"
    for name in (None, "strange"):
        with pytest.raises(UnavailableError):
            _project(client(name))
    assert len(server.calls) == 1


# --- API keys ------------------------------------------------------------------------------------


@pytest.fixture
def guarded(script: Script) -> Scripted:
    """A server that answers one key, knows another, and no more."""

    def answer(_: bytes, context: Context) -> bytes:
        given = dict(context.invocation_metadata()).get("authorization", "")
        info = ErrorInfo(domain="featurestore", reason="API_KEY_INVALID")
        if given == "Bearer fs_other":
            fail(context, grpc.StatusCode.PERMISSION_DENIED, "not allowed", info)
        if given != f"Bearer {KEY}":
            fail(context, grpc.StatusCode.UNAUTHENTICATED, "who are you?", info)
        return EMPTY_REPLY

    return script(answer)


def test_a_key_goes_with_every_call(guarded: Scripted, connect: Connect) -> None:
    client = connect(guarded.address, api_key=KEY, timeout_s=30)
    assert _project(client) == "scripted"
    with suppress(ClientError):
        client.wait_ready(0.2)
    assert {method for method, _, _ in guarded.calls} == {
        "/featurestore.v1.ServingService/GetOnlineFeatures",
        "/grpc.health.v1.Health/Check",
    }
    assert {metadata["authorization"] for _, _, metadata in guarded.calls} == {f"Bearer {KEY}"}


def test_a_key_may_come_from_the_environment(
    guarded: Scripted, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURESTORE_API_KEY", KEY)
    assert _project(connect(guarded.address, timeout_s=30)) == "scripted"
    for other in ("", "fs_wrong"):
        with pytest.raises(UnauthenticatedError):
            _project(connect(guarded.address, api_key=other, timeout_s=30))
    assert "authorization" not in guarded.calls[1][2]


@pytest.mark.parametrize(
    ("key", "kind"), [("fs_wrong", UnauthenticatedError), ("fs_other", AccessDeniedError)]
)
def test_a_refusal_is_not_tried_again_and_does_not_show_the_key(
    guarded: Scripted, connect: Connect, key: str, kind: type[ClientError]
) -> None:
    with pytest.raises(kind) as caught:
        _project(connect(guarded.address, api_key=key, timeout_s=30))
    assert not caught.value.retryable
    assert caught.value.reason == "API_KEY_INVALID"
    assert key not in f"{caught.value!r} {caught.value.__cause__!r} {vars(caught.value)}"
    assert len(guarded.calls) == 1

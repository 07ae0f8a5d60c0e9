"""What a client's arguments say, and which of them make no client."""

from pathlib import Path
from typing import Any

import pytest
from featurestore_sdk import (
    AsyncFeatureStoreClient,
    ClientError,
    FeatureStoreClient,
    InvalidOptionsError,
    RetryPolicy,
    TlsOptions,
)
from featurestore_sdk.options import is_local, targets_of

KEY = "fs_not_a_real_key"
PEM = b"-----BEGIN CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("address", "targets"),
    [
        ("localhost:6566", ("localhost:6566",)),
        ("a:6566,b:6567", ("a:6566", "b:6567")),
        ("a:6566, b:6567", ("a:6566", "b:6567")),
        (["a:6566", "[::1]:6567"], ("a:6566", "[::1]:6567")),
        ("dns:///features.internal:6566", ("dns:///features.internal:6566",)),
        ("unix:/run/features", ("unix:/run/features",)),
        (["unix:/run/features,s"], ("unix:/run/features,s",)),
    ],
)
def test_an_address_is_one_or_several(address: Any, targets: tuple[str, ...]) -> None:
    assert targets_of(address) == targets


@pytest.mark.parametrize(
    "address",
    ["", [], "localhost", "localhost:", ":6566", "a:b", "a:0", "a:65536", "::1:6566", "a:6566,,"],
)
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(InvalidOptionsError):
        FeatureStoreClient(address)


@pytest.mark.parametrize(
    ("target", "local"),
    [
        ("localhost:1", True),
        ("127.3.2.1:1", True),
        ("[::1]:1", True),
        ("unix:/a", True),
        ("dns:///localhost:1", True),
        ("dns:localhost:1", True),
        ("dns:///localhost.example:1", False),
        ("10.0.0.1:1", False),
        ("[2001:db8::1]:1", False),
        ("127.0.0.1.example:1", False),
    ],
)
def test_which_addresses_are_this_machine(target: str, *, local: bool) -> None:
    assert is_local(target) is local


@pytest.mark.parametrize("kind", [FeatureStoreClient, AsyncFeatureStoreClient])
@pytest.mark.parametrize(
    "options",
    [
        {"connections": 0},
        {"timeout_s": 0},
        {"timeout_s": float("nan")},
        {"tls": TlsOptions(certificate=PEM)},
        {"tls": TlsOptions(key=PEM)},
        {"tls": TlsOptions(ca="not/there.pem")},
        {"tls": TlsOptions(ca=b"no certificate")},
        {"api_key": "two words"},
        {"api_key": "line\nbreak"},
        {"api_key": "schlüssel"},
    ],
)
def test_what_makes_no_client_is_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionsError) as caught:
        kind("127.0.0.1:1", **options)
    assert isinstance(caught.value, ClientError)
    assert isinstance(caught.value, ValueError)
    assert str(options.get("api_key")) not in str(caught.value)


@pytest.mark.parametrize(
    "policy",
    [{"attempts": 0}, {"first_pause_s": -1.0}, {"first_pause_s": 1.0}, {"growth": 0.5}],
)
def test_a_policy_of_retries_is_checked(policy: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionsError):
        RetryPolicy(**policy)


@pytest.mark.parametrize("kind", [FeatureStoreClient, AsyncFeatureStoreClient])
def test_a_key_does_not_leave_the_machine_in_plain_text(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("10.0.0.1:6566", "127.0.0.1:6566,db.example:6566"):
        with pytest.raises(InvalidOptionsError, match="api_key would travel in plain text") as hit:
            kind(address, api_key=KEY)
        assert KEY not in str(hit.value)
        kind(address, api_key=KEY, tls=True)
        kind(address, api_key=KEY, insecure=True)
        kind(address)
    kind("127.0.0.1:6566", api_key=KEY)
    monkeypatch.setenv("FEATURESTORE_API_KEY", KEY)
    with pytest.raises(InvalidOptionsError, match="FEATURESTORE_API_KEY would travel"):
        kind("10.0.0.1:6566")
    kind("10.0.0.1:6566", api_key="")


@pytest.mark.parametrize("kind", [FeatureStoreClient, AsyncFeatureStoreClient])
def test_a_client_shows_its_address_and_no_secrets(kind: Any, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(PEM + b"very secret")
    tls = TlsOptions(certificate=PEM, key=file.read_bytes())
    client = kind(["a:1", "b:2"], api_key=KEY, tls=tls)
    shown = repr(client) + repr(client._options) + repr(tls)
    assert "a:1, b:2" in repr(client)
    assert KEY not in shown
    assert "very secret" not in shown

"""Calls take turns at addresses and connections, and pass over those that are down."""

from collections import Counter
from typing import Any

import grpc
import pytest
from featurestore_sdk import FeatureStoreClient, NotFoundError, RetryPolicy, UnavailableError
from featurestore_sdk.connections import Ring, channel_options
from featurestore_sdk.errors import ClientError
from featurestore_sdk.options import ClientOptions

from tests.sdk.clients import Connect
from tests.sdk.scripted import Script, nobody
from tests.server import shop
from tests.server.fixtures import Serve


def _call(client: FeatureStoreClient, times: int = 1) -> None:
    for _ in range(times):
        assert client.get_online_features("any", {"id": [1]}).project == "scripted"


def test_calls_take_turns_at_addresses(script: Script, connect: Connect) -> None:
    servers = [script() for _ in range(3)]
    for address in (",".join(s.address for s in servers), [s.address for s in servers]):
        _call(connect(address, timeout_s=30), 12)
    assert [len(server.calls) for server in servers] == [8, 8, 8]


def test_calls_take_turns_at_connections(script: Script, connect: Connect) -> None:
    peers = Counter[str]()

    def answer(_: bytes, context: Any) -> bytes:
        peers[context.peer()] += 1
        return b""

    client = connect(script(answer).address, connections=3, timeout_s=30)
    for _ in range(6):
        client.get_online_features("any", {"id": [1]})
    assert sorted(peers.values()) == [2, 2, 2]


def test_an_address_that_is_down_costs_no_call(script: Script, connect: Connect) -> None:
    server = script()
    # Without retries: passing over is none.
    client = connect([nobody(), server.address], timeout_s=30, retry=RetryPolicy(attempts=1))
    _call(client, 20)
    assert len(server.calls) == 20


def test_all_addresses_being_down_is_unavailable(connect: Connect) -> None:
    client = connect([nobody(), nobody()], timeout_s=30, retry=RetryPolicy(attempts=2))
    with pytest.raises(UnavailableError, match="failed to connect"):
        _call(client)


def test_an_address_that_comes_back_is_used_again(script: Script, connect: Connect) -> None:
    one, two = script(), script()
    client = connect([one.address, two.address], timeout_s=30)
    _call(client, 4)
    two.stop()
    _call(client, 10)
    two.start()
    before = len(two.calls)
    while len(two.calls) == before:  # until connections are tried again
        _call(client)


def test_waiting_for_one_of_several_servers(serve: Serve, store: Any, connect: Connect) -> None:
    connect([nobody(), serve(shop.catalog(), store)]).wait_ready(30)
    client = connect([nobody(), nobody()])
    with pytest.raises(UnavailableError, match=r"None of the servers at .*, .* was ready"):
        client.wait_ready(0.2)


def test_a_name_is_looked_up(script: Script, connect: Connect) -> None:
    server = script()
    _, _, port = server.address.rpartition(":")
    _call(connect(f"dns:///localhost:{port}", timeout_s=30), 3)
    assert len(server.calls) == 3


def test_all_servers_of_a_name_take_turns(script: Script) -> None:
    servers = [script() for _ in range(2)]
    # What a name with two addresses resolves to, without a name server.
    target = f"ipv4:{','.join(server.address for server in servers)}"
    with grpc.insecure_channel(target, channel_options("dns:///name:1", None)) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/a/b")
        while not all(server.calls for server in servers):
            call(b"", timeout=30, wait_for_ready=True)
        before = [len(server.calls) for server in servers]
        for _ in range(10):
            call(b"", timeout=30)
    assert [len(s.calls) - b for s, b in zip(servers, before, strict=True)] == [5, 5]


# --- Whose turn it is ----------------------------------------------------------------------------

LOST = UnavailableError("Socket closed", code="UNAVAILABLE")
UNSENT = UnavailableError("failed to connect to all addresses", code="UNAVAILABLE")
ANSWERED = UnavailableError("gone", code="UNAVAILABLE", reason="ONLINE_STORE_UNAVAILABLE")


def _ring(*targets: str, connections: int = 2) -> Ring[str]:
    options = ClientOptions.checked(
        targets,
        timeout_s=1,
        connections=connections,
        project=None,
        retry=RetryPolicy(),
        tls=False,
        api_key="",
        insecure=False,
    )
    return Ring(options, lambda target: target)


def _turns(ring: Ring[str], times: int) -> list[int]:
    return [ring.next()[0] for _ in range(times)]


def test_connections_alternate_between_addresses() -> None:
    ring = _ring("a:1", "b:1")
    assert ring.channels == ["a:1", "b:1", "a:1", "b:1"]
    assert _turns(ring, 5) == [0, 1, 2, 3, 0]


def test_a_lost_connection_is_passed_over_alone() -> None:
    ring = _ring("a:1", "b:1")
    ring.failed(2, LOST)
    assert Counter(_turns(ring, 9)) == {0: 3, 1: 3, 3: 3}


def test_an_address_without_a_server_is_passed_over_with_all_its_connections() -> None:
    ring = _ring("a:1", "b:1", "c:1")
    ring.failed(3, UNSENT)
    assert Counter(_turns(ring, 8)) == {1: 2, 2: 2, 4: 2, 5: 2}


def test_when_all_are_down_all_are_tried() -> None:
    ring = _ring("a:1")
    ring.failed(0, UNSENT)
    assert set(_turns(ring, 4)) == {0, 1}


def test_a_connection_that_answers_is_used() -> None:
    ring = _ring("a:1")
    ring.failed(0, LOST)
    assert set(_turns(ring, 4)) == {1}
    ring.succeeded(0)
    assert set(_turns(ring, 4)) == {0, 1}


@pytest.mark.parametrize("failure", [ANSWERED, NotFoundError("no such service", code="NOT_FOUND")])
def test_a_failure_that_a_server_answered_is_none_of_the_connection(failure: ClientError) -> None:
    ring = _ring("a:1")
    ring.failed(0, failure)
    assert set(_turns(ring, 4)) == {0, 1}

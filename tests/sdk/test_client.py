"""Both clients against a real server."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from featurestore_sdk import (
    AsyncFeatureStoreClient,
    ClientClosedError,
    ClientError,
    DeadlineExceededError,
    FeatureStoreClient,
    FieldViolation,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    ServerError,
    Status,
    UnavailableError,
)
from featurestore_sdk.channels import Connection
from featurestore_server import Limits
from featurestore_server.server import FeatureServer

from featurestore.errors import StoreUnavailableError
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import OnlineStore, ReadRequest
from tests.sdk.clients import Connect
from tests.sdk.scripted import Script
from tests.server import shop
from tests.server.fixtures import Serve


@pytest.fixture
def client(address: str, connect: Connect) -> FeatureStoreClient:
    return connect(address, timeout_s=30)


ENTITIES = {"user_id": [1, 2, 3, 4, None]}


def test_a_lookup_by_service(client: FeatureStoreClient) -> None:
    reply = client.get_online_features("checkout", ENTITIES)
    assert reply.to_dict() == {
        "user_id": [1, 2, 3, 4, None],
        "credit": [1.5, None, None, None, None],
        "country": ["AT", "CH", None, None, None],
        "visits": [10, 20, None, None, None],
        "rate": [0.25] * 5,
    }
    assert reply.statuses["credit"] == [
        Status.PRESENT,
        Status.NULL_VALUE,
        Status.OUTSIDE_MAX_AGE,
        Status.NOT_FOUND,
        Status.NOT_FOUND,
    ]
    assert reply.event_timestamps["users"] == [
        shop.NOW - timedelta(hours=1),
        shop.NOW - shop.DAY,
        shop.NOW - shop.DAY - timedelta(microseconds=1),
        None,
        None,
    ]
    assert (reply.project, reply.revision, reply.request_timestamp) == ("shop", 7, shop.NOW)
    assert reply.feature_views == {
        "credit": "users",
        "country": "users",
        "visits": "users",
        "rate": "rates",
    }


def test_a_lookup_by_names(client: FeatureStoreClient) -> None:
    reply = client.get_online_features(
        ["rates:rate", "users:visits"], {"user_id": [1]}, full_feature_names=True
    )
    assert reply.to_rows() == [{"user_id": 1, "rates__rate": 0.25, "users__visits": 10}]


@pytest.mark.parametrize(
    "entities",
    [
        [{"user_id": 1}, {"user_id": None}],
        pa.table({"user_id": pa.array([1, None], pa.int32())}),
        pl.DataFrame({"user_id": [1, None]}),
        pd.DataFrame({"user_id": [1.0, float("nan")]}),
    ],
    ids=["rows", "arrow", "polars", "pandas"],
)
def test_entities_in_every_form(client: FeatureStoreClient, entities: Any) -> None:
    reply = client.get_online_features(["users:visits"], entities)
    assert reply.to_dict() == {"user_id": [1, None], "visits": [10, None]}


@pytest.mark.parametrize(("entities", "count"), [({}, 1), ([{}], 1), ([{}, {}, {}], 3)])
def test_features_of_no_entity(client: FeatureStoreClient, entities: Any, count: int) -> None:
    reply = client.get_online_features(["rates:rate"], entities)
    assert reply.to_dict() == {"rate": [0.25] * count}


def test_every_type_arrives_as_it_was_written(client: FeatureStoreClient) -> None:
    table = client.get_online_features("types", {"id": [1, 2, 3, 4]}).to_arrow()
    for position, (dtype, values) in enumerate(shop.VALUES.items()):
        expected = shop.arrow(dtype, [*values, None, None])
        found = table[f"t{position}"].combine_chunks()
        assert found.type == expected.type
        # Bytes, because a NaN is unlike itself.
        assert _bits(found) == _bits(expected), dtype


def _bits(array: pa.Array) -> list[Any]:
    if pa.types.is_list(array.type):
        return [None if not v.is_valid else _bits(v.values) for v in array]
    return [repr(value.as_py()) for value in array]


def test_keys_of_other_types(client: FeatureStoreClient) -> None:
    price = client.get_online_features(["prices:price"], [{"item": "tea", "country": "AT"}])
    assert price.to_dict()["price"] == [Decimal("9.90")]
    holiday = client.get_online_features(["calendar:holiday"], {"day": [date(2024, 3, 5)]})
    assert holiday.to_dict() == {"day": [date(2024, 3, 5)], "holiday": [True]}


def test_a_wrong_value_is_an_error_with_its_field_and_row(client: FeatureStoreClient) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.get_online_features("checkout", {"user_id": [1.0, 1.5]})
    error = caught.value
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "ENTITY_VALUE_INVALID")
    assert [v.field for v in error.violations] == ["entities.user_id[1]"]
    assert isinstance(error.violations[0], FieldViolation)


def test_an_unknown_field_is_an_error_with_a_suggestion(client: FeatureStoreClient) -> None:
    with pytest.raises(InvalidRequestError, match="did you mean 'user_id'") as caught:
        client.get_online_features("checkout", {"user_id": [1], "usr_id": [1]})
    assert caught.value.suggestions == ("user_id",)


@pytest.mark.parametrize(
    ("features", "kind", "name", "suggestion"),
    [
        ("chekout", "feature service", "chekout", "checkout"),
        (["user:credit"], "feature view", "user", "users"),
    ],
)
def test_an_unknown_name_is_an_error_with_suggestions(
    client: FeatureStoreClient, features: Any, kind: str, name: str, suggestion: str
) -> None:
    with pytest.raises(NotFoundError) as caught:
        client.get_online_features(features, {"user_id": [1]})
    error = caught.value
    assert (error.kind, error.name, error.suggestions[0]) == (kind, name, suggestion)


@pytest.mark.parametrize("features", ["users:credit", [1], 7, None])
def test_what_names_no_features_is_refused_without_a_call(connect: Connect, features: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        connect("127.0.0.1:1").get_online_features(features, {"user_id": [1]})
    assert caught.value.code is None


def test_another_project_is_an_error(address: str, connect: Connect) -> None:
    right = connect(address, project="shop", timeout_s=30)
    assert len(right.get_online_features("checkout", {"user_id": [1]})) == 1
    wrong = connect(address, project="other", timeout_s=30)
    with pytest.raises(NotFoundError) as caught:
        wrong.get_online_features("checkout", {"user_id": [1]})
    assert (caught.value.kind, caught.value.name) == ("project", "other")


def test_a_request_that_is_too_large_is_an_error(
    serve: Serve, store: OnlineStore, connect: Connect
) -> None:
    limits = Limits(max_request_bytes=1_000, max_entities=10)
    client = connect(serve(shop.catalog(), store, limits=limits), timeout_s=30)
    for count in (11, 1_000):
        with pytest.raises(LimitExceededError):
            client.get_online_features("checkout", {"user_id": range(count)})


def test_a_server_that_is_not_there_is_unavailable(connect: Connect) -> None:
    client = connect("127.0.0.1:1", timeout_s=30)
    with pytest.raises(UnavailableError) as caught:
        client.get_online_features("checkout", {"user_id": [1]})
    assert caught.value.retryable


class SlowStore(MemoryOnlineStore):
    """A store whose reads of real keys fail so many times, or wait for a gate."""

    def __init__(self, *, failures: int = 0, gate: threading.Event | None = None) -> None:
        super().__init__()
        self.reads = 0
        self._failures = failures
        self._gate = gate
        shop.fill(self)

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        if requests[0].keys[0].startswith(b"\0"):  # the monitor's probe
            return super().read(requests, until=until)
        self.reads += 1
        if self._gate:
            assert self._gate.wait(30)
        if self.reads <= self._failures:
            raise StoreUnavailableError("gone")
        return super().read(requests, until=until)


def test_a_store_that_is_gone_for_a_moment_is_asked_again(serve: Serve, connect: Connect) -> None:
    store = SlowStore(failures=3)
    client = connect(serve(shop.catalog(), store), timeout_s=30)
    assert len(client.get_online_features("checkout", {"user_id": [1]})) == 1
    assert store.reads == 4


def test_a_store_that_stays_away_is_asked_five_times(serve: Serve, connect: Connect) -> None:
    store = SlowStore(failures=100)
    client = connect(serve(shop.catalog(), store), timeout_s=30)
    with pytest.raises(UnavailableError) as caught:
        client.get_online_features("checkout", {"user_id": [1]})
    assert caught.value.reason == "ONLINE_STORE_UNAVAILABLE"
    assert caught.value.retry_after_s
    assert store.reads == 5


def test_a_failure_of_the_server_is_an_error_with_an_id(serve: Serve, connect: Connect) -> None:
    class BrokenStore(SlowStore):
        def read(
            self,
            requests: Sequence[ReadRequest],
            *,
            until: float | None = None,  # noqa: ARG002
        ) -> list[list[bytes | None]]:
            raise RuntimeError(f"secret of {len(requests)} reads")

    client = connect(serve(shop.catalog(), BrokenStore()), timeout_s=30)
    with pytest.raises(ServerError) as caught:
        client.get_online_features("checkout", {"user_id": [1]})
    assert len(caught.value.error_id) == 16
    assert caught.value.error_id in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_call_ends_at_its_timeout(serve: Serve, connect: Connect) -> None:
    gate = threading.Event()
    client = connect(serve(shop.catalog(), SlowStore(gate=gate)), timeout_s=30)
    with pytest.raises(DeadlineExceededError):
        client.get_online_features("checkout", {"user_id": [1]}, timeout_s=0.2)
    gate.set()


def test_a_closed_client_says_so(client: FeatureStoreClient) -> None:
    client.get_online_features("checkout", ENTITIES)
    client.close()
    client.close()
    with pytest.raises(ClientClosedError):
        client.get_online_features("checkout", {"user_id": [1]})
    with pytest.raises(ClientClosedError):
        client.wait_ready()


def test_closing_a_client_ends_its_calls(connect: Connect, script: Script) -> None:
    arrived, gate = threading.Event(), threading.Event()

    def wait(_: bytes, __: Any) -> bytes:
        arrived.set()
        gate.wait(30)
        return b""

    client = connect(script(wait).address, timeout_s=30)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.get_online_features, "checkout", ENTITIES)
        assert arrived.wait(30)
        client.close()
        with pytest.raises(ClientClosedError, match="under way"):
            waiting.result(30)
    gate.set()


def test_a_call_that_begins_while_another_thread_closes_is_typed(
    serve: Serve, store: OnlineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The channel closes between being chosen and being used.
    client = FeatureStoreClient(serve(shop.catalog(), store), timeout_s=30)
    chosen = Connection.unary

    def choose_and_close(self: Connection, method: str) -> Any:
        found = chosen(self, method)
        client.close()
        return found

    monkeypatch.setattr(Connection, "unary", choose_and_close)
    with pytest.raises(ClientClosedError, match="under way"):
        client.get_online_features("checkout", ENTITIES)


def test_an_async_call_that_is_cancelled_is_cancelled_at_the_server(script: Script) -> None:
    arrived, ended = threading.Event(), threading.Event()

    def wait(_: bytes, context: Any) -> bytes:
        context.add_callback(ended.set)
        arrived.set()
        ended.wait(30)
        return b""

    async def give_up(address: str) -> None:
        async with AsyncFeatureStoreClient(address, timeout_s=30) as client:
            task = asyncio.ensure_future(client.get_online_features("checkout", ENTITIES))
            assert await asyncio.to_thread(arrived.wait, 30)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(ended.wait, 30)

    asyncio.run(give_up(script(wait).address))


def test_an_async_client_belongs_to_one_loop(script: Script) -> None:
    client = AsyncFeatureStoreClient(script().address, timeout_s=30)

    async def project() -> str:
        return (await client.get_online_features("checkout", ENTITIES)).project

    async def project_then_close() -> str:
        async with client:
            return await project()

    assert asyncio.run(project_then_close()) == "scripted"
    with pytest.raises(ClientClosedError, match="another event loop"):
        asyncio.run(project())


def test_waiting_for_a_server_that_comes_up(store: OnlineStore, connect: Connect) -> None:
    server = FeatureServer(shop.catalog(), store)
    port = server.listen("127.0.0.1:0")
    client = connect(f"127.0.0.1:{port}")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.wait_ready, 30)
        time.sleep(0.2)
        assert not waiting.done()
        server.start()
        waiting.result(30)
    server.stop(5)


def test_waiting_for_a_server_ends(connect: Connect) -> None:
    client = connect("127.0.0.1:1")
    with pytest.raises(
        UnavailableError, match=r"127\.0\.0\.1:1 was not ready within 0\.2 s"
    ) as caught:
        client.wait_ready(0.2)
    assert isinstance(caught.value.__cause__, ClientError)
    assert caught.value.__cause__.message in caught.value.message  # what to look for


def test_waiting_for_a_server_whose_store_is_gone_ends(serve: Serve, connect: Connect) -> None:
    class GoneStore(MemoryOnlineStore):
        def read(
            self,
            requests: Sequence[ReadRequest],
            *,
            until: float | None = None,  # noqa: ARG002
        ) -> list[list[bytes | None]]:
            raise StoreUnavailableError(f"gone for {len(requests)} reads")

    client = connect(serve(shop.catalog(), GoneStore()))
    with pytest.raises(UnavailableError):
        client.wait_ready(0.5)


def test_one_client_serves_several_threads(client: FeatureStoreClient) -> None:
    def visits(user: int) -> list[Any]:
        return client.get_online_features(["users:visits"], {"user_id": [user]}).to_dict()["visits"]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(visits, [1, 2] * 50))
    assert found == [[10], [20]] * 50

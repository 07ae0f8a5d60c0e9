"""What goes wrong is said by status, with details, and nothing else leaks."""

import logging
import socket
import threading
import time
from collections.abc import Sequence

import grpc
import pytest
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesRequest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server import Limits
from featurestore_server.server import FeatureServer
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc import StatusCode

from featurestore.errors import StoreDataError, StoreUnavailableError
from featurestore.online.factory import open_store
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import OnlineStore, ReadRequest
from tests.proxy import Fault, proxy_to
from tests.servers import local_binary, local_redis

from . import shop
from .calls import Dial, fails, lookup, raw
from .fixtures import Serve
from .gated import gated

METHOD = "/featurestore.v1.ServingService/GetOnlineFeatures"
ONE = Values(int64s=[1])


@pytest.mark.parametrize(
    ("asked", "code", "reason", "fields", "words"),
    [
        (
            lookup("checkout"),
            StatusCode.INVALID_ARGUMENT,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id"],
            "user_id",
        ),
        (
            lookup("checkout", user_id=ONE, usr_id=ONE),
            StatusCode.INVALID_ARGUMENT,
            "ENTITY_VALUE_INVALID",
            ["entities.usr_id"],
            "did you mean 'user_id'",
        ),
        (
            lookup("checkout", user_id=Values(strings=["1"])),
            StatusCode.INVALID_ARGUMENT,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[0]"],
            "int64",
        ),
        (
            lookup("checkout", user_id=Values(bools=[True])),
            StatusCode.INVALID_ARGUMENT,
            "ENTITY_VALUE_INVALID",
            None,
            "int64",
        ),
        (
            lookup("checkout", user_id=Values(float64s=[1.0, 1.5])),
            StatusCode.INVALID_ARGUMENT,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[1]"],
            "whole number",
        ),
        (
            lookup("checkout", user_id=Values(uint64s=[2**63])),
            StatusCode.INVALID_ARGUMENT,
            "ENTITY_VALUE_INVALID",
            ["entities.user_id[0]"],
            "outside",
        ),
        (
            lookup("checkout", user_id=Values(int64s=[1], strings=["a"])),
            StatusCode.INVALID_ARGUMENT,
            "MESSAGE_MALFORMED",
            ["entities.user_id"],
            "several lists",
        ),
        (
            lookup("chekout", user_id=ONE),
            StatusCode.NOT_FOUND,
            "FEATURE_SERVICE_NOT_FOUND",
            None,
            "did you mean 'checkout'",
        ),
        (
            lookup(["user:credit"], user_id=ONE),
            StatusCode.NOT_FOUND,
            "FEATURE_VIEW_NOT_FOUND",
            None,
            "did you mean 'users'",
        ),
        (
            lookup(["users:kredit"], user_id=ONE),
            StatusCode.NOT_FOUND,
            "FEATURE_NOT_FOUND",
            None,
            "did you mean",
        ),
        (
            lookup("checkout", project="shops", user_id=ONE),
            StatusCode.NOT_FOUND,
            "PROJECT_NOT_FOUND",
            None,
            "did you mean 'shop'",
        ),
        (
            lookup(["users:credit", "users:credit"], user_id=ONE),
            StatusCode.INVALID_ARGUMENT,
            None,
            None,
            "credit",
        ),
        (
            GetOnlineFeaturesRequest(entities={"user_id": ONE}),
            StatusCode.INVALID_ARGUMENT,
            "MESSAGE_MALFORMED",
            ["selection"],
            "names no features",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(  # noqa: PLR0917 - columns of the table above
    stub: ServingServiceStub,
    asked: GetOnlineFeaturesRequest,
    code: StatusCode,
    reason: str | None,
    fields: list[str] | None,
    words: str,
) -> None:
    failure = fails(lambda: stub.GetOnlineFeatures(asked, timeout=10))
    assert failure.code == code
    assert words in failure.message
    if reason:
        assert failure.reason == reason
    if fields:
        assert failure.fields == fields


def test_columns_of_different_lengths_are_refused(stub: ServingServiceStub) -> None:
    names = ["prices:price"]
    request = lookup(names, item=Values(strings=["a", "b"]), country=Values(strings=["AT"]))
    failure = fails(lambda: stub.GetOnlineFeatures(request, timeout=10))
    assert failure.code == StatusCode.INVALID_ARGUMENT


def test_bytes_that_are_no_message_are_the_callers_fault(address: str, dial: Dial) -> None:
    send = raw(dial(address), METHOD)
    failure = fails(lambda: send(b"\xff\xff\xff"))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")


def test_bytes_that_are_no_health_request_are_the_callers_fault(address: str, dial: Dial) -> None:
    send = raw(dial(address), "/grpc.health.v1.Health/Check")
    failure = fails(lambda: send(b"\xff\xff\xff"))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")


def test_bytes_in_a_stream_that_are_no_message_are_the_callers_fault(
    address: str, dial: Dial
) -> None:
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    stream: grpc.StreamStreamMultiCallable[bytes, bytes] = dial(address).stream_stream(method)
    failure = fails(lambda: list(stream(iter([b"\xff\xff\xff"]), timeout=10)))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED")


@pytest.mark.parametrize("method", ["/featurestore.v1.ServingService/Nothing", "/no.Service/Get"])
def test_an_unknown_method_is_unimplemented(address: str, dial: Dial, method: str) -> None:
    send = raw(dial(address), method)
    assert fails(lambda: send(b"")).code == StatusCode.UNIMPLEMENTED


# --- Limits --------------------------------------------------------------------------------------


def test_too_many_entities_are_refused_before_any_work(
    serve: Serve, store: OnlineStore, dial: Dial
) -> None:
    stub = ServingServiceStub(dial(serve(shop.catalog(), store, limits=Limits(max_entities=3))))
    three = lookup("checkout", user_id=Values(int64s=[1, 2, 3]))
    assert stub.GetOnlineFeatures(three, timeout=10).features
    four = lookup("checkout", user_id=Values(int64s=[1, 2, 3, 4]))
    failure = fails(lambda: stub.GetOnlineFeatures(four, timeout=10))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    assert failure.fields == ["entities.user_id"]
    assert "4 entities; 3 are the limit" in failure.message


def test_too_many_features_are_refused(serve: Serve, store: OnlineStore, dial: Dial) -> None:
    stub = ServingServiceStub(dial(serve(shop.catalog(), store, limits=Limits(max_features=1))))
    request = lookup(["users:credit", "users:visits"], user_id=ONE)
    failure = fails(lambda: stub.GetOnlineFeatures(request, timeout=10))
    assert (failure.code, failure.reason) == (StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED")
    assert failure.fields == ["features"]


def test_a_request_that_is_too_large_is_refused(
    serve: Serve, store: OnlineStore, dial: Dial
) -> None:
    limits = Limits(max_request_bytes=1_000)
    stub = ServingServiceStub(dial(serve(shop.catalog(), store, limits=limits)))
    small = lookup("checkout", user_id=Values(int64s=range(100)))
    assert stub.GetOnlineFeatures(small, timeout=10).features
    large = lookup("checkout", user_id=Values(int64s=range(200)))
    failure = fails(lambda: stub.GetOnlineFeatures(large, timeout=10))
    assert failure.code == StatusCode.RESOURCE_EXHAUSTED


# --- The store fails -----------------------------------------------------------------------------


class FailingStore(MemoryOnlineStore):
    """A store whose reads of real keys raise; the monitor's probes are answered."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        if any(key.startswith(b"\0") for request in requests for key in request.keys):
            return super().read(requests, until=until)
        raise self._error


PRIVATE = "cannot open /etc/private at redis://user:secret@10.0.0.7"


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (RuntimeError(PRIVATE), StatusCode.INTERNAL, "INTERNAL"),
        (StoreDataError(PRIVATE), StatusCode.DATA_LOSS, "STORED_ROW_UNREADABLE"),
        (StoreUnavailableError(PRIVATE), StatusCode.UNAVAILABLE, "ONLINE_STORE_UNAVAILABLE"),
    ],
)
def test_what_the_store_says_stays_in_the_log(  # noqa: PLR0917 - fixtures and a table
    serve: Serve,
    dial: Dial,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    code: StatusCode,
    reason: str,
) -> None:
    stub = ServingServiceStub(dial(serve(shop.catalog(), FailingStore(error))))
    with caplog.at_level(logging.ERROR, "featurestore_server"):
        failure = fails(lambda: stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=10))
    assert (failure.code, failure.reason) == (code, reason)
    assert "secret" not in failure.everything
    assert "private" not in failure.everything
    error_id = failure.detail(ErrorInfo).metadata["error_id"]
    assert error_id in failure.message
    [record] = [r for r in caplog.records if error_id in r.getMessage()]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_only_an_unavailable_store_asks_for_another_try(serve: Serve, dial: Dial) -> None:
    store = FailingStore(StoreUnavailableError("gone"))
    stub = ServingServiceStub(dial(serve(shop.catalog(), store)))
    failure = fails(lambda: stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=10))
    assert failure.detail(RetryInfo).retry_delay.ToMilliseconds() > 0


def test_a_redis_that_is_not_there_is_unavailable(serve: Serve, dial: Dial) -> None:
    store = open_store("redis", url="redis://127.0.0.1:1")
    stub = ServingServiceStub(dial(serve(shop.catalog(), store)))
    failure = fails(lambda: stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=30))
    assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "ONLINE_STORE_UNAVAILABLE")
    store.close()


def test_a_redis_that_does_not_answer_is_unavailable(serve: Serve, dial: Dial) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        store = open_store("redis", url=url, timeout_ms=200, connect_timeout_ms=200)
        stub = ServingServiceStub(dial(serve(shop.catalog(), store)))
        failure = fails(lambda: stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=30))
        assert failure.code == StatusCode.UNAVAILABLE
        store.close()


# --- Time ----------------------------------------------------------------------------------------


def test_a_deadline_reaches_redis(serve: Serve, dial: Dial) -> None:
    # One thread: while it waits for the silent Redis, nobody else is served.
    with local_redis(local_binary()) as redis, proxy_to(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        store = open_store("redis", url=url, timeout_ms=60_000, connect_timeout_ms=60_000)
        shop.fill(store)
        stub = ServingServiceStub(dial(serve(shop.catalog(), store, threads=1)))
        ask = lookup("checkout", user_id=ONE)
        assert stub.GetOnlineFeatures(ask, timeout=20).features
        proxy.fault = Fault.NO_REPLIES
        failure = fails(lambda: stub.GetOnlineFeatures(ask, timeout=0.3))
        assert failure.code == StatusCode.DEADLINE_EXCEEDED
        proxy.fault = Fault.NONE
        proxy.reset_all()
        assert stub.GetOnlineFeatures(ask, timeout=20).features
        store.close()


def test_a_request_whose_deadline_passed_in_the_queue_is_not_worked_on(
    serve: Serve, dial: Dial
) -> None:
    with gated() as store:
        stub = ServingServiceStub(dial(serve(shop.catalog(), store, threads=1)))
        first = stub.GetOnlineFeatures.future(lookup("checkout", user_id=ONE), timeout=30)
        assert store.waiting.acquire(timeout=30)
        second = stub.GetOnlineFeatures.future(lookup("checkout", user_id=ONE), timeout=0.2)
        assert second.exception() is not None
        assert second.code() == StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.1)
        store.gate.set()
        assert first.result().features
        third = stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=30)
        assert third.features
        assert store.reads == 2


def test_a_call_that_was_given_up_in_the_queue_is_not_worked_on(serve: Serve, dial: Dial) -> None:
    with gated() as store:
        stub = ServingServiceStub(dial(serve(shop.catalog(), store, threads=1)))
        first = stub.GetOnlineFeatures.future(lookup("checkout", user_id=ONE), timeout=30)
        assert store.waiting.acquire(timeout=30)
        second = stub.GetOnlineFeatures.future(lookup("checkout", user_id=ONE), timeout=30)
        time.sleep(0.1)
        assert second.cancel()
        time.sleep(0.1)
        store.gate.set()
        assert first.result().features
        assert stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=30).features
        assert store.reads == 2


def test_a_call_without_a_request_is_refused(address: str, dial: Dial) -> None:
    call: grpc.StreamUnaryMultiCallable[bytes, bytes] = dial(address).stream_unary(METHOD)
    assert fails(lambda: call(iter([]), timeout=10)).code == StatusCode.UNIMPLEMENTED


def test_a_compressed_request_is_a_request_like_any_other(address: str) -> None:
    with grpc.insecure_channel(address, compression=grpc.Compression.Gzip) as channel:
        request = lookup("checkout", user_id=Values(int64s=[1] * 500))
        metadata = (("x-request-id", "1"), ("x-trace-bin", b"\0\xff"))
        reply = ServingServiceStub(channel).GetOnlineFeatures(
            request, timeout=10, metadata=metadata
        )
        assert len(reply.features[0].statuses) == 500


def test_calls_beyond_the_limit_are_refused_at_once(serve: Serve, dial: Dial) -> None:
    with gated() as store:
        address = serve(shop.catalog(), store, threads=1, limits=Limits(max_calls=1))
        stub = ServingServiceStub(dial(address))
        first = stub.GetOnlineFeatures.future(lookup("checkout", user_id=ONE), timeout=30)
        assert store.waiting.acquire(timeout=30)
        failure = fails(lambda: stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=30))
        assert (failure.code, failure.reason) == (StatusCode.UNAVAILABLE, "OVERLOADED")
        assert failure.detail(RetryInfo).retry_delay.ToMilliseconds() > 0
        store.gate.set()
        assert first.result().features
        _wait_for_room(stub)


def _wait_for_room(stub: ServingServiceStub) -> None:
    """Call until a call is taken: the caller knows of a call's end a little before the server."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            assert stub.GetOnlineFeatures(lookup("checkout", user_id=ONE), timeout=30).features
        except grpc.RpcError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError("the server takes no more calls")


def test_a_server_that_stops_finishes_calls_and_takes_no_new_ones(
    fast_lookups: bool,  # noqa: FBT001 - a fixture
    dial: Dial,
) -> None:
    with gated() as store:
        server = FeatureServer(shop.catalog(), store, fast_lookups=fast_lookups)
        address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
        server.start()
        stub = ServingServiceStub(dial(address))
        under_way = stub.GetOnlineFeatures.future(lookup("checkout", user_id=ONE), timeout=30)
        assert store.waiting.acquire(timeout=30)
        stopping = threading.Thread(target=server.stop, args=(30,))
        stopping.start()
        _wait_for_the_end(address)
        assert not under_way.done()
        store.gate.set()
        assert under_way.result().features
        stopping.join(30)
        assert not stopping.is_alive()


def test_a_server_that_stops_cancels_calls_after_the_grace_time(
    fast_lookups: bool,  # noqa: FBT001 - a fixture
    dial: Dial,
) -> None:
    with gated() as store:
        server = FeatureServer(shop.catalog(), store, fast_lookups=fast_lookups)
        stub = ServingServiceStub(dial(f"127.0.0.1:{server.listen('127.0.0.1:0')}"))
        server.start()
        under_way = stub.GetOnlineFeatures.future(lookup("checkout", user_id=ONE), timeout=30)
        assert store.waiting.acquire(timeout=30)
        server.stop(0.1)
        assert under_way.exception() is not None


def _wait_for_the_end(address: str) -> None:
    """Make new connections until none is taken any more."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with grpc.insecure_channel(address) as channel:
            ready = grpc.channel_ready_future(channel)
            try:
                ready.result(timeout=0.1)
            except grpc.FutureTimeoutError:
                ready.cancel()
                return
        time.sleep(0.02)
    raise AssertionError("the server still takes connections")

"""Lookups that are answered together: each gets its own answer, whatever becomes of the others."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server import Limits
from featurestore_server.admission import Admission
from featurestore_server.calls import Call, Observer
from featurestore_server.errors import DeadlinePassedError
from featurestore_server.loop import is_supported
from featurestore_server.server import FeatureServer
from featurestore_server.service import LOOKUP_METHOD, OnlineFeatures

from featurestore.errors import (
    EntityValueError,
    JobCancelledError,
    NotFoundError,
    StoreUnavailableError,
)
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import OnlineStore, ReadRequest

from . import shop
from .calls import Dial, fails, lookup
from .fixtures import Serve
from .gated import gated

ONE = Values(int64s=[1])
GOOD = lookup("checkout", user_id=ONE)


def test_only_versions_that_were_tested_are_supported() -> None:
    assert is_supported(grpc.__version__)
    assert not is_supported("1.75.3")
    assert not is_supported("1.999.0")
    assert not is_supported("2.0.0.dev1")


# --- answered together ---------------------------------------------------------------------------


def _online_features(store: OnlineStore) -> OnlineFeatures:
    return FeatureServer(shop.catalog(), store).online_features


def _calls(*requests: bytes) -> list[Call]:
    return [Call(LOOKUP_METHOD, request) for request in requests]


def test_requests_answered_together_get_what_each_gets_alone(store: OnlineStore) -> None:
    features = _online_features(store)
    requests = [
        lookup("checkout", user_id=Values(int64s=users)).SerializeToString()
        for users in ([1], [2, 1, 404], [], [404], list(range(50)))
    ]
    requests.append(lookup(["rates:rate"]).SerializeToString())
    together = features.answer_all(_calls(*requests))
    assert together == [features.answer(call) for call in _calls(*requests)]


def test_requests_answered_together_fail_alone(store: OnlineStore) -> None:
    good = GOOD.SerializeToString()
    bad = lookup("checkout", user_id=Values(strings=["1"])).SerializeToString()
    unknown = lookup("chekout", user_id=ONE).SerializeToString()
    features = _online_features(store)
    first, wrong, missing, last = features.answer_all(_calls(good, bad, unknown, good))
    assert first == last == features.answer(*_calls(good))
    assert isinstance(wrong, EntityValueError)
    assert isinstance(missing, NotFoundError)


class Down(MemoryOnlineStore):
    """A store that cannot be reached."""

    def read(
        self,
        requests: Sequence[ReadRequest],
        *,
        until: float | None = None,  # noqa: ARG002
    ) -> list[list[bytes | None]]:
        raise StoreUnavailableError(f"{len(requests)} reads failed")


def test_a_store_that_fails_fails_all_that_asked_it() -> None:
    unknown = lookup("chekout", user_id=ONE).SerializeToString()
    good = GOOD.SerializeToString()
    answers = _online_features(Down()).answer_all(_calls(good, unknown, good))
    kinds = [type(answer) for answer in answers]
    assert kinds == [StoreUnavailableError, NotFoundError, StoreUnavailableError]


# --- over the wire -------------------------------------------------------------------------------


def test_calls_that_waited_take_one_trip_to_the_store(
    fast_lookups: bool,  # noqa: FBT001 - a fixture
    serve: Serve,
    dial: Dial,
) -> None:
    with gated() as store:
        stub = ServingServiceStub(dial(serve(shop.catalog(), store, threads=1)))
        calls = [stub.GetOnlineFeatures.future(GOOD, timeout=30)]
        assert store.waiting.acquire(timeout=30)
        calls += [stub.GetOnlineFeatures.future(GOOD, timeout=30) for _ in range(5)]
        time.sleep(0.3)  # on their way
        store.gate.set()
        assert all(call.result().features for call in calls)
        assert store.reads == (2 if fast_lookups else 6)


def test_many_calls_at_once_get_their_own_answers(
    serve: Serve, store: OnlineStore, dial: Dial
) -> None:
    stub = ServingServiceStub(dial(serve(shop.catalog(), store)))

    def ask(user: int) -> list[int]:
        request = lookup("checkout", user_id=Values(int64s=[user, user + 1]))
        reply = stub.GetOnlineFeatures(request, timeout=30)
        return list(reply.entities[0].values.int64s)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(1_000)))
    assert answers == [[user, user + 1] for user in range(1_000)]


# --- what counts, and who is told ----------------------------------------------------------------


class Ends(Observer):
    """Keeps the errors with which calls ended."""

    def __init__(self) -> None:
        self.errors: list[Exception | None] = []

    def ended(self, call: Call, error: Exception | None) -> None:
        del call
        self.errors.append(error)

    def has(self, kind: type[Exception]) -> bool:
        return any(isinstance(error, kind) for error in self.errors)


def _wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_calls_that_are_being_answered_do_not_wait(
    dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []

    def refuses(_: Admission, count: int) -> bool:
        waiting.append(count)
        return False

    monkeypatch.setattr(Admission, "refuses", refuses)
    with gated() as store, serving(store, threads=2) as address:
        stub = ServingServiceStub(dial(address))
        calls = []
        for _ in range(2):
            calls.append(stub.GetOnlineFeatures.future(GOOD, timeout=30))
            assert store.waiting.acquire(timeout=30)
        calls += [stub.GetOnlineFeatures.future(GOOD, timeout=30) for _ in range(3)]
        _wait_until(lambda: len(waiting) == 5)
        store.gate.set()
        assert all(call.result().features for call in calls)
    assert waiting[:3] == [0, 0, 0]


def test_requests_that_come_long_after_their_calls_count(dial: Dial) -> None:
    held = threading.Event()

    def late() -> Iterator[bytes]:
        held.wait(30)
        yield GOOD.SerializeToString()

    with gated() as store, serving(store, threads=1, limits=Limits(max_calls=3)) as address:
        begin: grpc.StreamUnaryMultiCallable[bytes, bytes] = dial(address).stream_unary(
            LOOKUP_METHOD
        )
        calls = [begin.future(late(), timeout=30) for _ in range(20)]
        time.sleep(0.5)  # all of them have begun
        held.set()
        _wait_until(lambda: sum(call.done() for call in calls) == 17)
        store.gate.set()
        found = [fails(call.result).reason if call.exception() else "" for call in calls]
    assert sorted(found) == [""] * 3 + ["OVERLOADED"] * 17


def test_an_observer_is_told_of_calls_that_were_given_up(dial: Dial) -> None:
    ends = Ends()
    with gated() as store, serving(store, threads=1, observer=ends) as address:
        stub = ServingServiceStub(dial(address))
        first = stub.GetOnlineFeatures.future(GOOD, timeout=30)
        assert store.waiting.acquire(timeout=30)

        # Of a call that has ended before it came, on a busy machine, only gRPC knows.
        def told_of_a_late_one() -> bool:
            fails(lambda: stub.GetOnlineFeatures(GOOD, timeout=0.2))
            return ends.has(DeadlinePassedError)

        def told_of_one_that_left() -> bool:
            left = stub.GetOnlineFeatures.future(GOOD, timeout=30)
            time.sleep(0.2)  # it waits for its turn
            left.cancel()
            return ends.has(JobCancelledError)

        _wait_until(told_of_a_late_one)
        _wait_until(told_of_one_that_left)
        store.gate.set()
        assert first.result().features


class Panics(MemoryOnlineStore):
    """A store that raises what no handler of exceptions catches, so many times."""

    times = 5

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        real = any(not key.startswith(b"\0") for request in requests for key in request.keys)
        if real and self.times:
            self.times -= 1
            raise KeyboardInterrupt
        return super().read(requests, until=until)


def test_no_exception_costs_a_thread(dial: Dial) -> None:
    store = Panics()
    shop.fill(store)
    with serving(store, threads=2) as address:
        stub = ServingServiceStub(dial(address))
        for _ in range(5):
            failure = fails(lambda: stub.GetOnlineFeatures(GOOD, timeout=20))
            assert failure.code == grpc.StatusCode.INTERNAL
        assert stub.GetOnlineFeatures(GOOD, timeout=20).features


@contextmanager
def serving(store: OnlineStore, **options: Any) -> Iterator[str]:
    """A server whose lookups go through the loop; its address."""
    server = FeatureServer(shop.catalog(), store, **options)
    port = server.listen("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(grace_s=5)

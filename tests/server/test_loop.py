"""Lookups that are answered together: each gets its own answer, whatever becomes of the others."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import grpc
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.calls import Call
from featurestore_server.loop import is_supported
from featurestore_server.server import FeatureServer
from featurestore_server.service import LOOKUP_METHOD, OnlineFeatures

from featurestore.errors import EntityValueError, NotFoundError, StoreUnavailableError
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import OnlineStore, ReadRequest

from . import shop
from .calls import Dial, lookup
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

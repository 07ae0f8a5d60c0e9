"""Health, reflection, and a store that comes and goes."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc
import pytest
from featurestore_protos.v1.serving_pb2 import DESCRIPTOR
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server import checks
from featurestore_server.monitor import FAILURES_UNTIL_DOWN, StoreMonitor
from featurestore_server.server import FeatureServer
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from featurestore.errors import StoreError, StoreUnavailableError
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import OnlineStore, ReadRequest

from . import shop
from .calls import Dial, fails, lookup, silent
from .fixtures import Serve
from .observed import wait_for

SERVICE = "featurestore.v1.ServingService"
SERVING = HealthCheckResponse.SERVING
NOT_SERVING = HealthCheckResponse.NOT_SERVING


def _health(channel: grpc.Channel, service: str) -> "HealthCheckResponse.ServingStatus":
    return HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=10).status


class MoodyStore(MemoryOnlineStore):
    """A store that answers while `error` is None."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.lookups = 0

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        self.lookups += not requests[0].keys[0].startswith(b"\0")  # as those of probes do
        if self.error:
            raise self.error
        return super().read(requests, until=until)


@pytest.mark.parametrize("service", ["", SERVICE])
def test_a_server_says_that_it_serves(address: str, dial: Dial, service: str) -> None:
    assert _health(dial(address), service) == SERVING


def test_the_health_of_an_unknown_service_is_not_found(address: str, dial: Dial) -> None:
    failure = fails(lambda: _health(dial(address), "no.such.Service"))
    assert failure.code == grpc.StatusCode.NOT_FOUND


def test_while_the_store_is_gone_the_process_lives_and_does_not_serve(
    serve: Serve, dial: Dial
) -> None:
    store = MoodyStore()
    store.error = StoreUnavailableError("gone")
    channel = dial(serve(shop.catalog(), store))
    assert (_health(channel, ""), _health(channel, SERVICE)) == (SERVING, NOT_SERVING)


def test_serving_begins_when_the_store_comes_back(serve: Serve, dial: Dial) -> None:
    store = MoodyStore()
    store.error = StoreUnavailableError("gone")
    channel = dial(serve(shop.catalog(), store))
    changes = HealthStub(channel).Watch(HealthCheckRequest(service=SERVICE), timeout=30)
    assert next(changes).status == NOT_SERVING
    store.error = None
    assert next(changes).status == SERVING
    changes.cancel()


def test_while_the_store_is_gone_requests_do_not_wait_for_it(serve: Serve, dial: Dial) -> None:
    store = MoodyStore()
    shop.fill(store)
    store.error = StoreUnavailableError("gone")
    stub = ServingServiceStub(dial(serve(shop.catalog(), store)))
    request = lookup("checkout", user_id=Values(int64s=[1]))
    failure = fails(lambda: stub.GetOnlineFeatures(request, timeout=10))
    assert failure.code == grpc.StatusCode.UNAVAILABLE
    assert store.lookups == 0


def _monitor(store: OnlineStore) -> tuple[StoreMonitor, list[bool]]:
    changes: list[bool] = []
    return StoreMonitor(store, shop.USERS.table, on_change=changes.append), changes


def test_one_failed_probe_is_not_the_end_of_a_store_that_answered() -> None:
    store = MoodyStore()
    monitor, changes = _monitor(store)
    monitor.probe()
    store.error = StoreUnavailableError("slow")
    for _ in range(FAILURES_UNTIL_DOWN - 1):
        monitor.probe()
    assert (monitor.store_answers, changes) == (True, [])
    monitor.probe()
    assert (monitor.store_answers, changes) == (False, [False])
    store.error = None
    monitor.probe()
    assert (monitor.store_answers, changes) == (True, [False, True])


def test_a_store_that_never_answered_is_gone_at_the_first_failed_probe() -> None:
    store = MoodyStore()
    store.error = StoreUnavailableError("gone")
    monitor, changes = _monitor(store)
    monitor.probe()
    assert (monitor.store_answers, changes) == (False, [False])


def test_a_bad_answer_is_an_answer() -> None:
    store = MoodyStore()
    store.error = StoreError("out of memory")
    monitor, changes = _monitor(store)
    monitor.probe()
    monitor.probe()
    assert (monitor.store_answers, changes) == (True, [])


def test_a_server_that_stops_says_so_first(
    fast_lookups: bool,  # noqa: FBT001 - a fixture
    dial: Dial,
    store: OnlineStore,
) -> None:
    server = FeatureServer(shop.catalog(), store, fast_lookups=fast_lookups)
    channel = dial(f"127.0.0.1:{server.listen('127.0.0.1:0')}")
    server.start()
    changes = HealthStub(channel).Watch(HealthCheckRequest(service=""), timeout=30)
    assert next(changes).status == SERVING
    stopping = threading.Thread(target=server.stop, args=(5,))
    stopping.start()
    assert next(changes).status == NOT_SERVING
    changes.cancel()
    stopping.join(30)
    assert not stopping.is_alive()


@pytest.mark.parametrize("method", ["Check", "Watch"])
def test_callers_who_say_nothing_keep_nobody_from_asking(
    address: str, dial: Dial, method: str
) -> None:
    channel = dial(address)
    request = HealthCheckRequest()
    with silent(channel, f"/grpc.health.v1.Health/{method}", calls=40):
        assert HealthStub(channel).Check(request, timeout=5).status == SERVING
        changes = HealthStub(channel).Watch(request, timeout=5)
        assert next(changes).status == SERVING
        changes.cancel()


def test_watches_take_no_room_from_checks(address: str, dial: Dial) -> None:
    channel = dial(address)
    watches = [HealthStub(channel).Watch(HealthCheckRequest(), timeout=60) for _ in range(100)]
    assert [next(watch).status for watch in watches] == [SERVING] * 100
    assert _health(channel, "") == SERVING
    for watch in watches:
        watch.cancel()


def test_watches_are_limited(serve: Serve, dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MAX_WATCHES", 1)
    channel = dial(serve(shop.catalog(), MemoryOnlineStore()))
    watch = HealthStub(channel).Watch
    first = watch(HealthCheckRequest(), timeout=30)
    assert next(first).status == SERVING
    assert fails(lambda: next(watch(HealthCheckRequest(), timeout=30))).reason == "OVERLOADED"
    first.cancel()
    assert wait_for(lambda: _one(watch(HealthCheckRequest(), timeout=30))) == SERVING


def _one(changes: Iterator[HealthCheckResponse]) -> "HealthCheckResponse.ServingStatus | None":
    try:
        return next(changes).status
    except grpc.RpcError:
        return None


def test_a_check_that_asks_nothing_is_told_so(address: str, dial: Dial) -> None:
    check: Any = dial(address).stream_unary("/grpc.health.v1.Health/Check")
    assert fails(lambda: check(iter(()), timeout=10)).reason == "MESSAGE_MALFORMED"


def _services(channel: grpc.Channel) -> list[str]:
    ask = ServerReflectionStub(channel).ServerReflectionInfo
    [answer] = ask(iter([ServerReflectionRequest(list_services="")]), timeout=10)
    return [service.name for service in answer.list_services_response.service]


def test_clients_may_ask_what_services_there_are(address: str, dial: Dial) -> None:
    assert _services(dial(address)) == sorted(
        [
            SERVICE,
            "featurestore.v1.RegistryService",
            "featurestore.v1.TrainingService",
            "featurestore.v1.WritingService",
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        ]
    )


def test_clients_may_ask_what_a_service_looks_like(address: str, dial: Dial) -> None:
    ask = ServerReflectionStub(dial(address)).ServerReflectionInfo
    [answer] = ask(iter([ServerReflectionRequest(file_containing_symbol=SERVICE)]), timeout=10)
    file = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    assert file.name == DESCRIPTOR.name
    assert [service.name for service in file.service] == ["ServingService"]


def test_reflection_can_be_left_out(serve: Serve, store: OnlineStore, dial: Dial) -> None:
    channel = dial(serve(shop.catalog(), store, reflect=False))
    assert fails(lambda: _services(channel)).code == grpc.StatusCode.UNIMPLEMENTED

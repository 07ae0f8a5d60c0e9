"""What workers pass on to the backend: who is let in, what is told on, and what comes back."""

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import pytest
from featurestore_protos.v1.registry_pb2 import GetProjectRequest
from featurestore_protos.v1.registry_pb2_grpc import RegistryServiceStub
from featurestore_protos.v1.writing_pb2 import PushRequest
from featurestore_protos.v1.writing_pb2_grpc import WritingServiceStub
from featurestore_server import server
from featurestore_server.backend.registry import Registry
from featurestore_server.backend.server import BackendServer
from featurestore_server.calls import Call, Caller, Gate, Observer, Permission
from featurestore_server.errors import (
    PermissionDeniedError,
    UnauthenticatedError,
)
from featurestore_server.link import BackendLink
from featurestore_server.passing import SERVICES
from featurestore_server.server import FeatureServer
from featurestore_server.statuses import PassedOnError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featurestore.definitions import FeatureService
from featurestore.errors import JobCancelledError
from featurestore.store import FeatureStore
from tests.unit.projects import QUICK, project, rows, spine, view, write

from .backend_calls import Part, asked, parts, query, served, stream_of, taken, train
from .calls import Dial, fails, silent

PATIENCE_S: Final = 30.0
GRANTS: Final[dict[str, set[tuple[Permission, str | None]]]] = {
    "reader": {(Permission.READ_ONLINE, None)},
    "trainer": {(Permission.READ_OFFLINE, None)},
    "partner": {(Permission.READ_OFFLINE, "readings_v1")},
    "writer": {(Permission.WRITE, None)},
}


class NamedGate(Gate):
    """Believes whoever says a name, and grants what is written above."""

    def admit(self, call: Call) -> Caller:
        name = dict(call.metadata).get("x-name")
        if name not in GRANTS:
            raise UnauthenticatedError("Nobody knows who calls.")
        return Caller(str(name), frozenset(GRANTS[str(name)]))

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        if not caller.grants & {(permission, None), (permission, service or "?")}:
            raise PermissionDeniedError(f"{caller.name} may not {permission}.")


class Noting(Observer):
    """Remembers calls and how they ended."""

    def __init__(self) -> None:
        self.ends: list[tuple[Call, Exception | None]] = []
        self.noted = threading.Semaphore(0)

    def ended(self, call: Call, error: Exception | None) -> None:
        self.ends.append((call, error))
        self.noted.release()

    def last(self) -> tuple[Call, Exception | None]:
        assert self.noted.acquire(timeout=PATIENCE_S)
        return self.ends[-1]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / "data/rows.parquet", rows(3))
    with project(tmp_path, **QUICK) as opened:
        reading = view("data")
        opened.apply([reading, FeatureService(name="readings_v1", features=[reading])])
        opened.materialize()
        yield opened


def _train(channel: grpc.Channel, **terms: Any) -> object:
    messages = parts(query("readings_v1"), stream_of(spine(1)))
    return taken(asked(channel, messages, **terms)).table["x"].to_pylist()


def _train_by_name(channel: grpc.Channel, **terms: Any) -> object:
    messages = parts(query(["reading:x"]), stream_of(spine(1)))
    return taken(asked(channel, messages, **terms)).table["x"].to_pylist()


def _push(channel: grpc.Channel, **terms: Any) -> object:
    return WritingServiceStub(channel).Push(PushRequest(view="reading"), timeout=20, **terms).rows


def _look(channel: grpc.Channel, **terms: Any) -> object:
    stub = RegistryServiceStub(channel)
    return stub.GetProject(GetProjectRequest(), timeout=20, **terms).project


SILENT: Final = (
    "/featurestore.v1.WritingService/Push",
    "/featurestore.v1.RegistryService/GetProject",
    "/featurestore.v1.TrainingService/GetHistoricalFeatures",
)
Doing = Callable[..., object]
DOINGS: Final[dict[str, tuple[Doing, object, set[str]]]] = {
    "a training set of a service": (_train, [1.0], {"trainer", "partner"}),
    "a training set by names": (_train_by_name, [1.0], {"trainer"}),
    "a push": (_push, 0, {"writer"}),
    "the registry": (_look, "plant", set(GRANTS)),
}


@pytest.mark.parametrize("doing", DOINGS)
@pytest.mark.parametrize("name", [*GRANTS, None, "stranger"])
def test_who_may_do_what(doing: str, name: str | None, store: FeatureStore, dial: Dial) -> None:
    act, answer, allowed = DOINGS[doing]
    observer = Noting()
    metadata = () if name is None else (("x-name", name),)
    with served(store, gate=NamedGate(), observer=observer) as address:
        channel = dial(address)
        if name in allowed:
            assert act(channel, metadata=metadata) == answer
            call, error = observer.last()
            assert (error, call.caller and call.caller.name) == (None, name)
            return
        failure = fails(lambda: act(channel, metadata=metadata))
        known = name in GRANTS
        assert failure.reason == ("PERMISSION_DENIED" if known else "UNAUTHENTICATED")
        assert type(observer.last()[1]) is (
            PermissionDeniedError if known else UnauthenticatedError
        )


def test_somebody_unknown_is_turned_away_before_saying_anything(
    store: FeatureStore, dial: Dial
) -> None:
    said_nothing = threading.Event()

    def silent() -> Iterator[Part]:
        said_nothing.wait(PATIENCE_S)
        yield from ()

    with served(store, gate=NamedGate()) as address:
        failure = fails(lambda: taken(asked(dial(address), silent())))
        said_nothing.set()
    assert failure.code is grpc.StatusCode.UNAUTHENTICATED


def test_callers_without_a_name_who_say_nothing_hold_up_nobody(
    store: FeatureStore, dial: Dial
) -> None:
    with served(store, gate=NamedGate()) as address, ExitStack() as stack:
        channel = dial(address)
        for method in SILENT:
            stack.enter_context(silent(channel, method, calls=40))
        writer = (("x-name", "writer"),)
        push = WritingServiceStub(channel).Push
        assert push(PushRequest(view="reading"), timeout=5, metadata=writer).rows == 0
        project = RegistryServiceStub(channel).GetProject
        assert project(GetProjectRequest(), timeout=5, metadata=writer).project == "plant"


@pytest.mark.parametrize("method", SILENT)
@pytest.mark.parametrize("query_first", [False, True])
def test_a_client_that_goes_away_is_no_failure_of_the_server(
    method: str,
    store: FeatureStore,
    dial: Dial,
    caplog: pytest.LogCaptureFixture,
    *,
    query_first: bool,
) -> None:
    observer, asked_on = Noting(), threading.Event()

    def thoughtful() -> Iterator[bytes]:
        if query_first and method == SILENT[2]:
            yield Part(query=query("readings_v1")).SerializeToString()
        asked_on.set()
        gone.wait(PATIENCE_S)

    gone = threading.Event()
    with caplog.at_level(logging.INFO), served(store, observer=observer) as address:
        ask: Any = dial(address).stream_stream(method)
        call = ask(thoughtful(), timeout=PATIENCE_S)
        assert asked_on.wait(PATIENCE_S)
        time.sleep(0.2)  # the server waits for what comes next
        call.cancel()
        assert isinstance(observer.last()[1], JobCancelledError)
        gone.set()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.fixture
def broken(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> FeatureStore:
    """A store that fails at whatever it is asked."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise RuntimeError("secret")

    for name in ("push", "get_historical_features"):
        monkeypatch.setattr(FeatureStore, name, fail)
    monkeypatch.setattr(Registry, "_state", fail)
    return store


@pytest.mark.parametrize("doing", ["a push", "a training set by names", "the registry"])
@pytest.mark.parametrize("given", ["r-17", "", "no id", "x" * 200])
def test_failures_carry_the_id_of_the_request(
    doing: str, given: str, broken: FeatureStore, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    observer = Noting()
    act = DOINGS[doing][0]
    with served(broken, observer=observer) as address:
        metadata = (("x-request-id", given),) if given else ()
        failure = fails(lambda: act(dial(address), metadata=metadata))
        call, _ = observer.last()
    assert failure.code is grpc.StatusCode.INTERNAL
    assert call.request_id == failure.detail(ErrorInfo).metadata["request_id"]
    assert (call.request_id == given) == (given == "r-17")
    assert f"request id {call.request_id}" in caplog.text


def test_a_second_question_does_not_get_past_the_gate(store: FeatureStore, dial: Dial) -> None:
    messages = [Part(query=query("readings_v1")), Part(query=query(["reading:x"]))]
    with served(store, gate=NamedGate()) as address:
        call = asked(dial(address), messages, metadata=(("x-name", "partner"),))
        assert fails(lambda: taken(call)).reason == "MESSAGE_MALFORMED"


def test_the_backend_is_told_who_calls_and_under_which_id(
    store: FeatureStore, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = (("x-name", "writer"), ("x-request-id", "r-17"))
    with caplog.at_level(logging.DEBUG), served(store, gate=NamedGate()) as address:
        _push(dial(address), metadata=metadata)
    assert "for writer, request r-17" in caplog.text


def test_a_training_set_outlives_the_age_of_its_connection(
    store: FeatureStore, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "CONNECTION_AGE_S", 1)
    monkeypatch.setattr(server, "LAST_LOOKUPS_S", 1)

    def slowly() -> Iterator[Part]:
        for part in parts(query("readings_v1"), stream_of(spine(1))):
            yield part
            time.sleep(4)

    with served(store) as address:
        assert taken(asked(dial(address), slowly())).table["x"].to_pylist() == [1.0]


def test_an_observer_sees_what_the_backend_answered(store: FeatureStore, dial: Dial) -> None:
    observer = Noting()
    with served(store, observer=observer) as address:
        fails(lambda: train(dial(address), spine(1), "readings_v2"))
        call, error = observer.last()
        assert isinstance(error, PassedOnError)
        assert (error.answer.code, error.answer.reason) == (
            "NOT_FOUND",
            "FEATURE_SERVICE_NOT_FOUND",
        )
        assert call.service == "readings_v2"


def test_without_a_backend_its_methods_are_not_there(store: FeatureStore, dial: Dial) -> None:
    worker = FeatureServer(store.serving_catalog(), store.online_store)
    channel = dial(f"127.0.0.1:{worker.listen('127.0.0.1:0')}")
    worker.start()
    try:
        for act, _, _ in DOINGS.values():
            failure = fails(lambda act=act: act(channel))  # type: ignore[misc]
            assert failure.code is grpc.StatusCode.UNIMPLEMENTED
            assert "server.backend" in failure.message
    finally:
        worker.stop(5)


def _health(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=20).status
    return status


def test_health_says_whether_the_backend_answers_and_lookups_do_not_mind(
    store: FeatureStore, dial: Dial
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = f"unix:{folder}/backend"
        worker = FeatureServer(store.serving_catalog(), store.online_store, backend=target)
        worker._link._patience_s = 0.05  # type: ignore[union-attr]
        channel = dial(f"127.0.0.1:{worker.listen('127.0.0.1:0')}")
        worker.start()
        try:
            failure = fails(lambda: _look(channel))
            assert failure.reason == "BACKEND_UNAVAILABLE"
            assert failure.detail(RetryInfo).retry_delay.seconds == 1
            serving = health_pb2.HealthCheckResponse
            assert {_health(channel, name) for name in SERVICES} == {serving.NOT_SERVING}
            for _ in range(2):  # it comes, goes and comes again
                backend = BackendServer(store)
                backend.listen(target)
                backend.start()
                _wait_for(channel, serving.SERVING)
                assert _look(channel) == "plant"
                backend.stop(1)
                _wait_for(channel, serving.NOT_SERVING)
                assert _health(channel, "featurestore.v1.ServingService") == serving.SERVING
        finally:
            worker.stop(5)


def _wait_for(channel: grpc.Channel, status: int) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    watched = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]), timeout=PATIENCE_S)
    assert any(reply.status == status for reply in watched)
    watched.cancel()


def test_a_call_waits_for_a_backend_that_is_being_started(store: FeatureStore) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = f"unix:{folder}/backend"
        changes: list[bool] = []
        link = BackendLink(target, on_change=changes.append, patience_s=PATIENCE_S)
        link.start()
        assert not link.wait(0.05)
        backend = BackendServer(store)
        backend.listen(target)
        backend.start()
        assert link.wait(PATIENCE_S)
        backend.stop(1)
        link.stop()
        assert changes == [True, False]

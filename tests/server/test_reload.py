"""A server takes over what is applied, and generations that become complete, without a pause."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.protocol import lines_from

from featurestore.definitions import FeatureService, FeatureView
from featurestore.store import FeatureStore
from featurestore.types import Float64, String
from tests.unit.projects import FILE, NOW, rows, view, write

from .calls import lookup

PATIENCE_S = 60
PROGRAM = str(Path(sys.executable).with_name("featurestore"))
SERVE = [PROGRAM, "serve", "--address", "127.0.0.1:0"]
CONFIGURATION = f"""
project: plant
clock: {NOW}
server: {{workers: 2, reload_every_ms: 50}}
"""


def service(of: FeatureView) -> FeatureService:
    return FeatureService(name="all", features=[of])


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / FILE, rows(3, y=["a", "b", "c"]))
    (tmp_path / "feature_store.yaml").write_text(CONFIGURATION)
    with FeatureStore(tmp_path) as opened:
        opened.apply([service(view())])
        opened.materialize()
        yield opened


class Client:
    """Asks for one entity again and again, in a thread of its own, and keeps what it was told."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = ServingServiceStub(self._channel)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.replies: list[tuple[int, dict[str, Any]]] = []
        self.errors: list[str] = []

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                self.ask()
            except grpc.RpcError as error:
                self.errors.append(str(error))

    def ask(self) -> tuple[int, dict[str, Any]]:
        request = lookup("all", k=Values(int64s=[2]))
        reply = self._stub.GetOnlineFeatures(request, timeout=PATIENCE_S, wait_for_ready=True)
        found = {f.name: [*f.values.float64s, *f.values.strings] for f in reply.features}
        self.replies.append((reply.revision, found))
        return self.replies[-1]

    def wait_for(self, expected: Callable[[int, dict[str, Any]], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not (self.replies and expected(*self.replies[-1])):
            assert time.monotonic() < deadline, (self.replies[-1:], self.errors[-1:])
            time.sleep(0.01)

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._channel.close()


@contextmanager
def serving(root: Path) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    process = subprocess.Popen(
        SERVE, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield process, line.split(" at ")[1].split(" with ", maxsplit=1)[0]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def test_clients_see_each_change_and_no_failure(store: FeatureStore) -> None:
    wide = view(features={"x": Float64, "y": String})
    with serving(store.config.root) as (_, address), Client(address) as client:
        client.wait_for(lambda _revision, found: found == {"x": [2.0]})
        store.apply([service(wide)])
        client.wait_for(lambda revision, _: revision == 2)
        assert client.replies[-1][1] == {"x": [2.0]}, "the new generation is not complete"
        store.materialize()
        client.wait_for(lambda _revision, found: found == {"x": [2.0], "y": ["b"]})
        store.rollback("reading")
        client.wait_for(lambda _revision, found: found == {"x": [2.0]})
    assert client.errors == []
    kinds = {tuple(found) for _, found in client.replies}
    assert kinds == {("x",), ("x", "y")}
    assert len(client.replies) > 100


def test_a_server_that_began_empty_serves_what_comes(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(3))
    (tmp_path / "feature_store.yaml").write_text(CONFIGURATION)
    with FeatureStore(tmp_path) as store, serving(tmp_path) as (_, address):
        store.apply([service(view())])
        store.materialize()
        with Client(address) as client:
            client.wait_for(lambda _revision, found: found == {"x": [2.0]})
        assert all("NOT_FOUND" in error for error in client.errors)


def test_a_registry_that_cannot_be_read_changes_nothing(store: FeatureStore) -> None:
    registry = store.config.path(store.settings.registry.path)
    with serving(store.config.root) as (process, address), Client(address) as client:
        client.wait_for(lambda _revision, found: found == {"x": [2.0]})
        kept = registry.read_bytes()
        registry.write_bytes(b"no database" * 1000)
        assert process.stderr is not None
        while "cannot see whether definitions changed" not in process.stderr.readline():
            assert process.poll() is None
        asked = len(client.replies)
        client.wait_for(lambda *_: len(client.replies) > asked + 10)
        registry.write_bytes(kept)
        store.apply([service(view(description="better words"))])
        client.wait_for(lambda revision, _: revision == 2)
    assert client.errors == []


def test_lines_come_out_of_a_pipe_whole() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write("one\ntwo\nno end")
    assert list(lines_from(reading)) == ["one\n", "two\n"]
    os.close(reading)

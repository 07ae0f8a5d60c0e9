"""A server takes over what is applied, and generations that become complete, without a pause."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.protocol import lines_from

from featurestore.definitions import (
    FeatureService,
    FeatureView,
    Field,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.store import FeatureStore
from featurestore.types import Float64, String
from tests.forked import REAL
from tests.unit.projects import FILE, NOW, rows, view, write

from .calls import lookup

PATIENCE_S = 60
PAUSE_S = 0.002
"""Between two calls of a client: some hundred calls a second leave the server time to change."""
FUNCTION = """
import pyarrow as pa

def text(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"priced_text": batch["text"]})
"""
CONFIGURATION = f"""
project: plant
clock: {NOW}
server: {{workers: 2, reload_every_ms: 50, backend: false}}
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
        while not self._stop.wait(PAUSE_S):
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
def serving(
    root: Path, program: str | Path = REAL
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    command = [program, "serve", "--address", "127.0.0.1:0"]
    process = subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        yield process, line.split(" at ")[1].split(" with ", maxsplit=1)[0]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_S)


def test_clients_see_each_change_and_no_failure(store: FeatureStore, forked: Path) -> None:
    wide = view(features={"x": Float64, "y": String})
    with serving(store.config.root, forked) as (_, address), Client(address) as client:
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


def test_a_server_that_began_empty_serves_what_comes(tmp_path: Path, forked: Path) -> None:
    write(tmp_path / FILE, rows(3))
    (tmp_path / "feature_store.yaml").write_text(CONFIGURATION)
    with FeatureStore(tmp_path) as store, serving(tmp_path, forked) as (_, address):
        store.apply([service(view())])
        store.materialize()
        with Client(address) as client:
            client.wait_for(lambda _revision, found: found == {"x": [2.0]})
        assert all("NOT_FOUND" in error for error in client.errors)


def test_a_registry_that_cannot_be_read_changes_nothing(store: FeatureStore, forked: Path) -> None:
    registry = store.config.path(store.settings.registry.path)
    with serving(store.config.root, forked) as (process, address), Client(address) as client:
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


def replace_workers(process: "subprocess.Popen[str]", client: Client) -> None:
    """Kill all workers, and wait until their successors answer."""
    killed = psutil.Process(process.pid).children()
    assert killed
    for worker in killed:
        worker.kill()
    psutil.wait_procs(killed, timeout=PATIENCE_S)
    asked = len(client.replies)
    # One reply may have been on its way to this process.
    client.wait_for(lambda *_: len(client.replies) > asked + 1)


def test_successors_of_workers_serve_what_was_taken_over(store: FeatureStore) -> None:
    with serving(store.config.root) as (process, address), Client(address) as client:
        store.apply([service(view(features={"x": Float64, "y": String}))])
        store.materialize()
        new = {"x": [2.0], "y": ["b"]}
        client.wait_for(lambda _revision, found: found == new)
        replace_workers(process, client)
        assert client.replies[-1] == (2, new)


def test_a_server_that_does_not_look_serves_what_it_began_with(store: FeatureStore) -> None:
    text = CONFIGURATION.replace("reload_every_ms: 50", "reload_every_ms: 0")
    (store.config.root / "feature_store.yaml").write_text(text)
    with serving(store.config.root) as (process, address), Client(address) as client:
        client.wait_for(lambda *_: True)
        store.apply([service(view(features={"x": Float64, "y": String}))])
        store.materialize()
        # The loop that looks is the one that starts workers again: it has had its turns by then.
        replace_workers(process, client)
        assert {reply[0] for reply in client.replies} == {1}
        assert client.replies[-1][1] == {"x": [2.0]}


def test_a_function_that_cannot_be_loaded_leaves_what_was_served(
    store: FeatureStore, forked: Path
) -> None:
    root = store.config.root
    for folder in ("here", "there"):
        (root / folder).mkdir()
    (root / "here" / "pricing.py").write_text(FUNCTION)
    (root / "feature_store.yaml").write_text(f"{CONFIGURATION}functions: there\n")
    request = RequestSource(name="request", schema=[Field(name="text", dtype=String)])
    priced = OnDemandFeatureView(
        name="priced",
        sources=[request],
        function="pricing:text",
        schema=[Field(name="priced_text", dtype=String)],
    )
    config = {"project": "plant", "clock": NOW, "functions": "here"}
    with serving(root, forked) as (process, address), Client(address) as client:
        client.wait_for(lambda *_: True)
        with FeatureStore(root, config=config) as other:
            other.apply([request, priced])
        assert process.stderr is not None
        while "the new definitions cannot be served" not in process.stderr.readline():
            assert process.poll() is None
        asked = len(client.replies)
        client.wait_for(lambda *_: len(client.replies) > asked + 10)
        assert client.replies[-1] == (1, {"x": [2.0]})
    assert client.errors == []


def test_lines_come_out_of_a_pipe_whole() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write("one\ntwo\nno end")
    assert list(lines_from(reading)) == ["one\n", "two\n"]
    os.close(reading)

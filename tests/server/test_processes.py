"""`serve` as operators run it: a parent, its workers, signals."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server import (
    AddressError,
    AddressInUseError,
    HttpOptions,
    InsecureAddressError,
    ServeOptions,
    Supervisor,
    WorkerError,
    processes,
)
from featurestore_server.protocol import HttpTask, WorkerTask

from featurestore.online.factory import open_store

from . import shop
from .calls import Dial, lookup
from .http_calls import Client

# What the command line does, without the command line.
SERVE = """
import json, sys
from featurestore_server import HttpOptions, ServeOptions, serve
options = json.loads(sys.argv[1])
http = HttpOptions(**options.pop("http")) if "http" in options else None
serve(ServeOptions(**options, http=http))
"""
PATIENCE_S = 60
Running = tuple["subprocess.Popen[str]", str]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Paths of sockets are short; those that pytest makes need not be.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture(scope="module")
def online_store(folder: Path) -> dict[str, Any]:
    settings = {"type": "lmdb", "path": str(folder / "online")}
    store = open_store("lmdb", path=folder / "online")
    shop.fill(store)
    store.close()
    return settings


def _options(online_store: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "catalog_json": shop.catalog().to_json(),
        "online_store": online_store,
        "address": "127.0.0.1:0",
        "grace_s": 10,
        **more,
    }


@contextmanager
def _served(options: dict[str, Any]) -> Iterator[Running]:
    """A process that serves, and the line with which it said so."""
    command = [sys.executable, "-c", SERVE, json.dumps(options)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield process, process.stderr.readline().strip()
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def running(online_store: dict[str, Any]) -> Iterator[Running]:
    """A server of two workers that tests may only talk to, and its line."""
    with _served(_options(online_store, workers=2)) as started:
        yield started


def _address(line: str) -> str:
    return line.split(" at ")[1].split(" with ", maxsplit=1)[0]


def _visits(channel: grpc.Channel) -> list[int]:
    request = lookup("checkout", user_id=Values(int64s=[2, 1]))
    response = ServingServiceStub(channel).GetOnlineFeatures(
        request, timeout=PATIENCE_S, wait_for_ready=True
    )
    return list(response.features[2].values.int64s)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_says_in_one_line_that_it_is_ready(running: Running) -> None:
    _, line = running
    address = _address(line)
    assert line == (
        f"serving project 'shop', revision 7, at {address} with 2 workers;"
        " the clock stands still at 2024-03-05T12:00:00Z"
    )
    assert not address.endswith(":0")


def test_every_worker_answers(running: Running) -> None:
    process, line = running
    port = int(_address(line).rsplit(":", 1)[1])
    workers = psutil.Process(process.pid).children()
    with ExitStack() as stack:
        # The kernel deals connections to the workers: some of many go to each.
        options = [("grpc.use_local_subchannel_pool", 1)]
        for _ in range(20):
            channel = stack.enter_context(grpc.insecure_channel(_address(line), options))
            assert _visits(channel) == [20, 10]
        assert len(workers) == 2
        assert all(_is_connected(worker, port) for worker in workers)


def _is_connected(worker: psutil.Process, port: int) -> bool:
    return any(
        connection.laddr.port == port and connection.status == psutil.CONN_ESTABLISHED
        for connection in worker.net_connections()
    )


def test_a_second_server_at_the_address_fails_with_a_clear_error(
    running: Running, online_store: dict[str, Any], dial: Dial
) -> None:
    address = _address(running[1])
    taken = ServeOptions(**_options(online_store, address=address))
    with pytest.raises(AddressInUseError, match=address):
        Supervisor(taken)
    assert _visits(dial(address)) == [20, 10]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(
    online_store: dict[str, Any], dial: Dial, number: signal.Signals
) -> None:
    with _served(_options(online_store, workers=2)) as (process, line):
        assert _visits(dial(_address(line))) == [20, 10]
        workers = psutil.Process(process.pid).children()
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert [worker.pid for worker in workers if worker.is_running()] == []


def test_a_worker_that_dies_is_replaced(online_store: dict[str, Any], dial: Dial) -> None:
    with _served(_options(online_store)) as (process, line):
        parent = psutil.Process(process.pid)
        [first] = parent.children()
        first.kill()
        _wait_until(lambda: any(child.pid != first.pid for child in parent.children()))
        assert _visits(dial(_address(line))) == [20, 10]


def _large(revision: int) -> str:
    """A catalog of far more than a pipe takes."""
    return replace(shop.catalog(), revision=revision).to_json() + " " * (1 << 20)


def _until_served(server: Supervisor, channel: grpc.Channel, revision: int) -> None:
    """Keep workers alive, as `serve` does, until one answers with this revision."""
    request = lookup("checkout", user_id=Values(int64s=[1]))
    stub = ServingServiceStub(channel)

    def served() -> bool:
        _turn(server)
        try:
            return bool(stub.GetOnlineFeatures(request, timeout=1).revision == revision)
        except grpc.RpcError:
            return False

    _wait_until(served)


def test_workers_that_do_not_read_hold_up_nobody_and_are_replaced(
    online_store: dict[str, Any], dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "TELL_S", 1.0)
    options = _options(online_store, workers=3, catalog_json=_large(7))
    with Supervisor(ServeOptions(**options)) as server:
        *stuck, sound = server.worker_pids
        for pid in stuck:
            os.kill(pid, signal.SIGSTOP)
        before = time.monotonic()
        for revision in (8, 9, 10):
            server.replace_catalog(_large(revision))
        server.revive_workers()
        assert time.monotonic() - before < 1.0
        _wait_until(lambda: _turn(server) and not set(stuck) & set(server.worker_pids))
        assert [worker.restarts for worker in server.workers] == [1, 1, 0]
        psutil.Process(sound).kill()
        _wait_until(lambda: _turn(server) and sound not in server.worker_pids)
        _until_served(server, dial(server.address), 10)


def test_a_successor_that_does_not_come_to_serve_is_replaced(
    online_store: dict[str, Any],
    dial: Dial,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Supervisor(ServeOptions(**_options(online_store, workers=1))) as server:
        [first] = server.worker_pids
        psutil.Process(first).kill()
        _wait_until(lambda: _turn(server) and first not in server.worker_pids)
        [stuck] = server.worker_pids
        os.kill(stuck, signal.SIGSTOP)  # before it has loaded anything
        assert _turn(server)
        assert server.worker_pids == (stuck,)  # it may take a while
        monkeypatch.setattr(processes, "START_TIMEOUT_S", 0.5)
        _wait_until(lambda: _turn(server) and not {first, stuck} & {*server.worker_pids})
        monkeypatch.undo()
        assert f"worker {stuck} does not serve" in caplog.text
        [sound] = server.worker_pids
        _until_served(server, dial(server.address), shop.catalog().revision)
        monkeypatch.setattr(processes, "START_TIMEOUT_S", 0.0)
        assert _turn(server)
        assert server.worker_pids == (sound,)  # one that serves may take as long as it likes


def _turn(server: Supervisor) -> bool:
    """What `serve` does again and again."""
    server.gather()
    server.revive_workers()
    return True


def test_a_worker_that_cannot_be_replaced_is_tried_again(
    online_store: dict[str, Any], dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Event()

    def no_memory(*_: object, **__: object) -> None:
        tried.set()
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with Supervisor(ServeOptions(**_options(online_store))) as server:
        [worker] = server.workers
        psutil.Process(worker.pid).kill()
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", no_memory)

            _wait_until(lambda: _turn(server) and tried.is_set())
            server.gather()
            server.replace_catalog(_large(8))
            assert worker.restarts == 0
        _until_served(server, dial(server.address), 8)
        assert worker.restarts == 1


def test_a_server_that_cannot_start_a_worker_says_why(
    online_store: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Supervisor(ServeOptions(**_options(online_store, workers=2)))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WorkerError, match="No such file"):
        server.start()
    assert server.worker_pids == ()


def test_workers_end_when_their_parent_is_killed(online_store: dict[str, Any]) -> None:
    with _served(_options(online_store, workers=2)) as (process, _):
        workers = psutil.Process(process.pid).children()
        process.kill()
        _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
        assert alive == []


def test_a_server_listens_at_a_unix_socket(
    online_store: dict[str, Any], folder: Path, dial: Dial
) -> None:
    with _served(_options(online_store, address=f"unix:{folder}/s")) as (process, line):
        assert _visits(dial(_address(line))) == [20, 10]
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    assert not (folder / "s").exists()


def test_http_is_served_by_every_worker_and_drained_with_the_rest(
    online_store: dict[str, Any], dial: Dial
) -> None:
    options = _options(online_store, workers=2, http={"address": "127.0.0.1:0"})
    with _served(options) as (process, line):
        http = line.split(" and at http://")[1].split(" with ")[0]
        port = int(http.rsplit(":", 1)[1])
        assert port > 0
        workers = psutil.Process(process.pid).children()
        asked = {"feature_service": "checkout", "entities": {"user_id": [2, 1]}}
        clients = [Client(http) for _ in range(20)]
        for client in clients:
            assert client.post(asked).body["features"]["visits"]["values"] == ["20", "10"]
        assert all(_is_connected(worker, port) for worker in workers)
        assert _visits(dial(_address(line).removesuffix(" and"))) == [20, 10]
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        for client in clients:
            client.connection.close()


def test_an_address_for_http_is_held_like_the_other(online_store: dict[str, Any]) -> None:
    def options(http: str, **more: Any) -> ServeOptions:
        return ServeOptions(**_options(online_store, **more), http=HttpOptions(address=http))

    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(AddressInUseError):
        Supervisor(options(f"127.0.0.1:{other.getsockname()[1]}"))
    with pytest.raises(InsecureAddressError):
        Supervisor(options("0.0.0.0:0"))
    with pytest.raises(AddressError):
        Supervisor(options("unix:/tmp/s"))
    # What was reserved before one that cannot be is given back.
    first = Supervisor(options("127.0.0.1:0"))
    with pytest.raises(AddressInUseError):
        Supervisor(options(str(first.http_address)))
    address = first.address
    first.stop()
    Supervisor(options("127.0.0.1:0", address=address)).stop()


def test_a_worker_that_cannot_serve_is_an_error_that_says_why(folder: Path) -> None:
    options = ServeOptions(**_options({"type": "no-such-store", "path": str(folder)}))
    supervisor = Supervisor(options)
    with pytest.raises(WorkerError, match="no-such-store"):
        supervisor.start()
    assert supervisor.worker_pids == ()
    Supervisor(ServeOptions(**_options({}, address=supervisor.address))).stop()


def test_a_task_survives_the_way_to_a_worker(online_store: dict[str, Any]) -> None:
    http = HttpOptions(address="127.0.0.1:0", cors_origins=("https://a.example",))
    options = ServeOptions(**_options(online_store, threads=9), http=http)
    task = WorkerTask.of(options, ("127.0.0.1:1",), http_targets=("127.0.0.1:2",))
    assert task.http == HttpTask(targets=("127.0.0.1:2",), cors_origins=("https://a.example",))
    assert WorkerTask.from_line(task.to_line()) == task
    assert task.to_line().count("\n") == 1


def test_the_parent_loads_no_grpc() -> None:
    # It waits for signals and for its workers, and may have loaded what does not go with gRPC.
    code = "import sys, featurestore_server; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert loaded & {"featurestore_protos", "google.protobuf", "grpc", "numpy"} == set()
    assert "featurestore_server.supervisor" in loaded


def test_a_worker_loads_no_engine_and_no_registry(online_store: dict[str, Any]) -> None:
    # Serve one lookup, then name everything that was loaded.
    code = f"""
import json, sys
from featurestore_server.protocol import WorkerTask
from featurestore_server import worker
from featurestore_server.calls import Call
task = WorkerTask.from_line(sys.argv[1])
store = worker.open_configured_store(task.online_store)
server = worker.FeatureServer(worker.ServingCatalog.from_json(task.catalog_json), store)
request = bytes.fromhex({_request().hex()!r})
assert server.online_features.answer(Call('', request))
print(*sorted(m for m in sys.modules if "." not in m))
"""
    line = WorkerTask.of(ServeOptions(**_options(online_store)), ()).to_line()
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, line],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    loaded = set(ran.stdout.split())
    heavy = {
        "anyio",
        "duckdb",
        "httptools",
        "pandas",
        "polars",
        "pyarrow",
        "redis",
        "rich",
        "sqlalchemy",
        "sqlglot",
        "starlette",
        "typer",
        "uvicorn",
    }
    assert loaded & heavy == set()
    assert {"featurestore", "grpc", "lmdb", "numpy"} <= loaded


def _request() -> bytes:
    return lookup("types", id=Values(int64s=[1, 2, 3])).SerializeToString()

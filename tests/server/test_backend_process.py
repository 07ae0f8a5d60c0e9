"""The backend as operators run it: beside the workers, replaced when it dies, gone with them."""

import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import psutil
import pyarrow as pa
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server.backend.__main__ import opened_store
from featurestore_server.options import BackendLimits, BackendOptions
from featurestore_server.passing import TRAINING_SERVICE
from featurestore_server.protocol import BackendTask
from grpc_health.v1 import health_pb2, health_pb2_grpc

from featurestore.cli import main
from featurestore.cli.online import backend_options
from featurestore.definitions import FeatureService
from featurestore.store import FeatureStore
from featurestore.types import Float64, String
from tests.forks import FORKS
from tests.unit.projects import LATER, UTC_US, rows, spine, view, write

from .backend_calls import asked, parts, query, stream_of, taken, train
from .calls import Dial, fails, lookup

PATIENCE_S: Final = 60.0
SETTINGS: Final = {"project": "plant", "clock": "2024-06-01T00:00:00Z"}
FEATURES: Final = {"x": Float64, "wide": String}
MANY: Final = 100_000
"""Rows of 1 kB: a training set of 100 MB, which does not fit into what is on the way."""


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    # Paths of sockets are short; those that pytest makes need not be.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root / "data/rows.parquet", rows(3, wide=[f"{n:1000}" for n in range(3)]))
        (root / "feature_store.yaml").write_text(json.dumps(SETTINGS), encoding="utf-8")
        with FeatureStore(root) as store:
            reading = view("data", features=FEATURES)
            store.apply([reading, FeatureService(name="readings_v1", features=[reading])])
            store.materialize()
        yield root


@contextmanager
def _served(repository: Path, **environment: str) -> Iterator[tuple[BaseProcess, str, Path]]:
    """A server; yields its process, its address and its temporary folder."""
    with tempfile.TemporaryDirectory() as temp, tempfile.TemporaryDirectory() as said:
        output = Path(said) / "output"
        process = FORKS.Process(
            target=_serve, args=(repository, output, {"TMPDIR": temp} | environment)
        )
        process.start()
        try:
            _wait_until(lambda: output.exists() and "\n" in output.read_text())
            address = output.read_text().split(" at ")[1].split(" with ", maxsplit=1)[0]
            if "FEATURESTORE_SERVER__BACKEND" not in environment:
                wait_for_backend(address)
            yield process, address, Path(temp)
        finally:
            process.terminate()
            process.join(PATIENCE_S)


def _serve(repository: Path, output: Path, environment: dict[str, str]) -> None:
    """What `featurestore serve` does, in a fork: of the processes, those behind it are tested."""
    os.environ.update(environment)
    tempfile.tempdir = None  # look it up again
    sys.argv = ["featurestore", "--repo", str(repository), "serve", "--address", "127.0.0.1:0"]
    with output.open("w") as stream, redirect_stdout(stream):
        sys.exit(main())


def wait_for_backend(address: str) -> None:
    """Wait until health says that the backend answers."""
    request = health_pb2.HealthCheckRequest(service=TRAINING_SERVICE)
    with grpc.insecure_channel(address) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=PATIENCE_S)
        assert any(reply.status == health_pb2.HealthCheckResponse.SERVING for reply in watched)


def _backends(server: BaseProcess) -> list[psutil.Process]:
    children = psutil.Process(server.pid).children()
    return [child for child in children if "featurestore_server.backend" in child.cmdline()]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _large_spine(count: int = MANY) -> pa.Table:
    at = np.full(count, int(LATER.timestamp()) * 1_000_000)
    return pa.table({"k": np.arange(count) % 4, "event_timestamp": pa.array(at, UTC_US)})


def _begun(channel: grpc.Channel) -> Any:
    """A call of a training set that does not fit into what is on the way; one piece was taken."""
    call = asked(channel, parts(query("readings_v1"), stream_of(_large_spine())))
    while next(call).WhichOneof("part") != "table":
        pass
    return call


def _look_up(channel: grpc.Channel) -> list[float]:
    request = lookup("readings_v1", k=Values(int64s=[2]))
    reply = ServingServiceStub(channel).GetOnlineFeatures(request, timeout=PATIENCE_S)
    return list(reply.features[0].values.float64s)


def test_a_backend_that_is_killed_is_replaced_and_its_successor_ends_with_the_parent(
    repository: Path, dial: Dial
) -> None:
    with _served(repository) as (server, address, temp):
        channel = dial(address)
        assert train(channel, spine(1), "readings_v1").table["x"].to_pylist() == [1.0]
        call = _begun(channel)
        [backend] = _backends(server)
        backend.kill()
        failure = fails(lambda: taken(call))  # never a set that is short
        assert failure.code is grpc.StatusCode.UNAVAILABLE
        assert failure.reason == "BACKEND_UNAVAILABLE"
        assert _look_up(channel) == [2.0]
        wait_for_backend(address)
        assert train(channel, spine(2), "readings_v1").table["x"].to_pylist() == [2.0]
        [successor] = _backends(server)
        assert successor != backend
        # What the dead one spilled is removed by the next that spills; the socket's folder stays.
        assert len(list(temp.iterdir())) == 1
        server.kill()
        _, alive = psutil.wait_procs([successor], timeout=PATIENCE_S)
        assert alive == []


def test_the_socket_is_private_and_goes_away_after_the_training_set_that_is_under_way(
    repository: Path, dial: Dial
) -> None:
    with _served(repository) as (server, address, temp):
        channel = dial(address)
        train(channel, spine(1), "readings_v1")
        [folder] = temp.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_ISSOCK((folder / "backend").stat().st_mode)
        call = _begun(channel)
        server.terminate()
        rows_sent = 0
        for reply in call:
            rows_sent = reply.summary.rows or rows_sent
        assert rows_sent == MANY
        server.join(PATIENCE_S)
        assert server.exitcode == 0
        assert list(temp.iterdir()) == []


def test_a_backend_may_be_switched_off(repository: Path, dial: Dial) -> None:
    with _served(repository, FEATURESTORE_SERVER__BACKEND="false") as (server, address, temp):
        channel = dial(address)
        assert _look_up(channel) == [2.0]
        failure = fails(lambda: train(channel, spine(1), "readings_v1"))
        assert failure.code is grpc.StatusCode.UNIMPLEMENTED
        assert _backends(server) == []
        assert list(temp.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="no signal can be sent to one thread")
def test_a_backend_stops_whichever_of_its_threads_takes_the_signal(repository: Path) -> None:
    """Of a process that is suspended meanwhile, it is the one that wakes first."""
    with tempfile.TemporaryDirectory() as temp, FeatureStore(repository) as store:
        options = backend_options(store, BackendOptions, BackendLimits)
        task = BackendTask(target=f"unix:{temp}/backend", options=options, grace_s=1.0)
        command = [sys.executable, "-P", "-m", "featurestore_server.backend"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as backend:
            assert backend.stdin is not None
            assert backend.stdout is not None
            backend.stdin.write(task.to_line())
            backend.stdin.flush()
            assert backend.stdout.readline()  # it is ready
            time.sleep(0.3)  # and its main thread waits by then
            others = {t.id for t in psutil.Process(backend.pid).threads()} - {backend.pid}
            sent = ctypes.CDLL(None).tgkill(backend.pid, max(others), signal.SIGTERM)
            assert sent == 0
            try:
                assert backend.wait(PATIENCE_S) == 0
            finally:
                backend.kill()


def test_a_task_survives_the_way_to_the_backend(tmp_path: Path) -> None:
    settings = {
        "project": "plant",
        "tombstone_retention": "3h",
        "online_store": "redis://user:secret@localhost:1/0",
        "offline_store": {"type": "polars", "threads": 2, "memory_limit": "1GB"},
        "server": {"backend": {"training_jobs": 2, "source_roots": "data,/srv/lake"}},
    }
    with FeatureStore(tmp_path, config=settings, clock="2024-01-01") as store:
        options = backend_options(store, BackendOptions, BackendLimits)
        task = BackendTask(target="unix:/x", options=options, grace_s=1.5)
        assert BackendTask.from_line(task.to_line()) == task
        assert task.to_line().count("\n") == 1
        with opened_store(BackendTask.from_line(task.to_line()).options) as opened:
            assert opened.source_roots == (tmp_path / "data", Path("/srv/lake"))
            assert opened.clock == store.clock
            assert opened.settings.offline_store.threads == 1  # each of two has half
            same = {"offline_store": store.settings.offline_store}
            assert opened.settings.model_copy(update=same) == store.settings

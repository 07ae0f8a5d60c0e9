"""The backend as operators run it: beside the workers, replaced when it dies, gone with them."""

import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

from featurestore.cli.online import backend_options
from featurestore.definitions import FeatureService
from featurestore.store import FeatureStore
from featurestore.types import Float64
from tests.unit.projects import LATER, UTC_US, rows, spine, view, write

from .backend_calls import asked, parts, query, stream_of, taken, train
from .calls import Dial, fails, lookup

PATIENCE_S: Final = 60.0
SERVE: Final = "import sys; from featurestore.cli import main; sys.exit(main())"
SETTINGS: Final = {"project": "plant", "clock": "2024-06-01T00:00:00Z"}
FEATURES: Final = {"x": Float64} | {f"y{n}": Float64 for n in range(8)}


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    # Paths of sockets are short; those that pytest makes need not be.
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        numbers: dict[str, Any] = {f"y{n}": [0.5] * 3 for n in range(8)}
        write(root / "data/rows.parquet", rows(3, **numbers))
        (root / "feature_store.yaml").write_text(json.dumps(SETTINGS), encoding="utf-8")
        with FeatureStore(root) as store:
            reading = view("data", features=FEATURES)
            store.apply([reading, FeatureService(name="readings_v1", features=[reading])])
            store.materialize()
        yield root


@contextmanager
def _served(repository: Path, **environment: str) -> Iterator[tuple[psutil.Process, str, Path]]:
    """A server; yields its process, its address and its temporary folder."""
    with tempfile.TemporaryDirectory() as temp:
        command = [sys.executable, "-c", SERVE, "--repo", str(repository), "serve"]
        process = subprocess.Popen(
            [*command, "--address", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": temp} | environment,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            address = line.split(" at ")[1].split(" with ", maxsplit=1)[0]
            if "FEATURESTORE_SERVER__BACKEND" not in environment:
                wait_for_backend(address)
            yield psutil.Process(process.pid), address, Path(temp)
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=PATIENCE_S)


def wait_for_backend(address: str) -> None:
    """Wait until health says that the backend answers."""
    request = health_pb2.HealthCheckRequest(service=TRAINING_SERVICE)
    with grpc.insecure_channel(address) as channel:
        watched = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=PATIENCE_S)
        assert any(reply.status == health_pb2.HealthCheckResponse.SERVING for reply in watched)


def _backends(server: psutil.Process) -> list[psutil.Process]:
    return [
        child for child in server.children() if "featurestore_server.backend" in child.cmdline()
    ]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _large_spine(count: int = 1_500_000) -> pa.Table:
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


def test_a_backend_that_is_killed_is_replaced_and_its_calls_fail(
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
        assert _backends(server) != [backend]
        # What the dead one spilled is removed by the next that spills; the socket's folder stays.
        assert len(list(temp.iterdir())) == 1


def test_the_socket_is_private_and_goes_away(repository: Path, dial: Dial) -> None:
    with _served(repository) as (server, address, temp):
        train(dial(address), spine(1), "readings_v1")
        [folder] = temp.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_ISSOCK((folder / "backend").stat().st_mode)
        server.terminate()
        server.wait(PATIENCE_S)
        assert list(temp.iterdir()) == []


def test_a_training_set_under_way_is_finished_before_the_server_ends(
    repository: Path, dial: Dial
) -> None:
    with _served(repository) as (server, address, _):
        call = _begun(dial(address))
        server.send_signal(signal.SIGTERM)
        rows_sent = 0
        for reply in call:
            rows_sent = reply.summary.rows or rows_sent
        assert rows_sent == 1_500_000
        assert server.wait(PATIENCE_S) == 0


def test_the_backend_ends_with_its_parent(repository: Path, dial: Dial) -> None:
    with _served(repository) as (server, address, _):
        train(dial(address), spine(1), "readings_v1")
        backends = _backends(server)
        server.kill()
        _, alive = psutil.wait_procs(backends, timeout=PATIENCE_S)
        assert alive == []


def test_a_backend_may_be_switched_off(repository: Path, dial: Dial) -> None:
    with _served(repository, FEATURESTORE_SERVER__BACKEND="false") as (server, address, temp):
        channel = dial(address)
        assert _look_up(channel) == [2.0]
        failure = fails(lambda: train(channel, spine(1), "readings_v1"))
        assert failure.code is grpc.StatusCode.UNIMPLEMENTED
        assert _backends(server) == []
        assert list(temp.iterdir()) == []


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

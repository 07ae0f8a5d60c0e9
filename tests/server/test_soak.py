"""A server under steady load that is written to, applied to and reloaded: nothing of it grows.

Half a minute here; FEATURESTORE_SOAK_SECONDS=28800 makes it eight hours.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple

import grpc
import polars as pl
import psutil
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_sdk import FeatureStoreClient

from featurestore import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource
from featurestore.types import Float64, Int64
from tests.servers import free_port, workers_of

from .calls import lookup

SECONDS = float(os.environ.get("FEATURESTORE_SOAK_SECONDS", "30"))
CALLS_PER_S = 100
WRITE_EVERY_S = max(2.0, SECONDS / 100)
APPLY_EVERY_S = max(5.0, SECONDS / 50)
ENTITIES = 2_000
ASKED = list(range(0, ENTITIES, 100))
START = datetime(2026, 1, 1, tzinfo=UTC)
# Nobody asks the backend for anything here.
SETTINGS = "project: soak\nserver: {reload_every_ms: 500, backend: false}\n"
GROWTH_BYTES = 16 << 20
GROWTH_SHARE = 0.05


class Look(NamedTuple):
    """What the server holds at one moment."""

    rss: int
    descriptors: int
    threads: int


def _repository(folder: Path) -> FeatureStore:
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(SETTINGS)
    rows = pl.DataFrame({"user_id": range(ENTITIES), "spent": [0.0] * ENTITIES})
    rows.with_columns(at=pl.lit(START)).write_parquet(folder / "spent.parquet")
    store = FeatureStore(folder)
    store.apply(_definitions(folder, 0))
    store.materialize(end=START + timedelta(days=1))
    return store


def _definitions(folder: Path, version: int) -> list[FeatureView | FeatureService | Entity]:
    user = Entity(name="user", join_keys={"user_id": Int64})
    source = FileSource(
        name="spent", path=str(folder / "spent.parquet"), timestamp_field="at", timezone="UTC"
    )
    view = FeatureView(
        name="spending",
        entities=[user],
        source=source,
        schema=[Field(name="spent", dtype=Float64)],
        tags={"version": str(version)},
    )
    return [user, view, FeatureService(name="all", features=[view])]


@contextmanager
def _serving(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """`featurestore serve` with one worker; its address, and the worker."""
    address = f"127.0.0.1:{free_port()}"
    featurestore = str(Path(sys.executable).with_name("featurestore"))
    command = [featurestore, "serve", "--address", address]
    parent = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        with FeatureStoreClient(address) as client:
            client.wait_ready(60)
        [worker] = workers_of(parent.pid)
        yield address, worker
    finally:
        parent.terminate()
        assert parent.wait(60) == 0


class Load:
    """Lookups at a steady rate, whatever the answers take."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.took_s: list[float] = []
        self.wrong: list[str] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        newest = 0.0
        # Without our client, which would take more time than the server.
        request = lookup("all", user_id=Values(int64s=ASKED))
        with grpc.insecure_channel(self._address) as channel:
            ask = ServingServiceStub(channel).GetOnlineFeatures
            due = time.perf_counter()
            while not self._stop.is_set():
                due += 1 / CALLS_PER_S
                began = time.perf_counter()
                [spent] = ask(request, timeout=60).features
                self.took_s.append(time.perf_counter() - began)
                oldest = min(spent.values.float64s)
                if oldest < newest:
                    self.wrong.append(f"{oldest} after {newest}")
                newest = oldest
                time.sleep(max(0.0, due - time.perf_counter()))


def _look(process: psutil.Process) -> Look:
    return Look(process.memory_info().rss, process.num_fds(), process.num_threads())


def _p99(took_s: list[float]) -> float:
    return quantiles(took_s, n=100)[98]


def _live(store: FeatureStore, folder: Path, seconds: float, version: int) -> int:
    """Push newer values and apply definitions for a while; return the version reached."""
    end = time.monotonic() + seconds
    applied = time.monotonic()
    while time.monotonic() < end:
        version += 1
        at = START + timedelta(minutes=version)
        rows = {"user_id": ASKED, "spent": [float(version)] * len(ASKED), "at": [at] * len(ASKED)}
        store.push("spending", rows)
        if time.monotonic() - applied >= APPLY_EVERY_S:
            store.apply(_definitions(folder, version))
            applied = time.monotonic()
        time.sleep(min(WRITE_EVERY_S, max(0.0, end - time.monotonic())))
    return version


def test_nothing_grows(tmp_path: Path) -> None:
    folder = tmp_path / "soak"
    store = _repository(folder)
    third_s = SECONDS / 3
    with _serving(folder) as (address, worker), Load(address) as load:
        version = _live(store, folder, third_s, 0)  # it warms up
        first, begun = _look(worker), len(load.took_s)
        version = _live(store, folder, third_s, version)
        early = load.took_s[begun:]
        begun = len(load.took_s)
        version = _live(store, folder, third_s, version)
        late, last = load.took_s[begun:], _look(worker)
        assert not load.wrong
        assert version > SECONDS / WRITE_EVERY_S / 2
    store.close()
    assert last.rss - first.rss < max(GROWTH_BYTES, GROWTH_SHARE * first.rss), (first, last)
    assert last.descriptors <= first.descriptors, (first, last)
    assert last.threads <= first.threads, (first, last)
    # Other work of the machine makes single calls late, and has to stay within this.
    assert _p99(late) < max(3 * _p99(early), 0.25), (_p99(early), _p99(late))

"""The log of served features holds what was served, and training sets over it are the same."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_server import served_log
from featurestore_server.calls import Call
from featurestore_server.options import Limits, Observing, ServedLogOptions, ServeOptions
from featurestore_server.protocol import WorkerTask
from featurestore_server.served_log import ServedLog
from featurestore_server.service import LOOKUP_METHOD, OnlineFeatures

from featurestore.config import make_config
from featurestore.definitions import (
    FeatureService,
    Field,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.errors import ConfigError
from featurestore.functions import FunctionLoader
from featurestore.online.factory import open_store
from featurestore.online.store import OnlineStore
from featurestore.store import FeatureStore
from featurestore.types import Float64, String
from tests.unit.projects import FILE, NOW, UTC_US, rows, view, write

from . import shop
from .calls import lookup
from .observed import PATIENCE_S, observed, wait_for

MOMENT = datetime.fromisoformat(NOW)


class Counts(dict[str, int]):
    """What became of how many rows."""

    def add(self, outcome: str, count: int) -> None:
        self[outcome] = self.get(outcome, 0) + count


@pytest.fixture
def counts() -> Counts:
    return Counts()


def _log(path: Path, counts: Counts, **options: Any) -> ServedLog:
    chosen = {"sample": 1.0, **options}
    return ServedLog(ServedLogOptions(path=str(path), **chosen), counts.add)


def _features(store: OnlineStore, log: ServedLog) -> OnlineFeatures:
    return OnlineFeatures(
        shop.catalog(),
        store,
        limits=Limits(),
        store_answers=lambda: True,
        functions=FunctionLoader(),
        witnesses=[log],
    )


def _ask(
    features: OnlineFeatures, wanted: str | list[str], *keys: int, key: str = "user_id"
) -> None:
    columns: Any = {key: Values(int64s=keys)}
    request = lookup(wanted, **columns).SerializeToString()
    features.answer(Call(LOOKUP_METHOD, request, (("x-request-id", "mine"),)))


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.parquet"))


def test_a_row_has_the_request_the_values_and_their_statuses(
    store: OnlineStore, tmp_path: Path, counts: Counts
) -> None:
    log = _log(tmp_path, counts)
    features = _features(store, log)
    log.start()
    _ask(features, "checkout", 1, 2, 3, 4)
    log.stop()
    [file] = _files(tmp_path / "checkout")
    hour, day = timedelta(hours=1), timedelta(days=1)
    expired = shop.NOW - day - timedelta(microseconds=1)
    assert pq.read_table(file).to_pydict() == {
        "request:timestamp": [shop.NOW] * 4,
        "request:id": ["mine"] * 4,
        "request:revision": [7] * 4,
        "user_id": [1, 2, 3, 4],
        "credit": [1.5, None, None, None],
        "country": ["AT", "CH", None, None],
        "visits": [10, 20, None, None],
        "rate": [0.25] * 4,
        "status:credit": ["PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
        "status:country": ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
        "status:visits": ["PRESENT", "PRESENT", "OUTSIDE_MAX_AGE", "NOT_FOUND"],
        "status:rate": ["PRESENT"] * 4,
        "event_timestamp:users": [shop.NOW - hour, shop.NOW - day, expired, None],
        "event_timestamp:rates": [shop.NOW] * 4,
    }
    assert counts == {"written": 4}


def test_every_type_is_logged_bit_for_bit(
    store: OnlineStore, tmp_path: Path, counts: Counts
) -> None:
    log = _log(tmp_path, counts)
    features = _features(store, log)
    log.start()
    _ask(features, "types", 1, 2, 3, key="id")
    log.stop()
    logged = pq.read_table(_files(tmp_path)[0])
    for position, (dtype, values) in enumerate(shop.VALUES.items()):
        expected = shop.arrow(dtype, [*values, None])
        found = logged.column(f"t{position}").combine_chunks()
        assert found.type == expected.type
        assert str(found) == str(expected)  # NaN is NaN


def test_replies_of_other_shapes_lie_apart(
    store: OnlineStore, tmp_path: Path, counts: Counts
) -> None:
    log = _log(tmp_path, counts)
    features = _features(store, log)
    log.start()
    for full_names in (False, True, False):
        request = lookup("checkout", full_feature_names=full_names, user_id=Values(int64s=[1]))
        features.answer(Call(LOOKUP_METHOD, request.SerializeToString()))
    log.stop()
    columns = {file.parent: pq.read_schema(file).names for file in _files(tmp_path)}
    assert sorted(pq.read_table(folder).num_rows for folder in columns) == [1, 2]
    assert {"users__credit" in names for names in columns.values()} == {True, False}


def test_features_by_name_are_not_logged(
    store: OnlineStore, tmp_path: Path, counts: Counts
) -> None:
    log = _log(tmp_path, counts)
    features = _features(store, log)
    log.start()
    _ask(features, ["users:credit"], 1)
    log.stop()
    assert (_files(tmp_path), counts) == ([], {})


def test_a_sample_is_a_share_of_the_requests(
    store: OnlineStore, tmp_path: Path, counts: Counts
) -> None:
    log = _log(tmp_path, counts, sample=0.2)
    features = _features(store, log)
    log.start()
    for _ in range(1_000):
        _ask(features, "checkout", 1)
    log.stop()
    assert 130 < counts["written"] < 280  # five standard deviations of a fair draw


def test_no_sample_is_nothing(store: OnlineStore, tmp_path: Path, counts: Counts) -> None:
    log = _log(tmp_path, counts, sample=0.0)
    features = _features(store, log)
    log.start()
    _ask(features, "checkout", 1)
    log.stop()
    assert (_files(tmp_path), counts) == ([], {})


def test_files_are_finished_at_their_size(
    store: OnlineStore, tmp_path: Path, counts: Counts
) -> None:
    log = _log(tmp_path, counts, max_file_rows=4)
    features = _features(store, log)
    log.start()
    for _ in range(5):
        _ask(features, "checkout", 1, 2)
    log.stop()
    assert [pq.read_metadata(file).num_rows for file in _files(tmp_path)] == [4, 4, 2]


def test_files_are_finished_at_their_age(
    store: OnlineStore, tmp_path: Path, counts: Counts
) -> None:
    log = _log(tmp_path, counts, max_file_s=0.0)
    features = _features(store, log)
    log.start()
    for _ in range(3):
        _ask(features, "checkout", 1)
    log.stop()
    assert [pq.read_metadata(file).num_rows for file in _files(tmp_path)] == [1, 1, 1]


def test_what_comes_too_fast_is_dropped_and_counted(
    store: OnlineStore, tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_log, "MAX_WAITING_VALUES", 20)
    log = _log(tmp_path, counts)
    features = _features(store, log)
    for _ in range(5):  # nobody writes yet; each has two rows of five values
        _ask(features, "checkout", 1, 2)
    assert counts == {"dropped": 6}
    log.start()
    log.stop()
    assert counts == {"dropped": 6, "written": 4}


def test_a_folder_that_cannot_be_written_fails_no_lookup(
    store: OnlineStore, tmp_path: Path, counts: Counts, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    log = _log(tmp_path / "file", counts)
    features = _features(store, log)
    log.start()
    _ask(features, "checkout", 1)
    log.stop()
    assert counts == {"failed": 1}
    assert "cannot be written" in caplog.text


# --- beside training sets -------------------------------------------------------------------------

SETTINGS = "server: {served_log: {path: served, sample: 1}, reload_every_ms: 0, backend: false}\n"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """Sensors 1 to 4: one of them too old, one null; and a feature computed from a request's."""
    tmp_path = tmp_path_factory.mktemp("plant")
    at = [MOMENT - timedelta(days=days) for days in (1, 1, 40, 2)]
    made = [moment + timedelta(hours=1) for moment in at]
    columns = rows(4, t=pa.array(at, UTC_US), x=[1.5, None, 3.5, 0.1])
    columns |= {"made": pa.array(made, UTC_US), "place": ["a", "b", "c", None]}
    write(tmp_path / FILE, columns)
    (tmp_path / "feature_store.yaml").write_text(f"project: plant\nclock: {NOW}\n{SETTINGS}")
    reading = view(
        features={"x": Float64, "place": String},
        reads={"created_timestamp_column": "made"},
        ttl=timedelta(days=30),
    )
    request = RequestSource(name="request", schema=[Field(name="factor", dtype=Float64)])
    scaled = OnDemandFeatureView(
        name="scaled", sources=[reading, request], features={"scaled": "x * factor"}
    )
    with FeatureStore(tmp_path) as store:
        store.apply([FeatureService(name="all", features=[reading, scaled])])
        store.materialize()
        yield store


@pytest.fixture(scope="module")
def served_rows(plant: FeatureStore) -> pa.Table:
    """The log of a server of two workers that has answered three calls, and ended."""
    root = plant.config.root
    with observed(root, "--workers", "2") as server:
        for keys in ([1, 2, 3], [4, 5], [2, 1]):
            factors = Values(float64s=[0.5] * len(keys))
            request = lookup("all", k=Values(int64s=keys), factor=factors)
            reply = server.stub.GetOnlineFeatures(request, timeout=60, wait_for_ready=True)
            assert len(reply.features[0].statuses) == len(keys)
    log = pq.read_table(root / "served" / "all")
    assert log.num_rows == 7
    return log


@pytest.mark.parametrize("mode", ["complete", "as_served"])
def test_a_training_set_over_the_log_is_what_was_served(
    plant: FeatureStore, served_rows: pa.Table, mode: Literal["complete", "as_served"]
) -> None:
    log = served_rows
    spine = log.select(["k", "factor"])
    spine = spine.append_column("event_timestamp", log.column("request:timestamp"))
    training = plant.get_historical_features(entity_df=spine, features="all", mode=mode).to_arrow()
    for name in ("x", "place", "scaled"):
        assert training.column(name).to_pylist() == log.column(name).to_pylist()
    statuses = set(log.column("status:x").to_pylist())
    assert statuses == {"PRESENT", "NULL_VALUE", "OUTSIDE_MAX_AGE", "NOT_FOUND"}
    assert set(log.column("request:timestamp").to_pylist()) == {MOMENT.astimezone(UTC)}


# --- its settings ---------------------------------------------------------------------------------


def test_what_waits_at_the_end_is_written_though_nobody_reads_the_access_log(
    tmp_path: Path,
) -> None:
    shop.fill(open_store("lmdb", path=tmp_path / "online"))
    address = f"unix:{tmp_path}/s"
    log = ServedLogOptions(path=str(tmp_path / "log"), sample=1.0, max_file_rows=2)
    options = ServeOptions(
        catalog_json=shop.catalog().to_json(),
        online_store={"type": "lmdb", "path": str(tmp_path / "online")},
        access_log=True,
        observing=Observing(served_log=log),
    )
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "featurestore_server.worker"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=writing, text=True) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(WorkerTask.of(options, (address,)).to_line())
        worker.stdin.flush()
        assert json.loads(worker.stdout.readline())["ready"]
        with grpc.insecure_channel(address) as channel:
            ask = ServingServiceStub(channel).GetOnlineFeatures
            ask(lookup("checkout", user_id=Values(int64s=[1, 2])), timeout=PATIENCE_S)
            wait_for(lambda: _files(tmp_path / "log"))  # it has loaded what it writes with
            _fill(writing)
            ask(lookup("checkout", user_id=Values(int64s=[3])), timeout=PATIENCE_S)
        told = time.monotonic()
        worker.terminate()
        wait_for(lambda: len(_files(tmp_path / "log")) == 2)
        # The access log would have been waited for that long.
        assert time.monotonic() - told < 4
        os.close(reading)
        assert worker.wait(PATIENCE_S) == 0
    os.close(writing)


def _fill(pipe: int) -> None:
    """Write until the pipe takes no more."""
    os.set_blocking(pipe, False)
    with suppress(BlockingIOError):
        while True:
            os.write(pipe, bytes(4096))
    os.set_blocking(pipe, True)


def test_settings_come_from_the_environment_too(tmp_path: Path) -> None:
    variable = "FEATURESTORE_SERVER__SERVED_LOG__SAMPLE"
    values = {"project": "p", "server": {"served_log": {"path": "log", "sample": 0.5}}}
    config = make_config(values, root=tmp_path, environment={variable: "0.25"})
    log = config.settings.server.served_log
    assert (log.path, log.sample) == (Path("log"), 0.25)
    assert config.origins["server.served_log.sample"] == f"${variable}"
    assert config.origins["server.served_log.path"] == "code"
    assert values["server"] == {"served_log": {"path": "log", "sample": 0.5}}


def test_a_path_alone_is_enough(tmp_path: Path) -> None:
    values = {"project": "p", "server": {"served_log": "log"}}
    log = make_config(values, root=tmp_path, environment={}).settings.server.served_log
    assert (log.path, log.sample) == (Path("log"), 0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sample": 2}, "server.served_log.sample"),
        ({"pth": "log"}, "there is no setting 'server.served_log.pth'"),
        ({"max_file_ms": "never"}, "server.served_log.max_file_ms"),
    ],
)
def test_unusable_settings_are_named(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    values = {"project": "p", "server": {"served_log": settings}}
    with pytest.raises(ConfigError, match=words):
        make_config(values, root=tmp_path, environment={})

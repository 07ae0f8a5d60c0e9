"""Training sets over gRPC: what comes back, who may ask, and how calls end early."""

import contextlib
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import pyarrow as pa
import pytest
from featurestore_protos.v1.training_pb2 import TRAINING_MODE_AS_SERVED, TrainingQuery
from featurestore_server.backend.outbox import PIECE_BYTES, Outbox
from featurestore_server.options import BackendLimits
from google.rpc.error_details_pb2 import RetryInfo

from featurestore.definitions import FeatureService
from featurestore.store import FeatureStore
from featurestore.training.job import RetrievalJob
from featurestore.training.labels import label_names
from featurestore.types import Float64, Int64, String
from tests.unit.projects import LATER, THEN, UTC_US, rows, view, write

from .backend_calls import Part, asked, parts, query, served, stream_of, taken, train
from .calls import Dial, Failure, fails

PATIENCE_S: Final = 30.0
FEATURES: Final = {"x": Float64, "s": String} | {f"n{i}": Int64 for i in range(6)}
MANY: Final = 100_000
"""Rows of 1 kB: a training set of 100 MB, which does not fit into what is on the way."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    numbers: dict[str, Any] = {f"n{i}": list(range(i, i + 100)) for i in range(6)}
    times = [THEN + timedelta(minutes=n % 7) for n in range(100)]
    write(
        folder / "data/rows.parquet",
        rows(
            100,
            k=[n % 50 for n in range(100)],
            t=pa.array(times, UTC_US),
            c=pa.array(times, UTC_US),
            s=["a", None] * 50,
            w=[f"{n:1000}" for n in range(100)],
            **numbers,
        ),
    )
    return folder


@pytest.fixture
def store(repository: Path, tmp_path: Path) -> Iterator[FeatureStore]:
    settings = {
        "project": "plant",
        "clock": "2024-06-01T00:00:00Z",
        "online_store": "memory",
        "registry": str(tmp_path / "registry.db"),
        "offline_store": {"temp_directory": str(tmp_path / "temp")},
    }
    (tmp_path / "temp").mkdir()
    with FeatureStore(repository, config=settings, source_roots=[Path()]) as opened:
        reads = {"created_timestamp_column": "c"}
        reading = view("data", features=FEATURES, reads=reads)
        wide = view("data", features={"w": String}, reads=reads, name="wide")
        opened.apply(
            [
                reading,
                wide,
                FeatureService(name="readings_v1", features=[reading]),
                FeatureService(name="wide_v1", features=[wide]),
            ]
        )
        yield opened


def _spine(count: int) -> pa.Table:
    keys = np.arange(count, dtype=np.int64) % 60  # some are unknown
    return pa.table({"k": keys, "event_timestamp": pa.array(np.full(count, _LATER_US), UTC_US)})


_LATER_US: Final = int(LATER.timestamp()) * 1_000_000
SPINES: Final = {
    "plain": _spine(1_000),
    "no rows": _spine(0),
    "texts and nulls": pa.table(
        {
            "event_timestamp": pa.array([LATER, None, THEN, LATER], UTC_US),
            "k": pa.array([1, 2, None, 1], pa.int32()),
            "note": pa.array(["a", None, "a longer text than twelve", "d"], pa.string_view()),
            "kind": pa.array(["u", "v", None, "u"]).dictionary_encode(),
            "tags": pa.array([["p"], [], None, ["q", None]]),
        }
    ),
    "naive times": pa.table({"k": [1], "event_timestamp": pa.array([0], pa.timestamp("s"))}),
    "several batches": pa.concat_tables([_spine(5), _spine(70_000), _spine(1)]),
}


@pytest.mark.parametrize("spine", SPINES.values(), ids=list(SPINES))
def test_a_training_set_is_what_it_is_in_the_process(
    spine: pa.Table, store: FeatureStore, dial: Dial
) -> None:
    with served(store) as address:
        found = train(dial(address), spine, "readings_v1")
    expected = store.get_historical_features(spine, "readings_v1").to_arrow()
    assert found.table.schema == expected.schema
    assert found.table.combine_chunks().equals(expected.combine_chunks())
    assert found.summary.rows == spine.num_rows
    assert list(found.summary.features) == list(FEATURES)
    assert (found.summary.project, found.summary.revision) == ("plant", 1)
    assert found.largest_piece <= PIECE_BYTES


def test_a_label_is_still_marked_when_it_comes_back(store: FeatureStore, dial: Dial) -> None:
    late = pa.field("late", pa.bool_(), metadata={"featurestore.label": "true"})
    spine = _spine(3).append_column(late, pa.array([True, None, False]))
    with served(store) as address:
        found = train(dial(address), spine, "readings_v1")
    assert label_names(found.table.schema) == ("late",)


def test_a_query_says_how_features_are_named_and_what_is_known(
    store: FeatureStore, dial: Dial
) -> None:
    spine = _spine(10).rename_columns(["k", "at"])
    chosen = ["reading:n3", "reading:x"]
    more: Any = {"full_feature_names": True, "timestamp_field": "at", "timezone": "Europe/Berlin"}
    with served(store) as address:
        found = train(dial(address), spine, chosen, mode=TRAINING_MODE_AS_SERVED, **more)
    expected = store.get_historical_features(spine, chosen, mode="as_served", **more).to_arrow()
    assert expected.column_names == ["k", "at", "reading__n3", "reading__x"]
    assert found.table.equals(expected)


def test_progress_counts_rows_until_the_end(store: FeatureStore, dial: Dial) -> None:
    with served(store) as address:
        found = train(dial(address), _spine(3 * MANY), "readings_v1")
    assert found.progress
    assert all(step.phase and step.rows_done <= step.rows_total for step in found.progress)


def test_definitions_that_are_applied_meanwhile_are_followed(
    store: FeatureStore, dial: Dial
) -> None:
    with served(store) as address:
        channel = dial(address)
        assert train(channel, _spine(1), "readings_v1").summary.revision == 1
        store.apply(
            [FeatureService(name="one", features=[store.get_feature_view("reading")[["x"]]])]
        )
        found = train(channel, _spine(1), "one")
    assert (found.summary.revision, list(found.summary.features)) == (2, ["x"])


# --- calls that end early ------------------------------------------------------------------------


def _begun(channel: grpc.Channel, **terms: Any) -> Any:
    """A call of a large training set, of which one piece was taken."""
    call = asked(channel, parts(query("wide_v1"), stream_of(_spine(MANY))), **terms)
    while next(call).WhichOneof("part") != "table":
        pass
    return call


def _writers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name in ("writing", "job")]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _nothing_is_left(tmp_path: Path) -> bool:
    return not _writers() and list((tmp_path / "temp").iterdir()) == [] and not _held()


def _held() -> list[object]:
    """What was computed for calls, or handed over, and is still in memory."""
    gc.collect()
    return [each for each in gc.get_objects() if type(each) in (Outbox, RetrievalJob)]


def test_a_call_that_is_cancelled_ends_its_job(
    store: FeatureStore, dial: Dial, tmp_path: Path
) -> None:
    with served(store) as address:
        channel = dial(address)
        call = _begun(channel)
        assert _writers()
        call.cancel()
        _wait_until(lambda: _nothing_is_left(tmp_path))
        assert train(channel, _spine(1), "readings_v1").summary.rows == 1


def test_a_call_whose_deadline_passes_ends_its_job(
    store: FeatureStore, dial: Dial, tmp_path: Path
) -> None:
    with served(store) as address:
        call = _begun(dial(address), timeout=5)
        time.sleep(6)
        failure = fails(lambda: taken(call))
        assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED
        _wait_until(lambda: _nothing_is_left(tmp_path))


def test_a_client_that_goes_away_ends_its_job(store: FeatureStore, tmp_path: Path) -> None:
    with served(store) as address:
        with grpc.insecure_channel(address) as channel:
            _begun(channel)
            assert _writers()
        _wait_until(lambda: _nothing_is_left(tmp_path))


def test_a_job_that_fails_is_let_go(
    repository: Path, tmp_path: Path, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The error is logged, and pytest keeps what is logged.
    monkeypatch.setattr(logging.getLogger("featurestore_server"), "disabled", True)
    twice = pa.array([datetime(2024, 11, 3, 1, 30)], pa.timestamp("us"))  # noqa: DTZ001 - local
    write(tmp_path / "local/rows.parquet", rows(1, t=twice))
    settings = {"project": "plant", "online_store": "memory", "registry": str(tmp_path / "r.db")}
    with FeatureStore(repository, config=settings, source_roots=[tmp_path]) as store:
        store.apply([view(tmp_path / "local", reads={"timezone": "America/New_York"})])
        with served(store) as address:
            failure = fails(lambda: train(dial(address), _spine(2), ["reading:x"]))
            assert failure.reason == "SOURCE_UNREADABLE"
            _wait_until(lambda: not _held())


def test_a_slow_reader_gets_everything_and_holds_up_what_is_computed(
    store: FeatureStore, dial: Dial
) -> None:
    with served(store) as address:
        call = _begun(dial(address))
        time.sleep(1.0)
        assert _writers()  # 100 MB were not computed into anybody's memory
        rest = sum(len(reply.table) for reply in call)
    assert rest > 60 << 20


def test_a_spine_that_stops_coming_is_cut_off(
    store: FeatureStore, dial: Dial, tmp_path: Path
) -> None:
    gate = threading.Event()

    def stalled() -> Iterator[Part]:
        yield from list(parts(query("readings_v1"), stream_of(_spine(100_000))))[:3]
        gate.wait(PATIENCE_S)

    with served(store, BackendLimits(idle_s=0.3)) as address:
        failure = fails(lambda: taken(asked(dial(address), stalled())))
        gate.set()
        assert failure.code is grpc.StatusCode.CANCELLED
        _wait_until(lambda: _nothing_is_left(tmp_path))


def test_a_reader_that_takes_nothing_is_cut_off(
    store: FeatureStore, dial: Dial, tmp_path: Path
) -> None:
    with served(store, BackendLimits(idle_s=0.3)) as address:
        call = _begun(dial(address))
        _wait_until(lambda: _nothing_is_left(tmp_path))
        assert fails(lambda: taken(call)).code is grpc.StatusCode.CANCELLED


def test_more_training_sets_than_are_taken_are_turned_away(store: FeatureStore, dial: Dial) -> None:
    with served(store, BackendLimits(training_jobs=1, waiting_jobs=1)) as address:
        channel = dial(address)
        first = _begun(channel)
        found: list[int] = []

        def wait_for_it() -> None:
            while not found:  # the one that is to be turned away may have taken the place
                with contextlib.suppress(grpc.RpcError):
                    found.append(train(channel, _spine(7), "readings_v1").summary.rows)

        second = threading.Thread(target=wait_for_it)
        second.start()
        failure = None
        while failure is None or failure.code is not grpc.StatusCode.UNAVAILABLE:
            failure = fails(
                lambda: taken(
                    asked(channel, parts(query("no_such"), stream_of(_spine(1))), timeout=1)
                )
            )
        assert failure.reason == "TRAINING_BUSY"
        assert failure.detail(RetryInfo).retry_delay.seconds > 0
        assert found == []
        first.cancel()
        second.join(PATIENCE_S)
        assert found == [7]


# --- requests that are wrong ---------------------------------------------------------------------


GOOD: Final = stream_of(_spine(3))
WRONG: Final[dict[str, tuple[list[Part], str, str]]] = {
    "nothing": ([], "MESSAGE_MALFORMED", "query"),
    "an empty message": ([Part()], "MESSAGE_MALFORMED", "query"),
    "a spine first": ([Part(spine=GOOD)], "MESSAGE_MALFORMED", "query"),
    "no features": (list(parts(TrainingQuery(), GOOD)), "MESSAGE_MALFORMED", "query.selection"),
    "two questions": (
        [Part(query=query("readings_v1")), Part(query=query("readings_v1"))],
        "MESSAGE_MALFORMED",
        "spine",
    ),
    "an unknown mode": (
        list(parts(query("readings_v1", mode=99), GOOD)),
        "MESSAGE_MALFORMED",
        "query.mode",
    ),
    "no time column": (
        list(parts(query("readings_v1", timestamp_field="when"), GOOD)),
        "SPINE_INVALID",
        "spine.when",
    ),
    "a value in a row": (
        list(
            parts(
                query("readings_v1"),
                stream_of(_spine(3).set_column(0, "k", pa.array([1.0, 2.0, 2.5]))),
            )
        ),
        "SPINE_INVALID",
        "spine.k[2]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_request_that_is_wrong_is_told_where(
    case: str, store: FeatureStore, dial: Dial, tmp_path: Path
) -> None:
    messages, reason, field = WRONG[case]
    with served(store) as address:
        failure = fails(lambda: taken(asked(dial(address), messages)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (failure.reason, failure.fields) == (reason, [field])
    assert _nothing_is_left(tmp_path)


def test_names_that_are_not_there_are_not_found(store: FeatureStore, dial: Dial) -> None:
    with served(store) as address:
        channel = dial(address)
        failure = fails(lambda: train(channel, _spine(1), "readings_v2"))
        assert failure.reason == "FEATURE_SERVICE_NOT_FOUND"
        assert "readings_v1" in failure.message
        failure = fails(lambda: train(channel, _spine(1), ["reading:y"]))
        assert failure.reason == "FEATURE_NOT_FOUND"
        failure = fails(lambda: train(channel, _spine(1), "readings_v1", project="shop"))
        assert failure.reason == "PROJECT_NOT_FOUND"


def test_no_path_of_the_server_is_told(repository: Path, tmp_path: Path, dial: Dial) -> None:
    settings = {"project": "plant", "online_store": "memory", "registry": str(tmp_path / "r.db")}
    lost = write(tmp_path / "lost/rows.parquet", rows(2))
    roots = [Path(), tmp_path / "lost"]
    with FeatureStore(repository, config=settings, source_roots=roots) as store:
        store.apply([view(tmp_path / "lost")])
        lost.write_bytes(b"no parquet")
        with served(store) as address:
            failure = fails(lambda: train(dial(address), _spine(1), ["reading:x"]))
    assert failure.code is grpc.StatusCode.FAILED_PRECONDITION
    assert failure.reason == "SOURCE_UNREADABLE"
    assert "lost" not in failure.everything


def test_a_source_outside_the_roots_is_not_read(store: FeatureStore, dial: Dial) -> None:
    store.source_roots = (store.config.root / "elsewhere",)
    with served(store) as address:
        failure: Failure = fails(lambda: train(dial(address), _spine(1), "readings_v1"))
    assert failure.reason == "SOURCE_NOT_ALLOWED"
    assert "readings" in failure.message
    assert str(store.config.root) not in failure.everything

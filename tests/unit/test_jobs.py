"""Long jobs: what they tell while they run, and how they end before their time."""

import contextlib
import gc
import signal
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation
from featurestore.errors import JobCancelledError, SourceTimeError
from featurestore.store import FeatureStore
from featurestore.training import parts as parts_of_results
from featurestore.training.job import RetrievalJob
from featurestore.training.parts import (
    AT_ONCE_BYTES,
    AT_ONCE_SHARE,
    MEMORY_SHARE,
    ROW_BYTES,
    fetched_at_once,
    rows_at_once,
)
from featurestore.training.watch import Progress, Watch
from tests.unit.projects import FILE, LATER, UTC_US, project, rows, says, spine, view, write

MANY = 20_000
WAIT_S = 60.0


@pytest.fixture(params=["duckdb", "polars"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FeatureStore]:
    write(tmp_path / FILE, rows(MANY))
    settings = {"type": request.param, "temp_directory": "temp"}
    with project(tmp_path, offline_store=settings) as opened:
        yield opened


@pytest.fixture(params=["latest", "windows"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def job_of(store: FeatureStore, kind: str, progress: Progress | None = None) -> RetrievalJob:
    """Return a job over many rows: one view, with the newest values or with windows."""
    windows = [Aggregation("x", ["sum", "max"], windows=["60d"])]
    of = view() if kind == "latest" else view(schema=[], aggregations=windows)
    store.apply([of])
    entity_df = spine(*range(1, MANY + 1))
    asked = [f"reading:{name}" for name in store.get_feature_view("reading").feature_names]
    return store.get_historical_features(entity_df, asked, progress=progress)


def temporary_files(store: FeatureStore) -> list[Path]:
    """Return what is left once threads that were left alone have ended."""
    until = time.monotonic() + WAIT_S
    while any(thread.name.startswith("job") for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
    temp = store.config.root / "temp"
    return list(temp.iterdir()) if temp.exists() else []


# --- progress ----------------------------------------------------------------------------------


def test_progress_tells_of_rows_read_and_of_rows_joined(store: FeatureStore, kind: str) -> None:
    told: list[tuple[str, int, int]] = []
    table = job_of(store, kind, progress=lambda *step: told.append(step)).to_arrow()
    assert table.num_rows == MANY
    whole = [step for step in told if step[1] == step[2]]
    assert ("reading: reading", MANY, MANY) in whole
    assert ("joining", MANY, MANY) in whole
    assert all(0 <= done <= total == MANY for _, done, total in told)
    order = list(dict.fromkeys(what for what, _, _ in told))
    assert order == ["reading: reading", "joining"]


def test_progress_never_goes_back(store: FeatureStore, kind: str) -> None:
    told: dict[str, list[int]] = {}
    job = job_of(store, kind, progress=lambda what, done, _: told.setdefault(what, []).append(done))
    job.to_arrow()
    assert all(steps == sorted(steps) for steps in told.values())


def test_progress_is_told_in_the_thread_that_waits(store: FeatureStore, kind: str) -> None:
    threads = set()
    job_of(store, kind, progress=lambda *_: threads.add(threading.current_thread())).to_arrow()
    assert threads == {threading.current_thread()}


def test_what_progress_raises_ends_the_job(store: FeatureStore, kind: str) -> None:
    def fail(*_: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        job_of(store, kind, progress=fail).to_arrow()
    assert temporary_files(store) == []


# --- cancelling --------------------------------------------------------------------------------


def test_a_job_is_cancelled_while_it_computes(
    store: FeatureStore, kind: str, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    job = job_of(store, kind, progress=lambda *_: job.cancel())
    with pytest.raises(JobCancelledError) as caught:
        job.write_parquet(tmp_path / "out/train.parquet")
    assert says(caught.value, "cancelled", "no result")
    assert not caught.value.retryable
    assert list((tmp_path / "out").iterdir()) == []
    assert temporary_files(store) == []


def test_a_job_is_cancelled_from_another_thread(store: FeatureStore, kind: str) -> None:
    computing = threading.Event()

    def hold_up(*_: object) -> None:
        computing.set()
        cancelled.wait(WAIT_S)

    job, cancelled = job_of(store, kind, progress=hold_up), threading.Event()

    def cancel() -> None:
        computing.wait(WAIT_S)
        job.cancel()
        cancelled.set()

    other = threading.Thread(target=cancel)
    other.start()
    with pytest.raises(JobCancelledError):
        job.to_arrow()
    other.join()
    assert temporary_files(store) == []


def test_a_cancelled_job_stays_cancelled(store: FeatureStore, kind: str) -> None:
    job = job_of(store, kind)
    job.cancel()
    for _ in range(2):
        with pytest.raises(JobCancelledError):
            job.to_arrow()
    assert temporary_files(store) == []


def test_a_job_whose_batches_nobody_wants_any_more_lets_go_of_everything(
    store: FeatureStore, kind: str
) -> None:
    batches = job_of(store, kind).to_batches(10)
    assert next(batches).num_rows == 10
    del batches
    assert temporary_files(store) == []


def test_ctrl_c_ends_a_job_that_can_be_used_again(store: FeatureStore, kind: str) -> None:
    pressed: list[bool] = []

    def press(*_: object) -> None:
        if not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)

    job = job_of(store, kind, progress=press)
    with pytest.raises(KeyboardInterrupt):
        job.to_arrow()
    assert temporary_files(store) == []
    assert job.to_arrow().num_rows == MANY


# --- a step that cannot be interrupted ---------------------------------------------------------


def test_a_step_that_goes_on_is_left_alone_and_cleans_up_when_it_is_done() -> None:
    cancelled, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def parts() -> Generator[int, None, None]:
        try:
            cancelled.set()
            go_on.wait(WAIT_S)
            yield 1
        finally:
            closed.set()

    with pytest.raises(JobCancelledError):
        list(Watch(None, cancelled).over(parts()))
    assert not closed.is_set()
    go_on.set()
    assert closed.wait(WAIT_S)


def test_errors_and_results_of_the_thread_are_the_callers() -> None:
    def parts() -> Generator[int, None, None]:
        yield from (1, 2)
        raise LookupError

    found: list[int] = []
    with pytest.raises(LookupError):
        found.extend(Watch(None, threading.Event()).over(parts()))
    watched = Watch(None, threading.Event()).over(parts())
    assert [next(watched), next(watched)] == [1, 2]


def test_the_next_part_is_made_while_one_is_looked_at_and_no_more() -> None:
    begun = [threading.Event() for _ in range(3)]

    def parts() -> Generator[int, None, None]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    with contextlib.closing(Watch(None, threading.Event()).over(parts())) as watched:
        assert next(watched) == 0
        assert begun[1].wait(WAIT_S)
        assert not begun[2].wait(0.2)
        assert list(watched) == [1, 2]


# --- preview -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 3, MANY + 1])
def test_a_preview_is_the_beginning_of_the_result(
    store: FeatureStore, kind: str, count: int
) -> None:
    told: list[tuple[str, int, int]] = []
    job = job_of(store, kind, progress=lambda *step: told.append(step))
    preview = job.preview(count)
    assert {total for what, _, total in told if what == "joining"} <= {min(count, MANY)}
    assert preview.equals(job.to_arrow().slice(0, count))


def test_a_preview_ends_with_its_job(store: FeatureStore, kind: str) -> None:
    job = job_of(store, kind)
    job.cancel()
    with pytest.raises(JobCancelledError):
        job.preview()


def test_many_windows_are_computed_in_parts_that_make_the_same_result(
    store: FeatureStore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(store, kind)
    expected = job.to_arrow()
    assert len(list(job.to_tables())) == 1
    monkeypatch.setattr(parts_of_results, "WINDOWS_AT_ONCE_BYTES", expected.nbytes // 5)
    parts = list(job.to_tables())
    # Features of other views would be read again for each part.
    assert len(parts) == 1 if kind == "latest" else len(parts) > 3
    assert pa.concat_tables(parts).equals(expected)


def test_what_windows_will_take_is_explained(store: FeatureStore) -> None:
    explained = job_of(store, "windows").explain()
    assert "window lengths: 1;" in explained
    assert "2 features, on" in explained
    assert f"at most {MANY:,} rows at a time" in explained
    assert "window lengths" not in job_of(store, "latest").explain()


def test_results_are_computed_in_parts_that_fit_into_the_memory(
    store: FeatureStore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = job_of(store, kind).to_arrow()
    monkeypatch.setattr(type(store.engine), "memory_bytes", 3_000_000)
    parts = list(job_of(store, kind).to_tables())
    assert 1 < len(parts) < MANY // 100
    assert pa.concat_tables(parts).equals(expected)


def test_a_result_is_computed_at_once_if_it_fits() -> None:
    ten = [pa.float64()] * 10
    row = ROW_BYTES + 80
    assert fetched_at_once(1_000, ten, int(1_000 * row / AT_ONCE_SHARE) + 1) == 1_000
    in_parts = fetched_at_once(1_000, ten, int(999 * row / AT_ONCE_SHARE))
    assert in_parts in (999 * row // (row + 80), 999 * row // (row + 80) - 1), "two are there"
    assert fetched_at_once(10_000_000, ten, 3_480_000_000) == 10_000_000
    assert fetched_at_once(10**9, ten, 3_480_000_000) * (row + 80) <= 3_480_000_000 * AT_ONCE_SHARE
    assert fetched_at_once(10**9, ten, 2**40) * (row + 80) <= AT_ONCE_BYTES
    assert fetched_at_once(5, ten, -1) == 0


def test_values_that_may_be_long_are_computed_fewer_at_once() -> None:
    numbers, texts = ([kind] * 10 for kind in (pa.int64(), pa.string()))
    fit = 10**9 // (ROW_BYTES + 80)
    assert fetched_at_once(fit, numbers, int(10**9 / AT_ONCE_SHARE) + 1) == fit
    assert fetched_at_once(fit, texts, int(10**9 / AT_ONCE_SHARE) + 1) < fit / 10


def test_a_result_is_never_computed_in_smaller_parts_than_a_share_of_the_memory(
    store: FeatureStore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(store, kind)
    expected = job.to_arrow()
    fits = MEMORY_SHARE * expected.nbytes
    monkeypatch.setattr(parts_of_results, "AT_ONCE_BYTES", 0)
    monkeypatch.setattr(type(store.engine), "memory_bytes", 2 * fits)
    assert len(list(job.to_tables())) == 1
    monkeypatch.setattr(type(store.engine), "memory_bytes", fits // 3)
    parts = list(job.to_tables())
    assert 3 <= len(parts) <= 5
    assert pa.concat_tables(parts).equals(expected)


def test_what_the_spine_takes_is_not_there_for_features() -> None:
    spine = pa.table({"q": range(1_000_000)})
    features = [pa.field(f"f{n}", pa.float64()) for n in range(10)]
    schema = pa.schema([*spine.schema, *features])
    task: Any = SimpleNamespace(windows=())
    fits = int(spine.num_rows * (ROW_BYTES + 80) / AT_ONCE_SHARE) + 1
    held = spine.nbytes + 8 * spine.num_rows
    assert rows_at_once(spine, schema, [task], memory_bytes=fits + held) == spine.num_rows
    assert rows_at_once(spine, schema, [task], memory_bytes=fits) < spine.num_rows
    assert rows_at_once(spine, schema, [task], memory_bytes=1) == 1


def test_what_is_explained_is_what_is_run(tmp_path: Path) -> None:
    """Keys are read for winners without a time of their own, where rows are not held."""
    write(tmp_path / FILE, rows(MANY))
    with project(tmp_path, offline_store={"type": "duckdb"}) as opened:
        explained = job_of(opened, "latest").explain()
    assert "JOIN wanted" in explained
    assert "until" not in explained


def test_a_job_that_fails_is_let_go_at_once(store: FeatureStore) -> None:
    """Not when the garbage collector comes by: it may hold a large spine."""
    twice = pa.array([datetime(2024, 3, 31, 2, 30)], pa.timestamp("us"))  # noqa: DTZ001 - local
    write(store.config.root / "local.parquet", rows(1, t=twice))
    local = view("local.parquet", reads={"timezone": "Europe/Berlin"})
    store.apply([local])
    entity_df = pa.table({"k": [1], "event_timestamp": pa.array([LATER], UTC_US)})
    job = store.get_historical_features(entity_df, [local])
    gone = weakref.ref(job)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(SourceTimeError) as raised:
            job.to_arrow()
        del job, raised
        assert gone() is None
    finally:
        gc.enable()

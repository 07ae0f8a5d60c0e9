"""What a run does when reading or writing fails, or somebody interrupts it, while both go on."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typing_extensions import override

from featurestore.errors import SourceError, StoreError, StoreUnavailableError
from featurestore.materialize.plan import plan_run
from featurestore.materialize.run import Materializer
from featurestore.materialize.write import QUEUED_BATCHES
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import LatestRows, RowFilter
from featurestore.offline.scan import SourceScan
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.store import EncodedRows, TableId, WriteCounts
from featurestore.store import FeatureStore
from tests.servers import local_binary, local_redis
from tests.unit.projects import FILE, THEN, UTC_US, project, view, write

BATCHES = QUEUED_BATCHES + 3
BATCH_ROWS = 1_000
WAIT_S = 60


class WatchedStore(MemoryOnlineStore):
    """A store that does something before each write, in the writing thread."""

    def __init__(self, before: Callable[[int], None]) -> None:
        super().__init__()
        self.writes = 0
        self._before = before

    @override
    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        self.writes += 1
        self._before(self.writes)
        return super().write(table, rows, overwrite=overwrite)


class BreakingRows(LatestRows):
    """Newest rows that break off after some batches."""

    def __init__(self, whole: LatestRows, batches: int, broken: threading.Event) -> None:
        self.summary = whole.summary
        self._whole, self._batches, self._broken = whole, batches, broken

    @override
    def split(self, count: int) -> Sequence[range]:
        return self._whole.split(count)

    @override
    def batches(self, max_rows: int, ordinals: range | None = None) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(self._whole.batches(max_rows, ordinals)):
            if number == self._batches:
                self._broken.set()
                raise SourceError("The disk is on fire.", source="readings")
            yield batch

    @override
    def close(self) -> None:
        self._whole.close()


class BreakingEngine(DuckDBEngine):
    """An engine whose source breaks while it is being read."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.broken = threading.Event()
        self._batches = batches

    @override
    def latest(self, scan: SourceScan, rows: RowFilter) -> LatestRows:
        return BreakingRows(super().latest(scan, rows), self._batches, self.broken)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeatureStore]:
    count = BATCHES * BATCH_ROWS
    numbers = pa.array(range(count), pa.int64())
    times = pa.repeat(pa.scalar(THEN, UTC_US), count)
    write(tmp_path / FILE, {"k": numbers, "t": times, "x": numbers.cast(pa.float64())})
    with project(tmp_path) as opened:
        opened.apply([view()])
        yield opened


def materializer(store: FeatureStore) -> Materializer:
    return Materializer(
        project=store.project,
        engine=store.engine,
        store=store.online_store,
        registry=store.registry,
        clock=store.clock,
        root=store.config.root,
        batch_rows=BATCH_ROWS,
    )


def run(store: FeatureStore, made: Materializer, **options: Any) -> Any:
    """Run the view once; afterwards no thread of the run is left."""
    task = plan_run(
        store.state().view("reading"),
        start_us=None,
        end_us=None,
        now_us=store.clock.now_micros(),
    )
    try:
        return made.run(task, **options)
    finally:
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith(("online-write", "lease"))]


def assert_failed_once(store: FeatureStore, words: str) -> None:
    """Make sure that the run is recorded, and that the next one is not kept from running."""
    (failed,) = store.registry.runs(store.project)
    assert (failed.status, words in str(failed.error)) == ("failed", True)
    assert store.registry.watermark(store.project, "reading", 1) is None
    assert run(store, materializer(store)).written == BATCHES * BATCH_ROWS


@pytest.fixture
def slow_to_notice() -> Iterator[None]:
    """Let the thread that runs go on for long, whatever the other one could do by now.

    The one that writes comes to what waits first; the one that reads gets to say that it failed.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.5)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("slow_to_notice")
def test_a_store_that_fails_while_the_source_is_read_fails_the_run(store: FeatureStore) -> None:
    def fail(number: int) -> None:
        if number == 2:
            time.sleep(0.3)  # others come to wait behind it
            raise StoreError("Redis is full.", hint="raise maxmemory")

    online = WatchedStore(fail)
    with pytest.raises(StoreError, match="Redis is full") as caught:
        run(store, replace(materializer(store), store=online))
    assert caught.value.hint == "raise maxmemory"
    assert online.writes == 2, "what waited was written all the same"
    assert_failed_once(store, "StoreError: Redis is full")


def test_a_server_that_dies_in_the_middle_is_a_retryable_error(store: FeatureStore) -> None:
    with local_redis(local_binary()) as server:
        online = RedisOnlineStore(server.url)
        with pytest.raises(StoreUnavailableError, match="cannot be reached"):
            run(
                store,
                replace(materializer(store), store=online),
                progress=lambda *_: server.stop(),
            )
        online.close()
    assert_failed_once(store, "StoreUnavailableError")


@pytest.mark.usefixtures("slow_to_notice")
def test_a_source_that_breaks_while_rows_are_written_fails_the_run(store: FeatureStore) -> None:
    engine = BreakingEngine(batches=3)

    def wait(_number: int) -> None:
        assert engine.broken.wait(WAIT_S)

    online = WatchedStore(wait)
    with pytest.raises(SourceError, match="on fire"):
        run(store, replace(materializer(store), store=online, engine=engine))
    assert online.writes <= 2, "what waited was written all the same"
    assert_failed_once(store, "SourceError: The disk is on fire.")


def test_an_interrupt_ends_a_run_after_the_write_under_way(store: FeatureStore) -> None:
    def interrupt(number: int) -> None:
        if number == 2:
            signal.raise_signal(signal.SIGINT)

    online = WatchedStore(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(store, replace(materializer(store), store=online))
    assert online.writes < BATCHES
    assert_failed_once(store, "KeyboardInterrupt")


def test_an_interrupt_while_progress_is_shown_ends_a_run(store: FeatureStore) -> None:
    def interrupt(_view: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    online = WatchedStore(lambda _number: None)
    with pytest.raises(KeyboardInterrupt):
        run(store, replace(materializer(store), store=online), progress=interrupt)
    assert online.writes < BATCHES
    assert_failed_once(store, "KeyboardInterrupt")


def test_progress_tells_of_every_batch_as_it_is_written(store: FeatureStore) -> None:
    told: list[tuple[str, int, int]] = []
    run(store, materializer(store), progress=lambda *report: told.append(report))
    total = BATCHES * BATCH_ROWS
    assert {(name, of) for name, _, of in told} == {("reading", total)}
    done = [rows for _, rows, _ in told]
    assert done == sorted(done)
    assert done[-1] == total
    assert len(done) >= BATCHES

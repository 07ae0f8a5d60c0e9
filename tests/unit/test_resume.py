"""A run that was interrupted goes on where it was, and ends as if nothing had happened."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typing_extensions import override

from featurestore.definitions import Aggregation, FeatureView
from featurestore.errors import RequestError, ResumeError, SourceChangedError, StoreError
from featurestore.materialize.plan import chunk_count, plan_incremental, plan_run
from featurestore.materialize.run import Materializer, RunReport
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import EncodedRows, OnlineStore, TableId, WriteCounts
from featurestore.registry.tasks import MAX_CHUNKS
from featurestore.store import FeatureStore
from featurestore.time import parse_clock, to_micros
from tests.depth import every_run
from tests.unit.projects import NOW, QUICK, UTC_US, project, source, view, write

FILES = 3
ROWS = 400
KEYS = 150
CHUNK = 30
BATCH = 8
VIEW = view("data", reads={"created_timestamp_column": "c"})
WINDOWS = FeatureView(
    name="reading",
    entities=VIEW.entities,
    source=source("data", created_timestamp_column="c"),
    aggregations=[Aggregation("x", ["sum", "last_2"], windows=["30d", None])],
)


class FailingStore(MemoryOnlineStore):
    """A store that refuses every write from some number on, and counts the rows it was offered."""

    def __init__(self, refused_from: int | None = None) -> None:
        super().__init__()
        self.refused_from = refused_from
        self.writes = self.offered = 0

    @override
    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        if self.refused_from is not None and self.writes >= self.refused_from:
            raise StoreError("It is full.")
        self.writes += 1
        self.offered += len(rows.keys)
        return super().write(table, rows, overwrite=overwrite)


def write_file(root: Path, number: int) -> Path:
    """Write a file of rows; the keys of all files are the same."""
    draw = np.random.default_rng(number)
    start = to_micros(datetime(2024, 1, 1, tzinfo=UTC)) + number * 86_400_000_000
    events = start + draw.permutation(ROWS) * 60_000_000
    columns = {
        "k": draw.integers(0, KEYS, ROWS),
        "t": pa.array(events, UTC_US),
        "c": pa.array(events + 1_000_000, UTC_US),
        "x": draw.random(ROWS),
    }
    return write(root / "data" / f"{number}.parquet", columns, row_group_size=100)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tests begin with."""
    folder = tmp_path_factory.mktemp("applied")
    for number in range(FILES):
        write_file(folder, number)
    with project(folder, **QUICK) as opened:
        opened.apply([VIEW])
    return folder


@pytest.fixture
def store(tmp_path: Path, applied: Path) -> Iterator[FeatureStore]:
    shutil.copytree(applied, tmp_path, dirs_exist_ok=True)
    with project(tmp_path, **QUICK) as opened:
        yield opened


def materializer(store: FeatureStore, online: OnlineStore, **changes: Any) -> Materializer:
    made = Materializer(
        project=store.project,
        engine=store.engine,
        store=online,
        registry=store.registry,
        clock=store.clock,
        root=store.config.root,
        chunk_entities=CHUNK,
        batch_rows=BATCH,
    )
    return replace(made, **changes)


def run(store: FeatureStore, online: OnlineStore, **options: Any) -> RunReport:
    """Materialize the view up to now."""
    bounds: dict[str, Any] = {"start_us": None, "end_us": None}
    task = plan_run(registered(store), now_us=store.clock.now_micros(), **bounds)
    return materializer(store, online).run(task, **options)


def interrupt(store: FeatureStore, *, after: int, **options: Any) -> FailingStore:
    """Run until the online store has taken some batches, and return what it has."""
    online = FailingStore(after)
    with pytest.raises(StoreError, match="full"):
        run(store, online, **options)
    online.refused_from = None
    return online


def resume(store: FeatureStore, online: OnlineStore, **changes: Any) -> RunReport:
    report = materializer(store, online, **changes).resume([registered(store)])
    assert report is not None
    return report


def registered(store: FeatureStore) -> Any:
    return store.state().view("reading")


def content(online: OnlineStore, generation: int = 1) -> dict[bytes, bytes]:
    table = TableId(project="plant", view="reading", generation=generation)
    return dict(itertools.chain.from_iterable(online.scan(table)))


def undisturbed(store: FeatureStore) -> dict[bytes, bytes]:
    """Return what an online store has after a run that nothing happened to."""
    online = FailingStore()
    run(store, online)
    return content(online)


# Before a chunk is done, an engine has nothing to find again: so early DuckDB plays in the proof.
@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("engine", "after"),
    [
        pytest.param(engine, after, marks=every_run(when=engine == "polars" or after > 1))
        for engine in ("duckdb", "polars")
        for after in (0, 1, 7, 12)
    ],
)
def test_a_resumed_run_ends_as_an_undisturbed_one_and_skips_what_is_done(
    tmp_path: Path, engine: str, after: int
) -> None:
    with project(tmp_path, offline_store=engine) as opened:
        online = interrupt(opened, after=after)
        [task] = opened.registry.tasks("plant")
        done = sum(chunk.entities for chunk in task.done_chunks)
        assert online.offered >= done >= (CHUNK if after > 10 else 0)
        before = online.offered
        report = resume(opened, online)
        assert online.offered - before == report.entities - done
        assert (report.resumed, report.written + report.kept) == (done, report.entities)
        assert opened.registry.tasks("plant") == []
        assert content(online) == undisturbed(opened)
        assert len(content(online)) == report.entities


def test_a_run_may_be_resumed_by_another_engine(tmp_path: Path, store: FeatureStore) -> None:
    online = interrupt(store, after=12)
    with project(tmp_path, offline_store="duckdb") as other:
        assert resume(other, online).resumed > 0
    assert content(online) == undisturbed(store)


def test_the_watermark_waits_for_the_last_chunk(store: FeatureStore) -> None:
    online = interrupt(store, after=12)
    assert store.registry.watermark("plant", "reading", 1) is None
    resume(store, online)
    mark = store.registry.watermark("plant", "reading", 1)
    assert mark is not None
    assert (mark.end_us, len(mark.source_files)) == (store.clock.now_micros(), FILES)


def test_both_attempts_are_in_the_history(store: FeatureStore) -> None:
    resume(store, interrupt(store, after=12))
    first, last = reversed(store.registry.runs("plant"))
    assert (first.status, first.error) == ("failed", "StoreError: It is full.")
    assert (last.status, last.rows_written) == ("succeeded", len(undisturbed(store)))


def test_a_resumed_run_takes_the_interval_and_the_files_it_began_with(
    tmp_path: Path, store: FeatureStore
) -> None:
    expected = undisturbed(store)
    online = interrupt(store, after=12)
    write_file(tmp_path, FILES)
    with project(tmp_path, clock="2024-07-01T00:00:00Z", **QUICK) as later:
        report = resume(later, online)
        assert report.end == NOW
        assert content(online) == expected
        mark = later.registry.watermark("plant", "reading", 1)
        task = plan_incremental(
            registered(later), mark, end_us=None, now_us=later.clock.now_micros()
        )
        materializer(later, online).run(task)
        assert content(online) == undisturbed(later) != expected


def test_an_incremental_run_is_resumed_as_one(tmp_path: Path, store: FeatureStore) -> None:
    online = FailingStore()
    run(store, online)
    write_file(tmp_path, FILES)
    mark = store.registry.watermark("plant", "reading", 1)
    task = plan_incremental(registered(store), mark, end_us=None, now_us=store.clock.now_micros())
    online.refused_from = online.writes + 12
    with pytest.raises(StoreError):
        materializer(store, online).run(task)
    online.refused_from = None
    report = resume(store, online)
    assert (report.kind, report.rows_read) == ("incremental", ROWS)
    assert content(online) == undisturbed(store)


def test_windows_are_resumed_with_the_created_time_they_began_with(tmp_path: Path) -> None:
    for number in range(FILES):
        write_file(tmp_path, number)
    with project(tmp_path) as store:
        store.apply([WINDOWS])
        expected = undisturbed(store)
        online = interrupt(store, after=12)
        resume(store, online, clock=parse_clock("2024-09-01T00:00:00Z"))
        assert content(online) == expected


def test_rows_that_the_store_lost_meanwhile_are_offered_again(store: FeatureStore) -> None:
    online = interrupt(store, after=12)
    [task] = store.registry.tasks("plant")
    assert task.done_chunks
    online.drop(TableId(project="plant", view="reading", generation=1))
    assert resume(store, online).resumed == 0
    assert content(online) == undisturbed(store)


def test_overwriting_is_resumed_as_overwriting(store: FeatureStore) -> None:
    expected = undisturbed(store)
    online = FailingStore(12)
    newer = {key: value[:3] + b"\xff" * 16 + value[19:] for key, value in expected.items()}
    MemoryOnlineStore.write(
        online,
        TableId(project="plant", view="reading", generation=1),
        EncodedRows(keys=list(newer), values=list(newer.values())),
    )
    with pytest.raises(StoreError):
        run(store, online, overwrite=True)
    online.refused_from = None
    report = resume(store, online)
    assert (report.kept, content(online)) == (0, expected)


def test_a_file_that_changed_since_asks_for_a_new_run(tmp_path: Path, store: FeatureStore) -> None:
    online = interrupt(store, after=12)
    write_file(tmp_path, FILES - 1)
    os.utime(tmp_path / "data" / f"{FILES - 1}.parquet", (1, 1))
    with pytest.raises(ResumeError, match=r"2\.parquet' has changed since it began") as caught:
        resume(store, online)
    assert (caught.value.view, caught.value.retryable) == ("reading", False)
    assert caught.value.hint == "start a new run, without --resume"
    (tmp_path / "data" / "0.parquet").unlink()
    with pytest.raises(ResumeError, match=r"0\.parquet' is gone since it began"):
        resume(store, online)
    assert run(store, online).resumed == 0


def test_a_file_that_changes_during_a_run_leaves_it_unrecorded(
    tmp_path: Path, store: FeatureStore
) -> None:
    def change(*_: object) -> None:
        os.utime(tmp_path / "data" / "1.parquet", (1, 1))

    with pytest.raises(SourceChangedError):
        run(store, FailingStore(), progress=change)
    assert store.registry.watermark("plant", "reading", 1) is None
    with pytest.raises(ResumeError):
        resume(store, FailingStore())


def test_a_new_run_takes_the_place_of_an_interrupted_one(store: FeatureStore) -> None:
    online = interrupt(store, after=12)
    report = run(store, online)
    assert report.resumed == 0
    assert store.registry.tasks("plant") == []
    assert materializer(store, online).resume([registered(store)]) is None


def test_what_was_not_interrupted_needs_no_resuming(store: FeatureStore) -> None:
    assert store.materialize(resume=True) == []
    [report] = store.materialize()
    assert report.resumed == 0
    assert store.materialize(resume=True) == []


def test_the_store_resumes_what_it_began(store: FeatureStore) -> None:
    store.online_store = interrupt(store, after=12)
    [report] = store.materialize(resume=True)
    assert report.resumed > 0
    assert store.materialize(resume=True, views=["reading"]) == []


@pytest.mark.parametrize("more", [{"start": NOW}, {"end": NOW}, {"overwrite": True}])
def test_resuming_takes_no_interval(store: FeatureStore, more: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="has its own start, end and overwrite"):
        store.materialize(resume=True, **more)


def test_a_view_that_means_something_else_now_is_not_resumed(store: FeatureStore) -> None:
    online = interrupt(store, after=12)
    stale = registered(store)
    store.apply([VIEW.model_copy(update={"ttl": timedelta(days=400)})])
    assert materializer(store, online).resume([registered(store)]) is None, "apply forgot it"
    run(store, online)
    interrupt(store, after=12)
    with pytest.raises(ResumeError, match="of generation 2, and the view has 1 by now"):
        materializer(store, online).resume([stale])


def test_intervals_in_any_order_end_as_one_run_over_all_of_them(store: FeatureStore) -> None:
    expected = undisturbed(store)
    edges = [None, *(f"2024-01-0{day}T{hour:02}:00:00Z" for day in (1, 2, 3) for hour in (3, 5))]
    intervals = list(itertools.pairwise([*edges, NOW]))
    orders: list[Callable[[Any], Any]] = [list, reversed, lambda all_: all_[::2] + all_[1::2]]
    for order in orders:
        online = FailingStore()
        for start, end in order(intervals):
            instants = {
                "start_us": start and to_micros(datetime.fromisoformat(start)),
                "end_us": to_micros(datetime.fromisoformat(str(end))),
            }
            task = plan_run(registered(store), now_us=store.clock.now_micros(), **instants)
            materializer(store, online).run(task)
        assert content(online) == expected


def test_the_number_of_chunks_is_bounded() -> None:
    counts = [chunk_count(entities, 100) for entities in (0, 1, 100, 101, 10**9)]
    assert counts == [1, 1, 1, 2, MAX_CHUNKS]

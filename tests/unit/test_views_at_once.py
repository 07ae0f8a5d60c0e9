"""Views are materialized side by side, within what one may take."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from featurestore.definitions import FeatureView
from featurestore.errors import SourceError, StoreError
from featurestore.offline.factory import open_engine
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import EncodedRows, TableId, WriteCounts
from featurestore.settings import OfflineStoreConfig
from featurestore.store import FeatureStore
from tests.unit.projects import project, rows, view, write

NAMES = ("first", "second", "third")
PATIENCE_S = 60


def views() -> list[FeatureView]:
    return [view(f"{name}.parquet", name=name, reads={"name": f"{name}_rows"}) for name in NAMES]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        write(tmp_path / f"{name}.parquet", rows(3))
    return tmp_path


def opened(root: Path, at_once: int, engine: str = "duckdb") -> FeatureStore:
    store = project(
        root, materialization={"views_at_once": at_once}, offline_store={"type": engine}
    )
    store.apply(views())
    return store


@pytest.fixture(params=["duckdb", "polars"])
def store(request: pytest.FixtureRequest, root: Path) -> Iterator[FeatureStore]:
    with opened(root, 3, request.param) as found:
        yield found


@pytest.mark.parametrize("at_once", [1, 3])
def test_the_registry_is_tidied_up_once_for_all_views(root: Path, at_once: int) -> None:
    log = root / "data" / "registry.db-wal"
    seen: list[bool] = []

    class Looking(MemoryOnlineStore):
        @override
        def write(
            self, table: TableId, rows: EncodedRows, *, overwrite: bool = False
        ) -> WriteCounts:
            seen.append(log.exists() and log.stat().st_size > 0)
            return super().write(table, rows, overwrite=overwrite)

    with opened(root, at_once, "polars") as store:
        assert not log.exists()
        store.online_store = Looking()
        store.materialize()
        assert seen == [True] * len(NAMES)
        assert not log.exists(), "a copy of the file has everything"


class Meeting(MemoryOnlineStore):
    """A store whose first writes wait for each other."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._barrier = threading.Barrier(count, timeout=PATIENCE_S)

    @override
    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        self._barrier.wait()
        return super().write(table, rows, overwrite=overwrite)


def test_views_are_written_at_the_same_time(store: FeatureStore) -> None:
    store.online_store = Meeting(len(NAMES))
    told: list[tuple[str, int, int]] = []
    reports = store.materialize(progress=lambda *step: told.append(step))
    assert [(r.view, r.written) for r in reports] == [(name, 3) for name in NAMES]
    assert {view for view, _, _ in told} == set(NAMES)
    assert [r.kind for r in store.materialize_incremental()] == ["incremental"] * 3
    found = store.get_online_features([f"{NAMES[2]}:x"], {"k": [1, 2]}).to_dict()
    assert found["x"] == [1.0, 2.0]


def test_one_after_the_other_is_the_default(root: Path) -> None:
    with project(root) as store:
        store.apply(views())
        names: list[str] = []
        store.materialize(progress=lambda name, *_: names.append(name))
        assert names == sorted(names)


def test_the_first_failure_is_told(store: FeatureStore, root: Path) -> None:
    (root / "second.parquet").unlink()
    with pytest.raises(SourceError, match=r"second\.parquet"):
        store.materialize()
    statuses = {s.view: s.situation for s in store.status()}
    assert statuses["second"] == "never", "it failed before it had a task"
    assert store.registry.runs("plant", "second")[0].status == "failed"


def test_a_failure_ends_those_beside_it(root: Path) -> None:
    class Failing(MemoryOnlineStore):
        def __init__(self) -> None:
            super().__init__()
            self.failed = threading.Event()

        @override
        def write(
            self, table: TableId, rows: EncodedRows, *, overwrite: bool = False
        ) -> WriteCounts:
            if table.view == "first":
                self.failed.set()
                raise StoreError("It is full.")
            assert self.failed.wait(PATIENCE_S)
            threading.Event().wait(0.5)  # until the first run has been told, and has told the rest
            return super().write(table, rows, overwrite=overwrite)

    with opened(root, 2) as store:
        store.online_store = Failing()
        with pytest.raises(StoreError, match="full"):
            store.materialize(progress=lambda *_: None)
        store.online_store = MemoryOnlineStore()
        resumed = {report.view for report in store.materialize(resume=True)}
        assert resumed == {"first", "second"}, "the third had not begun"


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_engines_share_threads_and_memory(engine: Any, tmp_path: Path) -> None:
    chosen = OfflineStoreConfig(type=engine, threads=5, memory_limit="4GB")
    shared: Any = open_engine(chosen, root=tmp_path, shares=2)
    assert (shared.threads, shared.memory_bytes) == (2, 2_000_000_000)
    alone: Any = open_engine(chosen, root=tmp_path)
    assert (alone.threads, alone.memory_bytes) == (5, 4_000_000_000)
    rest: Any = open_engine(OfflineStoreConfig(type=engine, threads=1), root=tmp_path, shares=4)
    assert rest.threads == 1

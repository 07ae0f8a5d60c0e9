"""Online rows that nothing can reach are dropped, and nothing else is, whatever its name."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from featurestore.errors import LeaseHeldError, RequestError
from featurestore.materialize.garbage import Pacer, drop_table
from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.store import OnlineStore, TableId
from featurestore.store import FeatureStore
from featurestore.testing.online import KEY, read, row, write
from tests.depth import every_run
from tests.unit.projects import FILE, QUICK, project, rows, view
from tests.unit.projects import write as write_file

STORES = ("memory", "lmdb", "redis")

# What is garbage, the registry and the store's catalogue say: in every run all tests play on the
# store that starts fastest, and on each those that a store could get wrong: which tables it drops,
# what it touches, and what it knows of itself. The proof crosses them all.
on_every_store = pytest.mark.parametrize("online", STORES, indirect=True)


@pytest.fixture(params=[pytest.param(s, marks=every_run(when=s == "memory")) for s in STORES])
def online(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OnlineStore]:
    """A store of each kind; a server is shared with other tests."""
    made: OnlineStore
    if request.param == "redis":
        made = RedisOnlineStore(request.getfixturevalue("redis_url"))
    else:
        made = MemoryOnlineStore() if request.param == "memory" else LmdbOnlineStore(tmp_path / "o")
    with closing(made):
        yield made


def opened(root: Path, online: OnlineStore, name: str) -> FeatureStore:
    """Return a project of this name that writes to a given store."""
    write_file(root / FILE, rows(3))
    store = project(root, project=name, **QUICK)
    store.__dict__["online_store"] = online
    return store


@pytest.fixture
def store(tmp_path: Path, online: OnlineStore) -> FeatureStore:
    """A project of two views of three rows each."""
    made = opened(tmp_path / "repo", online, f"p{uuid.uuid4().hex[:20]}")
    made.apply([view(), view(name="other")])
    made.materialize()
    return made


def tables(store: FeatureStore) -> dict[tuple[str, int], int]:
    """Return what the store's catalogue has of the project, and how many rows there are."""
    found = store.online_store.tables(store.project)
    return {(t.view, t.generation): store.online_store.count(t) for t in found}


def dropped(found: list[Any]) -> dict[tuple[str, int], int]:
    return {(t.view, t.generation): t.rows for t in found}


def test_what_is_in_use_is_not_garbage(store: FeatureStore) -> None:
    assert store.gc() == []
    assert tables(store) == {("reading", 1): 3, ("other", 1): 3}


def test_a_view_that_was_deleted_is_garbage(store: FeatureStore) -> None:
    (store.config.root / "features.py").write_text(
        "from tests.unit.projects import view\nreading = view()\n"
    )
    store.apply(allow_destroy=True)
    assert dropped(store.gc(dry_run=True)) == {("other", 1): 3}
    assert tables(store)[("other", 1)] == 3
    assert dropped(store.gc()) == {("other", 1): 3}
    assert tables(store) == {("reading", 1): 3}
    assert store.gc() == []
    store.apply([view(name="other")])
    store.materialize(views=["other"])
    assert tables(store) == {("reading", 1): 3, ("other", 2): 3}
    assert store.gc() == []


def test_a_view_that_is_not_served_any_more_is_garbage(store: FeatureStore) -> None:
    store.apply([view(name="other", online=False)])
    assert dropped(store.gc()) == {("other", 1): 3}
    store.apply([view(name="other")])
    assert store.status(views=["other"])[0].situation == "never"
    assert [run.written for run in store.materialize_incremental(views=["other"])] == [3]
    assert store.get_online_features(["other:x"], {"k": [1]}).to_dict()["x"] == [1.0]


def test_a_view_that_is_served_again_meanwhile_is_not_filled_before_it_is_empty(
    store: FeatureStore,
) -> None:
    store.apply([view(name="other", online=False)])
    refused: list[LeaseHeldError] = []

    def serve_again(*_: object) -> None:
        store.apply([view(name="other")])
        with pytest.raises(LeaseHeldError) as error:
            store.materialize(views=["other"])
        refused.append(error.value)

    assert dropped(store.gc(progress=serve_again)) == {("other", 1): 3}
    assert refused
    store.materialize_incremental(views=["other"])
    assert store.get_online_features(["other:x"], {"k": [1]}).to_dict()["x"] == [1.0]


@on_every_store
def test_a_generation_is_garbage_when_no_rollback_can_read_it(store: FeatureStore) -> None:
    store.apply([view(ttl=timedelta(days=3_000))])
    assert store.gc() == []  # lookups read the old one until the new one is filled
    store.materialize(views=["reading"])
    assert store.gc() == []  # a rollback may read it
    assert tables(store) == {("reading", 1): 3, ("reading", 2): 3, ("other", 1): 3}
    settings = {"generation_grace_ms": "1ms"}
    hasty = project(store.config.root, project=store.project, materialization=settings, **QUICK)
    hasty.__dict__["online_store"] = store.online_store
    hasty.apply([view(ttl=timedelta(days=4_000))])
    hasty.materialize(views=["reading"])
    found = dropped(hasty.gc())
    assert found[("reading", 1)] == 3
    assert tables(store)[("reading", 3)] == 3
    assert store.get_online_features(["reading:x"], {"k": [1]}).to_dict()["x"] == [1.0]


@on_every_store
def test_an_empty_registry_makes_nothing_garbage(store: FeatureStore, tmp_path: Path) -> None:
    elsewhere = opened(tmp_path / "elsewhere", store.online_store, store.project)
    with pytest.raises(RequestError, match="Nothing was ever applied"):
        elsewhere.gc()
    assert tables(store) == {("reading", 1): 3, ("other", 1): 3}


@on_every_store
def test_a_project_that_is_torn_down_can_be_filled_again(store: FeatureStore) -> None:
    assert dropped(store.teardown()) == {("reading", 1): 3, ("other", 1): 3}
    assert tables(store) == {}
    assert store.get_online_features(["reading:x"], {"k": [1]}).to_dict()["x"] == [None]
    assert [status.situation for status in store.status()] == ["never", "never"]
    assert store.teardown() == []
    assert {run.kind for run in store.materialize_incremental()} == {"full"}
    assert tables(store) == {("reading", 1): 3, ("other", 1): 3}
    assert store.verify().ok


def test_a_project_that_is_being_written_is_not_torn_down(store: FeatureStore) -> None:
    store.registry.acquire_lease(store.project, "reading", "somebody", seconds=60)
    with pytest.raises(LeaseHeldError, match="somebody"):
        store.teardown()
    assert tables(store) == {("reading", 1): 3, ("other", 1): 3}
    assert store.status(views=["other"])[0].situation == "ready"


def test_no_run_begins_while_a_project_is_torn_down(store: FeatureStore) -> None:
    refused: list[LeaseHeldError] = []

    def materialize(*_: object) -> None:
        for name in ("reading", "other"):
            with pytest.raises(LeaseHeldError) as error:
                store.materialize(views=[name])
            refused.append(error.value)

    store.teardown(progress=materialize)
    assert len(refused) == 4
    assert {run.kind for run in store.materialize_incremental()} == {"full"}
    assert store.verify().ok


@on_every_store
def test_nothing_outside_the_project_is_touched_whatever_it_is_called(
    store: FeatureStore,
) -> None:
    """Names that are prefixes, suffixes and patterns of the project's, its views' and its keys."""
    online, mine = store.online_store, store.project
    names = [mine[:-1], mine + "a", f"a{mine}", mine[1:], mine.upper(), f"{mine}:", "*", f"{mine}*"]
    names += [f"{mine[:-1]}?", f"[{mine[0]}]{mine[1:]}", f"{mine}\\", f"{mine}}}", f"{{{mine}"]
    names += [f"featurestore:catalogue:{mine}", f"{mine}\nother", "", f'["{mine}"', "%s", ".."]
    others = [TableId(project=name, view="reading", generation=1) for name in names]
    views = ["*", "readin", "readings", "reading*", "?eading", "[r]eading", "other\\", ""]
    unknown = [TableId(project=mine, view=name, generation=g) for name in views for g in (1, 11)]
    unknown += [TableId(project=mine, view="reading", generation=g) for g in (0, 2, 11, -1)]
    for table in (*others, *unknown):
        write(online, table, [(KEY, row(1)), (b"*", row(1)), (b"}", row(1))])
    try:
        found = {(t.view, t.generation) for t in store.gc()}
        assert found == {(t.view, t.generation) for t in unknown}
        assert tables(store) == {("reading", 1): 3, ("other", 1): 3}
        assert all(read(online, t, KEY, b"*", b"}") == [None] * 3 for t in unknown)
        store.teardown()
        assert tables(store) == {}
        for table in others:
            assert read(online, table, KEY, b"*", b"}") == [row(1)] * 3
            assert online.tables(table.project) == [table]
    finally:
        for table in others:
            online.drop(table)


# --- the pace ----------------------------------------------------------------------------------


def test_rows_are_dropped_at_the_pace_asked_for() -> None:
    now, waited = [100.0], list[float]()

    def wait(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    pacer = Pacer(1_000, now=lambda: now[0], wait=wait)
    pacer(500)
    now[0] += 0.25
    pacer(500)
    now[0] += 10
    pacer(100)
    assert waited == [0.5, 0.25]


@on_every_store
@pytest.mark.parametrize("count", [0, 1, 45_000])
def test_every_row_is_reported_and_paced(online: OnlineStore, count: int) -> None:
    table = TableId(project=f"p{uuid.uuid4().hex}", view="v", generation=1)
    write(online, table, [(b"\x02%d" % i, row(1)) for i in range(count)])
    told: list[tuple[str, int, int]] = []
    waited: list[float] = []
    pacer = Pacer(1_000, now=lambda: 0.0, wait=waited.append)  # a second takes for ever
    found = drop_table(online, table, pacer, progress=lambda *said: told.append(said))
    assert found.rows == count
    assert waited[-1:] == ([count / 1_000] if count else []), "all rows were paced"
    assert [said[1:] for said in told[-1:]] == ([(count, count)] if count else [])
    assert online.tables(table.project) == []


@pytest.mark.parametrize("online", ["lmdb", "redis"], indirect=True)
def test_a_table_that_another_process_dropped_is_named_again_when_it_is_written(
    online: OnlineStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    other: OnlineStore
    if isinstance(online, RedisOnlineStore):
        other = RedisOnlineStore(request.getfixturevalue("redis_url"))
    else:
        other = LmdbOnlineStore(tmp_path / "o")
    table = TableId(project=f"p{uuid.uuid4().hex}", view="v", generation=1)
    with closing(other):
        write(online, table, [(KEY, row(1))])
        assert other.drop(table) == 1
        write(online, table, [(KEY, row(2))])
        assert other.tables(table.project) == [table]
        assert other.drop(table) == 1

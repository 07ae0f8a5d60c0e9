"""The ledger: what a run leaves in the registry while it lasts, and when it dies."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featurestore.definitions import Definition, Entity, FeatureView, Field, FileSource
from featurestore.errors import LeaseHeldError
from featurestore.registry import (
    Chunk,
    ReadFile,
    RunRecord,
    TaskRecord,
    Watermark,
    make_plan,
    plan_deletion,
)
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.sql.tables import SCHEMA_VERSION
from featurestore.registry.state import ObjectRef
from featurestore.time import Clock
from featurestore.types import Float64, Int64

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
SPEND = FeatureView(
    name="spend",
    entities=[Entity(name="user", join_keys={"user_id": Int64})],
    source=FileSource(name="sales", path="sales.parquet", timestamp_field="at"),
    schema=[Field(name="amount", dtype=Float64)],
)
TASK = TaskRecord(
    project="shop",
    view="spend",
    generation=1,
    kind="incremental",
    start_us=None,
    end_us=2**60,
    after_us=None,
    created_after_us=-5,
    or_event_after_us=7,
    overwrite=True,
    clock_us=11,
    began_at=NOW,
    holder="run-1",
    source_files=(ReadFile("a.parquet", 1, 2**62), ReadFile("\udcff.parquet", 2, 3)),
    attempted_at=NOW,
    seen_at=NOW,
)
CHUNKS = (Chunk(number=0, first=0, stop=500), Chunk(number=1, first=500, stop=2**63 - 1))


def at(path: Path, seconds: float) -> SqlRegistry:
    """Open the registry some seconds after NOW."""
    return SqlRegistry(path, wall_clock=Clock(NOW + timedelta(seconds=seconds)))


def apply(registry: SqlRegistry, *definitions: Definition) -> None:
    plan = make_plan(definitions, registry.snapshot("shop"), full=False)
    registry.commit(plan, actor="ann", now=NOW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A registry in which run-1 has begun a task of two chunks, and its lease, of 30 seconds."""
    path = tmp_path / "registry.db"
    apply(SqlRegistry(path), SPEND)
    registry = at(path, 0)
    registry.acquire_lease("shop", "spend", "run-1", seconds=30)
    registry.begin_task(TASK)
    registry.plan_chunks(TASK, CHUNKS)
    return path


def ended(status: str = "succeeded", **changes: object) -> RunRecord:
    values: dict[str, object] = {
        "project": "shop",
        "view": "spend",
        "generation": 1,
        "kind": "incremental",
        "start_us": None,
        "end_us": 2**60,
        "status": status,
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=9),
    }
    return RunRecord(**(values | changes))  # type: ignore[arg-type]


def test_what_a_run_is_about_is_written_before_it_does_anything(path: Path) -> None:
    assert at(path, 1).tasks("shop") == [replace(TASK, chunks=CHUNKS)]
    assert at(path, 1).tasks("other") == []


def test_a_chunk_that_is_done_says_what_became_of_its_rows(path: Path) -> None:
    done = replace(CHUNKS[0], state="done", written=5, kept=4, expired=3)
    at(path, 5).end_chunk(TASK, replace(CHUNKS[0], written=5, kept=4, expired=3))
    [task] = at(path, 6).tasks("shop")
    assert task.chunks == (done, CHUNKS[1])
    assert task.done_chunks == (done,)
    assert (done.entities, task.seen_at) == (12, NOW + timedelta(seconds=5))


def test_a_task_goes_when_its_run_succeeds(path: Path) -> None:
    at(path, 9).record_run(ended(), holder="run-1")
    assert at(path, 9).tasks("shop") == []
    assert [run.status for run in at(path, 9).runs("shop")] == ["succeeded"]
    assert stored_chunks(path) == 0


def test_a_task_that_failed_says_why_and_stays(path: Path) -> None:
    at(path, 9).record_run(ended("failed", error="StoreError: full"), holder="run-1")
    [task] = at(path, 9).tasks("shop")
    assert (task.state, task.error) == ("failed", "StoreError: full")
    assert task.chunks == CHUNKS


def test_an_interrupted_task_can_be_resumed_when_the_lease_of_the_dead_run_has_expired(
    path: Path,
) -> None:
    at(path, 4).end_chunk(TASK, CHUNKS[0])
    with pytest.raises(LeaseHeldError, match="by run-1, for 29 s by now"):
        at(path, 29).acquire_lease("shop", "spend", "run-2", seconds=30)
    later = at(path, 60)
    later.acquire_lease("shop", "spend", "run-2", seconds=30)
    task = later.resume_task("shop", "spend", "run-2")
    assert task is not None
    assert (task.attempt, task.holder, task.state) == (2, "run-2", "running")
    assert [chunk.state for chunk in task.chunks] == ["done", "pending"]
    assert (task.began_at, task.clock_us) == (NOW, 11)
    assert later.tasks("shop") == [task]


def test_a_death_that_nobody_reported_is_a_failed_run_with_the_last_sign_of_life(
    path: Path,
) -> None:
    at(path, 20).renew_lease("shop", "spend", "run-1", seconds=30)
    at(path, 25).end_chunk(TASK, replace(CHUNKS[0], written=5, kept=4))
    later = at(path, 60)
    later.acquire_lease("shop", "spend", "run-2", seconds=30)
    later.begin_task(replace(TASK, holder="run-2", attempted_at=NOW + timedelta(seconds=60)))
    [run] = later.runs("shop")
    assert (run.status, run.finished_at) == ("failed", NOW + timedelta(seconds=25))
    assert (run.rows_written, run.rows_kept, run.file_count) == (5, 4, 2)
    assert "2026-01-05T10:00:25" in str(run.error)
    assert "run-2" in [task.holder for task in later.tasks("shop")]
    assert stored_chunks(path) == 0, "chunks of the run before"


def test_a_failure_that_was_reported_is_not_recorded_twice(path: Path) -> None:
    at(path, 9).record_run(ended("failed", error="full"), holder="run-1")
    at(path, 9).release_lease("shop", "spend", "run-1")
    at(path, 10).acquire_lease("shop", "spend", "run-2", seconds=30)
    assert at(path, 10).resume_task("shop", "spend", "run-2") is not None
    assert [run.error for run in at(path, 11).runs("shop")] == ["full"]


def test_a_run_that_lost_its_lease_can_write_nothing_to_the_ledger(path: Path) -> None:
    later = at(path, 60)
    later.acquire_lease("shop", "spend", "run-2", seconds=30)
    before = later.tasks("shop")
    for write in (
        lambda: later.begin_task(TASK),
        lambda: later.plan_chunks(TASK, ()),
        lambda: later.end_chunk(TASK, CHUNKS[0]),
        lambda: later.resume_task("shop", "spend", "run-1"),
        lambda: later.record_run(ended(), holder="run-1"),
    ):
        with pytest.raises(LeaseHeldError, match="by run-2"):
            write()
    assert (later.tasks("shop"), later.runs("shop")) == (before, [])


def test_a_run_that_lost_its_lease_does_not_fail_the_task_of_another(path: Path) -> None:
    later = at(path, 60)
    later.acquire_lease("shop", "spend", "run-2", seconds=30)
    later.resume_task("shop", "spend", "run-2")
    later.record_run(ended("failed", error="lost"), holder="run-1")
    [task] = later.tasks("shop")
    assert (task.holder, task.state, task.error) == ("run-2", "running", None)


def test_leases_that_are_held_are_listed(path: Path) -> None:
    [(view, lease)] = at(path, 29).leases("shop").items()
    assert (view, lease.holder, lease.acquired_at) == ("spend", "run-1", NOW)
    assert at(path, 30).leases("shop") == {}
    at(path, 1).release_lease("shop", "spend", "run-1")
    assert at(path, 2).leases("shop") == {}


def test_the_task_of_a_view_that_is_gone_is_forgotten_and_its_runs_are_kept(path: Path) -> None:
    registry = at(path, 60)
    registry.record_run(ended("failed", error="full"), holder="run-1")
    state = registry.snapshot("shop")
    plan = plan_deletion([ObjectRef("feature view", "spend")], state)
    registry.commit(plan, actor="ann", now=NOW)
    assert (registry.tasks("shop"), stored_chunks(path)) == ([], 0)
    assert len(registry.runs("shop", "spend")) == 1


def test_the_task_of_a_view_that_means_something_else_now_is_forgotten(path: Path) -> None:
    told = SPEND.model_copy(update={"owner": "bob"})
    apply(at(path, 60), told)
    assert len(at(path, 60).tasks("shop")) == 1
    apply(at(path, 60), told.model_copy(update={"ttl": timedelta(days=3)}))
    assert at(path, 60).tasks("shop") == []


def test_the_task_of_a_run_that_is_under_way_is_left_to_it(path: Path) -> None:
    apply(at(path, 10), SPEND.model_copy(update={"ttl": timedelta(days=3)}))
    assert len(at(path, 10).tasks("shop")) == 1


# --- older registries ------------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A registry as version 1 left it: a view, a run of it, its watermark, a lease that is held."""
    file = tmp_path / "old.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(Path(__file__).with_name("registry_v1.sql").read_text())
    return file


def version(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection:
        query = "SELECT value FROM featurestore_meta WHERE key = 'schema_version'"
        return str(connection.execute(query).fetchone()[0])


def stored_chunks(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute("SELECT count(*) FROM featurestore_chunks").fetchone()[0])


def assert_has_all(registry: SqlRegistry) -> None:
    """Make sure that all is there which version 1 wrote."""
    assert registry.snapshot("shop").view("spend").generation == 1
    mark = registry.watermark("shop", "spend", 1)
    assert mark == Watermark(
        end_us=100,
        event_us=90,
        created_us=None,
        source_files=(ReadFile("a.parquet", 1, 2),),
        updated_at=NOW,
    )
    assert [run.end_us for run in registry.runs("shop")] == [100]
    assert len(registry.history("shop")) == 3


def test_reading_a_registry_of_version_1_leaves_it_as_it_is(old: Path) -> None:
    assert_has_all(at(old, 1))
    assert (at(old, 1).tasks("shop"), at(old, 1).leases("shop")) == ([], {})
    assert version(old) == "1"


def test_writing_to_a_registry_of_version_1_upgrades_it_in_place(old: Path) -> None:
    with pytest.raises(LeaseHeldError, match=r"by run-1\.\n") as caught:
        at(old, 10).acquire_lease("shop", "spend", "run-2", seconds=30)
    assert (caught.value.expires_in_s, caught.value.held_for_s) == (20, None)
    assert version(old) == "1", "what failed has changed nothing"
    registry = at(old, 60)
    registry.acquire_lease("shop", "spend", "run-1", seconds=30)
    registry.begin_task(TASK)
    registry.plan_chunks(TASK, CHUNKS)
    assert version(old) == str(SCHEMA_VERSION)
    assert_has_all(registry)
    assert registry.tasks("shop") == [replace(TASK, chunks=CHUNKS)]
    assert registry.leases("shop")["spend"].acquired_at == NOW + timedelta(seconds=60)


def test_an_upgraded_registry_has_the_tables_of_a_new_one(old: Path, path: Path) -> None:
    at(old, 60).release_lease("shop", "spend", "run-1")
    assert columns(old) == columns(path)


def columns(file: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Return name, type and nullability of all columns, by table."""
    with closing(sqlite3.connect(file)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: [
                (column, kind, required)
                for _, column, kind, required, _, _ in connection.execute(
                    f"PRAGMA table_info({name})"
                )
            ]
            for (name,) in sorted(names)
        }

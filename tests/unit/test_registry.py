"""The registry: atomic, shared by processes, append-only, and plain about what is wrong with it."""

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
)
from featurestore.definitions.base import fingerprint
from featurestore.errors import (
    ConfigError,
    DefinitionError,
    LeaseHeldError,
    NotFoundError,
    RegistryConflictError,
    RegistryError,
    RegistryVersionError,
)
from featurestore.registry import (
    FieldChange,
    ObjectRef,
    ReadFile,
    RegistryState,
    RunRecord,
    Watermark,
    make_plan,
    plan_deletion,
)
from featurestore.registry.runs import advanced
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.sql import runs as sql_runs
from featurestore.registry.sql.runs import write_run
from featurestore.registry.sql.sqlite import SqliteFile
from featurestore.time import Clock
from featurestore.types import Decimal, Float64, Int64, List, String
from tests.forks import run_python

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)
USER = Entity(name="user", join_keys={"user_id": Int64, "region": String})
SALES = FileSource(
    name="sales",
    path="data/**/*.parquet",
    timestamp_field="at",
    created_timestamp_column="written",
    timezone="America/New_York",
    field_mapping={"AMT": "amount"},
    lateness=timedelta(hours=2),
)
SPEND = FeatureView(
    name="spend",
    entities=[USER],
    source=SALES,
    schema=[
        Field(name="amount", dtype=Decimal(12, 2), tags={"unit": "EUR"}),
        Field(name="last", dtype=List(Float64)),
    ],
    ttl=timedelta(days=7),
    tags={"team": "risk"},
)
FRAUD = FeatureService(
    name="fraud",
    features=[SPEND, SPEND[["last"]].with_name("seller").with_join_key_map({"user_id": "seller"})],
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(path: Path) -> SqlRegistry:
    return SqlRegistry(path)


def apply(
    registry: SqlRegistry, *definitions: Definition, full: bool = True, project: str = "shop"
) -> RegistryState:
    plan = make_plan(definitions, registry.snapshot(project), full=full)
    return registry.commit(plan, actor="ann", now=NOW)


def entity(name: str) -> Entity:
    return Entity(name=name, join_keys={"k": Int64})


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


# --- definitions -----------------------------------------------------------------------------


def test_a_registry_that_does_not_exist_reads_as_empty_and_no_file_appears(path: Path) -> None:
    registry = SqlRegistry(path.parent / "deep" / "registry.db")
    assert registry.snapshot("shop") == RegistryState(project="shop")
    assert registry.projects() == ()
    assert registry.history("shop") == []
    assert registry.runs("shop") == []
    assert registry.watermark("shop", "spend", 1) is None
    empty = make_plan([], registry.snapshot("shop"), full=True)
    assert registry.commit(empty, actor="ann", now=NOW).revision == 0
    assert list(path.parent.iterdir()) == []


def test_the_first_commit_makes_folder_and_file(path: Path) -> None:
    deep = path.parent / "a" / "b" / "registry.db"
    apply(SqlRegistry(deep), FRAUD)
    assert deep.is_file()


def test_an_empty_file_is_an_empty_registry(path: Path, registry: SqlRegistry) -> None:
    path.touch()
    assert registry.snapshot("shop").revision == 0
    assert apply(registry, USER).revision == 1


def test_what_is_read_is_what_was_applied(path: Path, registry: SqlRegistry) -> None:
    committed = apply(registry, FRAUD)
    read = SqlRegistry(path).snapshot("shop")
    assert read == committed
    assert read.revision == 1
    assert read.entity("user") == USER
    assert read.source("sales") == SALES
    assert read.view("spend").definition == SPEND
    assert read.view("spend").definition.meaning() == SPEND.meaning()
    assert (read.view("spend").generation, read.view("spend").version) == (1, 1)
    assert read.service("fraud") == FRAUD
    assert list(read.entity("user").join_keys) == ["user_id", "region"]


def test_every_change_of_a_view_is_a_version_and_every_change_of_meaning_a_generation(
    registry: SqlRegistry,
) -> None:
    apply(registry, SPEND)
    told = apply(registry, SPEND.model_copy(update={"description": "new"}))
    assert (told.view("spend").version, told.view("spend").generation) == (2, 1)
    moved = apply(registry, SALES.model_copy(update={"path": "x.parquet"}), full=False)
    assert (moved.view("spend").version, moved.view("spend").generation) == (3, 2)
    assert moved.view("spend").definition.source.path == "x.parquet"
    apply(registry)
    back = apply(registry, SPEND)
    assert (back.view("spend").version, back.view("spend").generation) == (5, 3)


def test_a_second_apply_on_the_same_revision_conflicts_and_changes_nothing(
    registry: SqlRegistry,
) -> None:
    plan = make_plan([FRAUD], registry.snapshot("shop"), full=True)
    other = make_plan([entity("a"), entity("b")], registry.snapshot("shop"), full=True)
    registry.commit(plan, actor="ann", now=NOW)
    before, log = registry.snapshot("shop"), registry.history("shop")
    with pytest.raises(RegistryConflictError) as caught:
        registry.commit(other, actor="bob", now=NOW)
    assert (caught.value.expected, caught.value.found) == (0, 1)
    assert caught.value.retryable
    assert registry.snapshot("shop") == before
    assert registry.history("shop") == log


def test_an_empty_plan_changes_nothing_but_conflicts_like_any_other(registry: SqlRegistry) -> None:
    state = apply(registry, USER)
    empty = make_plan([USER], state, full=True)
    assert registry.commit(empty, actor="ann", now=NOW) == state
    assert len(registry.history("shop")) == 1
    apply(registry, entity("other"))
    with pytest.raises(RegistryConflictError):
        registry.commit(empty, actor="ann", now=NOW)


def test_a_plan_that_would_leave_something_unreadable_is_not_committed(
    registry: SqlRegistry,
) -> None:
    state = apply(registry, SPEND)
    alone = RegistryState(project="shop", revision=1, entities=state.entities)
    with pytest.raises(RegistryError, match=r"feature view 'spend'.*no entity 'user'"):
        registry.commit(make_plan([], alone, full=True), actor="ann", now=NOW)
    assert registry.snapshot("shop") == state
    assert len(registry.history("shop")) == 3


def test_projects_share_a_registry_without_seeing_each_other(registry: SqlRegistry) -> None:
    apply(registry, FRAUD, project="shop")
    apply(registry, entity("user"), project="shop_2")
    assert registry.projects() == ("shop", "shop_2")
    assert registry.snapshot("shop").entity("user") == USER
    assert registry.snapshot("shop_2").entity("user") == entity("user")
    assert registry.snapshot("sho").definitions == ()
    assert {entry.project for entry in registry.history("shop")} == {"shop"}


@pytest.mark.parametrize("name", ["Shop", "a__b", "", "x'; DROP TABLE featurestore_log; --", "%"])
def test_a_project_name_is_refused_by_the_rules_for_names(registry: SqlRegistry, name: str) -> None:
    apply(registry, USER, project="shop")
    with pytest.raises(DefinitionError, match="project"):
        apply(registry, USER, project=name)
    assert registry.projects() == ("shop",)


def test_deleting_leaves_the_rest(registry: SqlRegistry) -> None:
    state = apply(registry, FRAUD)
    targets = [ObjectRef("feature service", "fraud")]
    state = registry.commit(plan_deletion(targets, state), actor="ann", now=NOW)
    assert state.services == {}
    assert state.view("spend").generation == 1


# --- history ---------------------------------------------------------------------------------


def test_history_says_who_changed_what_when_newest_first(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    later = NOW + timedelta(microseconds=1)
    longer = SPEND.model_copy(update={"ttl": timedelta(days=9)})
    plan = make_plan([longer], registry.snapshot("shop"), full=False)
    registry.commit(plan, actor="bob", now=later)
    newest, *older = registry.history("shop")
    assert (newest.actor, newest.at, newest.revision) == ("bob", later, 2)
    assert (newest.action, newest.kind, newest.name) == ("update", "feature view", "spend")
    assert newest.impact == "breaking"
    assert newest.fields == (FieldChange(path="ttl", before="7d", after="9d"),)
    assert (newest.generation_before, newest.generation_after) == (1, 2)
    assert [e.name for e in older] == ["spend", "sales", "user"]
    assert {(e.actor, e.at, e.revision, e.action) for e in older} == {("ann", NOW, 1, "create")}
    assert registry.history("shop", limit=2) == [newest, older[0]]
    assert json.loads(json.dumps(newest.to_document()))["at"] == "2026-01-05T10:00:00.000001Z"


@pytest.mark.parametrize(
    "statement",
    ["UPDATE featurestore_log SET actor = 'nobody'", "DELETE FROM featurestore_log WHERE id = 1"],
)
def test_the_log_can_only_grow(path: Path, registry: SqlRegistry, statement: str) -> None:
    apply(registry, USER)
    with raw(path) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(statement)
    assert registry.history("shop")[0].actor == "ann"


def test_every_version_of_an_object_is_kept(path: Path, registry: SqlRegistry) -> None:
    for text in ("one", "two", "three"):
        apply(registry, USER.model_copy(update={"description": text}))
    apply(registry)
    with raw(path) as connection:
        rows = connection.execute(
            "SELECT version, deleted, json_extract(document, '$.description')"
            " FROM featurestore_objects ORDER BY version"
        ).fetchall()
    assert rows == [(1, 0, "one"), (2, 0, "two"), (3, 0, "three"), (4, 1, "three")]


HOSTILE = [
    "'; DROP TABLE featurestore_objects; --",
    '"quoted" `ticks` [brackets] \\ %s %(x)s :name ? {0} ${HOME}',
    "\u2028\u202e\ufeff e\u0301 \U0001f4a3 \x01\x1b[2J\r\n\t",
    "x" * 4_096,
    "!!python/object/apply:os.system ['true'] __import__('os') <script>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_survives_in_every_field(registry: SqlRegistry, text: str) -> None:
    column = "".join(c for c in text if c.isprintable() and c != ":")[:255]
    nasty = SPEND.model_copy(
        update={
            "description": text,
            "owner": text,
            "tags": {text: text},
            "source": FileSource(
                name="sales", path=f"data/{column}", timestamp_field="at", tags={"t": text}
            ),
            "fields": (Field(name=column, dtype=Int64, description=text),),
        }
    )
    plan = make_plan([nasty], registry.snapshot("shop"), full=True)
    registry.commit(plan, actor=text, now=NOW)
    assert registry.snapshot("shop").view("spend").definition == nasty
    assert registry.history("shop")[0].actor == text[:255]


def test_an_actor_that_no_database_takes_is_escaped_and_cut(registry: SqlRegistry) -> None:
    plan = make_plan([USER], registry.snapshot("shop"), full=True)
    registry.commit(plan, actor="a\0b\udcff" + "x" * 10_000, now=NOW)
    actor = registry.history("shop")[0].actor
    assert actor.startswith("a\\x00b\\udcffxxx")
    assert len(actor) == 255


def test_asking_for_a_name_that_no_database_takes_is_no_crash(registry: SqlRegistry) -> None:
    apply(registry, USER)
    with pytest.raises(RegistryError):
        registry.runs("shop", "\udcff")
    assert registry.snapshot("a\0b").definitions == ()


# --- many processes --------------------------------------------------------------------------

_EIGHT_APPLY_FOUR_EACH = """
import os, sys
from datetime import UTC, datetime
from featurestore.definitions import Entity
from featurestore.errors import RegistryConflictError
from featurestore.registry import make_plan
from featurestore.registry.sql import SqlRegistry
from featurestore.types import Int64

def apply_four(registry, process):
    for i in range(4):
        entity = Entity(name=f"e_{process}_{i}", join_keys={"k": Int64})
        while True:
            plan = make_plan([entity], registry.snapshot("shop"), full=False)
            try:
                registry.commit(plan, actor=str(process), now=datetime.now(UTC))
                break
            except RegistryConflictError:
                pass

children = []
for process in range(8):
    child = os.fork()
    if child == 0:
        apply_four(SqlRegistry(sys.argv[1]), process)
        os._exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_eight_processes_that_apply_at_once_lose_nothing(path: Path, registry: SqlRegistry) -> None:
    result = run_python(_EIGHT_APPLY_FOUR_EACH, path)
    assert result.stdout == f"{[0] * 8}\n", result.stderr
    expected = {f"e_{process}_{i}" for process in range(8) for i in range(4)}
    state = registry.snapshot("shop")
    assert set(state.entities) == expected
    assert state.revision == 32
    log = registry.history("shop", limit=1_000)
    assert [entry.revision for entry in log] == list(range(32, 0, -1))
    assert {entry.name for entry in log} == expected
    assert all(entry.name.startswith(f"e_{entry.actor}_") for entry in log)


_DIE_BEFORE_COMMIT = """
import os, signal, sys
from datetime import UTC, datetime
from featurestore.definitions import Entity
from featurestore.registry import make_plan
from featurestore.registry.sql import SqlRegistry, objects
from featurestore.types import Int64

registry, now = SqlRegistry(sys.argv[1]), datetime.now(UTC)
many = [Entity(name=f"e{i}", join_keys={"k": Int64}, description="x" * 4000) for i in range(500)]
plan = make_plan(many, registry.snapshot("shop"), full=False)
with registry._database.write() as connection:
    revision = objects.swap_revision(connection, plan, now)
    objects.write_changes(connection, plan, revision=revision, actor="dead", now=now)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_in_the_middle_of_an_apply_leaves_nothing(
    path: Path, registry: SqlRegistry
) -> None:
    before = apply(registry, FRAUD)
    assert run_python(_DIE_BEFORE_COMMIT, path).returncode == -signal.SIGKILL
    assert registry.snapshot("shop") == before
    assert "dead" not in {entry.actor for entry in registry.history("shop")}
    assert apply(registry, entity("next"), full=False).revision == 2


def test_readers_do_not_wait_for_a_writer(path: Path, registry: SqlRegistry) -> None:
    state = apply(registry, FRAUD)
    with raw(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM featurestore_objects")
        assert SqlRegistry(path, lock_timeout_s=0).snapshot("shop") == state


def test_a_lock_that_stays_is_a_retryable_error(path: Path, registry: SqlRegistry) -> None:
    apply(registry, USER)
    with raw(path) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryError, match=r"was locked by somebody else for 0.05 s") as held:
            apply(SqlRegistry(path, lock_timeout_s=0.05), entity("other"))
    assert held.value.retryable
    assert str(path) in held.value.message
    assert registry.snapshot("shop").revision == 1


# --- what can be wrong with the file ---------------------------------------------------------


def test_a_registry_of_a_newer_version_is_neither_read_nor_written(
    path: Path, registry: SqlRegistry
) -> None:
    apply(registry, USER)
    with raw(path) as connection:
        connection.execute("UPDATE featurestore_meta SET value = '5' WHERE key = 'schema_version'")
    with pytest.raises(RegistryVersionError, match="schema version 5") as caught:
        registry.snapshot("shop")
    assert str(path) in caught.value.message
    assert "upgrade" in (caught.value.hint or "")
    with pytest.raises(RegistryVersionError, match="schema version 5"):
        registry_commit(registry)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM featurestore_meta",
        "UPDATE featurestore_meta SET value = 'soon'",
        "UPDATE featurestore_meta SET value = ''",
        "UPDATE featurestore_meta SET value = '0'",
    ],
)
def test_a_registry_without_a_version_is_not_read(
    path: Path, registry: SqlRegistry, statement: str
) -> None:
    apply(registry, USER)
    with raw(path) as connection:
        connection.execute(statement)
    with pytest.raises(RegistryError, match="does not say which version"):
        registry.snapshot("shop")


def test_a_file_that_is_no_database_is_named_and_left_alone(
    path: Path, registry: SqlRegistry
) -> None:
    path.write_bytes(b"entities:\n  - user\n" * 100)
    content = path.read_bytes()
    with pytest.raises(RegistryError, match="is not a SQLite database") as caught:
        registry.snapshot("shop")
    assert str(path) in caught.value.message
    with pytest.raises(RegistryError, match="is not a SQLite database"):
        registry_commit(registry)
    assert path.read_bytes() == content


def registry_commit(registry: SqlRegistry) -> RegistryState:
    """Write without having read."""
    plan = make_plan([USER], RegistryState(project="shop"), full=True)
    return registry.commit(plan, actor="ann", now=NOW)


def test_somebody_elses_database_is_left_alone(path: Path, registry: SqlRegistry) -> None:
    with raw(path) as connection:
        connection.execute("CREATE TABLE objects (x)")
    content = path.read_bytes()
    with pytest.raises(RegistryError, match="is not a registry: it holds other tables"):
        registry.snapshot("shop")
    with pytest.raises(RegistryError, match="is not a registry: it holds other tables"):
        registry_commit(registry)
    assert path.read_bytes() == content


def test_a_damaged_file_is_an_error_that_names_it(path: Path, registry: SqlRegistry) -> None:
    apply(registry, *(entity(f"e{i}") for i in range(500)))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(RegistryError, match="is damaged") as caught:
        registry.snapshot("shop")
    assert str(path) in caught.value.message
    assert "backup" in (caught.value.hint or "")


def test_a_registry_whose_tables_are_gone_is_an_error(path: Path, registry: SqlRegistry) -> None:
    apply(registry, USER)
    with raw(path) as connection:
        connection.execute("DROP TABLE featurestore_objects")
    with pytest.raises(RegistryError, match="no such table"):
        registry.snapshot("shop")


def test_a_folder_is_no_registry(tmp_path: Path) -> None:
    registry = SqlRegistry(tmp_path)
    with pytest.raises(RegistryError, match="is a folder"):
        registry.snapshot("shop")
    with pytest.raises(RegistryError, match="is a folder"):
        registry_commit(registry)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "deep" / "registry.db"
    with pytest.raises(RegistryError, match="Not a directory") as caught:
        registry_commit(SqlRegistry(path))
    assert str(path) in caught.value.message


_AS_NOBODY = """
import os, sys, tempfile
from datetime import UTC, datetime
from featurestore.definitions import Entity
from featurestore.errors import RegistryError
from featurestore.registry import make_plan
from featurestore.registry.sql import SqlRegistry
from featurestore.types import Int64

def try_all(path):
    registry = SqlRegistry(path)
    state = registry.snapshot("shop")
    print("read", *state.entities)
    plan = make_plan([Entity(name="new", join_keys={"k": Int64})], state, full=True)
    registry.commit(plan, actor="nobody", now=datetime.now(UTC))

with tempfile.TemporaryDirectory() as scratch:  # loads all code: nobody may not read this folder
    try_all(f"{scratch}/registry.db")
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    try_all(sys.argv[1])
except RegistryError as error:
    print(error)
"""


@pytest.fixture
def readable() -> Iterator[Path]:
    """The folder of a registry that other users may reach (tmp_path is closed to them)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        apply(SqlRegistry(path / "registry.db"), entity("kept"))
        yield path
        path.chmod(0o755)


def test_a_registry_in_a_read_only_folder_can_be_read_and_not_written(readable: Path) -> None:
    path = readable / "registry.db"
    path.chmod(0o444)
    readable.chmod(0o555)
    result = run_python(_AS_NOBODY, path)
    assert result.stdout.splitlines() == [
        "read",
        "read kept",
        f"The registry {path} cannot be written by this user.",
        "  hint: give this user permission to write the file and its folder",
    ], result.stderr
    assert [p.name for p in readable.iterdir()] == ["registry.db"]


def test_what_a_dead_writer_left_is_read_in_a_read_only_folder_too(readable: Path) -> None:
    path = readable / "registry.db"
    copies = [path, path.with_name("registry.db-wal"), path.with_name("registry.db-shm")]
    with raw(path) as stays_open:
        stays_open.execute("SELECT * FROM featurestore_meta").fetchall()
        apply(SqlRegistry(path), entity("kept"), entity("second"))
        contents = [copy.read_bytes() for copy in copies]
    for copy, content in zip(copies, contents, strict=True):
        copy.write_bytes(content)
        copy.chmod(0o444)
    readable.chmod(0o555)
    result = run_python(_AS_NOBODY, path)
    assert result.stdout.splitlines()[:2] == ["read", "read kept second"], result.stderr


def test_an_empty_write_ahead_log_is_no_obstacle(readable: Path) -> None:
    path = readable / "registry.db"
    path.with_name("registry.db-wal").touch()
    readable.chmod(0o555)
    result = run_python(_AS_NOBODY, path)
    assert result.stdout.splitlines()[:2] == ["read", "read kept"], result.stderr


def test_a_registry_that_may_not_be_read_is_named(readable: Path) -> None:
    path = readable / "registry.db"
    path.chmod(0o000)
    readable.chmod(0o555)
    result = run_python(_AS_NOBODY, path)
    assert result.stdout.splitlines() == [
        "read",
        f"The registry {path} cannot be opened.",
        "  hint: check the permissions of the file and its folder",
    ], result.stderr


def test_a_write_during_a_read_without_locks_is_noticed(path: Path, registry: SqlRegistry) -> None:
    apply(registry, USER)
    reader = SqliteFile(path, lock_timeout_s=1)._open_without_lock()
    with closing(reader):
        reader.check(path)
        apply(registry, entity("other"))
        with pytest.raises(RegistryError, match="was written while it was read") as caught:
            reader.check(path)
    assert caught.value.retryable


_WITH_A_FILE_LIMIT = """
import resource, signal, sys
from datetime import UTC, datetime
from featurestore.definitions import Entity
from featurestore.errors import RegistryError
from featurestore.registry import make_plan
from featurestore.registry.sql import SqlRegistry
from featurestore.types import Int64
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
registry = SqlRegistry(sys.argv[1])
many = [Entity(name=f"e{i}", join_keys={"k": Int64}, description="x" * 4000) for i in range(500)]
plan = make_plan(many, registry.snapshot("shop"), full=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    registry.commit(plan, actor="ann", now=datetime.now(UTC))
except RegistryError as error:
    print(error)
"""


def test_a_file_that_cannot_grow_is_an_error_and_nothing_is_lost(
    path: Path, registry: SqlRegistry
) -> None:
    before = apply(registry, FRAUD)
    result = run_python(_WITH_A_FILE_LIMIT, path)
    assert result.stdout.startswith(f"The registry {path} cannot "), result.stderr
    assert "  hint: " in result.stdout
    assert registry.snapshot("shop") == before
    assert apply(registry, entity("next"), full=False).revision == 2


def test_a_full_disk_is_called_that(path: Path) -> None:
    with raw(path) as connection:
        connection.execute("PRAGMA max_page_count = 2")
        connection.execute("CREATE TABLE t (x)")
        with pytest.raises(sqlite3.OperationalError) as full:
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
    error = SqliteFile(path, lock_timeout_s=1).explained(full.value)
    assert error.message == (
        f"The registry {path} cannot grow: the disk is full; nothing was written."
    )


# --- documents that somebody changed ---------------------------------------------------------


def tamper(path: Path, kind: str, name: str, document: str, *, rehash: bool) -> None:
    with raw(path) as connection:
        connection.execute(
            "UPDATE featurestore_objects SET document = ? WHERE kind = ? AND name = ?",
            (document, kind, name),
        )
        if rehash:
            connection.execute(
                "UPDATE featurestore_objects SET hash = ? WHERE kind = ? AND name = ?",
                (fingerprint(json.loads(document)), kind, name),
            )


def test_a_document_that_was_changed_by_hand_is_not_used(path: Path, registry: SqlRegistry) -> None:
    apply(registry, FRAUD)
    longer = SPEND.to_document() | {"ttl": "8d"}
    tamper(path, "feature view", "spend", json.dumps(longer), rehash=False)
    with pytest.raises(RegistryError) as caught:
        registry.snapshot("shop")
    assert caught.value.message == (
        "The registry's feature view 'spend' (version 1) is damaged: it is not what was applied:"
        " its hash differs."
    )


@pytest.mark.parametrize(
    ("kind", "name", "document", "reason"),
    [
        ("entity", "user", {"name": "user"}, "join_keys"),
        ("entity", "user", {"name": "user", "join_keys": [["k"]]}, "ValueError|join_keys"),
        ("entity", "user", {"name": "user", "join_keys": [["k", "float64"]]}, "cannot be float64"),
        ("entity", "user", USER.to_document() | {"name": "other"}, "is called 'other'"),
        ("entity", "user", USER.to_document() | {"future": 1}, "future"),
        ("entity", "user", [], "TypeError"),
        ("entity", "user", None, "TypeError"),
        ("source", "sales", SALES.to_document() | {"timezone": "Mars"}, "'Mars' is not an IANA"),
        ("feature view", "spend", SPEND.to_document() | {"source": "gone"}, "no source 'gone'"),
        ("feature view", "spend", {"name": "spend"}, "KeyError"),
        ("feature view", "spend", SPEND.to_document() | {"entities": 5}, "TypeError"),
        ("feature service", "fraud", {"name": "fraud", "features": [{"view": "x"}]}, "view 'x'"),
        ("feature service", "fraud", {"name": "fraud", "features": [7]}, "TypeError"),
        ("feature service", "fraud", {"name": "fraud", "features": []}, "1 to 500 views"),
    ],
)
def test_a_document_that_does_not_parse_is_named(
    path: Path, registry: SqlRegistry, *, kind: str, name: str, document: object, reason: str
) -> None:
    apply(registry, FRAUD)
    tamper(path, kind, name, json.dumps(document), rehash=True)
    expected = rf"^The registry's {kind} '{name}' \(version 1\) cannot be read: .*({reason})"
    with pytest.raises(RegistryError, match=expected):
        registry.snapshot("shop")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00"])
def test_a_document_that_is_no_json_is_named(path: Path, registry: SqlRegistry, text: str) -> None:
    apply(registry, FRAUD)
    tamper(path, "source", "sales", text, rehash=False)
    with pytest.raises(RegistryError, match=r"source 'sales' \(version 1\) is damaged"):
        registry.snapshot("shop")


def test_a_kind_of_object_from_the_future_is_named(path: Path, registry: SqlRegistry) -> None:
    apply(registry, USER)
    with raw(path) as connection:
        connection.execute("UPDATE featurestore_objects SET kind = 'hologram'")
    with pytest.raises(RegistryError, match="holds 'hologram' 'user', a kind of object that this"):
        registry.snapshot("shop")


# --- where it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b.db", "50%.db", "q?mode=memory.db", "h#x.db", "é\U0001f4a3"])
def test_a_path_may_hold_any_character(tmp_path: Path, name: str) -> None:
    apply(SqlRegistry(tmp_path / name), USER)
    assert (tmp_path / name).is_file()
    assert SqlRegistry(str(tmp_path / name)).snapshot("shop").revision == 1


def test_a_url_names_the_same_file_as_its_path(path: Path) -> None:
    apply(SqlRegistry(f"sqlite:///{path}"), USER)
    assert SqlRegistry(path).snapshot("shop").entity("user") == USER


@pytest.mark.parametrize(
    "url", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "a\0b", "://", "redis://x/0"]
)
def test_what_names_no_file_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^registry: "):
        SqlRegistry(url)


def test_an_unsupported_database_is_named_without_its_password() -> None:
    with pytest.raises(ConfigError, match="a registry in 'postgresql' is not supported") as caught:
        SqlRegistry("postgresql+psycopg://me:secret@db/features")
    assert "secret" not in str(caught.value)


def test_importing_definitions_and_plans_does_not_load_sqlalchemy() -> None:
    code = "import sys, featurestore.registry; print('sqlalchemy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


# --- leases ----------------------------------------------------------------------------------


def at(path: Path, seconds: float) -> SqlRegistry:
    """Open the registry some seconds after NOW."""
    return SqlRegistry(path, wall_clock=Clock(NOW + timedelta(seconds=seconds)))


@pytest.fixture
def leased(path: Path) -> Path:
    """A registry in which run-1 took the lease of the view spend for 30 seconds at NOW."""
    apply(SqlRegistry(path), SPEND)
    lease = at(path, 0).acquire_lease("shop", "spend", "run-1", seconds=30)
    assert lease.expires_at == NOW + timedelta(seconds=30)
    return path


def test_a_view_is_leased_to_one_run_at_a_time(leased: Path) -> None:
    with pytest.raises(LeaseHeldError) as caught:
        at(leased, 10).acquire_lease("shop", "spend", "run-2", seconds=30)
    assert (caught.value.view, caught.value.holder) == ("spend", "run-1")
    assert (caught.value.expires_in_s, caught.value.held_for_s) == (20, 10)
    assert caught.value.message.endswith("by run-1, for 10 s by now.")
    assert caught.value.retryable
    at(leased, 10).acquire_lease("shop", "other", "run-2", seconds=30)


def test_not_even_its_holder_can_take_a_lease_twice(leased: Path) -> None:
    with pytest.raises(LeaseHeldError):
        at(leased, 10).acquire_lease("shop", "spend", "run-1", seconds=30)


def test_a_lease_that_was_given_back_is_free(leased: Path) -> None:
    at(leased, 1).release_lease("shop", "spend", "run-1")
    assert at(leased, 2).acquire_lease("shop", "spend", "run-2", seconds=30).holder == "run-2"


def test_a_dead_runs_lease_is_free_when_it_expires(leased: Path) -> None:
    with pytest.raises(LeaseHeldError):
        at(leased, 29.999).acquire_lease("shop", "spend", "run-2", seconds=30)
    at(leased, 30).acquire_lease("shop", "spend", "run-2", seconds=30)


def test_a_renewed_lease_lasts_longer(leased: Path) -> None:
    renewed = at(leased, 20).renew_lease("shop", "spend", "run-1", seconds=30)
    assert renewed.expires_at == NOW + timedelta(seconds=50)
    with pytest.raises(LeaseHeldError):
        at(leased, 49).acquire_lease("shop", "spend", "run-2", seconds=30)


def test_an_expired_lease_that_nobody_took_can_be_renewed(leased: Path) -> None:
    at(leased, 100).renew_lease("shop", "spend", "run-1", seconds=30)
    with pytest.raises(LeaseHeldError):
        at(leased, 129).acquire_lease("shop", "spend", "run-2", seconds=30)


def test_a_run_whose_lease_was_taken_learns_it_and_cannot_give_it_back(leased: Path) -> None:
    at(leased, 31).acquire_lease("shop", "spend", "run-2", seconds=30)
    with pytest.raises(LeaseHeldError, match="by run-2"):
        at(leased, 32).renew_lease("shop", "spend", "run-1", seconds=30)
    at(leased, 32).release_lease("shop", "spend", "run-1")
    with pytest.raises(LeaseHeldError, match="by run-2"):
        at(leased, 33).acquire_lease("shop", "spend", "run-3", seconds=30)


def test_a_lease_that_was_given_back_cannot_be_renewed(leased: Path) -> None:
    at(leased, 1).release_lease("shop", "spend", "run-1")
    with pytest.raises(LeaseHeldError, match="by another run, or was until now"):
        at(leased, 2).renew_lease("shop", "spend", "run-1", seconds=30)


def test_of_many_that_ask_at_once_one_gets_the_lease(path: Path, registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    barrier, outcomes = threading.Barrier(8), []

    def ask(holder: str) -> None:
        barrier.wait()
        try:
            SqlRegistry(path).acquire_lease("shop", "spend", holder, seconds=60)
            outcomes.append(holder)
        except LeaseHeldError:
            outcomes.append("refused")

    threads = [threading.Thread(target=ask, args=(f"run-{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert outcomes.count("refused") == 7


def test_a_lease_or_run_of_an_unknown_project_is_refused(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    with pytest.raises(NotFoundError, match="no project 'shopp'") as caught:
        registry.acquire_lease("shopp", "spend", "run-1", seconds=30)
    assert caught.value.suggestions == ("shop",)
    with pytest.raises(NotFoundError, match="no project 'shopp'"):
        registry.record_run(run(10, project="shopp"))


# --- runs and watermarks ---------------------------------------------------------------------


def run(end_us: int, **changes: object) -> RunRecord:
    values: dict[str, object] = {
        "project": "shop",
        "view": "spend",
        "generation": 1,
        "kind": "full",
        "start_us": None,
        "end_us": end_us,
        "status": "succeeded",
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=2),
        "rows_read": 2**40,
        "rows_written": 7,
        "rows_kept": 2,
        "rows_skipped": 1,
        "seconds": 2.5,
        "source_files": (("data/a.parquet", 10, 2**62), ("data/\udcff.parquet", 11, 1)),
    }
    return RunRecord(**(values | changes))  # type: ignore[arg-type]


def mark(end_us: int, event_us: int | None = None, created_us: int | None = None) -> Watermark:
    return Watermark(end_us=end_us, event_us=event_us, created_us=created_us)


def test_a_run_and_its_watermark_are_kept(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    moved = registry.record_run(run(100), watermark=mark(100, 90, 95)).watermark
    assert moved == registry.watermark("shop", "spend", 1)
    assert moved == Watermark(
        end_us=100,
        event_us=90,
        created_us=95,
        source_files=(
            ReadFile("data/a.parquet", 10, 2**62),
            ReadFile("data/\udcff.parquet", 11, 1),
        ),
        updated_at=NOW + timedelta(seconds=2),
    )
    (kept,) = registry.runs("shop")
    assert kept == run(100, source_files=(), file_count=2)
    assert registry.watermark("shop", "spend", 2) is None
    assert registry.watermark("other", "spend", 1) is None


def test_runs_are_listed_newest_first_by_view_and_up_to_a_limit(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    for end, view in [(1, "spend"), (2, "other"), (3, "spend")]:
        registry.record_run(run(end, view=view))
    assert [r.end_us for r in registry.runs("shop")] == [3, 2, 1]
    assert [r.end_us for r in registry.runs("shop", "spend")] == [3, 1]
    assert [r.end_us for r in registry.runs("shop", limit=1)] == [3]


def test_of_each_view_the_newest_runs_are_kept(
    registry: SqlRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_runs, "KEPT_RUNS", kept_runs := 20)
    apply(registry, SPEND)
    registry.record_run(run(1, view="other"))
    with registry._database.write() as connection:
        for end in range(kept_runs + 3):
            write_run(connection, run(end), None)
    kept = [r.end_us for r in registry.runs("shop", "spend", limit=2 * kept_runs)]
    assert kept == list(range(kept_runs + 2, 2, -1))
    assert len(registry.runs("shop", "other")) == 1


def test_a_failed_run_is_recorded_and_moves_nothing(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    registry.record_run(run(10), watermark=mark(10, 9))
    failed = run(20, status="failed", error="disk \0 \udcff" + "x" * 10_000)
    moved = registry.record_run(failed, watermark=mark(20, 19)).watermark
    assert moved is not None
    assert moved.end_us == 10
    error = registry.runs("shop")[0].error
    assert error is not None
    assert error.startswith("disk \\x00 \\udcffxxx")
    assert len(error) == 4_096


def test_a_run_without_a_watermark_moves_nothing(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    assert registry.record_run(run(20, kind="window", start_us=10)).watermark is None
    assert registry.watermark("shop", "spend", 1) is None


def test_an_incremental_run_does_not_go_on_from_what_was_forgotten(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    registry.record_run(run(10), watermark=mark(10, 9, 8))
    registry.forget_watermarks("shop", [("spend", 2), ("other", 1)])
    assert registry.watermark("shop", "spend", 1) is not None
    registry.forget_watermarks("shop", [("spend", 1)])
    late = registry.record_run(run(20, kind="incremental"), watermark=mark(20, 19, 18))
    assert (late.watermark, registry.watermark("shop", "spend", 1)) == (None, None)
    assert registry.record_run(run(20), watermark=mark(20, 19, 18)).watermark is not None


@pytest.mark.parametrize(
    ("kind", "before", "reached", "after"),
    [
        ("full", (10, 5, 6), (20, 15, 16), (20, 15, 16)),
        ("full", (10, 5, 6), (10, 4, None), (10, 4, None)),
        ("full", (10, 5, 6), (9, 9, 99), (10, 5, 6)),
        ("incremental", (10, 5, 6), (20, 15, 16), (20, 15, 16)),
        ("incremental", (10, 5, 6), (20, None, None), (20, 5, 6)),
        ("incremental", (10, 5, 6), (20, 4, 7), (20, 5, 7)),
        ("incremental", (10, None, None), (20, 4, None), (20, 4, None)),
        ("incremental", (10, 5, 6), (9, 9, 99), (10, 5, 6)),
    ],
)
def test_a_watermark_moves_only_over_what_was_read(
    kind: str,
    before: tuple[int, int | None, int | None],
    reached: tuple[int, int | None, int | None],
    after: tuple[int, int | None, int | None],
) -> None:
    moved = advanced(mark(*before), run(reached[0], kind=kind), mark(*reached))
    assert moved is not None
    assert (moved.end_us, moved.event_us, moved.created_us) == after


def test_a_run_that_lost_its_lease_records_nothing(leased: Path) -> None:
    early, late = at(leased, 1), at(leased, 40)
    early.record_run(run(10), watermark=mark(10), holder="run-1")
    late.acquire_lease("shop", "spend", "run-2", seconds=30)
    with pytest.raises(LeaseHeldError, match="by run-2"):
        late.record_run(run(20), watermark=mark(20), holder="run-1")
    assert [r.end_us for r in late.runs("shop")] == [10]
    moved = late.watermark("shop", "spend", 1)
    assert moved is not None
    assert moved.end_us == 10


def test_run_and_watermark_are_written_together_or_not_at_all(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    with pytest.raises(RegistryError):
        registry.record_run(run(20), watermark=mark(2**70))
    assert registry.runs("shop") == []
    assert registry.watermark("shop", "spend", 1) is None


def test_each_thread_may_use_the_same_registry(registry: SqlRegistry) -> None:
    apply(registry, SPEND)
    threads = [
        threading.Thread(target=registry.record_run, args=(run(i),), kwargs={"watermark": mark(i)})
        for i in range(1, 9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    moved = registry.watermark("shop", "spend", 1)
    assert moved is not None
    assert moved.end_us == 8
    assert len(registry.runs("shop")) == 8


def test_a_fork_may_go_on_with_the_registry_of_its_parent(path: Path) -> None:
    code = """
import os, sys
from featurestore.registry.sql import SqlRegistry
registry = SqlRegistry(sys.argv[1])
registry.snapshot("shop")
child = os.fork()
os.write(1, f"{registry.snapshot('shop').revision}\\n".encode())
os._exit(0) if child == 0 else os.waitpid(child, 0)
"""
    apply(SqlRegistry(path), USER)
    assert run_python(code, path).stdout == "1\n1\n"


def test_nothing_stays_beside_the_file_when_nobody_uses_it(
    path: Path, registry: SqlRegistry
) -> None:
    apply(registry, USER)
    registry.snapshot("shop")
    assert list(path.parent.iterdir()) == [path]

"""A registry's stamp: another one after every commit, the same after everything else."""

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from featurestore.definitions import Entity
from featurestore.registry import make_plan
from featurestore.registry.sql import SqlRegistry
from featurestore.types import Int64
from tests.forks import run_python, running

NOW = datetime(2026, 1, 5, 10, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def registry(path: Path) -> Iterator[SqlRegistry]:
    with closing(SqlRegistry(path)) as opened:
        yield opened


def apply(registry: SqlRegistry, name: str) -> None:
    entity = Entity(name=name, join_keys={"k": Int64})
    plan = make_plan([entity], registry.snapshot("shop"), full=False)
    registry.commit(plan, actor="ann", now=NOW)


APPLY = (
    "import sys\n"
    "from featurestore.registry.sql import SqlRegistry\n"
    "from tests.unit.test_registry_stamp import apply\n"
    "for name in sys.argv[2:]:\n"
    "    apply(SqlRegistry(sys.argv[1]), name)\n"
)


def test_a_registry_that_is_not_there_has_a_stamp_and_is_not_made(
    path: Path, registry: SqlRegistry
) -> None:
    assert registry.stamp() == registry.stamp()
    assert registry.version("shop") == ((), 0)
    assert not path.exists()


def test_it_changes_with_a_commit_of_this_process_and_stays_without(
    path: Path, registry: SqlRegistry
) -> None:
    stamps = [registry.stamp()]
    for name in ("a", "b"):
        apply(registry, name)
        stamps.append(registry.stamp())
        registry.snapshot("shop")
        with closing(SqlRegistry(path)) as other:
            other.history("shop")
        assert registry.stamp() == stamps[-1]
    assert None not in stamps
    assert len(set(stamps)) == 3


def test_it_changes_with_a_commit_of_another_process(path: Path, registry: SqlRegistry) -> None:
    apply(registry, "a")
    before = registry.stamp()
    assert run_python(APPLY, path, "b").returncode == 0
    assert registry.stamp() != before


def test_equal_stamps_mean_equal_content_while_another_process_commits(
    path: Path, registry: SqlRegistry
) -> None:
    apply(registry, "a")
    writer = running(APPLY, path, *(f"e{n}" for n in range(40)))
    seen: dict[object, object] = {}
    try:
        while writer.is_alive():
            stamp = registry.stamp()
            version = registry.version("shop")
            # What is read after the stamp may be newer; then the next stamp is another one.
            if registry.stamp() == stamp:
                assert seen.setdefault(stamp, version) == version
    finally:
        writer.join()
    assert len(registry.version("shop")[0]) == 41
    assert len(seen) > 1


def test_two_registries_never_share_a_stamp(path: Path, registry: SqlRegistry) -> None:
    apply(registry, "a")
    with closing(SqlRegistry(path)) as other:
        assert registry.stamp() != other.stamp()
        assert registry.version("shop") == other.version("shop")


def test_a_registry_made_anew_has_another_stamp_and_version_at_the_same_revision(
    path: Path, registry: SqlRegistry, tmp_path: Path
) -> None:
    apply(registry, "a")
    before = registry.stamp(), registry.version("shop")
    with closing(SqlRegistry(tmp_path / "other.db")) as other:
        apply(other, "b")
    for file in tmp_path.glob("registry.db*"):
        file.unlink()
    shutil.move(tmp_path / "other.db", path)
    assert registry.snapshot("shop").revision == 1
    after = registry.stamp(), registry.version("shop")
    assert after[0] != before[0]
    assert after[1] != before[1]
    path.unlink()
    assert registry.stamp() not in (before[0], after[0])


def test_a_closed_registry_can_be_asked_again(registry: SqlRegistry) -> None:
    apply(registry, "a")
    first = registry.stamp()
    registry.close()
    registry.close()
    assert registry.stamp() not in (None, first)


def test_a_forked_process_asks_by_a_connection_of_its_own(registry: SqlRegistry) -> None:
    apply(registry, "a")
    before = registry.stamp()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = registry.stamp()
            apply(registry, "b")
            is_fine = mine != before and registry.stamp() != mine
            registry.close()
            code = 0 if is_fine else 1
        finally:
            os._exit(code)  # whatever happened: an error would go on as a second pytest
    assert os.waitpid(child, 0)[1] == 0
    after = registry.stamp()
    assert after != before
    apply(registry, "c")
    assert registry.stamp() != after


def test_threads_may_ask_at_once(registry: SqlRegistry) -> None:
    apply(registry, "a")
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.extend(registry.stamp() for _ in range(200)))
        for _ in range(8)
    ]
    registry.stamp()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 1_600
    assert len(set(found)) == 1


def test_asking_stands_in_no_writers_way(path: Path, registry: SqlRegistry) -> None:
    """Also of the first commit, which needs the file for itself to switch to a log."""
    path.touch()
    assert registry.stamp() is not None
    apply(registry, "a")
    assert registry.stamp() is not None
    with closing(SqlRegistry(path, lock_timeout_s=0.01)) as other:
        apply(other, "b")


ASK_AS_NOBODY = (
    "import os, sys\n"
    "from featurestore.registry.sql import SqlRegistry\n"
    "registry = SqlRegistry(sys.argv[1])\n"
    "registry.version('shop'), registry.stamp()  # loads all code: nobody may not read it\n"
    "registry.close()\n"
    "if os.geteuid() == 0:\n"
    "    os.setgroups([])\n"
    "    os.setresgid(65534, 65534, 65534)\n"
    "    os.setresuid(65534, 65534, 65534)\n"
    "print(registry.stamp(), len(registry.version('shop')[0]))\n"
)


def test_a_registry_in_a_read_only_folder_has_none() -> None:
    with tempfile.TemporaryDirectory() as folder:  # other users may reach it, unlike tmp_path
        path = Path(folder) / "registry.db"
        with closing(SqlRegistry(path)) as registry:
            apply(registry, "a")
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        ran = run_python(ASK_AS_NOBODY, path)
        Path(folder).chmod(0o755)
    assert (ran.stdout, ran.stderr) == ("None 1\n", "")


def test_a_file_that_cannot_be_read_has_none(path: Path, registry: SqlRegistry) -> None:
    path.mkdir()
    assert registry.stamp() is None

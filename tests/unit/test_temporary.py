"""Temporary files go away, also when the process that made them was killed, and no others do."""

import fcntl
import os
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.temporary import remove_left_over, spill_folder, unfinished_file
from tests.forks import running
from tests.unit.projects import FILE, project, rows, spine, view, write

SPILL = "featurestore-spill-0123456789abcdef"
UNFINISHED = ".featurestore-unfinished-0123456789abcdef"
WAIT_S = 120


@contextmanager
def killed_when(ready: Callable[[], bool], code: str) -> Iterator[None]:
    """Run Python in a process of its own, and kill it as soon as `ready` says so."""
    process = running(textwrap.dedent(code))
    until = time.monotonic() + WAIT_S
    while not ready():
        assert process.is_alive(), "the process ended before it was killed"
        assert time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    yield


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_folder_is_there_while_it_is_needed(tmp_path: Path) -> None:
    with spill_folder(tmp_path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner/spilled.tmp").write_bytes(b"x")
        remove_left_over(tmp_path)
        assert (folder / "inner/spilled.tmp").exists()
    assert left(tmp_path) == []


def test_a_file_is_there_until_it_is_moved(tmp_path: Path) -> None:
    with unfinished_file(tmp_path) as file:
        remove_left_over(tmp_path)
        file.write_bytes(b"whole")
        file.replace(tmp_path / "result")
    assert left(tmp_path) == ["result"]
    with pytest.raises(KeyError), unfinished_file(tmp_path) as file:
        raise KeyError
    assert left(tmp_path) == ["result"]


def test_what_a_killed_process_spilled_is_removed_by_the_next(tmp_path: Path) -> None:
    """DuckDB sorts more than its memory holds; kill -9 reaches it while it spills."""
    temp = tmp_path / "temp"

    def spilled() -> bool:
        return any(path.stat().st_size for path in temp.glob("featurestore-spill-*/*.tmp"))

    limits = f'threads=1, memory_limit="60MB", temp_directory=Path({str(temp)!r})'
    sorts = f"""
        from pathlib import Path
        from featurestore.offline.duckdb import DuckDBEngine
        engine = DuckDBEngine({limits})
        engine.query("FROM range(50000000) ORDER BY hash(range)", {{}})
    """
    with killed_when(spilled, sorts):
        assert len(left(temp)) > 2
        DuckDBEngine(temp_directory=temp).query("SELECT 1", {})
        assert left(temp) == []


def test_what_a_killed_process_had_written_of_a_result_is_removed_by_the_next(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    writes = f"""
        import time
        from pathlib import Path
        from featurestore.offline.atomic import atomic_file
        with atomic_file(Path({str(out)!r}) / "train.parquet") as file:
            file.write_bytes(b"half")
            time.sleep(600)
    """

    def half_written() -> bool:
        return any(path.stat().st_size for path in out.iterdir())

    write(tmp_path / FILE, rows(3))
    with killed_when(half_written, writes), project(tmp_path) as store:
        assert len(left(out)) == 1
        job = store.get_historical_features(spine(1, 2), [view()])
        job.write_parquet(out / "other.parquet")
    assert left(out) == ["other.parquet"]


def test_what_a_living_process_holds_is_left_alone(tmp_path: Path) -> None:
    folder = _spill(tmp_path)
    with (folder / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_left_over(tmp_path)
        assert folder.exists()
    remove_left_over(tmp_path)
    assert left(tmp_path) == []


def _spill(parent: Path, *, mode: int = 0o700, lock: bool = True) -> Path:
    folder = parent / SPILL
    folder.mkdir(mode=mode)
    (folder / "data.tmp").write_bytes(b"x")
    if lock:
        (folder / "lock").touch(0o600)
    return folder


def test_a_folder_that_was_not_locked_yet_is_removed_only_if_it_is_empty(tmp_path: Path) -> None:
    folder = _spill(tmp_path, lock=False)
    remove_left_over(tmp_path)
    assert left(folder) == ["data.tmp"]
    (folder / "data.tmp").unlink()
    remove_left_over(tmp_path)
    assert left(tmp_path) == []


def test_folders_that_others_may_write_to_are_left_alone(tmp_path: Path) -> None:
    folder = _spill(tmp_path)
    folder.chmod(0o777)
    remove_left_over(tmp_path)
    assert left(folder) == ["data.tmp", "lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_files_of_other_users_are_left_alone(tmp_path: Path) -> None:
    folder, file = _spill(tmp_path), tmp_path / UNFINISHED
    file.touch()
    os.chown(folder, 12_345, 12_345)
    os.chown(file, 12_345, 12_345)
    remove_left_over(tmp_path)
    assert len(left(tmp_path)) == 4


def test_links_are_never_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "lock").touch(0o600)
    (precious / "data").write_bytes(b"x")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / SPILL).symlink_to(precious)
    (shared / UNFINISHED).symlink_to(precious / "data")
    remove_left_over(shared)
    assert left(precious) == ["data", "lock"]
    (shared / SPILL).unlink()
    folder = _spill(shared, lock=False)
    (folder / "lock").symlink_to(precious / "lock")
    (folder / "inner").symlink_to(precious)
    remove_left_over(shared)
    assert left(folder) == ["data.tmp", "inner", "lock"]
    (folder / "lock").unlink()
    (folder / "lock").touch(0o600)
    remove_left_over(shared)
    assert not folder.exists()
    assert left(precious) == ["data", "lock"]


@pytest.mark.parametrize(
    "name",
    [
        "featurestore-spill-",
        f"{SPILL}0",
        UNFINISHED.replace("featurestore-", ""),
        f"{UNFINISHED}.x",
    ],
)
def test_other_names_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    remove_left_over(tmp_path)
    assert left(tmp_path) == [name]

"""What only an embedded store can do wrong: folders, forks, full disks, maps that are too small."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import lmdb
import pytest

from featurestore.errors import StoreError
from featurestore.online import lmdb_environment
from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.store import TableId
from featurestore.testing.online_pairs import KEY, read, row, write

TABLE = TableId(project="shop", view="users", generation=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "online"


@pytest.fixture
def store(folder: Path) -> Iterator[LmdbOnlineStore]:
    with closing(LmdbOnlineStore(folder)) as opened:
        yield opened


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of a few lines in a process of its own."""
    prelude = (
        "import sys, os, resource\n"
        "from pathlib import Path\n"
        "from featurestore.online.lmdb import LmdbOnlineStore\n"
        "from featurestore.testing.online_pairs import KEY, read, row, write\n"
        "from featurestore.online.store import TableId\n"
        "TABLE = TableId(project='shop', view='users', generation=1)\n"
        "store = LmdbOnlineStore(Path(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_nothing_is_made_before_the_first_use(folder: Path) -> None:
    LmdbOnlineStore(folder).close()
    assert not folder.exists()


def test_rows_outlive_the_store(folder: Path) -> None:
    for number in (1, 2):
        with closing(LmdbOnlineStore(folder)) as store:
            assert read(store, TABLE, KEY) == [None if number == 1 else row(1)]
            write(store, TABLE, [(KEY, row(number))])
    with closing(LmdbOnlineStore(folder)) as store:
        assert store.tables("shop") == [TABLE]
        assert store.tables("sho") == []


def test_two_handles_of_one_process_share_the_folder(folder: Path) -> None:
    first, second = LmdbOnlineStore(folder), LmdbOnlineStore(folder / ".." / folder.name)
    write(first, TABLE, [(KEY, row(1))])
    assert read(second, TABLE, KEY) == [row(1)]
    first.close()
    assert read(second, TABLE, KEY) == [row(1)]
    second.close()
    with closing(LmdbOnlineStore(folder)) as third:
        assert read(third, TABLE, KEY) == [row(1)]


def test_another_process_reads_while_this_one_has_the_folder_open(
    store: LmdbOnlineStore, folder: Path
) -> None:
    write(store, TABLE, [(KEY, row(1))])
    ran = run(
        "print(read(store, TABLE, KEY) == [row(1)], write(store, TABLE, [(KEY, row(2))]))", folder
    )
    assert (ran.stdout, ran.stderr) == ("True WriteCounts(written=1, kept=0)\n", "")
    assert read(store, TABLE, KEY) == [row(2)]


def test_a_reader_does_not_wait_for_a_writer(store: LmdbOnlineStore, folder: Path) -> None:
    write(store, TABLE, [(KEY, row(1))])
    environment = lmdb_environment.acquire(folder)
    other = TableId(project="shop", view="planes", generation=1)
    with environment.transaction(write=True) as transaction:
        transaction.put(b"rx", b"y")
        found: list[object] = []
        reader = threading.Thread(
            target=lambda: found.extend([read(store, TABLE, KEY), read(store, other, KEY)])
        )
        reader.start()
        reader.join(timeout=30)
        assert found == [[row(1)], [None]]
    lmdb_environment.release(environment)


def test_a_forked_process_opens_the_folder_anew(folder: Path) -> None:
    ran = run(
        "write(store, TABLE, [(KEY, row(1))])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    fine = read(store, TABLE, KEY) == [row(1)]\n"
        "    write(store, TABLE, [(KEY, row(2)), (b'child', row(2))])\n"
        "    store.close()\n"
        "    os._exit(0 if fine else 1)\n"
        "_, status = os.waitpid(child, 0)\n"
        "print(status, read(store, TABLE, KEY, b'child') == [row(2), row(2)])\n"
        "write(store, TABLE, [(KEY, row(3))])\n"
        "print(read(store, TABLE, KEY) == [row(3)])\n",
        folder,
    )
    assert (ran.stdout, ran.stderr) == ("0 True\nTrue\n", "")


def test_a_killed_writer_leaves_whole_batches(folder: Path) -> None:
    ran = run(
        "from signal import SIGKILL\n"
        "write(store, TABLE, [(KEY, row(1))])\n"
        "with store._environment().transaction(write=True) as transaction:\n"
        "    transaction.put(b'rgarbage', b'half a batch')\n"
        "    os.kill(os.getpid(), SIGKILL)\n",
        folder,
    )
    assert ran.returncode == -9
    with closing(LmdbOnlineStore(folder)) as store:
        assert read(store, TABLE, KEY) == [row(1)]
        assert write(store, TABLE, [(KEY, row(2))]).written == 1
        readers = next(f for f in store.check() if f.subject == "readers")
        assert readers.status == "ok"


def test_a_folder_that_was_deleted_is_made_anew(store: LmdbOnlineStore, folder: Path) -> None:
    write(store, TABLE, [(KEY, row(1))])
    shutil.rmtree(folder)
    assert read(store, TABLE, KEY) == [None]
    assert write(store, TABLE, [(KEY, row(0))]).written == 1
    assert store.tables("shop") == [TABLE]
    ran = run("print(read(store, TABLE, KEY) == [row(0)])", folder)
    assert ran.stdout == "True\n"


def test_a_map_that_another_process_enlarged_is_taken_over(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_environment, "MAP_BYTES", lmdb_environment.MIN_MAP_BYTES)
    with closing(LmdbOnlineStore(folder)) as store:
        write(store, TABLE, [(KEY, row(1))])
        rows = 3 * lmdb_environment.MIN_MAP_BYTES // 10_000
        ran = run(
            "rows = [(b'%d' % i, row(1, None, bytes(10_000))) for i in range(int(sys.argv[2]))]\n"
            "write(store, TABLE, rows)",
            folder,
            rows,
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert read(store, TABLE, KEY, b"5") == [row(1), row(1, None, bytes(10_000))]
        assert write(store, TABLE, [(KEY, row(2))]).written == 1
        assert store.count(TABLE) == rows + 1


def test_little_address_space_means_a_smaller_map(folder: Path) -> None:
    ran = run(
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        "print(write(store, TABLE, [(KEY, row(1))]).written, read(store, TABLE, KEY) == [row(1)])\n"
        "print(store._environment().facts()['map_bytes'] < 6 << 30)",
        folder,
    )
    assert (ran.stdout, ran.stderr) == ("1 True\nTrue\n", "")


def test_a_full_map_is_an_error_that_says_so_and_keeps_what_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_environment, "MAP_BYTES", 1 << 20)
    with closing(LmdbOnlineStore(folder)) as store:
        write(store, TABLE, [(KEY, row(1))])
        with pytest.raises(StoreError, match="filled the address space") as caught:
            write(store, TABLE, [(b"%d" % i, row(1, None, bytes(10_000))) for i in range(200)])
        assert caught.value.hint
        assert store.count(TABLE) == 1
        assert write(store, TABLE, [(KEY, row(2))]).written == 1


def test_a_full_disk_is_an_error_that_says_so_and_keeps_what_was_there(folder: Path) -> None:
    ran = run(
        "from featurestore.errors import StoreError\n"
        "write(store, TABLE, [(KEY, row(1))])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        "    write(store, TABLE, [(b'%d' % i, row(1, None, bytes(10_000))) for i in range(500)])\n"
        "except StoreError as error:\n"
        "    print(error.message, '|', error.hint)\n"
        "print(read(store, TABLE, KEY) == [row(1)], store.count(TABLE))\n"
        "print(write(store, TABLE, [(KEY, row(2))]).written)\n",
        folder,
    )
    assert ran.stderr == ""
    message, then, after = ran.stdout.splitlines()
    assert "the disk is full" in message
    assert "free space" in message
    assert (then, after) == ("True 1", "1")


def test_a_file_in_the_way_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with closing(LmdbOnlineStore(path)) as store, pytest.raises(StoreError, match="in the way"):
            read(store, TABLE, KEY)


def test_a_file_that_is_no_database_is_an_error(folder: Path) -> None:
    folder.mkdir()
    (folder / "data.mdb").write_bytes(b"not a database" * 1_000)
    with closing(LmdbOnlineStore(folder)) as store:
        with pytest.raises(StoreError, match="damaged") as caught:
            read(store, TABLE, KEY)
        assert "materialize again" in str(caught.value.hint)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    denied = pytest.raises(StoreError, match="no permission")
    with closing(LmdbOnlineStore(tmp_path / "x")) as store, denied:
        read(store, TABLE, KEY)
    tmp_path.chmod(0o700)


def test_a_drop_of_many_rows_goes_in_several_transactions(store: LmdbOnlineStore) -> None:
    rows = [(b"\x02%06d" % i, row(1)) for i in range(45_000)]
    write(store, TABLE, rows)
    neighbours = [
        TableId(project="shop", view=view, generation=1) for view in ("user", "users_", "v")
    ]
    for neighbour in neighbours:
        write(store, neighbour, [(KEY, row(1))])
    assert store.drop(TABLE) == 45_000
    assert [store.count(n) for n in neighbours] == [1, 1, 1]


def test_the_map_costs_no_disk(store: LmdbOnlineStore, folder: Path) -> None:
    write(store, TABLE, [(KEY, row(1))])
    assert (folder / "data.mdb").stat().st_size < 1 << 20
    assert store._environment().facts()["map_bytes"] == lmdb_environment.MAP_BYTES


def test_a_write_waits_for_one_of_another_thread(store: LmdbOnlineStore) -> None:
    write(store, TABLE, [(KEY, row(0))])
    threads = [
        threading.Thread(target=lambda n=n: write(store, TABLE, [(KEY, row(n))])) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert read(store, TABLE, KEY) == [row(7)]


def test_the_bundled_lmdb_is_of_the_line_that_was_tested() -> None:
    assert lmdb.version()[:2] == (0, 9)

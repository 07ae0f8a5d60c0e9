"""LMDB's folder with several processes: some read, one writes, and any of them may be killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, cast

import pytest

from featurestore.errors import StoreUnavailableError
from featurestore.online import lmdb_environment
from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.store import TableId
from featurestore.testing.online_pairs import KEY, read, row, write

TABLE = TableId(project="shop", view="users", generation=1)
OTHER = b"another key"
PRELUDE = """
import sys, os, signal, threading
from pathlib import Path
from featurestore.online import lmdb_environment
from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.store import TableId
from featurestore.testing.online_pairs import KEY, read, row, write
TABLE = TableId(project='shop', view='users', generation=1)
OTHER = b'another key'
store = LmdbOnlineStore(Path(sys.argv[1]))

def say(text):
    print(text, flush=True)

def wait():
    return sys.stdin.readline()
"""
WATCH = """
seen = {0}
say('ready')
stops = threading.Event()
threading.Thread(target=lambda: (wait(), stops.set()), daemon=True).start()
while not stops.is_set():
    first, second = read(store, TABLE, KEY, OTHER)
    assert first == second, 'half a batch'
    number = int.from_bytes(first[3:11], 'big')
    assert number >= max(seen), 'time went back'
    seen.add(number)
say(len(seen) - 1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "online"


@pytest.fixture
def store(folder: Path) -> Iterator[LmdbOnlineStore]:
    with closing(LmdbOnlineStore(folder)) as opened:
        yield opened


@contextmanager
def running(code: str, *arguments: object) -> "Iterator[subprocess.Popen[str]]":
    """Run a program that says when it is ready, until the block ends."""
    command = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert said(process) == "ready"
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            cast("IO[str]", pipe).close()


def said(process: "subprocess.Popen[str]") -> str:
    return cast("IO[str]", process.stdout).readline().strip()


def tell(process: "subprocess.Popen[str]") -> None:
    stdin = cast("IO[str]", process.stdin)
    stdin.write("go\n")
    stdin.flush()


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL


def facts(store: LmdbOnlineStore) -> dict[str, int]:
    return store._environment().facts()


# --- reading while somebody writes -----------------------------------------------------------


def test_processes_that_read_while_one_writes_see_whole_batches_in_order(
    store: LmdbOnlineStore, folder: Path
) -> None:
    write(store, TABLE, [(KEY, row(0)), (OTHER, row(0))])
    with running(WATCH, folder) as first, running(WATCH, folder) as second:
        for number in range(1, 300):
            write(store, TABLE, [(KEY, row(number)), (OTHER, row(number))])
        for process in (first, second):
            tell(process)
            assert int(said(process)) > 1
            assert process.wait(60) == 0


def test_readers_follow_while_the_map_grows_under_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that reserved more than the readers did writes beyond what they have mapped."""
    monkeypatch.setattr(lmdb_environment, "MAP_BYTES", lmdb_environment.MIN_MAP_BYTES)
    grow = (
        "say('ready')\n"
        "big = row(1, None, bytes(lmdb_environment.MIN_MAP_BYTES // 160))\n"
        "for number in range(1, 13):\n"
        "    filling = [(b'%d-%d' % (number, i), big) for i in range(40)]\n"
        "    write(store, TABLE, [*filling, (KEY, row(number)), (OTHER, row(number))])\n"
        "say('done')\n"
    )
    failures: list[BaseException] = []
    numbers: set[int] = set()
    is_over = threading.Event()

    with closing(LmdbOnlineStore(folder)) as store:
        write(store, TABLE, [(KEY, row(0)), (OTHER, row(0))])

        def watch() -> None:
            try:
                while not is_over.is_set():
                    first, second = read(store, TABLE, KEY, OTHER)
                    assert first is not None
                    assert first == second
                    numbers.add(int.from_bytes(first[3:11], "big"))
            except BaseException as error:  # noqa: BLE001 - shown by the assertion below
                failures.append(error)

        threads = [threading.Thread(target=watch) for _ in range(4)]
        for thread in threads:
            thread.start()
        with running(grow, folder) as writer:
            assert said(writer) == "done"
        is_over.set()
        for thread in threads:
            thread.join(60)
        assert failures == []
        assert read(store, TABLE, KEY) == [row(12)]
        assert facts(store)["data_bytes"] > 2 * lmdb_environment.MIN_MAP_BYTES
    assert len(numbers) > 1


# --- somebody is killed ----------------------------------------------------------------------

HALF_A_BATCH = """
with store._environment().transaction(write=True) as transaction:
    for number in range(5_000):
        transaction.put(b'rgarbage%d' % number, b'half a batch' * 50)
    say('ready')
    wait()
"""
"""A writer in the middle of a transaction, with pages enough that some lie in the file already."""


def test_readers_and_the_next_writer_go_on_when_a_writer_is_killed(
    store: LmdbOnlineStore, folder: Path
) -> None:
    write(store, TABLE, [(KEY, row(1)), (OTHER, row(1))])
    with running(WATCH, folder) as watcher:
        for number in (2, 3, 4):
            with running(HALF_A_BATCH, folder) as writer:
                assert read(store, TABLE, KEY) == [row(number - 1)]
                kill(writer)
            assert read(store, TABLE, KEY, b"garbage0") == [row(number - 1), None]
            written = write(store, TABLE, [(KEY, row(number)), (OTHER, row(number))])
            assert written.written == 2
        tell(watcher)
        assert int(said(watcher)) > 0
    with closing(LmdbOnlineStore(folder)) as anew:
        assert read(anew, TABLE, KEY, OTHER) == [row(4), row(4)]
        assert anew.count(TABLE) == 2


HOLD_A_READ = """
read(store, TABLE, KEY)
def hold(transaction):
    say('ready')
    wait()
store._environment().read(hold)
"""


def test_what_a_killed_reader_left_behind_is_cleared(store: LmdbOnlineStore, folder: Path) -> None:
    write(store, TABLE, [(KEY, row(1))])
    with running(HOLD_A_READ, folder) as first, running(HOLD_A_READ, folder) as second:
        assert facts(store)["stale_readers"] == 0
        kill(first)
        kill(second)
    readers = next(finding for finding in store.check() if finding.subject == "readers")
    assert "2 left behind were cleared" in readers.detail
    assert facts(store)["stale_readers"] == 0


def test_a_killed_reader_does_not_make_the_file_grow_for_ever(
    store: LmdbOnlineStore, folder: Path
) -> None:
    """LMDB keeps what a reader may still see, until somebody notices that the reader is dead."""

    def rewrite(times: int) -> int:
        for number in range(times):
            rows = [(b"%d" % i, row(number, None, bytes(2_000))) for i in range(500)]
            write(store, TABLE, rows, overwrite=True)
        return facts(store)["data_bytes"]

    settled = rewrite(5)
    with running(HOLD_A_READ, folder) as reader:
        assert rewrite(5) > settled
        kill(reader)
    grown = facts(store)["data_bytes"]
    assert rewrite(20) < grown + settled


def test_slots_of_dead_readers_are_taken_when_there_are_no_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb_environment, "MAX_READERS", 2)
    with closing(LmdbOnlineStore(folder)) as store:
        write(store, TABLE, [(KEY, row(1))])
        with running(HOLD_A_READ, folder) as first, running(HOLD_A_READ, folder) as second:
            with pytest.raises(StoreUnavailableError, match="2 readers") as caught:
                read(store, TABLE, KEY)
            assert caught.value.retryable
            kill(first)
            assert read(store, TABLE, KEY) == [row(1)]
            kill(second)


def test_a_process_that_opens_the_folder_clears_what_dead_ones_left(folder: Path) -> None:
    with closing(LmdbOnlineStore(folder)) as store:
        write(store, TABLE, [(KEY, row(1))])
    with running(HOLD_A_READ, folder) as reader, running(HOLD_A_READ, folder) as other:
        kill(reader)
        with closing(LmdbOnlineStore(folder)) as store:
            assert read(store, TABLE, KEY) == [row(1)]
            assert facts(store)["stale_readers"] == 0
        kill(other)
        with closing(LmdbOnlineStore(folder)) as store:
            assert facts(store)["stale_readers"] == 0


# --- processes that were forked or spawned ---------------------------------------------------


FORK_AMONG_READERS = """
write(store, TABLE, [(KEY, row(1))])
failures = []

def watch():
    try:
        while not stops.is_set():
            assert read(store, TABLE, KEY) == [row(1)]
    except BaseException as error:
        failures.append(error)

def child(number):
    signal.alarm(60)
    if number % 2:
        assert read(store, TABLE, KEY) == [row(1)]
        write(store, TABLE, [(b'child', row(number))])
    if number % 3 == 0:
        store.close()
    sys.exit()  # with all that an interpreter does at its end

stops = threading.Event()
threads = [threading.Thread(target=watch, daemon=True) for _ in range(4)]
for thread in threads:
    thread.start()
say('ready')
for number in range(6):
    process = os.fork()
    if process == 0:
        child(number)
    assert os.waitpid(process, 0)[1] == 0, number
    assert not failures, failures
stops.set()
for thread in threads:
    thread.join(60)
assert read(store, TABLE, KEY, b'child') == [row(1), row(5)]
say('done')
"""


def test_forks_among_threads_that_read_leave_parent_and_children_reading(folder: Path) -> None:
    """A child inherits no open folder: closing one would free the parent's slots of readers."""
    with running(FORK_AMONG_READERS, folder) as parent:
        assert said(parent) == "done"
        assert parent.wait(60) == 0


def test_a_fork_waits_for_a_transaction_of_another_thread(store: LmdbOnlineStore) -> None:
    environment = lmdb_environment.acquire(store._path)
    has_begun, may_end = threading.Event(), threading.Event()
    steps: list[str] = []

    def hold() -> None:
        with environment.transaction(write=True) as transaction:
            has_begun.set()
            may_end.wait(60)
            transaction.put(b"rx", b"y")
            steps.append("committed")

    def fork() -> None:
        child = os.fork()
        if child == 0:
            os._exit(0)
        steps.append("forked")
        os.waitpid(child, 0)

    holder, forker = threading.Thread(target=hold), threading.Thread(target=fork)
    holder.start()
    assert has_begun.wait(60)
    forker.start()
    may_end.set()
    for thread in (holder, forker):
        thread.join(60)
    assert steps == ["committed", "forked"]
    assert read(store, TABLE, KEY) == [None]
    lmdb_environment.release(environment)


def test_a_spawned_process_opens_the_folder_anew(store: LmdbOnlineStore, folder: Path) -> None:
    write(store, TABLE, [(KEY, row(1))])
    spawn = multiprocessing.get_context("spawn")
    child = spawn.Process(target=_write_two, args=(folder,))
    child.start()
    child.join(120)
    assert child.exitcode == 0
    assert read(store, TABLE, KEY) == [row(2)]


def _write_two(folder: Path) -> None:
    with closing(LmdbOnlineStore(folder)) as store:
        assert read(store, TABLE, KEY) == [row(1)]
        write(store, TABLE, [(KEY, row(2))])

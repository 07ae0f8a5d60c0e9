"""One LMDB environment per folder and process: shared, reopened after a fork, resized safely."""

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Condition, Lock
from typing import Final, NoReturn, TypeVar

import lmdb

from featurestore.errors import StoreError, StoreUnavailableError

T = TypeVar("T")
MAP_BYTES: Final = 1 << 40
MIN_MAP_BYTES: Final = 1 << 26
MAX_READERS: Final = 1_024
_SPARE_TRANSACTIONS: Final = 16
_ATTEMPTS: Final = 5
FORK_WAIT_S: Final = 30
"""How long a fork waits for transactions. The child cannot use a folder that stayed open."""
_DATA_FILE: Final = "data.mdb"

_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_ACCESS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Environment:
    """An open LMDB folder; at most one exists per folder and process, and threads share it.

    Transactions pass a gate: the map can only be resized, and the environment only be closed, while
    none is under way. It is closed while the process forks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self.users = 1
        self._lock = Lock()
        self._gate = Condition(self._lock)
        self._under_way = 0
        self._is_shut = False
        with self._errors():
            path.mkdir(parents=True, exist_ok=True)
            self._env = _open(path)
            self._env.reader_check()
            self._data_file = str(path / _DATA_FILE)
            self.identity = _identity(self._data_file)

    @contextlib.contextmanager
    def transaction(self, *, write: bool) -> Iterator["lmdb.Transaction[bytes]"]:
        """Begin a transaction; commit it at the end, or undo it when an error comes out."""
        with self._errors():
            self._enter()
            try:
                with self._begin(write=write) as transaction:
                    yield transaction
            finally:
                self._leave()

    def read(self, work: Callable[["lmdb.Transaction[bytes]"], T]) -> T:
        """Return what `work` returns, given a transaction that sees one instant and is then over.

        The same as `transaction(write=False)`, in half the time: lookups come this way.
        """
        try:
            self._enter()
            try:
                transaction = self._begin(write=False)
                try:
                    return work(transaction)
                finally:
                    transaction.abort()
            finally:
                self._leave()
        except (lmdb.Error, OSError) as error:
            self._raise(error)

    def facts(self) -> dict[str, int]:
        """Return sizes in bytes, and how many readers there are."""
        with self._errors():
            self._enter()
            try:
                stale = self._env.reader_check()
                info = self._env.info()
            finally:
                self._leave()
            data = Path(self._data_file).stat().st_size
        return {
            "data_bytes": data,
            "map_bytes": info["map_size"],
            "readers": info["num_readers"],
            "stale_readers": stale,
        }

    def close(self) -> None:
        """Close it as soon as no transaction is under way."""
        with self._alone():
            self._env.close()

    def is_current(self) -> bool:
        """Whether it belongs to this process and its files are still those at its path."""
        return self.pid == os.getpid() and self.identity == _identity(self._data_file)

    def pause(self) -> bool:
        """Close it for the time of a fork, once no transaction is under way; False if one stays.

        A child that inherits an open environment cannot do anything with it: not use it, not open
        the folder again, and not close it, which would free the parent's slots in the table of
        readers.
        """
        with self._gate:
            while self._is_shut:
                self._gate.wait()
            self._is_shut = True
            if not self._gate.wait_for(lambda: not self._under_way, FORK_WAIT_S):
                self._is_shut = False
                self._gate.notify_all()
                return False
        self._env.close()
        return True

    def resume(self) -> None:
        """Open it again after a fork, and let transactions begin."""
        try:
            self._env = _open(self.path)
            self.identity = _identity(self._data_file)
        except (lmdb.Error, OSError):
            self.identity = None  # whoever wants it opens it anew, and hears what is wrong
        with self._gate:
            self._is_shut = False
            self._gate.notify_all()

    def _begin(self, *, write: bool) -> "lmdb.Transaction[bytes]":
        for _ in range(_ATTEMPTS):
            try:
                return self._env.begin(write=write)
            except lmdb.MapResizedError:
                self._adopt_size()
            except lmdb.ReadersFullError:
                if not self._env.reader_check():
                    break
        raise StoreUnavailableError(
            f"The online store at {self.path} has {MAX_READERS:,} readers and takes no more now.",
            hint="try again; if it stays, fewer processes and threads have to read at once",
        )

    def _adopt_size(self) -> None:
        """Take over the map size another process has set, once no transaction is under way here."""
        self._leave()
        try:
            with self._alone():
                self._env.set_mapsize(0)
        finally:
            self._enter()

    def _enter(self) -> None:
        with self._lock:
            while self._is_shut:
                self._gate.wait()
            self._under_way += 1

    def _leave(self) -> None:
        with self._lock:
            self._under_way -= 1
            if self._is_shut:
                self._gate.notify_all()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with self._gate:
            while self._is_shut:
                self._gate.wait()
            self._is_shut = True
            while self._under_way:
                self._gate.wait()
            try:
                yield
            finally:
                self._is_shut = False
                self._gate.notify_all()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (lmdb.Error, OSError) as error:
            self._raise(error)

    def _raise(self, error: lmdb.Error | OSError) -> NoReturn:
        code = error.errno if isinstance(error, OSError) else getattr(error, "code", 0)
        _raise_store_error(self.path, error, code or 0)


def _open(path: Path) -> lmdb.Environment:
    """Reserve as much address space as there is; it costs neither memory nor disk."""
    size = MAP_BYTES
    while True:
        try:
            return lmdb.open(
                str(path),
                map_size=size,
                max_readers=MAX_READERS,
                max_spare_txns=_SPARE_TRANSACTIONS,
            )
        except lmdb.MemoryError:
            if size <= MIN_MAP_BYTES:
                raise
            size //= 2


def _identity(data_file: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(data_file)  # noqa: PTH116 - on the path of every read, where Path costs 3 us
    except FileNotFoundError:
        return None
    return stat.st_dev, stat.st_ino


def _raise_store_error(path: Path, error: Exception, code: int) -> NoReturn:
    where = f"The online store at {path}"
    if code in _DISK_FULL:
        message, hint = "cannot grow: the disk is full", "free space; what was written before stays"
    elif code == errno.EIO:  # what LMDB makes of a write that the disk took only a part of
        message = "cannot be written: the disk is full, or it fails"
        hint = "free space, and look at the system's log; what was written before stays"
    elif isinstance(error, lmdb.MapFullError):
        message = "has filled the address space it could reserve"
        hint = "raise the process's limit on virtual memory (ulimit -v), or use Redis"
    elif code in _NO_ACCESS:
        message, hint = "cannot be opened or written: no permission", f"check who owns {path}"
    elif isinstance(error, FileExistsError | NotADirectoryError):
        message, hint = "cannot be opened: a file is in the way", "choose a folder for it"
    elif isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
        message = "is damaged, or was written by another version of LMDB"
        hint = "it is only a copy: delete the folder and materialize again"
    else:
        message, hint = f"failed: {error}", "run 'featurestore doctor'"
    raise StoreError(f"{where} {message}.", hint=hint) from error


_open_environments: dict[Path, Environment] = {}
_paused: list[Environment] = []
_left_open: list[Environment] = []
_lock = Lock()


def acquire(path: Path) -> Environment:
    """Return the environment of a folder, opening it unless this process has it open already.

    Raises:
        StoreError: It cannot be opened.
    """
    path = path.resolve()
    with _lock:
        found = _open_environments.get(path)
        if found is not None and found.is_current():
            found.users += 1
            return found
        opened = Environment(path)
        _open_environments[path] = opened
        return opened


def release(environment: Environment) -> None:
    """Give back what `acquire` returned; the last one closes it."""
    with _lock:
        environment.users -= 1
        if environment.users or environment.pid != os.getpid():
            return
        if _open_environments.get(environment.path) is environment:
            del _open_environments[environment.path]
    environment.close()


def _before_fork() -> None:
    _lock.acquire()
    _paused.extend(e for e in _open_environments.values() if e.pid == os.getpid() and e.pause())


def _after_fork_in_parent() -> None:
    while _paused:
        _paused.pop().resume()
    _lock.release()


def _after_fork_in_child() -> None:
    _lock.release()
    _left_open.extend(e for e in _open_environments.values() if e not in _paused)
    _paused.clear()
    _open_environments.clear()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)

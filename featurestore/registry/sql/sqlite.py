"""Everything that is SQLite's alone: the file, its locks, its triggers, its errors."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, Dialect, Engine, Table, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from featurestore.errors import RegistryError
from featurestore.registry.sql.tables import LOG, META
from featurestore.registry.sql.watch import Watch

C = TypeVar("C", bound=sqlite3.Connection)

_APPEND_ONLY: Final = (
    "CREATE TRIGGER featurestore_log_keeps_{0} BEFORE {0} ON featurestore_log"
    " BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END"
)


@event.listens_for(LOG, "after_create")
def _protect_log(_log: Table, connection: Connection, **_options: object) -> None:
    if connection.dialect.name == "sqlite":
        for statement in ("update", "delete"):
            connection.exec_driver_sql(_APPEND_ONLY.format(statement))


class SqliteFile:
    """A SQLite database file.

    Writers take the write lock when they begin (BEGIN IMMEDIATE), so that no two of them read the
    same revision; with write-ahead logging readers neither wait for them nor hold them up. Every
    operation opens a connection of its own: nothing is shared by threads or inherited by forks. One
    that stays open is asked only whether others committed.
    """

    def __init__(self, path: Path, *, lock_timeout_s: float) -> None:
        self.path = path.absolute()
        self.lock_timeout_s = lock_timeout_s
        self._watch = Watch(self.path, self._open_to_watch)
        self.reader = _engine(self._open_to_read, begin="BEGIN")
        self.writer = _engine(self._open_to_write, begin="BEGIN IMMEDIATE")

    def __str__(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        """Whether there is a file at the path."""
        return self.path.exists()

    def stamp(self) -> object:
        """Return what differs after every commit; None of a file that can only be read unlocked."""
        try:
            return self._watch.stamp()
        except _CannotWatchError:
            return None

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Stay connected meanwhile: the last to leave has the log written into the file, and waits.

        A file that cannot be opened is no error here: whoever uses it says what is wrong.
        """
        held = Watch(self.path, self._open_to_watch)
        with suppress(sqlite3.Error, OSError, _CannotWatchError):
            held.stamp()  # which opens it
        try:
            yield
        finally:
            held.close()

    def close(self) -> None:
        """Let go of the file; it is opened again when it is used again."""
        self._watch.close()

    def prepare(self) -> None:
        """Make the folder that a first write needs."""
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def after_write(self, connection: Connection) -> None:
        """Switch to write-ahead logging, now that the file is known to be a registry.

        It fails while somebody else uses a new file; a later write does it then. No failure counts:
        the work is committed, and as safe without.
        """
        with suppress(sqlite3.Error):
            _raw(connection).execute("PRAGMA journal_mode = WAL")

    def after_read(self, connection: Connection) -> None:
        """Make sure that what was read belongs together."""
        raw = _raw(connection)
        if isinstance(raw, _LocklessReader):
            raw.check(self.path)

    def _open_to_write(self) -> sqlite3.Connection:
        return self._open("mode=rwc", sqlite3.Connection)

    def _open_to_watch(self) -> sqlite3.Connection:
        connection = self._open_to_read(any_thread=True)
        if isinstance(connection, _LocklessReader):
            connection.close()
            raise _CannotWatchError
        return connection

    def _open_to_read(self, *, any_thread: bool = False) -> sqlite3.Connection:
        # Not "ro": the last connection to leave removes SQLite's side files, if it may write.
        connection = self._open("mode=rw", sqlite3.Connection, any_thread=any_thread)
        connection.execute("PRAGMA query_only = ON")
        try:
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")
        except sqlite3.OperationalError as error:
            connection.close()
            has_no_locks = error.sqlite_errorname.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN"))
            if not has_no_locks or _has_wal(self.path):
                raise
            return self._open_without_lock()
        return connection

    def _open_without_lock(self) -> "_LocklessReader":
        """Open a file in a folder where this user may not write, and so cannot take locks.

        Registries live on read-only file systems too, in container images for instance.
        """
        stamp = _stamp(self.path)
        connection = self._open("mode=ro&immutable=1", _LocklessReader)
        connection.stamp = stamp
        return connection

    def _open(self, query: str, factory: type[C], *, any_thread: bool = False) -> C:
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?{query}",
            uri=True,
            timeout=self.lock_timeout_s,
            isolation_level=None,
            factory=factory,
            check_same_thread=not any_thread,
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        return connection

    def explained(self, error: BaseException) -> RegistryError:
        """Return what a database error means for the user of the registry."""
        cause = getattr(error, "orig", None) or error
        code = getattr(cause, "sqlite_errorname", "").removeprefix("SQLITE_").partition("_")[0]
        happened, hint = _MEANINGS.get(code, (f"failed: {cause}", None))
        happened = happened.format(seconds=self.lock_timeout_s)
        if self.path.is_dir():
            happened, hint = "is a folder", "name a file in it"
        explained = RegistryError(f"The registry {self.path} {happened}.", hint=hint)
        explained.retryable = code in ("BUSY", "LOCKED")
        return explained


_MEANINGS: Final[dict[str, tuple[str, str | None]]] = {
    "BUSY": ("was locked by somebody else for {seconds:g} s; nothing was done", "try again"),
    "LOCKED": ("was locked by somebody else for {seconds:g} s; nothing was done", "try again"),
    "FULL": ("cannot grow: the disk is full; nothing was written", "make room and try again"),
    "READONLY": (
        "cannot be written by this user",
        "give this user permission to write the file and its folder",
    ),
    "PERM": ("cannot be used by this user", "check the permissions of the file and its folder"),
    "AUTH": ("cannot be used by this user", "check the permissions of the file and its folder"),
    "CANTOPEN": ("cannot be opened", "check the permissions of the file and its folder"),
    "NOTADB": (
        "is not a SQLite database",
        "restore the registry's backup, or configure another path",
    ),
    "CORRUPT": ("is damaged", "restore the registry's backup, or apply to a new one"),
    "IOERR": (
        "cannot be read or written: the operating system reports an error; nothing was done",
        "check the disk: is it full, over quota, or failing?",
    ),
}


class _CannotWatchError(Exception):
    """SQLite notices no change of a file that it reads without locks."""


class _LocklessReader(sqlite3.Connection):
    """Reads a file without locks, and can tell afterwards whether somebody wrote meanwhile."""

    stamp: tuple[int, int]

    def check(self, path: Path) -> None:
        if _has_wal(path) or _stamp(path) != self.stamp:
            error = RegistryError(
                f"The registry {path} was written while it was read.", hint="try again"
            )
            error.retryable = True
            raise error


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _has_wal(path: Path) -> bool:
    """Whether some of the content is in the write-ahead log still, and not in the file."""
    wal = path.with_name(f"{path.name}-wal")
    return wal.exists() and wal.stat().st_size > 0


def has_table(connection: Connection, name: str) -> bool:
    """Whether there is a table; SQLAlchemy's inspection finds out the same in a millisecond."""
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return _raw(connection).execute(query, (name,)).fetchone() is not None


def schema_version(connection: Connection) -> str | None:
    """Return what a registry says of its tables' version; every transaction asks."""
    query = f"SELECT value FROM {META.name} WHERE key = 'schema_version'"  # noqa: S608 - a constant
    found: tuple[str] | None = _raw(connection).execute(query).fetchone()
    return found and found[0]


def _engine(connect: Callable[[], Any], *, begin: str) -> Engine:
    """Return an engine that shares with all others what statements were compiled to."""
    dialect = _dialect()
    engine = Engine(
        NullPool(connect, dialect=dialect),
        dialect,
        _URL,
        execution_options={"compiled_cache": _COMPILED},
    )
    # sqlite3 would begin by itself before the first write only, and never with IMMEDIATE.
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


_URL: Final = make_url("sqlite://")
_COMPILED: Final[dict[Any, Any]] = {}
"""As many entries as this package has statements: their values are parameters."""


@cache
def _dialect() -> Dialect:
    """Return one that has seen a connection, from which it takes what the library can do."""
    engine = create_engine(_URL)
    engine.connect().close()
    return engine.dialect


def _raw(connection: Connection) -> sqlite3.Connection:
    return cast("sqlite3.Connection", connection.connection.dbapi_connection)

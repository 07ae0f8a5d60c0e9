"""Whether somebody has written to a SQLite file, found out in microseconds."""

import os
import sqlite3
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final

_inherited: Final[list[sqlite3.Connection]] = []
"""Connections of the process that this one was forked from: to be left as they are."""


class Watch:
    """A connection that stays open to ask SQLite whether any other has committed.

    It holds no lock between two questions, so that nobody waits for it. After a fork, and when the
    file was replaced, it is a new one.

    Args:
        path: The file.
        connect: Opens a connection that any thread may use.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = str(path)
        self._connect = connect
        self._open: _Open | None = None

    def stamp(self) -> object:
        """Return what differs after every commit: equal stamps, equal content.

        Raises:
            sqlite3.Error: The file cannot be read.
            OSError: It cannot be looked at.
        """
        identity = self._identity()
        if identity is None:
            return ()
        found = self._open
        if found is None or not found.is_of(identity):
            found = self._open = _Open(self._connect(), identity)
        return found.stamp()

    def close(self) -> None:
        """Let go of the connection; the next question opens another."""
        found, self._open = self._open, None
        if found is not None:
            found.close()

    def _identity(self) -> tuple[int, int] | None:
        try:
            stat = os.stat(self._path)  # noqa: PTH116 - on the path of lookups; Path costs 3 us
        except FileNotFoundError:
            return None
        return stat.st_dev, stat.st_ino


class _Open:
    """One connection of one process to one file."""

    def __init__(self, connection: sqlite3.Connection, identity: tuple[int, int]) -> None:
        self._pid = os.getpid()
        self._identity = identity
        self._connection = connection
        self._lock = Lock()
        self._closing = weakref.finalize(self, _close, connection, self._pid)
        self._closing.atexit = False

    def is_of(self, identity: tuple[int, int]) -> bool:
        return self._identity == identity and self._pid == os.getpid()

    def stamp(self) -> object:
        """Return the file's version as this connection counts it, which no other's is equal to."""
        with self._lock:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        return self, version

    def close(self) -> None:
        self._closing()


def _close(connection: sqlite3.Connection, pid: int) -> None:
    if pid != os.getpid():
        _inherited.append(connection)
        return
    with suppress(sqlite3.Error):
        connection.close()

"""Transactions on a registry's database, with the checks and the errors that all of them share."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, insert, inspect
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from featurestore.errors import ConfigError, RegistryError, RegistryVersionError
from featurestore.registry.sql.sqlite import SqliteFile, has_table, schema_version
from featurestore.registry.sql.tables import META, METADATA, SCHEMA_VERSION
from featurestore.registry.sql.upgrade import upgrade

# A driver refuses some values before SQL sees them: surrogates, integers beyond 64 bits.
_DATABASE_ERRORS: Final = (SQLAlchemyError, sqlite3.Error, UnicodeError, OverflowError)


class Database:
    """Read and write transactions; no exception of SQLAlchemy or the driver leaves them."""

    def __init__(self, url_or_path: str | Path, *, lock_timeout_s: float) -> None:
        self._backend = SqliteFile(_path(url_or_path), lock_timeout_s=lock_timeout_s)

    def __str__(self) -> str:
        return str(self._backend)

    def stamp(self) -> object:
        """Return what differs after every commit; see `SqlRegistry.stamp`."""
        try:
            return self._backend.stamp()
        except (sqlite3.Error, OSError):
            return None  # reading says what is wrong

    def kept_open(self) -> AbstractContextManager[None]:
        """Stay connected meanwhile; see `SqlRegistry.kept_open`."""
        return self._backend.kept_open()

    def close(self) -> None:
        """Let go of the file; it is opened again when it is used again."""
        self._backend.close()

    @contextmanager
    def read(self) -> Iterator[Connection | None]:
        """Open one consistent view of the database, or None while there is no registry in it.

        Raises:
            RegistryError: It cannot be read, or is something else than a registry.
            RegistryVersionError: A newer version of this package wrote it.
        """
        with self._typed_errors():
            if not self._backend.exists():
                yield None
                return
            with self._backend.reader.begin() as connection:
                yield connection if self._version(connection) else None
                self._backend.after_read(connection)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Open a transaction that no other writer can interleave; it makes the tables if need be.

        Tables of an older version are brought up to this one in the same transaction. What the
        body did is committed when it ends, and undone when it raises.

        Raises:
            RegistryError: As for `read`; the disk is full; locked for longer than the timeout.
            RegistryVersionError: A newer version of this package wrote it.
        """
        with self._typed_errors():
            self._backend.prepare()
            with self._backend.writer.connect() as connection:
                with connection.begin():
                    if version := self._version(connection):
                        upgrade(connection, version)
                    else:
                        _create_tables(connection)
                    yield connection
                self._backend.after_write(connection)

    @contextmanager
    def _typed_errors(self) -> Iterator[None]:
        try:
            yield
        except _DATABASE_ERRORS as error:
            raise self._backend.explained(error) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise RegistryError(
                f"The registry {self} cannot be used: {reason}.",
                hint="check the path, and the permissions of its folder",
            ) from error

    def _version(self, connection: Connection) -> int | None:
        """Return which version the tables have, or None for an empty database."""
        if not has_table(connection, META.name):
            if inspect(connection).get_table_names():
                raise RegistryError(
                    f"The database {self} is not a registry: it holds other tables.",
                    hint="configure a path of its own for the registry",
                )
            return None
        found = schema_version(connection)
        if found is None or not (found.isascii() and found.isdigit() and int(found)):
            raise RegistryError(
                f"The registry {self} does not say which version it has.",
                hint="restore the registry's backup",
            )
        if int(found) > SCHEMA_VERSION:
            raise RegistryVersionError(
                f"The registry {self} has schema version {found}; this version of featurestore"
                f" knows versions up to {SCHEMA_VERSION}.",
                hint="upgrade featurestore here to the version that wrote the registry",
            )
        return int(found)


def _create_tables(connection: Connection) -> None:
    METADATA.create_all(connection, checkfirst=False)  # an empty database, as was just seen
    connection.execute(insert(META).values(key="schema_version", value=str(SCHEMA_VERSION)))


def _path(url_or_path: str | Path) -> Path:
    """Return the file that a path or a `sqlite:///` URL names.

    Raises:
        ConfigError: It names none.
    """
    text = str(url_or_path)
    if isinstance(url_or_path, str) and "://" in url_or_path:
        text = _database_of(url_or_path)
    if not text or "\0" in text or text == ":memory:":
        raise ConfigError(
            f"registry: {text[:80]!r} cannot hold a registry.",
            hint="name a file, as in 'registry.db' or 'sqlite:////var/lib/features/registry.db'",
        )
    return Path(text).expanduser()


def _database_of(text: str) -> str:
    try:
        url = make_url(text)
    except ArgumentError:
        raise ConfigError("registry: this is not a database URL.", hint=_KNOWN) from None
    if url.get_backend_name() != "sqlite":  # the URL itself may hold a password: not shown
        raise ConfigError(
            f"registry: a registry in {url.get_backend_name()!r} is not supported.", hint=_KNOWN
        )
    return url.database or ""


_KNOWN: Final = "name a file, or a URL such as 'sqlite:///registry.db'"

"""The embedded store: LMDB, one folder, no server.

All tables lie in one B-tree: `r`, the table's 8-byte digest and the entity bytes make a row's key,
`t` and the digest the key of its label. A named LMDB database per table would need a handle, and
py-lmdb opens handles under the writer's lock: a reader would wait for the run that fills a table.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, ClassVar, Final

import lmdb

from featurestore.errors import StoreError
from featurestore.online.lmdb_environment import Environment, acquire, release
from featurestore.online.store import (
    VERSION_END,
    VERSION_START,
    Capabilities,
    EncodedRows,
    Finding,
    Pace,
    ReadRequest,
    TableId,
    WriteCounts,
)
from featurestore.online.tables import check_rows, read_label, table_digest, table_label

if TYPE_CHECKING:
    Reader = lmdb.Transaction[bytes]

TRANSACTION_ROWS: Final = 100_000
DROP_ROWS: Final = 20_000
MIN_FREE_BYTES: Final = 1 << 30
_ROW: Final = b"r"
_LABEL: Final = b"t"


class LmdbOnlineStore:
    """Rows in a folder of this machine: any number of processes read while one at a time writes.

    Readers take no lock. A write is on the disk when it returns; each costs a flush, so that large
    batches are faster. The folder is a copy that materialization can make again.

    Args:
        path: The folder; made on first use. Not on a network file system.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(shared=True, expires=False, in_process=True)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: Environment | None = None
        self._is_closed = False
        self._opening = Lock()
        self._pid = os.getpid()

    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        """Store rows, at most 100,000 per transaction; see `OnlineStore.write`."""
        check_rows(table, rows)
        written = 0
        for start in range(0, len(rows.keys), TRANSACTION_ROWS):
            chunk = slice(start, start + TRANSACTION_ROWS)
            written += self._write(table, rows.keys[chunk], rows.values[chunk], overwrite=overwrite)
        return WriteCounts(written=written, kept=len(rows.keys) - written)

    def _write(
        self, table: TableId, keys: Sequence[bytes], values: Sequence[bytes], *, overwrite: bool
    ) -> int:
        prefix = _prefix(table)
        with self._environment().transaction(write=True) as transaction:
            transaction.put(_LABEL + prefix[1:], table_label(table), overwrite=False)
            put = transaction.put if overwrite else _put_newest(transaction)
            return sum(put(prefix + k, v) for k, v in zip(keys, values, strict=True))

    def read(
        self,
        requests: Sequence[ReadRequest],
        *,
        until: float | None = None,  # noqa: ARG002 - it waits for nobody
    ) -> list[list[bytes | None]]:
        """Return the values of each request, all of one instant; see `OnlineStore.read`."""
        return self._environment().read(
            lambda transaction: [_get(transaction, request) for request in requests]
        )

    def scan(
        self, table: TableId, *, batch_rows: int = 1000
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield all rows in the order of their keys; see `OnlineStore.scan`.

        Every batch is a transaction of its own: an old one would keep the file from reusing space.
        """
        prefix, last = _prefix(table), None
        while True:
            with self._environment().transaction(write=False) as transaction:
                batch = list(islice(_rows(transaction, prefix, last), batch_rows))
            if not batch:
                return
            yield [(key[len(prefix) :], value) for key, value in batch]
            last = batch[-1][0]

    def count(self, table: TableId) -> int:
        """Return how many rows a table holds, tombstones included; takes time in their number."""
        prefix = _prefix(table)
        with self._environment().transaction(write=False) as transaction:
            cursor = transaction.cursor()
            if not cursor.set_range(prefix):
                return 0
            keys = cursor.iternext(keys=True, values=False)
            return sum(1 for _ in _while_prefixed(keys, prefix))

    def drop(self, table: TableId, *, pace: Pace | None = None) -> int:
        """Delete a table, a transaction per 20,000 rows, and return how many rows it had."""
        prefix, dropped = _prefix(table), 0
        while True:
            with self._environment().transaction(write=True) as transaction:
                deleted = _delete_some(transaction, prefix)
                if deleted < DROP_ROWS:
                    transaction.delete(_LABEL + prefix[1:])
            dropped += deleted
            if pace is not None and deleted:
                pace(deleted)
            if deleted < DROP_ROWS:
                return dropped

    def tables(self, project: str) -> list[TableId]:
        """Return the tables of a project; see `OnlineStore.tables`."""
        with self._environment().transaction(write=False) as transaction:
            labels = [label for _, label in _rows(transaction, _LABEL, None)]
        found = map(read_label, labels)
        return [table for table in found if table.project == project]

    def check(self) -> list[Finding]:
        """Return the state of the folder: version, size, room to grow, readers."""
        facts = self._environment().facts()
        free = shutil.disk_usage(self._path).free
        version = ".".join(map(str, lmdb.version()))
        room = f"{facts['data_bytes']:,} bytes, address space for {facts['map_bytes']:,}"
        return [
            Finding(subject="version", status="ok", detail=f"LMDB {version} at {self._path}"),
            Finding(subject="size", status=_size_status(facts), detail=room),
            Finding(
                subject="disk",
                status="ok" if free >= MIN_FREE_BYTES else "warning",
                detail=f"{free:,} bytes free",
            ),
            Finding(
                subject="readers",
                status="ok",
                detail=f"{facts['readers']}, and {facts['stale_readers']} left behind were cleared",
            ),
        ]

    def close(self) -> None:
        """Let go of the folder."""
        with self._opening:
            self._is_closed = True
            opened, self._open = self._open, None
        if opened is not None:
            release(opened)

    def _environment(self) -> Environment:
        """Return the open folder; open it again after a fork, and when somebody replaced it."""
        opened = self._open
        return opened if opened is not None and opened.is_current() else self._reopen()

    def _reopen(self) -> Environment:
        if self._pid != os.getpid():  # a thread of the parent may have been in here
            self._opening, self._pid = Lock(), os.getpid()
        with self._opening:
            if self._is_closed:
                raise StoreError("The online store is closed.")
            if self._open is None or not self._open.is_current():
                if self._open is not None:
                    release(self._open)
                self._open = acquire(self._path)
            return self._open


def _prefix(table: TableId) -> bytes:
    return _ROW + table_digest(table)


def _get(transaction: "Reader", request: ReadRequest) -> list[bytes | None]:
    prefix, get = _prefix(request.table), transaction.get
    return [get(prefix + key) for key in request.keys]


def _put_newest(transaction: "Reader") -> Callable[[bytes, bytes], bool]:
    get, put = transaction.get, transaction.put

    def put_newest(key: bytes, value: bytes) -> bool:
        old = get(key)
        if old is not None and (old[VERSION_START:VERSION_END] > value[VERSION_START:VERSION_END]):
            return False
        return put(key, value)

    return put_newest


def _rows(
    transaction: "Reader", prefix: bytes, after: bytes | None
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values that begin with `prefix`, from behind the key `after`."""
    cursor = transaction.cursor()
    if not cursor.set_range(after or prefix):
        return
    for key, value in cursor.iternext(keys=True, values=True):
        if not key.startswith(prefix):
            return
        if key != after:
            yield key, value


def _while_prefixed(keys: Iterator[bytes], prefix: bytes) -> Iterator[bytes]:
    for key in keys:
        if not key.startswith(prefix):
            return
        yield key


def _delete_some(transaction: "Reader", prefix: bytes) -> int:
    cursor = transaction.cursor()
    deleted = 0
    if cursor.set_range(prefix):
        while deleted < DROP_ROWS and cursor.key().startswith(prefix):
            cursor.delete()
            deleted += 1
    return deleted


def _size_status(facts: dict[str, int]) -> str:
    return "ok" if facts["data_bytes"] * 2 < facts["map_bytes"] else "warning"

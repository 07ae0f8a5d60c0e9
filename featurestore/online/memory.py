"""The store inside one process: for tests and notebooks."""

from collections.abc import Iterator, Sequence
from itertools import islice
from threading import Lock
from typing import ClassVar

from featurestore.errors import StoreError
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
from featurestore.online.tables import check_rows


class MemoryOnlineStore:
    """Rows in a dict. They are gone when the process ends, and no other process sees them."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        shared=False, expires=False, in_process=True
    )

    def __init__(self) -> None:
        self._tables: dict[TableId, dict[bytes, bytes]] = {}
        self._lock = Lock()
        self._is_closed = False

    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        """Store rows; see `OnlineStore.write`."""
        check_rows(table, rows)
        if not rows.keys:
            return WriteCounts(written=0, kept=0)
        with self._lock:
            self._check_open()
            held = self._tables.setdefault(table, {})
            written = 0
            for key, value in zip(rows.keys, rows.values, strict=True):
                old = held.get(key)
                if overwrite or old is None or _version(old) <= _version(value):
                    held[key] = value
                    written += 1
        return WriteCounts(written=written, kept=len(rows.keys) - written)

    def read(
        self,
        requests: Sequence[ReadRequest],
        *,
        until: float | None = None,  # noqa: ARG002 - it waits for nobody
    ) -> list[list[bytes | None]]:
        """Return the values of each request; see `OnlineStore.read`."""
        with self._lock:
            self._check_open()
            return [
                list(map(self._tables.get(request.table, {}).get, request.keys))
                for request in requests
            ]

    def scan(
        self, table: TableId, *, batch_rows: int = 1000
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield all rows as they were at the start; see `OnlineStore.scan`."""
        with self._lock:
            self._check_open()
            rows = iter(list(self._tables.get(table, {}).items()))
        while batch := list(islice(rows, batch_rows)):
            yield batch

    def count(self, table: TableId) -> int:
        """Return how many rows a table holds, tombstones included."""
        with self._lock:
            self._check_open()
            return len(self._tables.get(table, {}))

    def drop(self, table: TableId, *, pace: Pace | None = None) -> int:
        """Delete a table and return how many rows it had."""
        with self._lock:
            self._check_open()
            dropped = len(self._tables.pop(table, {}))
        if pace is not None and dropped:
            pace(dropped)
        return dropped

    def tables(self, project: str) -> list[TableId]:
        """Return the tables of a project; see `OnlineStore.tables`."""
        with self._lock:
            self._check_open()
            return [table for table in self._tables if table.project == project]

    def check(self) -> list[Finding]:
        """Say that nothing is kept."""
        with self._lock:
            self._check_open()
            rows = sum(map(len, self._tables.values()))
        detail = f"{rows:,} rows in this process's memory; gone when it ends"
        return [Finding(subject="persistence", status="warning", detail=detail)]

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._is_closed = True
            self._tables.clear()

    def _check_open(self) -> None:
        if self._is_closed:
            raise StoreError("The online store is closed.")


def _version(value: bytes) -> bytes:
    return value[VERSION_START:VERSION_END]

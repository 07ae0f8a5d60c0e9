"""An online store whose reads are counted and timed."""

import time
from collections.abc import Callable, Iterator, Sequence

from featurestore.online.store import (
    EncodedRows,
    Finding,
    OnlineStore,
    Pace,
    ReadRequest,
    TableId,
    WriteCounts,
)


class MeteredStore(OnlineStore):
    """A store that reports its reads; everything else goes through.

    Args:
        store: The store.
        on_read: Told how long a read took, in seconds, and what it raised, if it did.
    """

    def __init__(
        self, store: OnlineStore, on_read: Callable[[float, Exception | None], None]
    ) -> None:
        self._store = store
        self._on_read = on_read
        self.capabilities = store.capabilities

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> Sequence[Sequence[bytes | None]]:
        """Read, and report how that went."""
        began = time.perf_counter()
        try:
            found = self._store.read(requests, until=until)
        except Exception as error:
            self._on_read(time.perf_counter() - began, error)
            raise
        self._on_read(time.perf_counter() - began, None)
        return found

    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        """Store rows."""
        return self._store.write(table, rows, overwrite=overwrite)

    def scan(
        self, table: TableId, *, batch_rows: int = 1000
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield a table's rows."""
        return self._store.scan(table, batch_rows=batch_rows)

    def count(self, table: TableId) -> int:
        """Return how many rows a table holds."""
        return self._store.count(table)

    def drop(self, table: TableId, *, pace: Pace | None = None) -> int:
        """Delete a table."""
        return self._store.drop(table, pace=pace)

    def tables(self, project: str) -> list[TableId]:
        """Return a project's tables."""
        return self._store.tables(project)

    def check(self) -> list[Finding]:
        """Return what an operator should know."""
        return self._store.check()

    def close(self) -> None:
        """Let go of connections and files."""
        self._store.close()

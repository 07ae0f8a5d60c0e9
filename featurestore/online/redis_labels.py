"""When to tell the catalogue of a table: again and again, as a server may lose what it was told."""

import time
from typing import Final

from featurestore.online.store import TableId

EVERY_S: Final = 60.0


class Labels:
    """Which tables the catalogue was told of lately."""

    def __init__(self) -> None:
        self._due: dict[TableId, float] = {}

    def is_due(self, table: TableId) -> bool:
        """Whether the catalogue is to be told of a table."""
        return time.monotonic() >= self._due.get(table, 0.0)

    def note(self, table: TableId) -> None:
        """Note that it was."""
        self._due[table] = time.monotonic() + EVERY_S

    def forget(self, table: TableId | None = None) -> None:
        """Have it told of a table again, or of all."""
        if table is None:
            self._due.clear()
        else:
            self._due.pop(table, None)

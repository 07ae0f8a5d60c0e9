"""A sample of what was served, as Parquet files that can be compared with training data.

A file has one row for each entity of the logged requests. Its columns are those of the reply: join
keys, request fields and features under their names and with their types. Beside them are columns
with a colon, which no name of a user's has: `request:timestamp`, `request:id`, `request:revision`,
for each feature `status:{feature}`, for each view or role `event_timestamp:{view}`.

Files are at `{path}/{service}/{shape}/`: replies of one service have other columns when its
definition changes, or with full names, and each shape of them has its folder. Requests for features
by name are not logged: there is nothing to compare them with.
"""

import hashlib
import itertools
import logging
import os
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from featurestore.offline.atomic import atomic_file
from featurestore.serving.lookup import LookupResult
from featurestore.serving.on_demand import OnDemandQuestion
from featurestore_server.calls import request_id_of
from featurestore_server.options import ServedLogOptions
from featurestore_server.service import Asked, Witness

if TYPE_CHECKING:
    import pyarrow as pa

LOGGER: Final = logging.getLogger("featurestore_server")

MAX_WAITING_VALUES: Final = 1_000_000
"""Values that wait to be written; of more, which come faster than they can be, none is kept."""
STOP_TIMEOUT_S: Final = 4.0
"""Less than the parent allows a worker beyond its grace time."""
_TICK_S: Final = 1.0

OnRows = Callable[[str, int], None]
"""Told what became of how many rows: "written", "dropped" or "failed"."""


class _Entry(NamedTuple):
    asked: Asked
    result: LookupResult
    values: int


@dataclass
class _Pending:
    """Rows of one shape that are not in a file yet."""

    folder: Path
    since: float = field(default_factory=time.monotonic)
    tables: "list[pa.Table]" = field(default_factory=list)
    rows: int = 0


class ServedLog(Witness):
    """Writes a sample of what is served, in a thread of its own; lookups never wait for it.

    Args:
        options: Where to, how much, and in files of which size.
        on_rows: See `OnRows`.
    """

    def __init__(self, options: ServedLogOptions, on_rows: OnRows) -> None:
        self._options = options
        self._on_rows = on_rows
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._has_dropped = False
        self._pending: dict[tuple[str, str], _Pending] = {}
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name="served-log", daemon=True)

    def answered(self, asked: Asked, result: LookupResult) -> None:
        """Leave a reply to the thread, if chance wants it."""
        if not asked.call.service or random.random() >= self._options.sample:  # noqa: S311 - a sample
            return
        values = len(result) * (len(result.features) + 1)
        with self._lock:
            has_room = self._waiting + values <= MAX_WAITING_VALUES
            self._waiting += values * has_room
        if has_room:
            self._queue.put(_Entry(asked, result, values))
        else:
            self._drop(len(result))

    def _drop(self, rows: int) -> None:
        self._on_rows("dropped", rows)
        if not self._has_dropped:
            self._has_dropped = True
            LOGGER.warning("served features come faster than they can be logged; some are not")

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write all that waits, and end."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(STOP_TIMEOUT_S)

    # --- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        import pyarrow.parquet  # noqa: F401 - now, and not when the first reply waits

        while True:
            try:
                entry = self._queue.get(timeout=_TICK_S)
            except queue.Empty:
                self._finish(older_than=time.monotonic() - self._options.max_file_s)
                continue
            if entry is None:
                self._finish(older_than=time.monotonic())
                return
            self._take(entry)
            self._finish(older_than=time.monotonic() - self._options.max_file_s)

    def _take(self, entry: _Entry) -> None:
        with self._lock:
            self._waiting -= entry.values
        try:
            table = table_of(entry.asked, entry.result)
        except Exception:
            LOGGER.exception("served features cannot be logged")
            self._on_rows("failed", len(entry.result))
            return
        service, shape = entry.asked.call.service, shape_of(table.schema)
        pending = self._pending.get((service, shape))
        if pending is None:
            folder = Path(self._options.path, service, shape)
            pending = self._pending[service, shape] = _Pending(folder)
        pending.tables.append(table)
        pending.rows += table.num_rows

    def _finish(self, *, older_than: float) -> None:
        """Write the files that have rows enough, or waited long enough."""
        for key, pending in list(self._pending.items()):
            if pending.rows >= self._options.max_file_rows or pending.since <= older_than:
                del self._pending[key]
                self._write(pending)

    def _write(self, pending: _Pending) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        file = pending.folder / f"{stamp}-{os.getpid()}-{next(self._numbers)}.parquet"
        try:
            pending.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(file) as temporary:
                pq.write_table(pa.concat_tables(pending.tables), temporary)
        except Exception:
            LOGGER.exception("a file of served features cannot be written")
            self._on_rows("failed", pending.rows)
        else:
            self._on_rows("written", pending.rows)


def shape_of(schema: "pa.Schema") -> str:
    """Return a name for a table's columns and types."""
    described = "\n".join(f"{column.name}\t{column.type}" for column in schema)
    return hashlib.blake2b(described.encode(), digest_size=4).hexdigest()


def table_of(asked: Asked, result: LookupResult) -> "pa.Table":
    """Return a reply as a table with a row for each entity; the columns are the module's."""
    import numpy as np
    import pyarrow as pa

    from featurestore.expressions.arrow import to_arrow
    from featurestore.serving.lookup import Status
    from featurestore.serving.response import OnlineResponse

    rows, instant = len(result), pa.timestamp("us", tz="UTC")
    columns = {
        "request:timestamp": pa.array(np.full(rows, result.request_us)).cast(instant),
        "request:id": pa.array([request_id_of(asked.call)] * rows, pa.string()),
        "request:revision": pa.array(np.full(rows, asked.catalog.revision), pa.int64()),
    }
    if isinstance(asked.question, OnDemandQuestion):
        types = dict(asked.lookup.request_columns)
        fields = asked.question.fields
        columns |= {name: to_arrow(vector, types[name]) for name, vector in fields.items()}
    reply = OnlineResponse(result).to_arrow()
    columns |= dict(zip(reply.column_names, reply.columns, strict=True))
    names = pa.array([status.name for status in Status])
    for feature in result.features:
        columns[f"status:{feature.name}"] = names.take(pa.array(feature.statuses - min(Status)))
    for view in result.views:
        times = pa.array(view.event_us, mask=~view.found).cast(instant)
        columns[f"event_timestamp:{view.name}"] = times
    return pa.table(columns)

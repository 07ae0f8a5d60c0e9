"""Engines that answer almost rightly, for tests of what should notice."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.offline.engine import OfflineEngine, ScanReader
from featurestore.offline.scan import SourceScan

Rows = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True)
class WrongEngine:
    """An engine whose rows are not quite what the files say.

    Attributes:
        right: The engine that reads.
        wrong: What becomes of the rows.
        reach_us: How much further than asked rows are read, to both sides.
    """

    right: OfflineEngine
    wrong: Rows
    reach_us: int = 0
    name: ClassVar[str] = "wrong"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.right, name)

    @contextmanager
    def reader(self, scan: SourceScan) -> Iterator[ScanReader]:
        """Open a source with the right engine."""
        with self.right.reader(scan) as reading:
            yield _WrongReader(reading, self)


@dataclass(frozen=True)
class _WrongReader:
    right: Any
    engine: WrongEngine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.right, name)

    def rows(
        self, keys: pa.Table, columns: Sequence[str] = (), *, from_us: int | None, until_us: int
    ) -> Iterator[pa.RecordBatch]:
        """Yield wrong rows."""
        reach = self.engine.reach_us
        for name, by in (("until", reach), ("since", -reach)):
            if name in keys.column_names:
                moved = pc.add(keys.column(name), pa.scalar(by, pa.int64()))
                keys = keys.set_column(keys.column_names.index(name), name, moved)
        low = None if from_us is None else from_us - reach
        for batch in self.right.rows(keys, columns, from_us=low, until_us=until_us + reach):
            yield self.engine.wrong(batch)


def _with(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    return batch.set_column(batch.schema.get_field_index(name), name, column)


def moved_by(us: int) -> Rows:
    """Take every event for one that took place so much later."""

    def wrong(batch: pa.RecordBatch) -> pa.RecordBatch:
        return _with(batch, "e", pc.add(batch.column("e"), pa.scalar(us, pa.int64())))

    return wrong


def earliest_written(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Let the row that was written first win a tie."""
    return _with(batch, "c", pc.negate(batch.column("c")))


def known_at_once(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Take every row for known when it took place."""
    return _with(batch, "c", batch.column("e"))


def of_anybody(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Take the rows of every key for those of the first."""
    return _with(batch, "g", pa.array(np.zeros(batch.num_rows, dtype=np.int32)))

"""Windowed features of every entity at one moment, for materialization."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from typing_extensions import override

from featurestore.definitions.aggregation import WindowFeature
from featurestore.offline.engine import LatestRows, OfflineEngine
from featurestore.offline.scan import SourceScan
from featurestore.offline.windows.join import windows_as_of

KEYS_AT_ONCE: Final = 1_000_000


class WindowRows(LatestRows):
    """The windows that end at a moment, for every entity with a row up to it.

    Args:
        engine: Reads the files.
        scan: The columns that the features need.
        features: What to compute.
        latest: The newest rows up to the moment: which entities there are. It is closed with this.
        end_us: The moment, which is the event time of what is offered.
        created_us: The created time of what is offered.
    """

    def __init__(
        self,
        engine: OfflineEngine,
        scan: SourceScan,
        features: Sequence[WindowFeature],
        latest: LatestRows,
        *,
        end_us: int,
        created_us: int,
    ) -> None:
        self.summary = latest.summary
        self._engine = engine
        self._scan = scan
        self._features = features
        self._latest = latest
        self._end_us = end_us
        self._created_us = created_us

    @override
    def split(self, count: int) -> Sequence[range]:
        return self._latest.split(count)

    @override
    def batches(self, max_rows: int, ordinals: range | None = None) -> Iterator[pa.RecordBatch]:
        names = [column.alias for column in self._scan.keys]
        for batch in self._latest.batches(KEYS_AT_ONCE, ordinals):
            keys = [batch.column(name) for name in names]
            count = batch.num_rows
            ends = pa.array(np.full(count, self._end_us))
            spine = pa.table([ends, *keys], names=["q", *names])
            found = windows_as_of(self._engine, self._scan, self._features, spine, mode="complete")
            created = pa.array(np.full(count, self._created_us))
            table = pa.table(
                [*keys, ends, created, *found.columns],
                names=[*names, "e", "c", *found.column_names],
            )
            yield from table.combine_chunks().to_batches(max_rows)

    @override
    def close(self) -> None:
        self._latest.close()

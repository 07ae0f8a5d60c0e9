"""Times and keys of some of a source's rows, read in runs of neighbours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from featurestore.definitions import FileSource
from featurestore.leakage.extract import column_values, decoded
from featurestore.leakage.points import sampled_rows
from featurestore.leakage.source_rows import NEVER, Codes
from featurestore.offline.instants import Instants
from featurestore.offline.timeline import Ints

SAMPLE_ROWS: Final = 100_000
GROUPS: Final = 8


@dataclass(frozen=True, kw_only=True)
class TimeSample:
    """Some rows of a source that have an event time.

    Attributes:
        event: Event times in microseconds.
        created: Created times, `NEVER` where there is none.
        keys: A number for the key of each row.
    """

    event: Ints
    created: Ints
    keys: Ints

    def __len__(self) -> int:
        return len(self.event)

    @property
    def lateness(self) -> Ints:
        """Created minus event time of the rows that have both."""
        known = self.created != NEVER
        return np.asarray(self.created[known] - self.event[known])

    @property
    def gaps(self) -> Ints:
        """The time between a key's row and its next one, where there is a next one."""
        order = np.lexsort((self.event, self.keys))
        keys, event = self.keys[order], self.event[order]
        gaps = np.diff(event)[np.diff(keys) == 0]
        return np.asarray(gaps[gaps > 0])


def time_sample(
    source: FileSource, keys: Mapping[str, pa.DataType], root: Path, chance: np.random.Generator
) -> TimeSample:
    """Read a sample of a source's rows.

    Raises:
        SourceError: A file cannot be read.
    """
    times = [t for t in (source.timestamp_field, source.created_timestamp_column) if t is not None]
    parts = sampled_rows(
        source, root, [*times, *keys], chance, groups=GROUPS, most=SAMPLE_ROWS // GROUPS, runs=True
    )
    instants, codes = Instants(source), Codes()
    numbers: dict[tuple[object, ...], int] = {}
    event, created, key = [], [], []
    for table, file in parts:
        event.append(_times(instants, source, table, source.timestamp_field))
        created.append(_times(instants, source, table, source.created_timestamp_column))
        columns = [
            codes.of(decoded(column_values(source, file, table, name, dtype)).to_pylist()).tolist()
            for name, dtype in keys.items()
        ]
        rows = list(zip(*columns, strict=True)) if columns else [()] * table.num_rows
        found = (numbers.setdefault(row, len(numbers)) for row in rows)
        key.append(np.fromiter(found, dtype=np.int64, count=len(rows)))
    return _valid(_joined(event), _joined(created), _joined(key))


def _valid(event: Ints, created: Ints, keys: Ints) -> TimeSample:
    kept = (np.abs(event >> 1) < 1 << 60) & ((np.abs(created >> 1) < 1 << 60) | (created == NEVER))
    return TimeSample(event=event[kept], created=created[kept], keys=keys[kept])


def _times(instants: Instants, source: FileSource, table: pa.Table, name: str | None) -> Ints:
    if name is None:
        return np.full(table.num_rows, NEVER)
    column = table.column(source.column_in_file(name)).combine_chunks()
    found = instants.micros(column, up=True).fill_null(NEVER)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.empty(0, dtype=np.int64), *parts])

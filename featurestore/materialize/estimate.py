"""What a run would read and write, estimated from footers and a sample; nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore.materialize.plan import Task
from featurestore.offline.samples import distinct_keys, row_groups, sample_of, spread
from featurestore.offline.scan import SourceScan, open_scan
from featurestore.online.codec import encode_keys, row_codec
from featurestore.time import format_instant, from_micros
from featurestore.types import type_name

ENCODED_ROWS = 2_000
"""The width of a row is that of so many."""


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """What a run would do; numbers of rows, entities and bytes are estimates.

    Attributes:
        view: The view's name.
        kind: "full", "window" or "incremental".
        start: Exclusive start of a window, or None.
        end: Inclusive end.
        clipped: Whether the end asked for lay in the future and became now.
        files: Files of the source.
        file_rows: Rows in them, exactly.
        file_bytes: Compressed bytes of the columns and row groups that would be read.
        rows: Rows in the interval, taking times to be even between the bounds of a row group.
        entities: Distinct keys among them, from a sample of their keys.
        online_bytes: Bytes of their keys and rows; what a store takes beside them is its own.
    """

    view: str
    kind: str
    start: str | None
    end: str
    clipped: bool
    files: int
    file_rows: int
    file_bytes: int
    rows: int
    entities: int
    online_bytes: int


def estimate_run(task: Task, root: Path) -> RunEstimate:
    """Estimate a task; it reads footers and some row groups.

    Raises:
        SourceError: Files are missing, cannot be read, or lack columns.
    """
    view = task.view.definition
    scan = open_scan(view, view.feature_names, root)
    inside = [group for group in row_groups(scan, task.rows) if group.rows > 0]
    sample = [sample_of(scan, group) for group in spread(inside)]
    rows = sum(group.rows for group in inside)
    entities = distinct_keys(scan, sample, rows)
    return RunEstimate(
        view=view.name,
        kind=task.kind,
        start=None if task.start_us is None else format_instant(from_micros(task.start_us)),
        end=format_instant(from_micros(task.end_us)),
        clipped=task.clipped,
        files=len(scan.files),
        file_rows=scan.row_count,
        file_bytes=sum(group.file_bytes for group in inside),
        rows=round(rows),
        entities=round(entities),
        online_bytes=round(entities * _width(task, scan, sample)),
    )


def _width(task: Task, scan: SourceScan, sample: Sequence[pa.Table]) -> float:
    """Return the bytes of an entity's key and row, from some that are encoded.

    What is computed has the width that its type has at least.
    """
    view = task.view.definition
    rows = sample[0].slice(0, ENCODED_ROWS) if sample else pa.table({})
    count: int = max(rows.num_rows, 1)

    def column(alias: str, dtype: pa.DataType) -> pa.Array:
        if alias in rows.column_names and rows.num_rows:
            try:
                return rows[alias].combine_chunks().cast(dtype)
            except pa.ArrowException:  # the engine has its own ways to widen some types
                pass
        return pa.nulls(count, dtype)

    codec = row_codec(tuple(type_name(field.dtype) for field in view.fields))
    features = [column(f"f{n}", field.dtype) for n, field in enumerate(view.fields)]
    if view.aggregations:  # the columns that windows are computed from
        features = [pa.nulls(count, field.dtype) for field in view.fields]
    times = np.zeros(count, np.int64)
    values: list[bytes] = codec.encode(times, times, features)
    types = [type_name(dtype) for dtype in view.join_keys.values()]
    columns = [column(key.alias, key.dtype) for key in scan.keys]
    keys = [key for key in encode_keys(types, columns) if key is not None]
    key_bytes: int = sum(map(len, keys))
    value_bytes: int = sum(map(len, values))
    return key_bytes / max(len(keys), 1) + value_bytes / count

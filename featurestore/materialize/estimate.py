"""What a run would read and write, estimated from footers and a sample; nothing is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import SourceError
from featurestore.materialize.plan import Task
from featurestore.offline.engine import RowFilter
from featurestore.offline.scan import SourceScan, open_scan
from featurestore.offline.scan_columns import FileGroup, ScanColumn
from featurestore.online.codec import encode_keys, row_codec
from featurestore.time import format_instant, from_micros
from featurestore.types import type_name

SAMPLED_ROWS = 200_000
"""Keys of so many rows are looked at, about, in row groups spread over all of them."""
ENCODED_ROWS = 2_000
"""The width of a row is that of so many."""
_UNITS_PER_US = {"s": 1e-6, "ms": 1e-3, "us": 1.0, "ns": 1e3}


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


@dataclass(frozen=True, kw_only=True)
class _RowGroup:
    path: str
    number: int
    group: FileGroup
    rows: float
    """In the interval."""
    file_bytes: int


def estimate_run(task: Task, root: Path) -> RunEstimate:
    """Estimate a task; it reads footers and some row groups.

    Raises:
        SourceError: Files are missing, cannot be read, or lack columns.
    """
    view = task.view.definition
    scan = open_scan(view, view.feature_names, root)
    inside = [group for group in _row_groups(scan, task.rows) if group.rows > 0]
    sample = [_read(scan, group) for group in _spread(inside)]
    rows = sum(group.rows for group in inside)
    entities = _distinct(scan, sample, rows)
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


def _row_groups(scan: SourceScan, wanted: RowFilter) -> Iterator[_RowGroup]:
    names = {column.in_file for column in scan.columns}
    for group in scan.groups:
        for file in group.files:
            try:
                footer = pq.read_metadata(file.path)
            except (pa.ArrowException, OSError) as error:
                raise SourceError(
                    f"Source {scan.source.name!r}: {file.path} cannot be read: {error}.",
                    source=scan.source.name,
                    file=file.path,
                ) from None
            for number in range(footer.num_row_groups):
                found = footer.row_group(number)
                columns = [found.column(n) for n in range(found.num_columns)]
                roots = {c.path_in_schema.partition(".")[0] for c in columns} & names
                read = [c for c in columns if c.path_in_schema.partition(".")[0] in roots]
                yield _RowGroup(
                    path=file.path,
                    number=number,
                    group=group,
                    rows=found.num_rows * _share(scan, group, columns, wanted),
                    file_bytes=sum(column.total_compressed_size for column in read),
                )


def _share(scan: SourceScan, group: FileGroup, columns: Sequence[Any], wanted: RowFilter) -> float:
    """Return which part of a row group's rows a filter lets through, about."""
    event = _bounds(scan.event_column, group, columns)
    share = _between(event, wanted.after_us, wanted.until_us)
    if wanted.created_after_us is None:
        return share
    created = None if scan.created is None else _bounds(scan.created, group, columns)
    newly_created = _between(created, wanted.created_after_us, None)
    return share * max(newly_created, _between(event, wanted.or_event_after_us, None))


def _bounds(
    column: ScanColumn, group: FileGroup, columns: Sequence[Any]
) -> tuple[float, float] | None:
    """Return least and greatest time of a row group in microseconds, if its footer says so.

    Local times are taken for UTC.
    """
    dtype = group.types[column.alias]
    stats = next((c.statistics for c in columns if c.path_in_schema == column.in_file), None)
    if stats is None or not stats.has_min_max or not pa.types.is_timestamp(dtype):
        return None
    low, high = stats.min_raw, stats.max_raw
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    scale = _UNITS_PER_US[dtype.unit]
    return low / scale, high / scale


def _between(bounds: tuple[float, float] | None, after: int | None, until: int | None) -> float:
    """Return which part of times that lie evenly within bounds is in (after, until]."""
    if bounds is None:
        return 1.0
    low, high = bounds
    first = low if after is None else max(low, after)
    last = high if until is None else min(high, until)
    if first > last or (after is not None and high <= after):
        return 0.0
    return (last - first) / (high - low) if high > low else 1.0


def _spread(groups: Sequence[_RowGroup]) -> list[_RowGroup]:
    """Return some row groups, evenly spread, with about `SAMPLED_ROWS` rows."""
    rows = sum(group.rows for group in groups)
    if not groups:
        return []
    count = min(len(groups), max(1, round(len(groups) * SAMPLED_ROWS / max(rows, 1))))
    return [groups[len(groups) * n // count] for n in range(count)]


def _read(scan: SourceScan, group: _RowGroup) -> pa.Table:
    """Return the keys, and what is in the file of the features, of a row group."""
    columns = [c for c in (*scan.keys, *scan.features) if c.alias not in group.group.from_folders]
    with pq.ParquetFile(group.path) as file:
        names = [column.in_file for column in columns if column.tree is None]
        table = file.read_row_group(group.number, columns=names)
    found = {c.alias: table[c.in_file] for c in columns if c.tree is None}
    return pa.table({alias: column.combine_chunks() for alias, column in found.items()})


def _distinct(scan: SourceScan, sample: Sequence[pa.Table], rows: float) -> float:
    """Return how many keys so many rows have, from those of a sample (Chao 1984).

    Where a sample has `f1` keys once and `f2` twice, about f1^2 / (2 f2) are not in it. Keys that
    lie together in few row groups are underestimated.
    """
    names = [c.alias for c in scan.keys if all(c.alias in t.column_names for t in sample)]
    if not scan.keys or not rows:
        return min(rows, 1.0)
    if not names:
        return rows
    keys = pa.concat_tables([t.select(names) for t in sample], promote_options="permissive")
    counts = keys.group_by(names).aggregate([([], "count_all")])["count_all"].to_numpy()
    seen = len(counts)
    once, twice = (int(np.count_nonzero(counts == times)) for times in (1, 2))
    if keys.num_rows >= rows:
        return min(float(seen), rows)
    unseen: float = once * once / (2 * twice) if twice else once * (rows / keys.num_rows - 1)
    return min(seen + unseen, rows)


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

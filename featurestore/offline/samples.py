"""What footers and a sample of row groups say of a source, before it is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import SourceError
from featurestore.offline.engine import RowFilter
from featurestore.offline.scan import SourceScan
from featurestore.offline.scan_columns import FileGroup, ScanColumn

SAMPLED_ROWS: Final = 200_000
"""Keys of so many rows are looked at, about, in row groups spread over all of them."""
_UNITS_PER_US: Final = {"s": 1e-6, "ms": 1e-3, "us": 1.0, "ns": 1e3}


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """A row group of a file, and how many of its rows are looked for.

    Attributes:
        path: The file.
        number: Its place there.
        group: The files that it belongs to.
        rows: Rows that a filter lets through, about.
        file_bytes: Compressed bytes of the columns that a scan reads.
        times: Least and greatest event time in microseconds, if the footer says so.
    """

    path: str
    number: int
    group: FileGroup
    rows: float
    file_bytes: int
    times: tuple[float, float] | None


def row_groups(scan: SourceScan, wanted: RowFilter) -> Iterator[RowGroup]:
    """Yield all row groups of a scan's files; raises SourceError for a file that cannot be read."""
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
                yield RowGroup(
                    path=file.path,
                    number=number,
                    group=group,
                    rows=found.num_rows * _share(scan, group, columns, wanted),
                    file_bytes=sum(column.total_compressed_size for column in read),
                    times=_bounds(scan.event_column, group, columns),
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


def spread(groups: Sequence[RowGroup]) -> list[RowGroup]:
    """Return some row groups, evenly spread, with about `SAMPLED_ROWS` rows."""
    rows = sum(group.rows for group in groups)
    if not groups:
        return []
    count = min(len(groups), max(1, round(len(groups) * SAMPLED_ROWS / max(rows, 1))))
    return [groups[len(groups) * n // count] for n in range(count)]


def sample_of(scan: SourceScan, group: RowGroup) -> pa.Table:
    """Return the keys, and what is in the file of the features, of a row group."""
    columns = [c for c in (*scan.keys, *scan.features) if c.alias not in group.group.from_folders]
    with pq.ParquetFile(group.path) as file:
        names = [column.in_file for column in columns if column.tree is None]
        table = file.read_row_group(group.number, columns=names)
    found = {c.alias: table[c.in_file] for c in columns if c.tree is None}
    return pa.table({alias: column.combine_chunks() for alias, column in found.items()})


def distinct_keys(scan: SourceScan, sample: Sequence[pa.Table], rows: float) -> float:
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

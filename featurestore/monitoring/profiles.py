"""Statistics of a view's rows, and of a source's, in one reading and bounded memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import RequestError
from featurestore.offline.arrow_rows import ArrowRows
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.joined_tables import row_joins
from featurestore.offline.scan import SourceScan, check_files, open_scan, open_source
from featurestore.statistics import Profile, profile
from featurestore.types import Timestamp

Progress = Callable[[str, int, int], None]


def profile_view(view: FeatureView, root: Path, **how: Any) -> Profile:
    """Return statistics of a view's keys, times and features, over all rows that it reads.

    Of a view with aggregations: of the columns that they are computed from. See `profile_scan`.
    """
    return profile_scan(open_scan(view, view.feature_names, root), view.name, **how)


def profile_source(source: FileSource, root: Path, **how: Any) -> Profile:
    """Return statistics of a source's columns, over all of its rows; see `profile_scan`."""
    return profile_scan(open_source(source, root), source.name, **how)


def profile_scan(
    scan: SourceScan,
    name: str,
    *,
    engine: OfflineEngine,
    after_us: int | None = None,
    until_us: int | None = None,
    edges: Mapping[str, Sequence[Any]] | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Return statistics of what a scan reads: keys, times, features, each column under its name.

    Rows come in the order of their ordinals, whichever engine is configured, so that the answer is
    always the same.

    Args:
        scan: What is read.
        name: What it is called when progress is reported.
        engine: Says how much memory joined sources may take.
        after_us: Only rows with `event_ts > after_us`, or None.
        until_us: Only rows with `event_ts <= until_us`, or None.
        edges: Column -> edges of its histogram.
        progress: Called with (name, rows done, rows in all).

    Raises:
        RequestError: The bounds cross, or the source has no event time; or edges do not fit.
        SourceError, SourceTimeError, ResourceLimitError: See `OfflineEngine`.
    """
    if after_us is not None and until_us is not None and after_us >= until_us:
        raise RequestError("The start is not before the end: no event is in between.")
    if scan.event is None and (after_us is not None or until_us is not None):
        raise RequestError(f"Source {scan.source.name!r} is static: its rows have no time.")
    columns = _columns(scan)
    schema = pa.schema([(column, dtype) for column, dtype, _ in columns])
    aliases = [alias for _, _, alias in columns]

    def read() -> Iterator[pa.RecordBatch]:
        done = 0
        for batch in _batches(scan, aliases, engine):
            rows = _between(batch, after_us, until_us)
            arrays = zip(rows.columns, schema, strict=True)
            yield pa.record_batch([array.cast(f.type) for array, f in arrays], schema=schema)
            done += batch.num_rows
            if progress is not None:
                progress(name, done, scan.row_count)

    return profile(read(), schema, edges=edges)


def _columns(scan: SourceScan) -> list[tuple[str, pa.DataType, str]]:
    """Return name, type and alias of all columns, each name once."""
    times = [(time.name, Timestamp, time.alias) for time in (scan.event, scan.created) if time]
    keys = [(column.name, column.dtype, column.alias) for column in scan.keys]
    features = [(column.name, column.dtype, column.alias) for column in scan.features]
    return list({column[0]: column for column in reversed([*keys, *times, *features])}.values())[
        ::-1
    ]


def _batches(
    scan: SourceScan, aliases: Sequence[str], engine: OfflineEngine
) -> Iterator[pa.RecordBatch]:
    joins = row_joins(scan, threads=engine.threads, memory_bytes=engine.memory_bytes)
    rows = ArrowRows(scan, joins)
    rows.check_local_times()
    for piece in rows.pieces:
        yield from rows.read(piece, aliases)
    check_files(scan)


def _between(batch: pa.RecordBatch, after_us: int | None, until_us: int | None) -> pa.RecordBatch:
    """Return the rows in an interval of event time; with a bound those without a time are out."""
    if after_us is not None:
        batch = batch.filter(pc.greater(batch.column("e"), after_us))
    if until_us is not None:
        batch = batch.filter(pc.less_equal(batch.column("e"), until_us))
    return batch

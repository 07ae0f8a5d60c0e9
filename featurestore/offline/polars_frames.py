"""Sources as Polars data frames, chunk by chunk: Arrow reads them, Polars does the rest.

Polars' own Parquet reader takes about the same time, but makes other types and other times of some
files (INT96, dictionaries, UUIDs, fixed-size lists), so that it is not used. Its streaming engine
could take chunks from a Python generator; such a query that ends before its generator does can
abort the process at exit, so that it runs chunk by chunk.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import polars as pl
import pyarrow as pa

from featurestore.offline.arrow_rows import ArrowRows, Piece
from featurestore.offline.declared import Columns, cast_table
from featurestore.offline.engine import RowFilter
from featurestore.offline.meter import Meter
from featurestore.offline.read_ahead import as_they_come

CHUNK_ROWS = 1_000_000
"""Rows that are joined at once, where memory allows it."""
BYTES_PER_ROW = 1_000
"""Memory for each of them, with all that joining and grouping takes."""
GROUPED = 4
"""Chunks that are grouped at once: fewer groupings of more rows take less time."""


def chunk_rows(memory_bytes: int) -> int:
    """Return how many rows to work on at once."""
    return max(1, min(CHUNK_ROWS, memory_bytes // BYTES_PER_ROW))


def chunks(
    rows: ArrowRows,
    pieces: Sequence[Piece],
    aliases: Sequence[str],
    *,
    least: int,
    threads: int,
    meter: Meter,
) -> Iterator[pl.DataFrame]:
    """Yield these columns of the rows of some row groups, in any order.

    Args:
        rows: The source.
        pieces: The row groups.
        aliases: The columns.
        least: The rows of a chunk, but for the last; row groups are read in batches that may be
            larger.
        threads: How many row groups are read at once.
        meter: Counts rows as they are read.
    """
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in as_they_come(lambda p: rows.read(p, aliases), pieces, threads=threads):
        meter.advance(batch.num_rows)
        held.append(batch)
        count += batch.num_rows
        if count >= least:
            yield pl.DataFrame(pa.Table.from_batches(held))
            held, count = [], 0
    if held:
        yield pl.DataFrame(pa.Table.from_batches(held))


def empty_frame(rows: ArrowRows, aliases: Sequence[str]) -> pl.DataFrame:
    """Return a frame without rows that has these columns."""
    return pl.DataFrame(rows.schema(aliases).empty_table())


def reduced(
    parts: Iterable[pl.DataFrame],
    reduce: Callable[[pl.LazyFrame], pl.LazyFrame],
    *,
    held_rows: int,
) -> pl.DataFrame:
    """Return `reduce` of all parts together, of which few are held at a time.

    Args:
        parts: Rows, one part at least.
        reduce: Makes as many rows of rows or fewer, with the same columns in any order; over its
            own results it changes nothing.
        held_rows: How many rows to hold beside as many as have been reduced, twice.
    """
    held: list[pl.DataFrame] = []
    size = known = 0
    for part in parts:
        held.append(part)
        size += part.height
        if size > 2 * known + held_rows:
            held = [_reduced(held, reduce)]
            size = known = held[0].height
    return _reduced(held, reduce)


def _reduced(
    parts: Sequence[pl.DataFrame], reduce: Callable[[pl.LazyFrame], pl.LazyFrame]
) -> pl.DataFrame:
    rows = pl.concat(parts)
    return collect(reduce(rows.lazy()).select(rows.columns))


def collect(query: pl.LazyFrame) -> pl.DataFrame:
    """Return a query's rows, in any order; over frames in memory, too, streaming is faster."""
    return query.collect(engine="streaming")


def usable(keys: Sequence[str]) -> pl.Expr:
    """Return the predicate that a row has a key and an event time."""
    return pl.all_horizontal(pl.col(*keys, "e").is_not_null())


def passes(wanted: RowFilter, *, has_created: bool) -> pl.Expr:
    """Return the predicate that a row passes a materialization's filter."""
    event = pl.col("e")
    bounds = event <= wanted.until_us
    if wanted.after_us is not None:
        bounds &= event > wanted.after_us
    new = []
    if wanted.created_after_us is not None and has_created:
        new += [pl.col("c") > wanted.created_after_us, pl.col("c").is_null()]
    if wanted.or_event_after_us is not None:
        new.append(event > wanted.or_event_after_us)
    return bounds & pl.any_horizontal(new) if new else bounds


def to_batches(frame: pl.DataFrame, columns: Columns) -> list[pa.RecordBatch]:
    """Return a frame's rows with these columns and types."""
    batches: list[pa.RecordBatch] = cast_table(frame.to_arrow(), columns).to_batches()
    return batches

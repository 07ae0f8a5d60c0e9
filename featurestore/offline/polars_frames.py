"""Sources as lazy Polars frames: Arrow reads them, Polars' streaming engine does the rest.

Polars' own Parquet reader takes about the same time, but makes other types and other times of some
files (INT96, dictionaries, UUIDs, fixed-size lists), so that it is not used.
"""

from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from featurestore.offline.arrow_rows import ArrowRows, Piece
from featurestore.offline.declared import Columns, cast_table
from featurestore.offline.engine import RowFilter


def scan_frame(rows: ArrowRows, aliases: Sequence[str], *, threads: int) -> pl.LazyFrame:
    """Return these columns of all rows, in any order, read by several threads while it runs."""
    schema = frame_schema(rows.schema(aliases))
    parts = [rows.pieces[n::threads] for n in range(min(threads, len(rows.pieces)))]
    if not parts:
        return pl.LazyFrame(schema=schema)
    detail = f"{len(rows.pieces):,} row groups of {len(rows.scan.files):,} files by Arrow"
    return pl.concat([_source(rows, part, aliases, schema, detail) for part in parts])


def frame_schema(schema: pa.Schema) -> pl.Schema:
    """Return the types that Polars has for these."""
    return pl.DataFrame(schema.empty_table()).schema


def _source(
    rows: ArrowRows,
    pieces: Sequence[Piece],
    aliases: Sequence[str],
    schema: pl.Schema,
    detail: str,
) -> pl.LazyFrame:
    def read(
        columns: list[str] | None,
        predicate: pl.Expr | None,
        row_count: int | None,
        _batch_rows: int | None,
    ) -> Iterator[pl.DataFrame]:
        for piece in pieces:
            for batch in rows.read(piece, aliases if columns is None else columns):
                frame = pl.DataFrame(batch)
                frame = frame if predicate is None else frame.filter(predicate)
                if row_count is not None:
                    frame = frame.head(row_count)
                    row_count -= frame.height
                yield frame

    return register_io_source(
        read, schema=schema, is_pure=True, explain_name="Parquet", explain_detail=detail
    )


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


def stream(query: pl.LazyFrame, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Yield a query's rows in any order, with these columns and types, while it runs."""
    for frame in query.collect_batches(engine="streaming", maintain_order=False):
        yield from cast_table(frame.to_arrow(), columns).to_batches()


def collect(query: pl.LazyFrame) -> pl.DataFrame:
    """Return a query's rows, in any order."""
    return query.collect(engine="streaming")

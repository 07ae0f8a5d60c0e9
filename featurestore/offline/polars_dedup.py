"""Superseded versions of events with Polars: hashes and versions chunk by chunk, as Arrow reads."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from featurestore.offline.arrow_rows import ArrowRows
from featurestore.offline.dedup import LOWEST, NEVER, Hashes, repeated
from featurestore.offline.polars_frames import empty_frame
from featurestore.offline.timeline import search

Read = Callable[[ArrowRows, Sequence[str], int], Iterator[pl.DataFrame]]
"""Called with (rows, aliases, rows beside); yields these columns, an empty frame at least."""


def find_superseded(rows: ArrowRows, read: Read, *, memory_bytes: int) -> pl.DataFrame:
    """Return `o` of rows with a later version, rising, and `s`, when it was created.

    Args:
        rows: The source, as its scan filters it.
        read: Reads it in chunks.
        memory_bytes: What the engine may use.
    """
    scan = rows.scan
    every = rows if scan.unfiltered is scan else ArrowRows(scan.unfiltered)
    event = [column.alias for column in scan.dedup]
    version = [*(["c"] if scan.created else []), *(["cn"] if scan.ties_by_nanoseconds else [])]

    def hashes(parts: int, part: int) -> Iterator[Hashes]:
        for chunk in read(every, event, 0):
            found = _hashed(chunk, event).get_column("h")
            yield found.filter(found % parts == part).to_numpy()

    known = repeated(hashes, row_count=scan.row_count, memory_bytes=memory_bytes)
    if not len(known):
        return empty_frame(every, ["o"]).with_columns(s=pl.lit(NEVER))
    again = pl.DataFrame({"h": known})
    rivals = pl.concat(
        _hashed(chunk, event).join(again, on="h", how="semi").drop("h")
        for chunk in read(every, [*event, *version, "o"], len(known))
    )
    # Neighbours in one order: shifting rows of each event by itself takes fifteen times as long.
    ordered = rivals.sort([*event, *version, "o"], nulls_last=False)
    created = pl.col("c").shift(-1).fill_null(LOWEST) if scan.created else pl.lit(LOWEST)
    is_superseded = pl.all_horizontal(pl.col(alias) == pl.col(alias).shift(-1) for alias in event)
    superseded = ordered.select("o", s=created, known=is_superseded).filter("known")
    return superseded.select("o", "s").sort("o")


def with_superseded(rows: pl.DataFrame, superseded: pl.DataFrame) -> pl.DataFrame:
    """Return rows with `s`; see `ScanReader.rows`. What is superseded is in the order of `o`."""
    if superseded.is_empty():
        return rows.with_columns(s=pl.lit(NEVER))
    ordinals, known = rows["o"].to_numpy(), superseded["o"].to_numpy()
    places = np.minimum(search(known, ordinals), len(known) - 1)
    times = superseded["s"].to_numpy()[places]
    return rows.with_columns(s=np.where(known[places] == ordinals, times, NEVER))


def _hashed(rows: pl.DataFrame, event: Sequence[str]) -> pl.DataFrame:
    """Return the rows without a null in what tells events apart, with its hash `h`."""
    whole = rows.drop_nulls(event)
    return whole.with_columns(h=whole.select(event).hash_rows())

"""Superseded versions of events in DuckDB: SQL as pure text, and the table that it fills."""

from collections.abc import Iterator
from dataclasses import replace

import duckdb
import numpy as np
import pyarrow as pa

from featurestore.offline.dedup import LOWEST, NEVER, Hashes, repeated
from featurestore.offline.duckdb_sql import ScanText

BATCH_ROWS = 500_000


def make_superseded(con: duckdb.DuckDBPyConnection, rows: ScanText, *, memory_bytes: int) -> None:
    """Fill the table `superseded`: `o` of rows with a later version, and `s`, when it was created.

    What few rows there are, as a rule, is held by DuckDB, which spills it.
    """

    def read(parts: int, part: int) -> Iterator[Hashes]:
        found = con.sql(select_hashes(rows, parts=parts, part=part))
        for batch in found.to_arrow_reader(BATCH_ROWS):
            yield np.array(batch.column("h").to_numpy())

    hashes = repeated(read, row_count=rows.scan.row_count, memory_bytes=memory_bytes)
    con.register("given_hashes", pa.table({"h": hashes}))
    con.execute("CREATE OR REPLACE TEMP TABLE repeated AS SELECT h FROM given_hashes")
    con.unregister("given_hashes")
    con.execute(create_superseded(rows))


def select_hashes(rows: ScanText, *, parts: int, part: int) -> str:
    """Return a SELECT of `h`, the hash of what tells a row's event apart: one part of them."""
    some = f" WHERE h % {parts} = {part}" if parts > 1 else ""
    return f"SELECT h FROM ({_hashed(rows, ordinal=False)}){some}"


def create_superseded(rows: ScanText) -> str:
    """Return SQL for the table `superseded`, from the table `repeated` of hashes."""
    scan = rows.scan
    versions = ["c NULLS FIRST"] if scan.created else []
    versions += ["cn NULLS FIRST"] if scan.ties_by_nanoseconds else []
    event = ", ".join(column.alias for column in scan.dedup)
    created = f"coalesce(lead(c) OVER event, {LOWEST})" if scan.created else str(LOWEST)
    return (
        "CREATE OR REPLACE TEMP TABLE superseded AS SELECT o, s FROM"
        f" (SELECT o, ({created})::BIGINT AS s, lead(o) OVER event AS next"
        f" FROM ({_hashed(rows, ordinal=True)}) SEMI JOIN repeated USING (h)"
        f" WINDOW event AS (PARTITION BY {event} ORDER BY {', '.join([*versions, 'o'])}))"
        " WHERE next IS NOT NULL"
    )


def with_superseded(select: str) -> str:
    """Return a SELECT with `s` beside its columns, of which one is `o`."""
    return (
        f"SELECT r.*, coalesce(p.s, {NEVER}) AS s FROM ({select}) r LEFT JOIN superseded p"
        " ON r.o = p.o"
    )


def _hashed(rows: ScanText, *, ordinal: bool) -> str:
    """Return a SELECT of `h` and what it is the hash of, of all rows of the source."""
    scan = rows.scan
    event = [column.alias for column in scan.dedup]
    every = replace(rows, scan=scan.unfiltered)
    read = [*event, *(["c"] if scan.created and ordinal else [])]
    whole = " AND ".join(f"{alias} IS NOT NULL" for alias in event)
    inner = every.rows(read, ordinal=ordinal)
    return f"SELECT *, hash({', '.join(event)}) AS h FROM ({inner}) WHERE {whole}"

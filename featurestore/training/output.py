"""Training sets as Parquet files."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 500_000


def write_tables(
    tables: Iterable[pa.Table], schema: pa.Schema, path: Path, *, check: Callable[[], None]
) -> None:
    """Write tables as one Parquet file; `check` is called now and then, and may raise."""
    texts = dictionary_columns(schema)
    with pq.ParquetWriter(path, schema, compression="snappy", use_dictionary=texts) as writer:
        for table in tables:
            for start in range(0, max(table.num_rows, 1), ROW_GROUP_ROWS):
                check()
                writer.write_table(table.slice(start, ROW_GROUP_ROWS))


def dictionary_columns(schema: pa.Schema) -> list[str]:
    """Return the columns to be written with a dictionary.

    Dictionaries pay for texts only (0.27 s of CPU for 1M x 13, 0.86 s with).
    """
    return [field.name for field in schema if not pa.types.is_primitive(field.type)]

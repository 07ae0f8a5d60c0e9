"""The part of the sources that a leak test works on: rows of some keys, in their files' order.

Nothing of the user's is written to. Files are read once, batch by batch, and only rows are kept
that the test has a use for; their order, their files and the files' types stay, so that ties fall
as they do in the sources.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.definitions import FileSource
from featurestore.errors import SourceError
from featurestore.offline.files import SourceFile, list_files
from featurestore.offline.instants import Instants
from featurestore.offline.scan_columns import ScanColumn, folder_value
from featurestore.offline.timeline import Ints

if TYPE_CHECKING:
    import polars as pl

SINCE: Final = "\x01since"
UNTIL: Final = "\x01until"
"""No column of a source has such a name."""
MAX_ROWS: Final = 200_000
"""How many rows of one source are worked on."""
BATCH_ROWS: Final = 200_000


class ExtractTooLargeError(Exception):
    """The wanted keys have more rows than are worked on."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.source = source


@dataclass(frozen=True, kw_only=True)
class ExtractedFile:
    """What is kept of one file.

    Attributes:
        origin: The file.
        table: Its columns, with their types.
        rows: The number that each row has in the file.
    """

    origin: SourceFile
    table: pa.Table
    rows: Ints


@dataclass(frozen=True, kw_only=True)
class Extract:
    """What is kept of one source: all of its files that hold a kept row, and one of each schema."""

    source: FileSource
    files: tuple[ExtractedFile, ...]
    hidden: tuple[str, ...]

    @property
    def row_count(self) -> int:
        """Rows of all files."""
        return sum(file.table.num_rows for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows of a source are kept.

    Attributes:
        keys: Each a table of key values by the columns' names and declared types; a row with one
            of them is kept. Where it has the columns `SINCE` and `UNTIL` (microseconds, both
            included), only rows of event times in between. A table without columns wants all rows.
        head: So many rows are kept from the beginning whatever they hold.
    """

    keys: Sequence[pa.Table] = field(default_factory=list)
    head: int = 0


def extract(source: FileSource, root: Path, wanted: Wanted) -> Extract:
    """Read what is wanted of a source.

    Raises:
        ExtractTooLargeError: That is more than `MAX_ROWS` rows.
        SourceError: A file cannot be read.
    """
    listed = list_files(source, root)
    kept: list[ExtractedFile] = []
    schemas: set[pa.Schema] = set()
    count, head = 0, wanted.head
    for file in listed:
        found = _extract_file(source, file, wanted, head=head, room=MAX_ROWS - count)
        head = max(0, head - len(found.rows))
        count += len(found.rows)
        if len(found.rows) or found.table.schema not in schemas:
            schemas.add(found.table.schema)
            kept.append(found)
    return Extract(source=source, files=tuple(kept), hidden=tuple(f.path for f in listed))


def _extract_file(
    source: FileSource, file: SourceFile, wanted: Wanted, *, head: int, room: int
) -> ExtractedFile:
    try:
        # Arrow would read INT96 as nanoseconds, which wrap around outside the years 1678 to 2261.
        with pq.ParquetFile(file.path, coerce_int96_timestamp_unit="us") as reading:
            pieces, numbers, first = [], [np.empty(0, dtype=np.int64)], 0
            for batch in reading.iter_batches(BATCH_ROWS):
                rows = _matching(source, file, batch, wanted, head=head - first)
                room -= len(rows)
                if room < 0:
                    raise ExtractTooLargeError(source.name)
                if len(rows):
                    pieces.append(without_views(pa.table(batch)).take(pa.array(rows)))
                    numbers.append(rows + first)
                first += batch.num_rows
            table = pa.concat_tables(pieces or [without_views(reading.schema_arrow.empty_table())])
    except (pa.ArrowException, OSError) as error:
        text = str(error).partition("\n")[0][:200]
        raise SourceError(
            f"Source {source.name!r}: {file.path} cannot be read ({text}).",
            source=source.name,
            file=file.path,
        ) from None
    return ExtractedFile(
        origin=file, table=table.combine_chunks(), rows=np.concatenate(numbers, dtype=np.int64)
    )


def without_views(table: pa.Table) -> pa.Table:
    """Return a table with large strings and bytes for views of such, which Arrow cannot take."""
    fields = [field.with_type(_VIEWED.get(field.type, field.type)) for field in table.schema]
    return table.cast(pa.schema(fields))


_VIEWED: Final = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def _matching(
    source: FileSource, file: SourceFile, batch: pa.RecordBatch, wanted: Wanted, *, head: int
) -> Ints:
    """Return the positions of wanted rows, in order."""
    chosen = np.zeros(batch.num_rows, dtype=bool)
    chosen[: max(head, 0)] = True
    for keys in wanted.keys:
        if not keys.column_names:
            return np.arange(batch.num_rows)
        columns = {
            name: column_values(source, file, batch, name, keys.schema.field(name).type)
            for name in keys.column_names
            if name not in (SINCE, UNTIL)
        }
        times = _times(source, batch) if SINCE in keys.column_names else None
        chosen[_joined(columns, times, keys)] = True
    return np.flatnonzero(chosen)


def _times(source: FileSource, batch: pa.RecordBatch) -> pa.Array:
    column = batch.column(source.column_in_file(source.event_field))
    return Instants(source).micros(column, up=True)


def _joined(columns: Mapping[str, pa.Array], times: pa.Array | None, keys: pa.Table) -> Ints:
    """Return the positions of rows that have one of some keys, and a time in its span."""
    import polars as pl

    aliases = {name: f"k{number}" for number, name in enumerate(columns)}
    rows = _frame({aliases[name]: column for name, column in columns.items()})
    wanted = _frame({aliases.get(name, name): keys.column(name) for name in keys.column_names})
    rows = rows.with_row_index("n") if columns else pl.DataFrame({"n": range(len(times or ()))})
    if times is None:
        found = rows.join(wanted, on=list(aliases.values()), how="semi")
    else:
        rows = rows.with_columns(e=pl.Series(times.to_numpy(zero_copy_only=False)))
        pairs = (
            rows.join(wanted, on=list(aliases.values()))
            if columns
            else rows.join(wanted, how="cross")
        )
        found = pairs.filter(pl.col("e").is_between(pl.col(SINCE), pl.col(UNTIL)))
    return np.unique(np.asarray(found["n"].to_numpy(), dtype=np.int64))


def _frame(columns: Mapping[str, pa.Array]) -> "pl.DataFrame":
    import polars as pl

    return pl.DataFrame(pa.table(dict(columns)))


def column_values(
    source: FileSource,
    file: SourceFile,
    rows: pa.RecordBatch | pa.Table,
    name: str,
    dtype: pa.DataType,
) -> pa.Array | pa.ChunkedArray:
    """Return a column by its name in definitions, as a type that it widens to."""
    in_file = source.column_in_file(name)
    if in_file in dict(file.partitions):
        scalar = folder_value(source, file, ScanColumn("k0", name, in_file, dtype))
        return pa.array([scalar.as_py()] * rows.num_rows, dtype)
    return decoded(rows.column(in_file)).cast(dtype)


def decoded(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return a column without its dictionary or extension, if it has one."""
    if isinstance(column.type, pa.BaseExtensionType):
        return column.cast(column.type.storage_type)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column

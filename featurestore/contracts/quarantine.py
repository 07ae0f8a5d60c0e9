"""Bad rows, as they are in their files, in a Parquet file of their own with the reasons.

The file appears whole or not at all. It has all columns of the source's files, those of folder
names, and `quarantine_reasons` (names of rules), `quarantine_file` and `quarantine_row` (from 0).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.contracts.rows import Ints, Masks
from featurestore.errors import OutputError, RequestError
from featurestore.offline.arrow_files import opened
from featurestore.offline.arrow_values import taken
from featurestore.offline.atomic import atomic_file
from featurestore.offline.files import SourceFile, list_files
from featurestore.offline.ordinals import first_ordinals
from featurestore.offline.scan import SourceScan

MAX_ROWS: Final = 1_000_000
"""Rows of one file: the first ones; all are counted."""
READ_ROWS: Final = 65_536
WRITE_BYTES: Final = 64 << 20
"""What is held before it is written."""
REASONS: Final = "quarantine_reasons"
FILE: Final = "quarantine_file"
ROW: Final = "quarantine_row"


class BadRows:
    """Where bad rows are and which rules they break, gathered in any order; the first are kept.

    Attributes:
        most: How many are kept.
    """

    def __init__(self, most: int = MAX_ROWS) -> None:
        self.most = most
        self._ordinals: list[Ints] = []
        self._reasons: list[Masks] = []
        self._held = 0

    def add(self, ordinals: Ints, reasons: Masks) -> None:
        """Take some rows; a row may come again with other reasons."""
        if not len(ordinals):
            return
        self._ordinals.append(ordinals)
        self._reasons.append(reasons)
        self._held += len(ordinals)
        if self._held > 2 * self.most:
            self._keep(*self.rows())

    def rows(self) -> tuple[Ints, Masks]:
        """Return the first rows, rising, each once with all its reasons."""
        if not self._ordinals:
            return np.empty(0, np.int64), np.empty(0, np.uint64)
        every = np.concatenate(self._ordinals)
        order = np.argsort(every, kind="stable")
        distinct, starts = np.unique(every[order], return_index=True)
        reasons = np.bitwise_or.reduceat(np.concatenate(self._reasons)[order], starts)
        return distinct[: self.most], reasons[: self.most]

    def _keep(self, ordinals: Ints, reasons: Masks) -> None:
        self._ordinals, self._reasons, self._held = [ordinals], [reasons], len(ordinals)


def write_quarantine(
    scan: SourceScan, rows: tuple[Ints, Masks], names: Sequence[str], target: Path, root: Path
) -> None:
    """Write bad rows with all that their files have of them.

    Args:
        scan: Of the rows.
        rows: Their ordinals, rising, and which rules they break.
        names: The rules' names, by number.
        target: The file to be.
        root: Folder that the source's relative path starts at.

    Raises:
        OutputError: It cannot be written; nothing is there.
        SourceError: A source's file cannot be read any more.
        RequestError: The source would take the file for one of its own; it is not there.
    """
    _make_folder(target.parent)
    parts = list(_parts(scan, rows[0]))
    schema = _schema(scan, [file for file, _ in parts])
    with atomic_file(target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        held: list[pa.RecordBatch] = []
        for batch in _batches(scan, parts, rows, names, schema):
            held.append(batch)
            if sum(b.nbytes for b in held) > WRITE_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema))
                held = []
        if held:
            writer.write_table(pa.Table.from_batches(held, schema))
    if any(Path(f.path).resolve() == target.resolve() for f in list_files(scan.source, root)):
        target.unlink()
        raise RequestError(
            f"Source {scan.source.name!r} would read its own bad rows again from {target.parent}.",
            hint="choose a folder for the quarantine that is no part of the source's path",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"The folder {folder} cannot be made: {reason}.") from None


def _parts(scan: SourceScan, ordinals: Ints) -> Iterator[tuple[SourceFile, slice]]:
    """Yield each file with bad rows, and which of the rows these are."""
    firsts = first_ordinals(scan)
    starts = [int(np.searchsorted(ordinals, firsts[file.path])) for file in scan.files]
    for file, start, stop in zip(scan.files, starts, [*starts[1:], len(ordinals)], strict=True):
        if start < stop:
            yield file, slice(start, stop)


def _batches(
    scan: SourceScan,
    parts: Sequence[tuple[SourceFile, slice]],
    rows: tuple[Ints, Masks],
    names: Sequence[str],
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    firsts = first_ordinals(scan)
    for file, part in parts:
        numbers, reasons = rows[0][part] - firsts[file.path], rows[1][part]
        for first, batch in _file_batches(scan, file, numbers):
            within = slice(*np.searchsorted(numbers, [first, first + batch.num_rows]))
            if within.start < within.stop:
                found = taken(batch, numbers[within] - first)
                told = _told(file, numbers[within], reasons[within], names, schema)
                yield _fitted(found, file, told, schema)


def _file_batches(
    scan: SourceScan, file: SourceFile, numbers: Ints
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the row groups of a file that have rows wanted, with the number of the first row."""
    with opened(scan, file) as reading:
        first = 0
        for group in range(reading.num_row_groups):
            rows = reading.metadata.row_group(group).num_rows
            low, high = np.searchsorted(numbers, [first, first + rows])
            if low < high:
                start = first
                for batch in reading.iter_batches(READ_ROWS, row_groups=[group]):
                    yield start, batch
                    start += batch.num_rows
            first += rows


def _told(
    file: SourceFile,
    numbers: Ints,
    reasons: Masks,
    names: Sequence[str],
    schema: pa.Schema,
) -> list[pa.Array]:
    """Return the columns about the rows, the last of the schema."""
    distinct, inverse = np.unique(reasons, return_inverse=True)
    listed = [[n for i, n in enumerate(names) if int(mask) >> i & 1] for mask in distinct]
    lists = pa.array(listed, schema.types[-3])
    return [
        lists.take(pa.array(inverse.reshape(-1).astype(np.int64))),
        pa.repeat(pa.scalar(file.path, pa.string()), len(numbers)),
        pa.array(numbers, pa.int64()),
    ]


def _schema(scan: SourceScan, files: Sequence[SourceFile]) -> pa.Schema:
    """Return the columns of all files; one whose types do not go together is text."""
    fields: dict[str, pa.Field] = {}
    for file in files:
        with opened(scan, file) as reading:
            found = _as_taken(reading.schema_arrow)
        for field in (*found, *(pa.field(name, pa.string()) for name, _ in file.partitions)):
            plain = pa.field(field.name, field.type)
            fields[field.name] = _common(fields.get(field.name, plain), plain)
    told = (pa.list_(pa.string()), pa.string(), pa.int64())
    for name, dtype in zip((REASONS, FILE, ROW), told, strict=True):
        free = name
        while free in fields:
            free = f"_{free}"
        fields[free] = pa.field(free, dtype)
    return pa.schema(list(fields.values()))


def _as_taken(schema: pa.Schema) -> pa.Schema:
    """Return the types that chosen rows of a file have."""
    (empty,) = schema.empty_table().to_batches() or [pa.RecordBatch.from_pylist([], schema=schema)]
    return taken(empty, np.empty(0, np.int64)).schema


def _common(a: pa.Field, b: pa.Field) -> pa.Field:
    try:
        both = [pa.schema([a]), pa.schema([b])]
        return pa.unify_schemas(both, promote_options="permissive").field(0)
    except pa.ArrowException:
        return pa.field(a.name, pa.string())


def _fitted(
    batch: pa.RecordBatch, file: SourceFile, told: list[pa.Array], schema: pa.Schema
) -> pa.RecordBatch:
    """Return rows with the columns of the whole file; what theirs lacks is null."""
    folders = dict(file.partitions)
    columns = []
    for field in list(schema)[:-3]:
        indices = batch.schema.get_all_field_indices(field.name)
        if indices:
            columns.append(_cast(batch.column(indices[0]), field.type))
        else:
            value = pa.scalar(folders.get(field.name), pa.string())
            columns.append(pa.repeat(value, batch.num_rows).cast(field.type))
    return pa.record_batch([*columns, *told], schema=schema)


def _cast(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    if column.type == dtype:
        return column
    try:
        return column.cast(dtype)
    except pa.ArrowException:
        texts = (None if value is None else str(value) for value in column.to_pylist())
        return pa.array(texts, pa.string()).cast(dtype)

"""The Parquet files of a dataset: written once, with checksums, and hashed on their way."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.datasets.manifest import DataFile
from featurestore.datasets.steps import Step
from featurestore.materialize.failpoints import hit
from featurestore.offline.atomic import umask
from featurestore.training.output import parquet_errors
from featurestore.training.parquet.chunks import dictionary_columns
from featurestore.training.parquet.file import group_rows

FILE_BYTES: Final = 256 << 20
"""A file that has more is not added to: a row group is what one may be larger by."""
GROUP_BYTES: Final = 128 << 20
"""Of a row group, in memory."""
WHAT: Final = "The dataset"


class _Hashing:
    """A new file that is hashed as it is written, as pyarrow writes to one."""

    closed = False

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("xb")
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        self._file.write(content)
        self.size += len(content)
        return len(content)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Make sure that it is on the disk, where nobody may write to it any more."""
        if self.closed:
            return
        self.closed = True
        with self._file as file:
            file.flush()
            os.fchmod(file.fileno(), 0o444 & ~umask())
            os.fsync(file.fileno())

    def abandon(self) -> None:
        """Let go of a file that is of no use."""
        self.closed = True
        with contextlib.suppress(OSError):  # the disk is full, perhaps
            self._file.close()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


class FilesWriter:
    """Writes a table that comes in parts as Parquet files of bounded size.

    Args:
        folder: An empty folder.
        schema: The table's.
        file_bytes: See `FILE_BYTES`.
    """

    def __init__(self, folder: Path, schema: pa.Schema, *, file_bytes: int = FILE_BYTES) -> None:
        self._folder = folder
        self._schema = schema
        self._file_bytes = file_bytes
        self._files: list[DataFile] = []
        self._open: tuple[_Hashing, pq.ParquetWriter] | None = None
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Append rows: at most a row group.

        Raises:
            OutputError: Parquet cannot hold a column, or a value.
        """
        with parquet_errors(WHAT):
            sink, writer = self._open or self._next()
            writer.write_table(table)
        self._rows += table.num_rows
        hit(Step.ROWS_WRITTEN)
        if sink.size >= self._file_bytes:
            self._finish()

    def finish(self) -> tuple[DataFile, ...]:
        """Return the files, all of them complete and on the disk."""
        if self._open is not None or not self._files:
            self._open = self._open or self._next()
            self._finish()
        return tuple(self._files)

    def abandon(self) -> None:
        """Let go of what is open."""
        if self._open is not None:
            self._open[0].abandon()
            self._open = None

    def _next(self) -> tuple[_Hashing, pq.ParquetWriter]:
        sink = _Hashing(self._folder / f"part-{len(self._files) + 1:05}.parquet")
        try:
            writer = _parquet_writer(pa.PythonFile(sink, mode="w"), self._schema)
        except BaseException:
            sink.abandon()
            raise
        self._open, self._rows = (sink, writer), 0
        return self._open

    def _finish(self) -> None:
        assert self._open is not None  # noqa: S101 - both callers have looked
        sink, writer = self._open
        writer.close()
        sink.close()
        self._open = None
        name = f"part-{len(self._files) + 1:05}.parquet"
        file = DataFile(name=name, size=sink.size, rows=self._rows, sha256=sink.sha256)
        self._files.append(file)
        hit(Step.FILE_WRITTEN)


def kept_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema that is read from what a `FilesWriter` of this one wrote.

    Raises:
        OutputError: Parquet has no type for a column.
    """
    buffer = pa.BufferOutputStream()
    with parquet_errors(WHAT):
        _parquet_writer(buffer, schema).close()
    return pq.read_schema(pa.BufferReader(buffer.getvalue()))


def _parquet_writer(sink: pa.NativeFile, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        sink,
        schema,
        compression="snappy",
        use_dictionary=dictionary_columns(schema),
        write_page_checksum=True,
    )


def row_groups(table: pa.Table, *, group_bytes: int = GROUP_BYTES) -> Iterator[pa.Table]:
    """Divide a table into parts of which each becomes a row group; one at least."""
    rows = group_rows(table.num_rows, table.nbytes, most=group_bytes)
    for start in range(0, max(table.num_rows, 1), rows):
        yield table.slice(start, rows)


def write_manifest(path: Path, content: bytes) -> None:
    """Write a manifest in place of one that nobody has seen yet; it is on the disk afterwards."""
    path.unlink(missing_ok=True)
    sink = _Hashing(path)
    sink.write(content)
    sink.close()

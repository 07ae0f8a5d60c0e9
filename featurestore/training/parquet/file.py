"""A Parquet file whose columns are encoded by several threads.

pyarrow has one thread for it, which takes a quarter of the time that computing the training set
takes. Here each column of a row group is encoded apart from the others (`chunks`), and the footer
is put together of what is said of each. All else that the footer says, as the schema and Arrow's
own, is what pyarrow writes for a file without rows.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final

import pyarrow as pa

from featurestore import __version__
from featurestore.training.parquet.chunks import MAGIC, Chunk, encoder_of, written
from featurestore.training.parquet.compact import Reader, Struct

GROUP_ROWS: Final = 500_000
COLUMN_BYTES: Final = 128 << 20
"""Row groups have fewer rows where a column of one would take more: columns are encoded whole."""

_NUM_ROWS, _ROW_GROUPS, _CREATED_BY = 3, 4, 6
"""Fields of FileMetaData."""


class ParquetFile(AbstractContextManager["ParquetFile"]):
    """Writes tables as one Parquet file; what it holds does not depend on the threads.

    It has no footer, and is none, until the end of a context that raised nothing.

    Args:
        path: The file.
        schema: The tables'.
        threads: How many encode. Each holds one column of a row group besides what is written.

    Raises:
        pyarrow.ArrowException: Parquet has no type for a column.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, threads: int) -> None:
        _, self._empty = written(schema.empty_table())
        self._columns = [encoder_of(field) for field in schema]
        self._threads = threads
        self._groups: list[bytes] = []
        self._rows = 0
        self._file = path.open("wb")
        self._at = self._file.write(MAGIC)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="parquet")

    def write(self, table: pa.Table, *, check: Callable[[], None]) -> None:
        """Write a table as row groups.

        Args:
            table: The table.
            check: Called before each row group; it may raise.

        Raises:
            pyarrow.ArrowException: Parquet cannot hold a value.
            OSError: The file cannot be written.
        """
        if not table.num_rows:
            return
        largest = max(column.nbytes for column in table.columns)
        rows = group_rows(table.num_rows, largest, most=COLUMN_BYTES)
        for start in range(0, table.num_rows, rows):
            check()
            self._write_group(table.slice(start, rows))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        with self._file:
            if error is None:
                self._file.write(self._end())

    def _write_group(self, group: pa.Table) -> None:
        begin, raw_bytes = self._at, 0
        columns: list[bytes] = []
        for chunk in self._encoded(group):
            columns += chunk.described(self._at)
            raw_bytes += chunk.raw_bytes
            for part in chunk.pages:
                self._at += self._file.write(part)
        described = Struct().structs(1, columns).i64(2, raw_bytes).i64(3, group.num_rows)
        self._groups.append(described.i64(5, begin).i64(6, self._at - begin).end())
        self._rows += group.num_rows

    def _encoded(self, group: pa.Table) -> Iterator[Chunk]:
        """Yield the columns, of which some are encoded ahead of who writes them."""
        ahead: deque[Future[Chunk]] = deque()
        for encoder, values in zip(self._columns, group.columns, strict=True):
            ahead.append(self._pool.submit(encoder.encoded, values))
            if len(ahead) > self._threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _end(self) -> bytes:
        """Return what comes after the last page: the footer, its length and the magic bytes."""
        data, out = Reader(self._empty), Struct()
        for number, kind in data.fields():
            value = data.raw(kind)
            if number == _NUM_ROWS:
                out.i64(number, self._rows)
            elif number == _ROW_GROUPS:
                out.structs(number, self._groups)
            elif number == _CREATED_BY:
                out.binary(number, f"featurestore version {__version__}".encode())
            else:
                out.raw(number, kind, value)
        footer = out.end()
        return footer + len(footer).to_bytes(4, "little") + MAGIC


def group_rows(rows: int, held: int, *, most: int) -> int:
    """Return how many rows a row group has, 1 or more, so that it holds about `most` bytes.

    Args:
        rows: How many there are.
        held: How many bytes all of them take.
        most: Bytes of a row group.
    """
    return min(GROUP_ROWS, max(1, most * rows // max(1, held)))

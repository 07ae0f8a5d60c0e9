"""Columns as a Parquet file holds them: pages, and what the footer says of these.

Columns of numbers and times are encoded here, all others by pyarrow. Their values lie in a page as
they lie in memory (encoding PLAIN), but for nulls, which are left out, and which ones these are is
a run of bits (bit-packed, of the encoding RLE) that are Arrow's own. To find them out one by one is
what libraries need more than half of their time for.

Sources: https://github.com/apache/parquet-format/blob/master/Encodings.md for pages and
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift for fields.
"""

import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.training.parquet.compact import Changes, Reader, Struct, varint

MAGIC: Final = b"PAR1"
_END_BYTES: Final = 8
"""What follows a footer: its length in four bytes, and the magic bytes."""
PAGE_ROWS: Final = 1 << 17
SAMPLE_ROWS: Final = 1 << 13
"""So many values of a chunk show whether it is worth compressing."""
WORTH: Final = 0.9
"""It is if they take no more than this share of what they took."""
COMPRESSION: Final = "snappy"

_DATA_PAGE, _PLAIN, _RLE, _UNCOMPRESSED, _SNAPPY = 0, 0, 3, 0, 1
_ROW_GROUPS, _COLUMNS, _TOTAL_BYTES = 4, 1, 2
"""Fields of FileMetaData, and of RowGroup."""
_PHYSICAL: Final = {(False, 32): 1, (False, 64): 2, (True, 32): 4, (True, 64): 5}
"""Whether a type is of floats, and its bits -> its number: INT32, INT64, FLOAT, DOUBLE."""

Values: TypeAlias = npt.NDArray[Any]
Marks: TypeAlias = npt.NDArray[np.bool_]


class Chunk(NamedTuple):
    """A column of a row group, encoded.

    Attributes:
        pages: The bytes of its pages, in parts.
        raw_bytes: How many these were before they were compressed.
        described: Returns the ColumnChunk structs, one for each leaf of the column, if the pages
            begin at a place in the file.
    """

    pages: list[Any]
    raw_bytes: int
    described: Callable[[int], list[bytes]]


class ColumnEncoder(Protocol):
    """Encodes the values of a column of a table."""

    def encoded(self, values: pa.ChunkedArray) -> Chunk:
        """Return one value or more, encoded.

        Raises:
            pyarrow.ArrowException: Parquet cannot hold a value.
        """
        ...


def encoder_of(field: pa.Field) -> ColumnEncoder:
    """Return what encodes a field's columns."""
    return _PlainColumn(field) if _is_plain(field.type) else _OtherColumn(field)


def _is_plain(dtype: pa.DataType) -> bool:
    """Return whether Parquet's values of a type are Arrow's, bit by bit, and in their order."""
    return sys.byteorder == "little" and (
        pa.types.is_int32(dtype)
        or pa.types.is_int64(dtype)
        or pa.types.is_float32(dtype)
        or pa.types.is_float64(dtype)
        or pa.types.is_date32(dtype)
        or (pa.types.is_timestamp(dtype) and dtype.unit in ("us", "ns"))
    )


class _PlainColumn(ColumnEncoder):
    def __init__(self, field: pa.Field) -> None:
        is_float, bits = pa.types.is_floating(field.type), field.type.bit_width
        self._name = field.name
        self._is_nullable = field.nullable
        self._physical = _PHYSICAL[is_float, bits]
        self._dtype = np.dtype(f"{'f' if is_float else 'i'}{bits // 8}")

    def encoded(self, values: pa.ChunkedArray) -> Chunk:
        column, pages = _contiguous(values), _Pages()
        if column.null_count and not self._is_nullable:
            raise pa.ArrowInvalid(f"Column {self._name!r} is declared non-nullable but has nulls")
        for start in range(0, len(column), PAGE_ROWS):
            page = column.slice(start, PAGE_ROWS)
            valid = _valid(page)
            present = self._values(page)
            if valid is not None:
                present = present[np.flatnonzero(valid)]  # in two thirds of the time of marks
            pages.add(len(page), self._levels(len(page), valid), present)

        def described(at: int) -> list[bytes]:
            data = Struct().i32(1, self._physical).i32s(2, [_PLAIN, _RLE]).texts(3, [self._name])
            data.i32(4, _SNAPPY if pages.is_compressed else _UNCOMPRESSED).i64(5, len(column))
            data.i64(6, pages.raw_bytes).i64(7, pages.stored_bytes).i64(9, at)
            data.struct(12, pages.statistics(column.null_count))
            return [Struct().i64(2, 0).struct(3, data.end()).end()]

        return Chunk(pages.parts, pages.raw_bytes, described)

    def _levels(self, rows: int, valid: Marks | None) -> bytes:
        """Return which values are present, behind the length of that; nothing if all must be."""
        if not self._is_nullable:
            return b""
        if valid is None or not valid.any():
            run = varint(rows << 1) + bytes([valid is None])
        else:
            run = varint((rows + 7) // 8 << 1 | 1) + np.packbits(valid, bitorder="little").tobytes()
        return len(run).to_bytes(4, "little") + run

    def _values(self, page: pa.Array) -> Values:
        begin = page.offset * self._dtype.itemsize
        return np.frombuffer(page.buffers()[1], self._dtype, count=len(page), offset=begin)


class _Pages:
    """The pages of a chunk of plain values."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.is_compressed: bool | None = None
        self.raw_bytes = self.stored_bytes = 0
        self._least: Any = None
        self._greatest: Any = None

    def add(self, rows: int, levels: bytes, values: Values) -> None:
        """Add a page of so many rows."""
        if self.is_compressed is None:
            self.is_compressed = _is_worth_compressing(values)
        raw = len(levels) + values.nbytes
        parts: list[Any] = [levels, values]
        if self.is_compressed:
            whole = np.concatenate([np.frombuffer(levels, np.uint8), values.view(np.uint8)])
            parts = [pa.compress(whole, COMPRESSION, asbytes=False)]
        stored = sum(memoryview(part).nbytes for part in parts)
        page = Struct().i32(1, rows).i32(2, _PLAIN).i32(3, _RLE).i32(4, _RLE)
        header = Struct().i32(1, _DATA_PAGE).i32(2, raw).i32(3, stored).struct(5, page.end()).end()
        self.parts += [header, *parts]
        self.raw_bytes += len(header) + raw
        self.stored_bytes += len(header) + stored
        self._add_to_bounds(values)

    def _add_to_bounds(self, values: Values) -> None:
        """Raise and lower the greatest and the least value; NaN is neither."""
        if not len(values):
            return
        least, greatest = np.fmin.reduce(values), np.fmax.reduce(values)
        if least == least:  # noqa: PLR0124 - NaN is not: then all are
            self._least = least if self._least is None else min(self._least, least)
            self._greatest = greatest if self._greatest is None else max(self._greatest, greatest)

    def statistics(self, null_count: int) -> bytes:
        """Return the Statistics struct of all pages."""
        found = Struct().i64(3, null_count)
        if self._least is not None:
            # Of zeros the format says that the least is -0.0 and the greatest 0.0.
            is_float = self._least.dtype.kind == "f"
            greatest = self._greatest + 0.0 if is_float else self._greatest
            least = -(0.0 - self._least) if is_float else self._least
            found.binary(5, greatest.tobytes()).binary(6, least.tobytes())
        return found.end()


def _is_worth_compressing(values: Values) -> bool:
    sample = values[:SAMPLE_ROWS]
    if not len(sample):  # of later pages nothing is known
        return True
    return len(pa.compress(sample, COMPRESSION, asbytes=True)) <= WORTH * sample.nbytes


def _valid(page: pa.Array) -> Marks | None:
    """Return which values are not null; None if all are not."""
    if not page.null_count:
        return None
    bits = np.frombuffer(page.buffers()[0], np.uint8)
    first = page.offset // 8
    marks = np.unpackbits(bits[first : (page.offset + len(page) + 7) // 8], bitorder="little")
    return marks[page.offset - 8 * first :][: len(page)].view(np.bool_)


def _contiguous(values: pa.ChunkedArray) -> pa.Array:
    return values.chunk(0) if values.num_chunks == 1 else values.combine_chunks()


class _OtherColumn(ColumnEncoder):
    """Has pyarrow write a file of the column alone, and takes its pages."""

    def __init__(self, field: pa.Field) -> None:
        self._schema = pa.schema([field])

    def encoded(self, values: pa.ChunkedArray) -> Chunk:
        pages, footer = written(pa.table([values], schema=self._schema))
        columns, raw_bytes = _only_row_group(footer)

        def described(at: int) -> list[bytes]:
            def moved(offset: int) -> int:
                return offset and offset - len(MAGIC) + at  # 0 stands for none

            places: Changes = {9: moved, 10: moved, 11: moved, 14: moved}
            changes: Changes = {2: moved, 3: places, 4: moved, 6: moved}
            return [chunk.changed(changes) for chunk in Reader(columns).structs()]

        return Chunk([pages], raw_bytes, described)


def written(table: pa.Table) -> tuple[memoryview, bytes]:
    """Return the pages and the footer of a file of at most one row group.

    Raises:
        pyarrow.ArrowException: Parquet has no type for a column, or cannot hold a value.
    """
    sink = pa.BufferOutputStream()
    texts = dictionary_columns(table.schema)
    with pq.ParquetWriter(
        sink, table.schema, compression=COMPRESSION, use_dictionary=texts
    ) as writer:
        if table.num_rows:
            writer.write_table(table, row_group_size=table.num_rows)
    file = memoryview(sink.getvalue())
    end = len(file) - _END_BYTES
    begin = end - int.from_bytes(file[end : end + 4], "little")
    return file[len(MAGIC) : begin], bytes(file[begin:end])


def dictionary_columns(schema: pa.Schema) -> list[str]:
    """Return the columns to be written with a dictionary.

    Dictionaries pay for texts only (0.27 s of CPU for 1M x 13, 0.86 s with).
    """
    return [field.name for field in schema if not pa.types.is_primitive(field.type)]


def _only_row_group(footer: bytes) -> tuple[bytes, int]:
    """Return its ColumnChunk structs, as a list, and how many bytes it has uncompressed."""
    data, columns, raw_bytes = Reader(footer), b"", 0
    for number, kind in data.fields():
        if number != _ROW_GROUPS:
            data.raw(kind)
            continue
        for group in data.structs():
            for of_group, kind_of_it in group.fields():
                value = group.raw(kind_of_it)
                if of_group == _COLUMNS:
                    columns = value
                elif of_group == _TOTAL_BYTES:
                    raw_bytes = Reader(value).integer()
    return columns, raw_bytes

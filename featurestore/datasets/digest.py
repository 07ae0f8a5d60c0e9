"""A digest of a table's content: of its values, not of how they happen to be held.

It does not depend on how the table is cut into chunks or files, on dictionary encoding, on large or
view variants of a type, on what lies in memory under a null or beyond the last row, or on the bits
of a NaN. It does depend on every value, on nulls, on the order of rows, and on the columns' names,
types and order.

Definition (version 1). Integers are little-endian. Each column is a tree of streams of bytes, to
which its rows are appended one after the other:

- every type: a stream of validity, one byte a row, 1 for a value and 0 for null;
- a type of fixed width (numbers, decimals, times, bool as one byte): a stream of the values, as
  Arrow has them in memory, zero bytes for null. Any NaN is the one with only the first bit of its
  mantissa set, without sign; -0.0 is not 0.0;
- strings and binary: a stream of lengths in bytes (int64, 0 for null), and one of their bytes;
- lists and maps: a stream of lengths in items (int64, 0 for null), and the streams of their items,
  without those under nulls. A map's items are structs of key and value;
- structs: the streams of their fields, null where the struct is.

A column's digest is the SHA-256 of the SHA-256 of its streams, in this order. The table's digest is
the SHA-256 of `{"columns":[[name,type,digest],...],"rows":n,"version":1}`, as JSON in ASCII without
spaces; types are written as `logical_type` does, digests in hexadecimal.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.errors import UnsupportedError
from featurestore.types import Binary, String, base_type

VERSION: Final = 1
Bytes = npt.NDArray[np.uint8]
_NANS: Final = {
    pa.float16(): (np.float16, np.uint16, 0x7E00),
    pa.float32(): (np.float32, np.uint32, 0x7FC00000),
    pa.float64(): (np.float64, np.uint64, 0x7FF8000000000000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDigest:
    """One column of a table.

    Attributes:
        name: Its name.
        type: Its type, as `logical_type` writes it.
        digest: 64 hexadecimal digits.
    """

    name: str
    type: str
    digest: str


class TableDigest:
    """The digest of a table that comes in parts.

    Args:
        schema: The table's.

    Raises:
        UnsupportedError: A column has a type that has no digest (a union).
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._names = list(schema.names)
        self._types = [logical_type(field.type) for field in schema]
        self._columns = [_streams(field.type, field.name) for field in schema]
        self.rows = 0

    def update(self, part: pa.Table | pa.RecordBatch) -> None:
        """Append rows; `part` has the columns of the schema, types of the same logical kind."""
        self.rows += part.num_rows
        for streams, column in zip(self._columns, part.columns, strict=True):
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                streams.update(plain(chunk))

    def columns(self) -> tuple[ColumnDigest, ...]:
        """Return the columns' digests, of the rows so far."""
        known = zip(self._names, self._types, self._columns, strict=True)
        return tuple(
            ColumnDigest(name=name, type=dtype, digest=_of_streams(streams))
            for name, dtype, streams in known
        )

    def hexdigest(self) -> str:
        """Return the digest of the rows so far."""
        return digest_of(self.columns(), rows=self.rows)


def digest_of(columns: Sequence[ColumnDigest], *, rows: int) -> str:
    """Return the digest of a table of these columns, in this order."""
    listed = [[column.name, column.type, column.digest] for column in columns]
    document = {"columns": listed, "rows": rows, "version": VERSION}
    text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def logical_type(dtype: pa.DataType) -> str:
    """Return a type's name without what only says how its values are held.

    Other than for features, units and zones of times are a part of it: a spine's columns are kept
    as they are.
    """
    dtype = stored_as(dtype)
    if pa.types.is_map(dtype):
        return f"map<{logical_type(dtype.key_type)}, {logical_type(dtype.item_type)}>"
    if pa.types.is_struct(dtype):
        return f"struct<{json.dumps([[f.name, logical_type(f.type)] for f in dtype])}>"
    if pa.types.is_list(base_type(dtype)):
        return f"list<{logical_type(dtype.value_type)}>"
    if base_type(dtype) == String:
        return "string"
    return "binary" if base_type(dtype) == Binary else str(dtype)


def stored_as(dtype: pa.DataType) -> pa.DataType:
    """Return the type that dictionaries, run ends and extension types are about."""
    if pa.types.is_dictionary(dtype) or pa.types.is_run_end_encoded(dtype):
        return stored_as(dtype.value_type)
    is_extension = isinstance(dtype, pa.BaseExtensionType)
    return stored_as(dtype.storage_type) if is_extension else dtype


def plain(array: pa.Array) -> pa.Array:
    """Return an array without dictionaries, run ends, extension types and views; no copy if so."""
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if pa.types.is_dictionary(array.type):
        return plain(array.dictionary_decode())
    if pa.types.is_run_end_encoded(array.type):
        return plain(pc.run_end_decode(array))
    if pa.types.is_string_view(array.type) or pa.types.is_binary_view(array.type):
        return array.cast(pa.large_binary())
    return array.cast(pa.binary()) if pa.types.is_fixed_size_binary(array.type) else array


class Streams(Protocol):
    """The streams of a column, or of a part of a nested one."""

    def update(self, array: pa.Array) -> None:
        """Append the rows of a `plain` array."""
        ...

    def digests(self) -> Iterator[bytes]:
        """Yield the digest of every stream, in order."""
        ...


class _Validity:
    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, array: pa.Array) -> None:
        self._hash.update(validity(array).data)

    def digests(self) -> Iterator[bytes]:
        yield self._hash.digest()


class _Fixed(_Validity):
    def __init__(self) -> None:
        super().__init__()
        self._values = hashlib.sha256()

    def update(self, array: pa.Array) -> None:
        super().update(array)
        self._values.update(fixed_bytes(array).data)

    def digests(self) -> Iterator[bytes]:
        yield from super().digests()
        yield self._values.digest()


class _Text(_Validity):
    def __init__(self) -> None:
        super().__init__()
        self._lengths = hashlib.sha256()
        self._bytes = hashlib.sha256()

    def update(self, array: pa.Array) -> None:
        super().update(array)
        self._lengths.update(_integers(pc.binary_length(array)).data)
        self._bytes.update(_text_bytes(array.drop_null() if array.null_count else array))

    def digests(self) -> Iterator[bytes]:
        yield from super().digests()
        yield self._lengths.digest()
        yield self._bytes.digest()


class _List(_Validity):
    def __init__(self, items: Streams) -> None:
        super().__init__()
        self._lengths = hashlib.sha256()
        self._items = items

    def update(self, array: pa.Array) -> None:
        super().update(array)
        known = array.drop_null() if array.null_count else array
        lengths = np.zeros(len(array), np.int64)
        lengths[validity(array).view(np.bool_)] = _integers(_lengths(known))
        self._lengths.update(lengths.data)
        self._items.update(plain(_items(known)))

    def digests(self) -> Iterator[bytes]:
        yield from super().digests()
        yield self._lengths.digest()
        yield from self._items.digests()


class _Struct(_Validity):
    def __init__(self, fields: Sequence[Streams]) -> None:
        super().__init__()
        self._fields = fields

    def update(self, array: pa.Array) -> None:
        super().update(array)
        for streams, values in zip(self._fields, array.flatten(), strict=True):
            streams.update(plain(values))

    def digests(self) -> Iterator[bytes]:
        yield from super().digests()
        for streams in self._fields:
            yield from streams.digests()


def _streams(dtype: pa.DataType, column: str) -> Streams:
    dtype = stored_as(dtype)
    if pa.types.is_union(dtype):
        raise UnsupportedError(
            f"Column {column!r} is {str(dtype)[:80]}, of which there is no digest.",
            hint="cast or drop the column",
        )
    if pa.types.is_nested(dtype):
        return _nested_streams(dtype, column)
    if pa.types.is_null(dtype):
        return _Validity()
    return _Text() if base_type(dtype) in (String, Binary) else _Fixed()


def _nested_streams(dtype: pa.DataType, column: str) -> Streams:
    if pa.types.is_map(dtype):
        return _List(_Struct([_streams(t, column) for t in (dtype.key_type, dtype.item_type)]))
    if pa.types.is_struct(dtype):
        return _Struct([_streams(field.type, column) for field in dtype])
    return _List(_streams(dtype.value_type, column))


def _of_streams(streams: Streams) -> str:
    return hashlib.sha256(b"".join(streams.digests())).hexdigest()


def validity(array: pa.Array) -> Bytes:
    """Return a byte for each row, 1 where it has a value."""
    if array.null_count == 0:
        return np.ones(len(array), np.uint8)
    return np.asarray(array.is_valid().cast(pa.uint8()))


def fixed_bytes(array: pa.Array) -> Bytes:
    """Return the values of a type of fixed width as (rows, bytes), in the digest's form."""
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    width = array.type.bit_width // 8
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros((len(array), width), np.uint8)
    start, stop = (width * row for row in (array.offset, array.offset + len(array)))
    values = _with_one_nan(np.frombuffer(buffer, np.uint8)[start:stop], array.type)
    if array.null_count:
        values = _without_nulls(values, width, validity(array))
    return values.reshape(len(array), width)


def _without_nulls(values: Bytes, width: int, valid: Bytes) -> Bytes:
    word = math.gcd(width, 8)  # not byte by byte, which takes five times as long
    rows = values.view(f"u{word}").reshape(len(valid), width // word)
    return np.asarray(rows * valid[:, None].astype(rows.dtype)).view(np.uint8)


def _with_one_nan(values: Bytes, dtype: pa.DataType) -> Bytes:
    if dtype not in _NANS:
        return values
    kind, integer, nan = _NANS[dtype]
    is_nan = np.isnan(values.view(kind))
    if not is_nan.any():
        return values
    bits = values.view(integer).copy()
    bits[is_nan] = nan
    return bits.view(np.uint8)


def _text_bytes(array: pa.Array) -> Any:
    """Return the bytes of all values of an array without nulls, one after the other."""
    _, offsets, data = array.buffers()
    if not len(array) or data is None:
        return b""
    is_large = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    ends = np.frombuffer(offsets, np.int64 if is_large else np.int32)
    first, last = ends[array.offset], ends[array.offset + len(array)]
    return memoryview(data)[int(first) : int(last)]


def _integers(array: pa.Array) -> npt.NDArray[np.int64]:
    return np.asarray(array.fill_null(0).cast(pa.int64()))


def _lengths(array: pa.Array) -> pa.Array:
    if pa.types.is_map(array.type):
        offsets = np.asarray(array.offsets)
        return pa.array(np.diff(offsets))
    return pc.list_value_length(array)


def _items(array: pa.Array) -> pa.Array:
    """Return the items of all lists of an array without nulls, one after the other."""
    if not pa.types.is_map(array.type):
        return array.flatten()
    ends = np.asarray(array.offsets)
    first, last = int(ends[0]), int(ends[-1])
    parts = [part.slice(first, last - first) for part in (array.keys, array.items)]
    return pa.StructArray.from_arrays(parts, names=["key", "value"])

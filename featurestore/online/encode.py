"""Arrow columns -> row bytes, a batch at a time (the layout is in `featurestore.online.layout`)."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from featurestore.errors import StoreDataError
from featurestore.online.layout import (
    END_DTYPE,
    FIXED_DTYPES,
    MAX_ROW_BYTES,
    PUSHED,
    ROW,
    SIGN_BIT,
    Array,
    ColumnType,
    RowLayout,
)
from featurestore.types import base_type, parse_type, type_name

_COUNT_BYTES: Final = 4


def encode_rows(
    layout: RowLayout,
    event_us: Array,
    created_us: Array | None,
    created_valid: Array | None,
    columns: Sequence[object],
    *,
    is_pushed: bool = False,
) -> list[bytes]:
    """Return the bytes of each row; see `RowCodec.encode`."""
    arrays = [_declared(c, t, i) for i, (c, t) in enumerate(_pairs(columns, layout))]
    rows = len(event_us)
    if any(len(array) != rows for array in arrays):
        raise StoreDataError(f"{rows} event times for columns of {[len(a) for a in arrays]} rows.")
    heads = np.zeros(rows, layout.record)
    heads["format"], heads["schema"] = PUSHED if is_pushed else ROW, layout.schema_id
    heads["event"] = version_half(event_us)
    if created_us is not None:
        created = version_half(created_us)
        heads["created"] = created if created_valid is None else np.where(created_valid, created, 0)
    heads["nulls"] = _bitmaps(arrays, rows)
    tails = _fill(heads, arrays, layout)
    whole: list[bytes] = heads.view(f"V{layout.head_bytes}").tolist()
    return list(map(b"".join, zip(whole, *tails, strict=True))) if tails else whole


def version_half(micros: Array) -> Array:
    """Return times as unsigned numbers in the same order: half of a row's version."""
    return np.asarray(micros, np.int64).view(np.uint64) ^ np.uint64(SIGN_BIT)


def _pairs(columns: Sequence[object], layout: RowLayout) -> list[tuple[object, ColumnType]]:
    if len(columns) != len(layout.types):
        raise StoreDataError(f"{len(columns)} columns for a view of {len(layout.types)}.")
    return list(zip(columns, layout.types, strict=True))


def _declared(column: object, expected: ColumnType, position: int) -> pa.Array:
    array = plain_array(column)
    wanted = parse_type(expected.name)
    try:
        return array if array.type == wanted else array.cast(wanted)
    except pa.ArrowException as error:
        found = type_name(array.type)
        raise StoreDataError(
            f"Column {position} is {found} and cannot be stored as {expected.name}: {error}"
        ) from None


def _bitmaps(arrays: Sequence[pa.Array], rows: int) -> Array:
    bits = np.zeros((rows, len(arrays)), bool)
    for i, array in enumerate(arrays):
        if array.null_count:
            bits[:, i] = null_mask(array)
    packed: Array = np.packbits(bits, axis=1, bitorder="little")
    return packed


def _fill(heads: Array, arrays: Sequence[pa.Array], layout: RowLayout) -> list[list[bytes]]:
    tails = []
    end = np.zeros(len(heads), np.int64)
    for i, (array, kind) in enumerate(zip(arrays, layout.types, strict=True)):
        if kind.fixed is not None:
            heads[f"c{i}"] = number_values(array)
            continue
        tail = raw_values(array) if kind.element is None else _list_values(array, kind.element)
        end += np.fromiter(map(len, tail), np.int64, len(tail))
        _check_size(end, i)
        heads[f"c{i}"] = end
        tails.append(tail)
    return tails


def _check_size(end: Array, column: int) -> None:
    if len(end) and int(end.max()) > MAX_ROW_BYTES:
        raise StoreDataError(
            f"Row {int(np.argmax(end))} of the batch reaches {int(end.max()):,} bytes with column"
            f" {column}; a stored row has at most {MAX_ROW_BYTES:,}."
        )


def _list_values(array: pa.ListArray, element: ColumnType) -> list[bytes]:
    """Return the bytes of each list; none of a null."""
    offsets = array.offsets.to_numpy()
    first = int(offsets[0]) if len(offsets) else 0
    child = array.values.slice(first, (int(offsets[-1]) if len(offsets) else 0) - first)
    bounds = pairwise((offsets - first).tolist())
    null = null_mask(child) if child.null_count else None
    parts = _Elements(child, element)
    valid = array.is_valid().to_numpy(zero_copy_only=False).tolist()
    return [
        _list_head(a, b, null) + parts.between(a, b) if ok else b""
        for (a, b), ok in zip(bounds, valid, strict=True)
    ]


def _list_head(start: int, end: int, null: Array | None) -> bytes:
    count = (end - start).to_bytes(_COUNT_BYTES, "little")
    if null is None or not null[start:end].any():
        return b"\0" + count
    return b"\1" + count + np.packbits(null[start:end], bitorder="little").tobytes()


class _Elements:
    """The elements of all lists of a column, and the bytes of some of them."""

    def __init__(self, child: pa.Array, element: ColumnType) -> None:
        self._width = 0
        if element.fixed is None:
            self._raw = raw_values(child)
        else:
            self._block = number_values(child).tobytes()
            self._width = np.dtype(element.fixed).itemsize

    def between(self, start: int, end: int) -> bytes:
        if self._width:
            return self._block[start * self._width : end * self._width]
        raw = self._raw[start:end]
        ends = np.cumsum([len(r) for r in raw], dtype=END_DTYPE)
        return ends.tobytes() + b"".join(raw)


def plain_array(column: object) -> pa.Array:
    """Return anything with the Arrow PyCapsule interface as one array of a plain type."""
    if hasattr(column, "__arrow_c_stream__") and not isinstance(column, pa.ChunkedArray):
        column = pa.chunked_array(column)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    array = column if isinstance(column, pa.Array) else pa.array(column)
    if pa.types.is_timestamp(array.type):
        return array  # its unit and zone mean something
    wanted = base_type(array.type)
    return array if array.type == wanted else array.cast(wanted)


def exported_array(column: object) -> pa.Array | None:
    """Return `plain_array`; None when Arrow finds no type for the values, as objects of pandas."""
    try:
        return plain_array(column)
    except (pa.ArrowException, OverflowError):
        return None


def is_type(array: pa.Array, name: str) -> bool:
    """Whether an array is of the type called `name`."""
    return bool(type_name(array.type) == name)


def is_number(array: pa.Array) -> bool:
    """Whether `number_values` can be taken: bool, integers, floats and date32."""
    kind = array.type
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_date32)
    return any(test(kind) for test in tests)


def valid_mask(array: pa.Array) -> Array | None:
    """Return where an array has a value; None when it has one everywhere."""
    return ~null_mask(array) if array.null_count else None


def null_mask(array: pa.Array) -> Array:
    """Return where an array is null."""
    validity = array.buffers()[0]
    if validity is None:
        return np.full(len(array), bool(array.null_count))  # all values of Arrow's null type
    # From its buffer: is_null() would import Arrow's functions first, and to_numpy() even pandas.
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
    nulls: Array = bits[array.offset : array.offset + len(array)] == 0
    return nulls


def number_values(array: pa.Array) -> Array:
    """Return the values of a column of fixed width, 0 where null; decimals as 16 bytes each."""
    if pa.types.is_boolean(array.type):
        values = _buffer(array.cast(pa.uint8())).view(np.bool_)
    else:
        values = _buffer(array)
    if array.null_count:
        values = values.copy()
        values[null_mask(array)] = np.zeros((), values.dtype)
    return values


def _buffer(array: pa.Array) -> Array:
    dtype = np.dtype(f"V{array.type.byte_width}")
    if not pa.types.is_decimal(array.type):
        dtype = np.dtype(FIXED_DTYPES.get(type_name(array.type), array.type.to_pandas_dtype()))
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array), dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * dtype.itemsize)


def raw_values(array: pa.Array) -> list[bytes]:
    """Return the bytes of each string or binary; none of a null."""
    if array.null_count:
        empty: Any = "" if pa.types.is_string(array.type) else b""
        array = array.fill_null(empty)
    _, offsets, data = array.buffers()
    if data is None or not len(array):
        return [b""] * len(array)
    bounds = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4)
    first, last = int(bounds[0]), int(bounds[-1])
    block = data.slice(first, last - first).to_pybytes()
    return [block[a:b] for a, b in pairwise((bounds - first).tolist())]

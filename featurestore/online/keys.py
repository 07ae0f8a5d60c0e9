"""Entity bytes: what identifies a row inside a table.

The first byte says the form (never `}`, so that a Redis hash tag cannot come out empty):

    1   nothing follows: the one row of a view without entity
    2   one number: 8 bytes, big endian (bool and date32 count as numbers)
    3   one string or binary: its bytes as they are
    4   several keys, in order: numbers as above; strings and binaries with their length in front,
        as a LEB128 number
    5   BLAKE2b-256 of the bytes of a form above that are longer than 255

Given the declared types, different keys have different bytes (for form 5, as far as a hash can).
"""

import hashlib
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from featurestore.errors import StoreDataError
from featurestore.online.key_values import EPOCH_DAY, KeyColumn, key_column

NO_ENTITY: Final = b"\x01"
_NUMBER: Final = b"\x02"
_RAW: Final = b"\x03"
_SEVERAL: Final = b"\x04"
_HASHED: Final = b"\x05"
MAX_ENTITY_BYTES: Final = 255
_FEW: Final = 16  # so few keys are made faster one by one than by numpy
_MORE: Final = 0x80  # a LEB128 byte that is not the last


def encode_keys(
    dtypes: Sequence[str], columns: Sequence[object], *, names: Sequence[str] | None = None
) -> list[bytes | None]:
    """Return the entity bytes of each row; None where any part of the key is null.

    Args:
        dtypes: The declared types of the join keys, in order.
        columns: A column per join key, as `key_column` takes them, equally long.
        names: What the keys are called in messages.

    Returns:
        As many as there are rows; without join keys the one fixed key.

    Raises:
        EntityValueError: A value is not of the declared type.
        ValueError: The columns are not equally long, or not one per type.
    """
    shown = names or [f"join key {i}" for i in range(len(dtypes))]
    made = [
        key_column(dtype, column, field=name)
        for dtype, column, name in zip(dtypes, columns, shown, strict=True)
    ]
    return encode_key_columns(made)


def encode_key_columns(columns: Sequence[KeyColumn]) -> list[bytes | None]:
    """Return the entity bytes of each row, as `encode_keys` does."""
    if not columns:
        return [NO_ENTITY]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"join keys of different lengths: {[len(c) for c in columns]}")
    keys: list[bytes | None] = [*_encode(columns)]
    for column in columns:
        if column.valid is not None:
            for row in np.flatnonzero(~column.valid).tolist():
                keys[row] = None
    return keys


def _encode(columns: Sequence[KeyColumn]) -> list[bytes]:
    if all(column.raw is None for column in columns):
        return _encode_numbers(columns)
    if len(columns) == 1:
        return [_limited(_RAW + raw) for raw in columns[0].raw or ()]
    parts = [_numbers(c) if c.raw is None else [_prefixed(r) for r in c.raw] for c in columns]
    return [_limited(_SEVERAL + b"".join(row)) for row in zip(*parts, strict=True)]


def _encode_numbers(columns: Sequence[KeyColumn]) -> list[bytes]:
    if len(columns) == 1 and len(columns[0]) <= _FEW:
        return _encode_few(columns[0])
    width = 1 + 8 * len(columns)
    matrix = np.empty((len(columns[0]), width), np.uint8)
    matrix[:, 0] = (_NUMBER if len(columns) == 1 else _SEVERAL)[0]
    for i, column in enumerate(columns):
        matrix[:, 1 + 8 * i : 9 + 8 * i] = _big_endian(column).view(np.uint8).reshape(-1, 8)
    keys: list[bytes] = matrix.view(f"V{width}").ravel().tolist()
    return keys


def _encode_few(column: KeyColumn) -> list[bytes]:
    values, signed = np.asarray(column.values).tolist(), column.dtype != "uint64"
    return [_NUMBER + int(value).to_bytes(8, "big", signed=signed) for value in values]


def _numbers(column: KeyColumn) -> list[bytes]:
    parts: list[bytes] = _big_endian(column).view("V8").tolist()
    return parts


def _big_endian(column: KeyColumn) -> "np.ndarray[tuple[int], np.dtype[np.int64 | np.uint64]]":
    return np.asarray(column.values).astype(">u8" if column.dtype == "uint64" else ">i8")


def _prefixed(raw: bytes) -> bytes:
    length = len(raw)
    if length < _MORE:
        return length.to_bytes(1, "big") + raw
    prefix = bytearray()
    while length >= _MORE:
        prefix.append(length % _MORE | _MORE)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + raw


def _limited(key: bytes) -> bytes:
    if len(key) <= MAX_ENTITY_BYTES:
        return key
    return _HASHED + hashlib.blake2b(key, digest_size=32).digest()


def decode_key(dtypes: Sequence[str], key: bytes) -> tuple[object, ...] | None:
    """Return the join keys that `encode_keys` made these entity bytes of.

    Returns:
        int, bool, str, bytes or date (an int of days outside the years 1 to 9999) per join key;
        None when the bytes are a hash.

    Raises:
        StoreDataError: The bytes are no key of these types.
    """
    if key[:1] == _HASHED:
        return None
    try:
        values, rest = _decode_parts(dtypes, key)
    except (IndexError, UnicodeDecodeError):
        rest, values = b"?", []
    if rest or key[:1] != _form(dtypes):
        raise StoreDataError(f"{key[:40].hex()} is no key of the types {', '.join(dtypes)}.")
    return tuple(values)


def _form(dtypes: Sequence[str]) -> bytes:
    if len(dtypes) == 1:
        return _RAW if dtypes[0] in ("string", "binary") else _NUMBER
    return _SEVERAL if dtypes else NO_ENTITY


def _decode_parts(dtypes: Sequence[str], key: bytes) -> tuple[list[object], bytes]:
    if key[:1] == _RAW:
        return [_decode_part(dtypes[0], key[1:])], b""
    values, rest = [], key[1:]
    for dtype in dtypes:
        size = 8
        if dtype in ("string", "binary"):
            size, rest = _length(rest)
        if len(rest) < size:
            raise IndexError
        values.append(_decode_part(dtype, rest[:size]))
        rest = rest[size:]
    return values, rest


def _length(rest: bytes) -> tuple[int, bytes]:
    length = shift = position = 0
    while True:
        byte = rest[position]
        length |= (byte % _MORE) << shift
        position, shift = position + 1, shift + 7
        if byte < _MORE:
            return length, rest[position:]


def _decode_part(dtype: str, part: bytes) -> object:
    if dtype == "binary":
        return part
    if dtype == "string":
        return part.decode()
    number = int.from_bytes(part, "big", signed=dtype != "uint64")
    if dtype == "bool":
        return bool(number)
    if dtype == "date32":
        try:
            return EPOCH_DAY + timedelta(days=number)
        except OverflowError:
            return number
    return number

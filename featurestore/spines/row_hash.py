"""A number for the content of each row that is the same in every process, engine and version.

Sampling stands on it, so it is defined here and not left to a library, whose hash may change. Each
value is a run of 64-bit words (integers by value, texts and bytes eight at a time, little-endian);
each word is mixed in with the finalizer of SplitMix64 (Steele, Lea and Flood, 2014). It spreads
rows evenly; it is no defence against somebody who chooses them.
"""

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.offline.timeline import Ints
from featurestore.spines.plain_columns import stored_values

Hashes = npt.NDArray[np.uint64]

WORD: Final = 8
MAX_WORDS: Final = 1_024
"""Longer values are hashed one by one: each word of the longest would cost a step."""
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)
_NULL: Final = np.uint64(0x6E756C6C)


def row_hashes(columns: Sequence[pa.ChunkedArray], rows: int, *, seed: int) -> Hashes:
    """Return a hash of each of n rows' values in some columns, in their order.

    Args:
        columns: n values each, of any type. Integers are hashed by value, whatever their width.
        rows: n.
        seed: 0 to 2**63 - 1; each gives other hashes.
    """
    hashes = np.full(rows, np.uint64(seed))
    for column in columns:
        hashes = _mixed(hashes + _GOLDEN)
        hashes = _with_values(hashes, column)
    return _mixed(hashes)


def _mixed(values: Hashes) -> Hashes:
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _with_values(hashes: Hashes, column: pa.ChunkedArray) -> Hashes:
    values = stored_values(column.combine_chunks())
    if pa.types.is_null(values.type):
        return _mixed(hashes ^ _NULL)
    words = _words(values)
    found = _with_bytes(hashes, values) if words is None else _mixed(hashes ^ _mixed(words))
    if not values.null_count:
        return found
    return np.where(np.asarray(values.is_null()), _mixed(hashes ^ _NULL), found)


def _words(values: pa.Array) -> Hashes | None:
    """Return values of up to 64 bits as words; None for longer ones."""
    dtype = values.type
    if pa.types.is_floating(dtype):
        floats = values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False) + 0.0
        return np.asarray(np.where(np.isnan(floats), np.nan, floats).view(np.uint64))
    if pa.types.is_boolean(dtype):
        values = values.cast(pa.uint8())
    elif pa.types.is_timestamp(dtype):
        values = values.cast(pa.timestamp("us", dtype.tz), safe=False).cast(pa.int64())
    elif pa.types.is_date32(dtype):
        values = values.cast(pa.int32())
    elif not pa.types.is_integer(dtype):
        return None
    numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(numbers.astype(np.int64 if numbers.dtype.kind == "i" else np.uint64)).view(
        np.uint64
    )


def _with_bytes(hashes: Hashes, values: pa.Array) -> Hashes:
    """Mix in values of any length: first the length, then word by word, for all rows at once."""
    data, starts, lengths = _bytes(values)
    hashes = _mixed(hashes ^ lengths.view(np.uint64))
    # Every place of the data as the word that begins there, without a copy.
    words = np.ndarray((len(data) - WORD + 1,), np.dtype("<u8"), data, strides=(1,))
    longest = np.flatnonzero(lengths > WORD * MAX_WORDS)
    for row in longest.tolist():
        whole = data[starts[row] : starts[row] + lengths[row]].tobytes()
        hashes[row] ^= np.frombuffer(hashlib.blake2b(whole, digest_size=WORD).digest(), "<u8")[0]
    rows = np.flatnonzero((lengths > 0) & (lengths <= WORD * MAX_WORDS))
    for first in range(0, WORD * MAX_WORDS, WORD):
        rows = rows[lengths[rows] > first]
        if not len(rows):
            break
        spare = np.maximum(WORD - (lengths[rows] - first), 0).astype(np.uint64) * np.uint64(8)
        word = words[starts[rows] + first] & (np.uint64(2**64 - 1) >> spare)
        hashes[rows] = _mixed((hashes[rows] ^ word) + _GOLDEN)
    return hashes


def _bytes(values: pa.Array) -> tuple[npt.NDArray[np.uint8], Ints, Ints]:
    """Return all bytes, padded at the end, and where each value begins and how long it is."""
    if not _is_text(values.type):
        has_text = not (pa.types.is_nested(values.type) or pa.types.is_interval(values.type))
        values = pc.cast(values, pa.string()) if has_text else _repr(values)
    large = pa.large_binary()
    whole = values.cast(pa.large_string()).cast(large) if _is_string(values.type) else values
    _, offsets, data = whole.cast(large).buffers()
    ends = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
    read = np.frombuffer(data or b"", np.uint8)
    padded = np.zeros(len(read) + WORD, np.uint8)
    padded[: len(read)] = read
    return padded, ends[:-1], np.diff(ends)


def _repr(values: pa.Array) -> pa.Array:
    return pa.array(map(repr, values.to_pylist()), pa.string())


def _is_string(dtype: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_kind(dtype) for is_kind in kinds)


def _is_text(dtype: pa.DataType) -> bool:
    kinds = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return _is_string(dtype) or any(is_kind(dtype) for is_kind in kinds)

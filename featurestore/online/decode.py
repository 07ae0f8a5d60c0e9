"""Row bytes -> columns, a batch at a time, with numpy alone (the layout is in `layout`)."""

from collections.abc import Sequence
from decimal import Context, Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np

from featurestore.errors import StoreDataError
from featurestore.online.layout import (
    END_DTYPE,
    PUSHED,
    ROW,
    TOMBSTONE,
    Array,
    ColumnType,
    RowLayout,
)
from featurestore.online.store import VERSION_END, VERSION_START, FixedRows

_ROWS: Final = (ROW, PUSHED)
_EVENT: Final = np.dtype(">i8")
_SIGN: Final = np.int64(-(1 << 63))
_LIST_HEAD_DTYPE: Final = np.dtype([("has_nulls", "u1"), ("count", "<u4")])
_LIST_HEAD: Final = _LIST_HEAD_DTYPE.itemsize
_EMPTY_LIST: Final = bytes(_LIST_HEAD)
# Wide enough that no digit of a decimal128 is rounded away.
_EXACT: Final = Context(prec=80)


class DecodedRows(NamedTuple):  # a data class takes three times as long to make
    """A batch of rows; all arrays have its length.

    Attributes:
        found: Where there is a row; a tombstone is none.
        event_us: Event times, 0 where there is no row.
        values: Of each column asked for. Numbers, bool, date32 (days) and timestamps
            (microseconds): a numpy array of that type, 0 where there is no value, not to be
            changed. The others: a list of str, bytes, `Decimal` or lists, None where there is no
            value. A list is a numpy array when its elements are numbers (in the sense above) and
            none is null, else a list with None for null elements.
        valid: Of each column asked for, where there is a row, and its value is not null; None when
            that is everywhere where there is a row.
    """

    found: Array
    event_us: Array
    values: list[Array | list[Any]]
    valid: list[Array] | None


def decode_rows(
    layout: RowLayout, values: Sequence[bytes | None], wanted: Sequence[int], view: str
) -> DecodedRows:
    """Return the wanted columns of a batch; see `RowCodec.decode`."""
    heads, values = _heads(layout, values, view)
    formats = heads.bytes_at(0)
    found = all_true(len(values)) if _are_all_rows(formats) else _marks(formats)
    nulls = heads.nulls()
    valid = None if nulls is None else [_valid(found, nulls, column) for column in wanted]
    tails = _Tails(layout, heads.records(), values, view) if layout.variable else None
    columns: list[Array | list[Any]] = []
    for run in layout.runs_of(tuple(wanted)):
        if run.dtype is not None:
            columns += heads.matrix(run.dtype, run.offset, run.length)
            continue
        kind, there = layout.types[run.first], found if valid is None else valid[len(columns)]
        if kind.fixed is not None:
            field = heads.records()[layout.names[run.first]]
            columns.append(_with_gaps(_decimals(field.tobytes(), kind.scale or 0), there))
        elif tails is not None:
            columns.append(tails.column(run.first, there))
    return DecodedRows(found, heads.event_us(), columns, valid)


@lru_cache(maxsize=64)
def all_true(length: int) -> Array:
    """Return as many True; every caller gets the same array, which cannot be written to."""
    return np.frombuffer(b"\1" * length, np.bool_)


class _Heads:
    """What stands before the variable blocks of a batch of rows, in one piece of memory.

    Slices of bytes with a step take a tenth of the time of numpy's first step, and most batches are
    small.

    Args:
        layout: Of each row.
        memory: What holds the rows.
        start: Where the first one begins.
        stride: The distance from one to the next.
        length: How many there are.
    """

    __slots__ = ("_end", "_layout", "_length", "_memory", "_start", "_stride")

    def __init__(
        self, layout: RowLayout, memory: bytes | bytearray, start: int, stride: int, length: int
    ) -> None:
        self._layout, self._memory, self._length = layout, memory, length
        self._start, self._stride, self._end = start, stride, start + length * stride

    def bytes_at(self, offset: int) -> bytes | bytearray:
        """Return one byte of each row."""
        return self._memory[self._start + offset : self._end : self._stride]

    def are_of_schema(self) -> bool:
        """Whether all are of the layout's schema."""
        low, high = self._layout.schema_bytes
        length = self._length
        return self.bytes_at(1).count(low) == length == self.bytes_at(2).count(high)

    def nulls(self) -> list[Array] | None:
        """Return each byte of the null bitmaps, of all rows; None when no value is null."""
        size, length = self._layout.bitmap_bytes, self._length
        raw = [self.bytes_at(VERSION_END + i) for i in range(size)]
        for column in raw:
            if column.count(0) != length:
                return [np.frombuffer(each, np.uint8) for each in raw]
        return None

    def matrix(self, dtype: "np.dtype[Any]", offset: int, count: int) -> list[Array]:
        """Return columns that lie side by side, each packed."""
        shape, strides = (count, self._length), (dtype.itemsize, self._stride)
        return [*np.ndarray(shape, dtype, self._memory, self._start + offset, strides).copy()]

    def event_us(self) -> Array:
        """Return the event times."""
        shape, strides = (self._length,), (self._stride,)
        raw: Array = np.ndarray(shape, _EVENT, self._memory, self._start + VERSION_START, strides)
        micros: Array = raw.astype(np.int64) ^ _SIGN
        return micros

    def records(self) -> Array:
        """Return them as numpy records."""
        shape, strides = (self._length,), (self._stride,)
        found: Array = np.ndarray(shape, self._layout.record, self._memory, self._start, strides)
        return found


def _valid(found: Array, nulls: list[Array], column: int) -> Array:
    valid: Array = found & (nulls[column >> 3] & (1 << (column & 7)) == 0)
    return valid


def _marks(formats: bytes | bytearray) -> Array:
    found: Array = (np.frombuffer(formats, np.uint8) | (PUSHED ^ ROW)) == PUSHED  # one bit apart
    return found


def _heads(
    layout: RowLayout, values: Sequence[bytes | None], view: str
) -> tuple[_Heads, Sequence[bytes | None]]:
    """Return the records before the variable blocks, and the values with None for tombstones."""
    size, filler, length = layout.head_bytes, layout.filler, len(values)
    if isinstance(values, FixedRows) and values.row_bytes == size and not layout.variable:
        heads = _Heads(layout, values.memory, values.start, values.stride, length)
        if heads.are_of_schema() and _are_all_rows(heads.bytes_at(0)):
            return heads, values
    if layout.variable:
        block = b"".join([filler if v is None else v[:size] for v in values])
    else:
        block = b"".join([v or filler for v in values])
    if len(block) == length * size:
        heads = _Heads(layout, block or filler, 0, size, length)
        if heads.are_of_schema() and _are_as_expected(heads.bytes_at(0), values):
            return heads, values
    rows = [_checked(layout, v, view) for v in values]
    block = b"".join([filler if v is None else v[:size] for v in rows])
    return _Heads(layout, block or filler, 0, size, length), rows


def _are_as_expected(formats: bytes | bytearray, values: Sequence[bytes | None]) -> bool:
    """Whether every value is a row, and fillers stand only where there is none."""
    if _are_all_rows(formats):
        return True
    return all(f in _ROWS or v is None for f, v in zip(formats, values, strict=True))


def _are_all_rows(formats: bytes | bytearray) -> bool:
    count = formats.count(ROW)
    return count == len(formats) or count + formats.count(PUSHED) == len(formats)


def _checked(layout: RowLayout, value: bytes | None, view: str) -> bytes | None:
    if value is None or (value[:1] == bytes([TOMBSTONE]) and len(value) == VERSION_END):
        return None
    if len(value) < layout.head_bytes or not (layout.variable or len(value) == layout.head_bytes):
        _refuse(view, f"it has {len(value)} bytes, and its head {layout.head_bytes}")
    if value[0] not in _ROWS:
        _refuse(view, f"its format {value[0]} is not known to this version")
    if int.from_bytes(value[1:3], "little") != layout.schema_id:
        _refuse(view, "it was written for another schema")
    return value


def _refuse(view: str, reason: str) -> NoReturn:
    raise StoreDataError(
        f"A stored row of view {view!r} cannot be read: {reason}.",
        hint="materialize the view again; if it stays, something else writes to this store",
    )


def _with_gaps(values: list[Any], valid: Array) -> list[Any]:
    if valid.all():
        return values
    return [v if ok else None for v, ok in zip(values, valid.tolist(), strict=True)]


def _decimals(block: bytes, scale: int) -> list[Decimal]:
    halves = np.frombuffer(block, [("low", "<u8"), ("high", "<i8")])
    pairs = zip(halves["low"].tolist(), halves["high"].tolist(), strict=True)
    return [Decimal((high << 64) | low).scaleb(-scale, _EXACT) for low, high in pairs]


class _Tails:
    """The variable blocks of a batch of rows, cut where the heads say."""

    def __init__(
        self, layout: RowLayout, heads: Array, values: Sequence[bytes | None], view: str
    ) -> None:
        self._layout, self._values, self._view = layout, values, view
        sizes = np.fromiter((len(v) if v else 0 for v in values), np.int64, len(values))
        at = np.where(sizes == 0, 0, layout.head_bytes)
        self._bounds: dict[int, tuple[Array, Array]] = {}
        start = at
        for i in layout.variable:
            end = at + heads[f"c{i}"]
            if (end < start).any():
                _refuse(view, "the ends of its columns are out of order")
            self._bounds[i] = (start, end)
            start = end
        if (start != sizes).any():
            _refuse(view, "it is longer or shorter than its head says")

    def column(self, i: int, valid: Array) -> list[Any]:
        starts, ends = (bound.tolist() for bound in self._bounds[i])
        cuts = [v[a:b] if v else b"" for v, a, b in zip(self._values, starts, ends, strict=True)]
        try:
            return _with_gaps(_decoded(cuts, self._layout.types[i], valid), valid)
        except (UnicodeDecodeError, ValueError, IndexError):
            _refuse(self._view, f"column {i} is no {self._layout.types[i].name}")


def _decoded(cuts: list[bytes], kind: ColumnType, valid: Array) -> list[Any]:
    if kind.name == "string":
        return [cut.decode() for cut in cuts]
    if kind.element is None:
        return cuts
    present = cuts if valid.all() else [c or _EMPTY_LIST for c in cuts]
    if kind.element.is_number and (arrays := _plain_lists(present, kind.element)) is not None:
        return arrays
    element = kind.element
    return [_list(cut, element) for cut in present]


def _plain_lists(cuts: list[bytes], element: ColumnType) -> list[Any] | None:
    """Return lists of numbers without nulls as slices of one array; None if they are not such."""
    block = b"".join([cut[:_LIST_HEAD] for cut in cuts])
    if len(block) != _LIST_HEAD * len(cuts):
        return None
    heads = np.frombuffer(block, _LIST_HEAD_DTYPE)
    counts = heads["count"].astype(np.int64)
    sizes = np.fromiter(map(len, cuts), np.int64, len(cuts))
    width = np.dtype(element.fixed).itemsize
    if heads["has_nulls"].any() or (counts * width + _LIST_HEAD != sizes).any():
        return None
    flat = np.frombuffer(b"".join([cut[_LIST_HEAD:] for cut in cuts]), element.fixed)
    return [flat[a:b] for a, b in pairwise([0, *np.cumsum(counts).tolist()])]


def _list(raw: bytes, element: ColumnType) -> Array | list[Any]:
    count = int.from_bytes(raw[1:_LIST_HEAD], "little")
    at = _LIST_HEAD + (((count + 7) // 8) if raw[0] else 0)
    if raw[0] > 1 or len(raw) < at:
        raise ValueError("not a list")
    values = _elements(raw[at:], count, element)
    if not raw[0]:
        return values
    bitmap = np.frombuffer(raw, np.uint8, at - _LIST_HEAD, _LIST_HEAD)
    null = np.unpackbits(bitmap, count=count, bitorder="little").tolist()
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return [None if gone else v for v, gone in zip(plain, null, strict=True)]


def _elements(block: bytes, count: int, element: ColumnType) -> Array | list[Any]:
    if element.is_number:
        if len(block) != count * np.dtype(element.fixed).itemsize:
            raise ValueError("not as many elements as it says")
        return np.frombuffer(block, element.fixed)
    if element.scale is not None:
        decimals = _decimals(block, element.scale)
        if len(decimals) != count:
            raise ValueError("not as many elements as it says")
        return decimals
    ends = np.frombuffer(block, END_DTYPE, count).tolist()
    rest = block[4 * count :]
    if (ends[-1] if ends else 0) != len(rest):
        raise ValueError("not as long as it says")
    cuts = [rest[a:b] for a, b in pairwise([0, *ends])]
    return [cut.decode() for cut in cuts] if element.name == "string" else cuts

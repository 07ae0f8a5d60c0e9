"""Row bytes -> columns, a batch at a time, with numpy alone (the layout is in `layout`)."""

from collections.abc import Sequence
from decimal import Context, Decimal
from itertools import pairwise
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np

from featurestore.errors import StoreDataError
from featurestore.online.layout import (
    END_DTYPE,
    PUSHED,
    ROW,
    SIGN_BIT,
    TOMBSTONE,
    Array,
    ColumnType,
    RowLayout,
)
from featurestore.online.store import VERSION_END, FixedRows

_LIST_HEAD_DTYPE: Final = np.dtype([("has_nulls", "u1"), ("count", "<u4")])
_LIST_HEAD: Final = _LIST_HEAD_DTYPE.itemsize
_EMPTY_LIST: Final = bytes(_LIST_HEAD)
# Wide enough that no digit of a decimal128 is rounded away.
_EXACT: Final = Context(prec=80)


class DecodedColumn(NamedTuple):  # a data class takes three times as long to make
    """One column of a batch of rows.

    Attributes:
        dtype: Its type, as `featurestore.types.type_name` writes it.
        values: Numbers, bool, date32 (days) and timestamps (microseconds): a numpy array of that
            type, 0 where not valid, not to be changed. The others: a list of str, bytes, `Decimal`
            or lists, None where not valid. A list is a numpy array when its elements are numbers
            (in the sense above) and none is null, else a list with None for null elements.
        valid: Where there is a row, and its value is not null.
    """

    dtype: str
    values: Array | list[Any]
    valid: Array


class DecodedRows(NamedTuple):
    """A batch of rows; all arrays have its length.

    Attributes:
        found: Where there is a row; a tombstone is none.
        event_us: Event times, 0 where there is no row.
        columns: The columns asked for, in the order asked. A column without nulls shares `found` as
            its `valid`.
    """

    found: Array
    event_us: Array
    columns: list[DecodedColumn]


def decode_rows(
    layout: RowLayout, values: Sequence[bytes | None], wanted: Sequence[int], view: str
) -> DecodedRows:
    """Return the wanted columns of a batch; see `RowCodec.decode`."""
    heads, values = _heads(layout, values, view)
    found = _are_rows(heads["format"])
    event_us = (heads["event"].astype(np.uint64) ^ np.uint64(SIGN_BIT)).view(np.int64)
    nulls = heads["nulls"] if heads["nulls"].tobytes().strip(b"\0") else None
    tails = _Tails(layout, heads, values, view) if layout.variable else None
    columns = []
    for i in wanted:
        valid = found if nulls is None else found & (nulls[:, i >> 3] & (1 << (i & 7)) == 0)
        kind = layout.types[i]
        if layout.are_numbers[i]:
            columns.append(
                DecodedColumn(kind.name, np.ascontiguousarray(heads[layout.names[i]]), valid)
            )
        elif kind.fixed is not None:
            columns.append(_decimal_column(kind, heads[layout.names[i]], valid))
        elif tails is not None:
            columns.append(DecodedColumn(kind.name, tails.column(i, valid), valid))
    return DecodedRows(found, event_us, columns)


def _heads(
    layout: RowLayout, values: Sequence[bytes | None], view: str
) -> tuple[Array, Sequence[bytes | None]]:
    """Return the records before the variable blocks, and the values with None for tombstones."""
    size, filler = layout.head_bytes, layout.filler
    if isinstance(values, FixedRows) and values.row_bytes == size and not layout.variable:
        heads: Array = np.ndarray(
            values.length, layout.record, values.memory, values.start, (values.stride,)
        )
        if _all(heads["schema"] == layout.schema_id) and _all(_are_rows(heads["format"])):
            return heads, values
    if layout.variable:
        block = b"".join([filler if v is None else v[:size] for v in values])
    else:
        block = b"".join([v or filler for v in values])
    if len(block) == len(values) * size:
        heads = np.frombuffer(block, layout.record)
        if _as_expected(layout, heads["format"], heads["schema"], values):
            return heads, values
    rows = [_checked(layout, v, view) for v in values]
    block = b"".join([filler if v is None else v[:size] for v in rows])
    return np.frombuffer(block, layout.record), rows


def _as_expected(
    layout: RowLayout, formats: Array, schemas: Array, values: Sequence[bytes | None]
) -> bool:
    """Whether every value is a row of this schema, and fillers stand only where there is none."""
    if not _all(schemas == layout.schema_id):
        return False
    rows = _are_rows(formats)
    return _all(rows) or all(values[i] is None for i in np.flatnonzero(~rows).tolist())


def _are_rows(formats: Array) -> Array:
    rows: Array = (formats | (PUSHED ^ ROW)) == PUSHED  # they differ by one bit
    return rows


def _all(mask: Array) -> bool:
    # ndarray.all() is Python code above C: 2 us against 0.3 us, several times per lookup.
    return b"\0" not in mask.tobytes()


def _checked(layout: RowLayout, value: bytes | None, view: str) -> bytes | None:
    if value is None or (value[:1] == bytes([TOMBSTONE]) and len(value) == VERSION_END):
        return None
    if len(value) < layout.head_bytes or not (layout.variable or len(value) == layout.head_bytes):
        _refuse(view, f"it has {len(value)} bytes, and its head {layout.head_bytes}")
    if value[0] not in (ROW, PUSHED):
        _refuse(view, f"its format {value[0]} is not known to this version")
    if int.from_bytes(value[1:3], "little") != layout.schema_id:
        _refuse(view, "it was written for another schema")
    return value


def _refuse(view: str, reason: str) -> NoReturn:
    raise StoreDataError(
        f"A stored row of view {view!r} cannot be read: {reason}.",
        hint="materialize the view again; if it stays, something else writes to this store",
    )


def _decimal_column(kind: ColumnType, field: Array, valid: Array) -> DecodedColumn:
    numbers = _decimals(field.tobytes(), kind.scale or 0)
    return DecodedColumn(kind.name, _with_gaps(numbers, valid), valid)


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

"""Join key values as people pass them -> columns of the declared type.

Values are compared after widening to the declared type: integers of every width, floats that are
all integral (pandas makes them of integers with gaps), Python and numpy scalars. None, NaN, NaT and
pandas.NA are null. A bool is no integer and a number is no string; text is taken as it is, without
Unicode normalisation.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final, NoReturn

import numpy as np

from featurestore.errors import EntityValueError
from featurestore.online.layout import FIXED_DTYPES, Array

INTEGER_TYPES: Final = frozenset(
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
)
_OWN_INTEGERS: Final = {name: np.dtype(FIXED_DTYPES[name]) for name in INTEGER_TYPES}
MAX_EXACT_FLOAT: Final = 2**53
EPOCH_DAY: Final = date(1970, 1, 1)
_NULLS_OF_PANDAS: Final = frozenset({"NAType", "NaTType"})


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """One join key's values, in the declared type.

    Attributes:
        dtype: The declared type.
        values: A numpy array of that type for integers, bool (`?`) and date32 (days, `int32`), 0
            where null; a list of str or bytes with None where null.
        valid: Where there is a value; None when there is one everywhere.
        raw: The bytes of each string or binary, empty where null; None for the other types.
    """

    dtype: str
    values: Array | list[Any]
    valid: Array | None = None
    raw: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self.values)


def key_column(dtype: str, column: object, *, field: str) -> KeyColumn:
    """Return the values of one join key in its declared type.

    Args:
        dtype: The declared type: an integer, `bool`, `string`, `binary` or `date32`.
        column: A sequence, a one-dimensional numpy array (masked ones too; for date32 also int32
            days), or anything with the Arrow PyCapsule interface.
        field: What the key is called in messages.

    Raises:
        EntityValueError: It is no column, or a value is not of the declared type; names the row.
    """
    if isinstance(column, np.ndarray):
        if _is_ready(dtype, column):
            return KeyColumn(dtype, column.copy())
        return _from_numpy(dtype, column, field)
    if hasattr(column, "__arrow_c_array__") or hasattr(column, "__arrow_c_stream__"):
        return _from_arrow(dtype, column, field)
    if isinstance(column, str | bytes) or not isinstance(column, Sequence):
        message = f"{field!r} takes a list of values, one per entity, not {_kind(column)}."
        raise EntityValueError(message, field=field)
    return _from_list(dtype, list(column), field)


def _is_ready(dtype: str, column: Array) -> bool:
    """Whether there is nothing to widen, fill or check: what a server gets most of the time."""
    own = _OWN_INTEGERS.get(dtype)
    return (
        own is not None
        and column.dtype == own
        and column.ndim == 1
        and type(column) is np.ndarray  # and no masked one
    )


def _from_arrow(dtype: str, column: Any, field: str) -> KeyColumn:
    from featurestore.online import encode  # pyarrow loads only for those who use it

    array = encode.exported_array(column)
    if array is None:
        return _from_list(dtype, list(column), field)
    if dtype in ("string", "binary") and encode.is_type(array, dtype):
        raw = encode.raw_values(array)
        values = [r.decode() for r in raw] if dtype == "string" else raw
        valid = encode.valid_mask(array)
        return KeyColumn(dtype, values if valid is None else _masked(values, valid), valid, raw)
    if encode.is_number(array):
        masked = np.ma.MaskedArray(encode.number_values(array), encode.null_mask(array))
        return _from_numpy(dtype, masked, field)
    return _from_list(dtype, array.to_pylist(), field)


def _from_list(dtype: str, values: list[Any], field: str) -> KeyColumn:
    if dtype in INTEGER_TYPES:
        return _integers(dtype, values, field)
    if dtype == "string":
        return _strings(values, field)
    if dtype == "binary" and set(map(type, values)) == {bytes}:
        return KeyColumn(dtype, values, None, values)
    convert = _SCALARS[dtype]
    valid = _validity(values)
    checked = [_converted(convert, v, dtype, field, row) for row, v in enumerate(values)]
    if dtype == "binary":
        return KeyColumn(dtype, checked, valid, [v or b"" for v in checked])
    filled = [0 if v is None else v for v in checked]
    return KeyColumn(dtype, np.array(filled, FIXED_DTYPES[dtype]), valid)


def _strings(values: list[Any], field: str) -> KeyColumn:
    types = set(map(type, values))
    valid = None
    if types != {str}:
        valid = _validity(values)
        values = [_converted(_as_str, v, "string", field, row) for row, v in enumerate(values)]
    try:
        raw = [v.encode() if v is not None else b"" for v in values]
    except UnicodeEncodeError as error:
        row = values.index(error.object)
        _refuse("string", field, row, "a lone surrogate, which is no text")
    return KeyColumn("string", values, valid, raw)


def _integers(dtype: str, values: list[Any], field: str) -> KeyColumn:
    valid = None
    if set(map(type, values)) - {int}:
        valid = _validity(values)
        checked = [_converted(_as_int, v, dtype, field, row) for row, v in enumerate(values)]
        values = [0 if v is None else v for v in checked]
    try:
        return KeyColumn(dtype, np.array(values, FIXED_DTYPES[dtype]), valid)
    except OverflowError:
        bounds = np.iinfo(FIXED_DTYPES[dtype])
        row = next(i for i, v in enumerate(values) if not bounds.min <= v <= bounds.max)
        _refuse_range(dtype, field, row)


def _from_numpy(dtype: str, array: Array, field: str) -> KeyColumn:
    if array.ndim != 1:
        message = f"{field!r} takes one value per entity, not an array of {array.ndim} dimensions."
        raise EntityValueError(message, field=field)
    valid = None
    if isinstance(array, np.ma.MaskedArray):
        valid = ~np.ma.getmaskarray(array)
        array = array.filled(_zero(array.dtype))
    if array.dtype.kind in "OUST":
        listed = array.tolist()
        return _from_list(dtype, listed if valid is None else _masked(listed, valid), field)
    if not len(array) or (valid is not None and not valid.any()):
        return _from_list(dtype, [None] * len(array), field)
    read = _array_reader(dtype, array.dtype)
    if read is None:
        row = 0 if valid is None else int(np.argmax(valid))
        _refuse(dtype, field, row, f"a value of an array of {array.dtype}")
    return read(dtype, array, valid, field)


def _array_reader(
    dtype: str, found: "np.dtype[Any]"
) -> Callable[[str, Array, Array | None, str], KeyColumn] | None:
    if dtype in INTEGER_TYPES and found.kind in "iuf":
        return _numpy_integers
    if dtype == "bool" and found.kind == "b":
        return _with_nulls
    if dtype == "date32" and (found.kind == "M" or found == np.int32):
        return _numpy_days
    return None


def _numpy_integers(dtype: str, array: Array, valid: Array | None, field: str) -> KeyColumn:
    if array.dtype.kind == "f":
        valid = _both(valid, ~np.isnan(array))
        array = np.where(np.isnan(array), 0, array)
        wrong = (array != np.trunc(array)) | (np.abs(array) > MAX_EXACT_FLOAT)
        if valid is not None:
            wrong &= valid
        if wrong.any():
            _refuse_float(dtype, field, int(np.argmax(wrong)))
    bounds = np.iinfo(FIXED_DTYPES[dtype])
    if not np.can_cast(array.dtype, bounds.dtype) and len(array):
        outside = _outside(array, bounds)
        if valid is not None:
            outside &= valid
        if outside.any():
            _refuse_range(dtype, field, int(np.argmax(outside)))
    with np.errstate(invalid="ignore"):
        return _with_nulls(dtype, array.astype(bounds.dtype), valid, field)


def _outside(array: Array, bounds: "np.iinfo[Any]") -> Array:
    # A Python int beyond the array's own type cannot be compared with it, and need not be.
    if array.dtype.kind == "f":
        return (array < float(bounds.min)) | (array > float(bounds.max))
    own = np.iinfo(array.dtype)
    below = array < bounds.min if own.min < bounds.min else np.zeros(len(array), bool)
    above = array > bounds.max if own.max > bounds.max else np.zeros(len(array), bool)
    return below | above


def _numpy_days(dtype: str, array: Array, valid: Array | None, field: str) -> KeyColumn:
    if array.dtype.kind == "M":
        valid = _both(valid, ~np.isnat(array))
        filled = np.where(np.isnat(array), np.datetime64(0, "D"), array)
        days = filled.astype("datetime64[D]")
        if (wrong := days != filled).any():
            _refuse(dtype, field, int(np.argmax(wrong)), "a time of day, which no date has")
        number = days.astype(np.int64)
        if (outside := _outside(number, np.iinfo(np.int32))).any():
            _refuse_range(dtype, field, int(np.argmax(outside)))
        array = number.astype(np.int32)
    return _with_nulls(dtype, array, valid, field)


def _with_nulls(dtype: str, array: Array, valid: Array | None, _field: str) -> KeyColumn:
    if valid is None or valid.all():
        return KeyColumn(dtype, array)
    return KeyColumn(dtype, np.where(valid, array, _zero(array.dtype)), valid)


def _both(first: Array | None, second: Array) -> Array | None:
    both = second if first is None else first & second
    return None if both.all() else both


def _zero(dtype: "np.dtype[Any]") -> Any:
    return None if dtype.kind == "O" else np.zeros((), dtype)[()]


def _masked(values: list[Any], valid: Array) -> list[Any]:
    return [v if ok else None for v, ok in zip(values, valid.tolist(), strict=True)]


def _validity(values: list[Any]) -> Array | None:
    valid = np.fromiter((not is_null(v) for v in values), bool, len(values))
    return None if valid.all() else valid


def is_null(value: object) -> bool:
    """Whether a Python, numpy or pandas value stands for "nothing": None, NaN, NaT, pandas.NA."""
    if value is None or type(value).__name__ in _NULLS_OF_PANDAS:
        return True
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return isinstance(value, float | np.floating) and bool(value != value)  # noqa: PLR0124 - NaN


def _converted(convert: Callable[[Any], Any], value: Any, dtype: str, field: str, row: int) -> Any:
    if is_null(value):
        return None
    try:
        return convert(value)
    except (TypeError, ValueError, OverflowError):
        if dtype in INTEGER_TYPES and isinstance(value, float | np.floating):
            _refuse_float(dtype, field, row)
        _refuse(dtype, field, row, _kind(value))


def _as_int(value: Any) -> int:
    if isinstance(value, bool | np.bool_):
        raise TypeError
    if isinstance(value, float | np.floating):
        number = float(value)
        if not number.is_integer() or abs(number) > MAX_EXACT_FLOAT:
            raise ValueError
        return int(number)
    return operator.index(value)


def _as_str(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return str(value)


def _as_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError
    return bytes(value)


def _as_bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError
    return bool(value)


def _as_days(value: Any) -> int:
    if isinstance(value, np.datetime64):
        days = value.astype("datetime64[D]")
        if days != value:
            raise ValueError
        return int(days.astype("int64"))
    if isinstance(value, datetime):
        at_midnight = value.time() == value.time().min and not value.utcoffset()
        if not at_midnight:
            raise ValueError
        value = value.date()
    if not isinstance(value, date):
        raise TypeError
    return (value - EPOCH_DAY) // timedelta(days=1)


_SCALARS: Final[dict[str, Callable[[Any], Any]]] = {
    "binary": _as_bytes,
    "bool": _as_bool,
    "date32": _as_days,
}


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _refuse(dtype: str, field: str, row: int, found: str) -> NoReturn:
    message = f"{field!r} is {dtype}, but row {row} holds {found}."
    raise EntityValueError(message, field=field, row=row)


def _refuse_float(dtype: str, field: str, row: int) -> NoReturn:
    message = f"{field!r} is {dtype}, but row {row} holds a float that is not a whole number"
    message += f" of at most 2**53: which {dtype} it stands for is not certain."
    raise EntityValueError(message, field=field, row=row)


def _refuse_range(dtype: str, field: str, row: int) -> NoReturn:
    bounds = np.iinfo(FIXED_DTYPES[dtype])
    message = f"{field!r} is {dtype}, but row {row} is outside {bounds.min} to {bounds.max}."
    raise EntityValueError(message, field=field, row=row)

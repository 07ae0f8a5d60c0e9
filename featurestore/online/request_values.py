"""Request fields as people pass them -> vectors of the declared type, for expressions.

What is taken for a type is what a join key takes (`featurestore.online.key_values`); besides,
floats take integers that they hold exactly, a float32 takes the nearest of a float64, and
timestamps take datetimes (a naive one is in UTC), cut down to the microsecond. NaN in a column of
floats stays NaN.
"""

import operator
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

import numpy as np

from featurestore.errors import EntityValueError
from featurestore.expressions.vectors import NUMPY, Array, Vector, any_true, from_list
from featurestore.online.key_values import is_null, key_column

_EXACT_BITS: Final = {"float32": 24, "float64": 53}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
TIME: Final = "timestamp[us, UTC]"


def request_vector(dtype: str, column: object, *, field: str) -> Vector:
    """Return the values of one request field in its declared type.

    Args:
        dtype: The declared type: `bool`, an integer, a float, `string`, `date32` or a timestamp.
        column: As for `key_column`.
        field: What the field is called in messages.

    Raises:
        EntityValueError: It is no column, or a value is not of the declared type; names the row.
    """
    if dtype in _EXACT_BITS:
        return _floats(dtype, column, field)
    if dtype == TIME:
        return _times(column, field)
    key = key_column(dtype, column, field=field)
    if isinstance(key.values, np.ndarray):
        return key.values.astype(NUMPY[dtype], copy=False), key.valid
    return from_list(key.values)


def _listed(column: object, field: str) -> "Sequence[Any] | Array":
    """Return a column as a list or as a numpy array; masks become None in a list."""
    if isinstance(column, np.ndarray) and column.ndim == 1:
        return column
    if hasattr(column, "__arrow_c_array__") or hasattr(column, "__arrow_c_stream__"):
        from featurestore.online import encode  # pyarrow loads only for those who use it

        array = encode.exported_array(column)
        if array is not None and encode.is_number(array):
            return np.ma.MaskedArray(encode.number_values(array), encode.null_mask(array))
        return list(column) if array is None else list(array.to_pylist())  # type: ignore[call-overload]
    if isinstance(column, str | bytes) or not isinstance(column, Sequence):
        message = f"{field!r} takes a list of values, one per entity, not a single value."
        raise EntityValueError(message, field=field)
    return column


def _split(array: Array) -> Vector:
    """Return a numpy array, masked or not, and where it has values."""
    if not isinstance(array, np.ma.MaskedArray):
        return array, None
    mask = np.ma.getmaskarray(array)
    values = np.where(mask, np.zeros((), array.dtype), array.data)
    return values, ~mask if any_true(mask) else None


# --- floats --------------------------------------------------------------------------------------


def _floats(dtype: str, column: object, field: str) -> Vector:
    if type(column) is list and set(map(type, column)) == {float}:
        return _narrowed(dtype, np.array(column, np.float64), None, field)
    values = _listed(column, field)
    if not isinstance(values, np.ndarray) or values.dtype.kind == "O":
        return _floats_of_list(dtype, list(values), field)
    found, valid = _split(values)
    if found.dtype.kind in "iu":
        limit = 2 ** _EXACT_BITS[dtype]
        outside = (found > limit) | (found < -limit) if found.dtype.kind == "i" else found > limit
        _refuse_rows(outside, valid, dtype, field, "an integer that it does not hold exactly")
    elif found.dtype.kind != "f":
        _refuse(dtype, field, 0, f"a value of an array of {found.dtype}")
    return _narrowed(dtype, found.astype(np.float64), valid, field)


def _floats_of_list(dtype: str, values: list[Any], field: str) -> Vector:
    there = [value is not None and not _is_missing(value) for value in values]
    floats = [
        _float(dtype, value, field, row) if ok else 0.0
        for row, (value, ok) in enumerate(zip(values, there, strict=True))
    ]
    valid = None if all(there) else np.array(there, np.bool_)
    return _narrowed(dtype, np.array(floats, np.float64), valid, field)


def _is_missing(value: object) -> bool:
    return is_null(value) and not isinstance(value, float | np.floating)


def _float(dtype: str, value: Any, field: str, row: int) -> float:
    if isinstance(value, float | np.floating):
        return float(value)
    if isinstance(value, bool | np.bool_):
        _refuse(dtype, field, row, "a bool")
    try:
        whole = operator.index(value)
    except TypeError:
        _refuse(dtype, field, row, f"a value of type {type(value).__name__}")
    if abs(whole) > 2 ** _EXACT_BITS[dtype]:
        _refuse(dtype, field, row, "an integer that it does not hold exactly")
    return float(whole)


def _narrowed(dtype: str, values: Array, valid: Array | None, field: str) -> Vector:
    if dtype == "float64":
        return values, valid
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    outside = np.isinf(narrow) & np.isfinite(values)
    _refuse_rows(outside, valid, dtype, field, "a number beyond its range")
    return narrow, valid


# --- times ---------------------------------------------------------------------------------------


def _times(column: object, field: str) -> Vector:
    values = _listed(column, field)
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        found, valid = _split(values)
        missing = np.isnat(found)
        if any_true(missing):
            valid = ~missing if valid is None else valid & ~missing
        known = np.where(missing, np.datetime64(0, "us"), found).astype("datetime64[us]")
        return known.astype(np.int64), valid
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    there = [not is_null(value) for value in listed]
    micros = [
        _micros(value, field, row) if ok else 0
        for row, (value, ok) in enumerate(zip(listed, there, strict=True))
    ]
    return np.array(micros, np.int64), None if all(there) else np.array(there, np.bool_)


def _micros(value: Any, field: str, row: int) -> int:
    if isinstance(value, np.datetime64):
        return int(value.astype("datetime64[us]").astype(np.int64))
    if not isinstance(value, datetime):
        _refuse(TIME, field, row, f"a value of type {type(value).__name__}")
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return (aware - _EPOCH) // _MICROSECOND


def _refuse_rows(bad: Array, valid: Array | None, dtype: str, field: str, found: str) -> None:
    bad = bad if valid is None else bad & valid
    if any_true(bad):
        _refuse(dtype, field, int(np.argmax(bad)), found)


def _refuse(dtype: str, field: str, row: int, found: str) -> NoReturn:
    message = f"{field!r} is {dtype}, but row {row} holds {found}."
    raise EntityValueError(message, field=field, row=row)

"""Casts: from one type's values to another's, and which values have no counterpart."""

from collections.abc import Callable
from datetime import date
from typing import Final, TypeAlias

import numpy as np

from featurestore.expressions.typed import FLOATS, INTEGERS, TIME, bounds
from featurestore.expressions.vectors import NUMPY, Array

Cast: TypeAlias = Callable[[Array], tuple[Array, Array | None]]
"""Values -> values of the other type, and where there is none; None when all have one."""

DAY_US: Final = 86_400_000_000
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_LAST_DAY: Final = date.max.toordinal() - _EPOCH_DAY
_FIRST_DAY: Final = 1 - _EPOCH_DAY


def cast_kernel(found: str, dtype: str) -> Cast:
    """Return the kernel from one type to another; which pairs there are is `rules.cast`'s say."""
    if dtype == "string":
        return _to_text(found)
    if dtype == "bool":
        return lambda a: (a != 0, None)
    if dtype == "date32":
        return lambda a: (np.floor_divide(a, DAY_US).astype(np.int32), None)
    if dtype == TIME:
        return _days_to_times
    if dtype in INTEGERS:
        return _float_to_integer(dtype) if found in FLOATS else _to_integer(found, dtype)
    return _to_float32 if (found, dtype) == ("float64", "float32") else _plain(dtype)


def _plain(dtype: str) -> Cast:
    return lambda a: (a.astype(NUMPY[dtype]), None)


def _to_integer(found: str, dtype: str) -> Cast:
    least, most = bounds(dtype)
    own_least, own_most = (0, 1) if found == "bool" else bounds(found)
    if least <= own_least and own_most <= most:
        return _plain(dtype)

    def run(a: Array) -> tuple[Array, Array]:
        outside = np.zeros(1, np.bool_)
        if own_least < least:
            outside = outside | (a < least)
        if own_most > most:
            outside = outside | (a > most)
        return a.astype(NUMPY[dtype]), outside

    return run


def _float_to_integer(dtype: str) -> Cast:
    least, most = bounds(dtype)

    def run(a: Array) -> tuple[Array, Array]:
        whole = np.rint(a)
        inside = (whole >= least) & (whole < float(most + 1))
        return np.where(inside, whole, 0).astype(NUMPY[dtype]), ~inside

    return run


def _to_float32(a: Array) -> tuple[Array, Array]:
    narrow = a.astype(np.float32)
    return narrow, np.isinf(narrow) & np.isfinite(a)


def _days_to_times(a: Array) -> tuple[Array, Array]:
    days = a.astype(np.int64)
    return days * DAY_US, np.abs(days) > (2**63 - 1) // DAY_US


def _to_text(found: str) -> Cast:
    if found == "date32":
        return _dates_to_text
    convert = _BOOLEANS.__getitem__ if found == "bool" else str
    return lambda a: (_texts([convert(value) for value in a.tolist()]), None)


_BOOLEANS: Final = {False: "false", True: "true"}


def _dates_to_text(a: Array) -> tuple[Array, Array]:
    outside = (a < _FIRST_DAY) | (a > _LAST_DAY)
    days = np.where(outside, 0, a).tolist()
    return _texts([date.fromordinal(day + _EPOCH_DAY).isoformat() for day in days]), outside


def _texts(values: list[str]) -> Array:
    array = np.empty(len(values), object)
    array[:] = values
    return array

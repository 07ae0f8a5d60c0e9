"""Columns as the evaluator has them: numpy values and a mask.

A vector is (values, valid): n values of the type's own numpy dtype (a text is a Python str in an
object array, a date days, a time microseconds), and where they are; None when all are. Where a
value is null there is a zero or an empty text, so that no kernel meets anything else. A constant
has one value, which numpy spreads over n.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Vector: TypeAlias = tuple[Array, Array | None]

NUMPY: Final[dict[str, "np.dtype[Any]"]] = {
    "bool": np.dtype(np.bool_),
    "int8": np.dtype(np.int8),
    "int16": np.dtype(np.int16),
    "int32": np.dtype(np.int32),
    "int64": np.dtype(np.int64),
    "uint8": np.dtype(np.uint8),
    "uint16": np.dtype(np.uint16),
    "uint32": np.dtype(np.uint32),
    "uint64": np.dtype(np.uint64),
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "string": np.dtype(object),
    "date32": np.dtype(np.int32),
    "timestamp[us, UTC]": np.dtype(np.int64),
}
NO_VECTOR: Final[Vector] = (np.empty(0), None)
"""Stands in for an input that no expression uses, whose type expressions may not know."""
_ZEROS: Final = {"string": ""}


def constant(dtype: str, value: Any) -> Vector:
    """Return a constant; None is null."""
    filled = _ZEROS.get(dtype, 0) if value is None else value
    array = np.empty(1, NUMPY[dtype])
    with np.errstate(over="ignore"):
        array[0] = filled
    return array, None if value is not None else np.zeros(1, np.bool_)


def from_list(values: Sequence[Any]) -> Vector:
    """Return texts, None where null."""
    array = np.empty(len(values), object)
    array[:] = values
    if None not in values:
        return array, None
    valid = np.fromiter((v is not None for v in values), np.bool_, len(values))
    array[~valid] = ""
    return array, valid


def full(vector: Vector, count: int) -> Vector:
    """Return a vector of `count` values: a constant spread out."""
    values, valid = vector
    if len(values) != count:
        values = np.broadcast_to(values, (count,)).copy()
    if valid is not None and len(valid) != count:
        valid = np.broadcast_to(valid, (count,)).copy()
    return values, valid


def any_true(mask: Array) -> bool:
    """Whether a mask holds a True; for few values five times as fast as numpy's `any`."""
    return b"\1" in mask.tobytes()


def all_true(mask: Array) -> bool:
    """Whether a mask holds no False."""
    return b"\0" not in mask.tobytes()


def both(a: Array | None, b: Array | None) -> Array | None:
    """Return where two vectors have values."""
    if a is None:
        return b
    return a if b is None else a & b

"""Between Arrow arrays and the evaluator's vectors. Needs pyarrow, which a lookup does not."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.expressions.vectors import NUMPY, Vector, from_list
from featurestore.types import parse_type


def from_arrow(array: pa.Array, dtype: str) -> Vector:
    """Return an array of the type that `dtype` names as a vector."""
    if dtype == "string":
        return from_list(array.to_pylist())
    valid = None if not array.null_count else np.asarray(array.is_valid())
    storage = {"date32": pa.int32(), "timestamp[us, UTC]": pa.int64()}.get(dtype)
    if storage is not None:
        array = array.cast(storage)
    if valid is not None:
        array = pc.fill_null(array, False if dtype == "bool" else 0)
    return array.to_numpy(zero_copy_only=False).astype(NUMPY[dtype], copy=False), valid


def to_arrow(vector: Vector, dtype: str) -> pa.Array:
    """Return a vector as an array of the type that `dtype` names."""
    values, valid = vector
    mask = None if valid is None else ~valid
    storage = pa.array(values, pa.string() if dtype == "string" else None, mask=mask)
    return storage if storage.type == parse_type(dtype) else storage.cast(parse_type(dtype))

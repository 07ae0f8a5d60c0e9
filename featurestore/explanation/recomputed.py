"""The value that the rows found add up to, beside the one that a training set has."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.definitions.aggregation import ROWS, WindowFeature
from featurestore.explanation.rows import array_of
from featurestore.monitoring.differences import differing_cells
from featurestore.offline.windows.column import OverflowedError, WindowColumn
from featurestore.offline.windows.runs import Runs

RELATIVE: Final = 1e-9
"""What floats may be off by: SEMANTICS, section 4."""
FAR_FROM_ZERO: Final = 1e5
SMALLEST: Final = 2.2250738585072014e-308
_PICKED: Final = frozenset({"first", "last", "min", "max"})
_SUMS: Final = frozenset({"sum", "mean", "var", "stddev"})


def same_bits(one: pa.Scalar, other: pa.Scalar) -> bool:
    """Whether two values of one type are the same, bit for bit; null equals null."""
    return not list(differing_cells(pa.chunked_array([array_of(one)]), array_of(other)))


def same_window(
    feature: WindowFeature, value: pa.Scalar, values: pa.Array | None, count: int
) -> bool:
    """Whether a window's value is what its rows make.

    Args:
        feature: The feature.
        value: Its value in a training set.
        values: The rows' values without nulls, in the order of their rank; None where rows count.
        count: How many rows.
    """
    try:
        found = recomputed(feature, values, count)
    except OverflowedError:
        return False
    if same_bits(value, found):
        return True
    if not (pa.types.is_floating(value.type) and value.is_valid and found.is_valid):
        return False
    one, other = value.as_py(), found.as_py()
    if one == other or (math.isnan(one) and math.isnan(other)):
        return True
    numbers = [] if values is None else [float(v) for v in values.to_pylist()]
    return bool(abs(one - other) <= _slack(feature.function.kind, other, numbers))


def recomputed(feature: WindowFeature, values: pa.Array | None, count: int) -> pa.Scalar:
    """Return what a feature is over exactly these rows."""
    if not count:
        return feature.empty_value()
    groups = np.zeros(count, dtype=np.int64)
    column = None if feature.column == ROWS else values
    window = Runs(np.array([0], dtype=np.int64), np.array([count], dtype=np.int64))
    return WindowColumn(groups, column, None)(feature, window).cast(feature.result_type)[0]


def deciding(feature: WindowFeature, value: pa.Scalar, values: pa.Array | None) -> int | None:
    """Return which of a window's values is the feature's; None where all of them make it.

    Args:
        feature: The feature.
        value: Its value.
        values: Those of the window, without nulls, in the order of their rank.
    """
    kind = feature.function.kind
    if values is None or not len(values) or kind not in _PICKED:
        return None
    if kind in ("first", "last"):
        return 0 if kind == "first" else len(values) - 1
    if pa.types.is_floating(value.type) and math.isnan(value.as_py()):
        found = pc.index(pc.is_nan(values), True).as_py()
    else:
        found = pc.index(values, value).as_py()
    return found if found >= 0 else None


def _slack(kind: str, found: float, numbers: Sequence[float]) -> float:
    """Return how far a float may be off, as another order of adding gives another last bit."""
    if kind not in _SUMS or not all(map(math.isfinite, numbers)):
        return 0.0
    magnitude = math.fsum(map(abs, numbers))
    if kind == "sum":
        return 2 * RELATIVE * magnitude
    mean = magnitude / len(numbers)
    if kind == "mean":
        return 2 * RELATIVE * mean
    far = RELATIVE / FAR_FROM_ZERO**2 * mean**2
    if kind == "var":
        return 2 * max(RELATIVE * found, far, SMALLEST)
    return 2 * max(RELATIVE * found, math.sqrt(far), SMALLEST)

"""Whether a function is row-wise: a row has to give the same value alone as among others.

Otherwise a training set, whose rows it gets by the hundred thousand, and a lookup, which brings one
row, would differ. Each chunk of a training set is checked on a few rows, which costs as many calls.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from featurestore.errors import FunctionCallError
from featurestore.functions.batches import BatchFunction

SAMPLE_ROWS: Final = 8
_RELATIVE: Final = {pa.float32(): 1e-5, pa.float64(): 1e-9}
"""What vector instructions may change in the last digits of a float is no sign of another logic."""


def check_row_wise(
    function: BatchFunction,
    inputs: Sequence[pa.Array],
    outputs: Sequence[pa.Array],
    count: int,
    *,
    first_row: int = 0,
    rows: int = SAMPLE_ROWS,
) -> None:
    """Compute some rows by themselves, and compare them with what they are among others.

    Args:
        function: The function.
        inputs: `count` values of each input.
        outputs: What the function returned for all of them.
        count: How many rows there are.
        first_row: The number of the first of them, for messages.
        rows: How many rows to compare, spread over all.

    Raises:
        FunctionCallError: A row alone has another value, or none.
    """
    for row in _spread(count, rows) if count > 1 else ():
        alone = function.run([a.slice(row, 1) for a in inputs], 1, first_row=first_row + row)
        for field, among, by_itself in zip(function.outputs, outputs, alone, strict=True):
            if not _is_same(among.slice(row, 1), by_itself):
                raise FunctionCallError(
                    view=function.view,
                    function=function.function.reference,
                    first_row=first_row + row,
                    last_row=first_row + row,
                    reason=f"it is not row-wise, or not the same twice: {field.name!r} is"
                    f" {_shown(by_itself)} for this row alone and {_shown(among.slice(row, 1))}"
                    f" among {count:,} rows",
                )


def _spread(count: int, rows: int) -> Iterator[int]:
    """Yield row numbers from first to last, evenly."""
    if count <= rows:
        yield from range(count)
        return
    yield from (n * (count - 1) // (rows - 1) for n in range(rows))


def _is_same(among: pa.Array, alone: pa.Array) -> bool:
    if among.equals(alone):
        return True
    dtype = among.type.value_type if pa.types.is_list(among.type) else among.type
    tolerance = _RELATIVE.get(dtype)
    if tolerance is None:
        return False
    return _is_close(among[0].as_py(), alone[0].as_py(), tolerance)


def _is_close(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_close, a, b, [tolerance] * len(a)))
    if a is None or b is None:
        return a is b
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=tolerance)


def _shown(value: pa.Array) -> str:
    return str(value[0])[:80]

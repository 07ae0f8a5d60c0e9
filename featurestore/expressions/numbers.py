"""Kernels on numbers: arrays of one type in, an array out; masks say which rows count.

Where numpy and DuckDB differ, DuckDB is followed: NaN equals NaN and is the greatest float,
integers that overflow and integer divisions by zero are errors, halves are rounded away from zero.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from featurestore.expressions.errors import RowError
from featurestore.expressions.vectors import Array, any_true

Kernel: TypeAlias = Callable[..., Array]
"""Arrays of values -> an array of values."""
Checked: TypeAlias = Callable[..., tuple[Array, Array, str]]
"""Arrays of values -> an array, where it is not to be used, and why."""

_EXACT: Final = 2.0**62
_HALF: Final = 0.5


def refuse(bad: Array, valid: Array | None, reason: str) -> None:
    """Raise RowError for the first bad row that has a value."""
    if valid is not None:
        bad = bad & valid
    if any_true(bad):
        raise RowError(int(np.argmax(bad)), reason)


def added(a: Array, b: Array) -> tuple[Array, Array, str]:
    """Return sums of integers, and where they overflow."""
    total = a + b
    if a.dtype.kind == "u":
        return total, total < a, "integer overflow in +"
    return total, ((a ^ total) & (b ^ total)) < 0, "integer overflow in +"


def subtracted(a: Array, b: Array) -> tuple[Array, Array, str]:
    """Return differences of integers, and where they overflow."""
    left = a - b
    if a.dtype.kind == "u":
        return left, a < b, "integer overflow in -"
    return left, ((a ^ b) & (a ^ left)) < 0, "integer overflow in -"


def multiplied(a: Array, b: Array) -> tuple[Array, Array, str]:
    """Return products of integers, and where they overflow."""
    product = a * b
    reason = "integer overflow in *"
    if a.dtype.itemsize < 8:  # noqa: PLR2004 - bytes of the widest integer
        wide = a.astype(np.int64) * b if a.dtype.kind == "i" else a.astype(np.uint64) * b
        return product, wide != product, reason
    near = np.abs(a.astype(np.float64) * b) >= _EXACT
    if not any_true(near):
        return product, near, reason
    # Beyond that a float is not exact: divide back, where no division overflows itself.
    safe = np.where(b == 0, 1, b).astype(a.dtype)
    least = np.iinfo(a.dtype).min
    turned = (a == least) & (b == -1) if a.dtype.kind == "i" else np.zeros(1, np.bool_)
    flipped = (b == least) & (a == -1) if a.dtype.kind == "i" else np.zeros(1, np.bool_)
    back = np.where(turned, 0, product // np.where(turned, 1, safe))
    return product, (b != 0) & ((back != a) | turned | flipped), reason


def divided_whole(a: Array, b: Array) -> tuple[Array, Array, str]:
    """Return integers divided towards zero, and where that cannot be."""
    zero, least = _undivided(a, b)
    safe = np.where(zero | least, 1, b).astype(b.dtype)
    quotient = (a - np.fmod(a, safe)) // safe
    return quotient, zero | least, "division by zero or integer overflow in //"


def remainder_whole(a: Array, b: Array) -> tuple[Array, Array, str]:
    """Return remainders with the sign of the dividend, and where there is none."""
    zero, least = _undivided(a, b)
    safe = np.where(zero | least, 1, b).astype(b.dtype)
    return np.fmod(a, safe), zero | least, "division by zero or integer overflow in %"


def _undivided(a: Array, b: Array) -> tuple[Array, Array]:
    zero = b == 0
    if a.dtype.kind == "u":
        return zero, np.zeros(1, np.bool_)
    return zero, (a == np.iinfo(a.dtype).min) & (b == -1)


def negated(a: Array) -> tuple[Array, Array, str]:
    """Return integers with the other sign, and the one that has none."""
    return -a, a == np.iinfo(a.dtype).min, "integer overflow in -"


def absolute(a: Array) -> tuple[Array, Array, str]:
    """Return integers without their sign, and the one that has none."""
    return np.abs(a), a == np.iinfo(a.dtype).min, "integer overflow in abs"


INTEGER: Final[dict[str, Checked]] = {
    "+": added,
    "-": subtracted,
    "*": multiplied,
    "//": divided_whole,
    "%": remainder_whole,
    "negate": negated,
    "abs": absolute,
}


def rounded(digits: int) -> Kernel:
    """Return the kernel that rounds floats to so many digits, halves away from zero."""
    scale = 10.0**digits

    def run(a: Array) -> Array:
        if not digits:
            return _whole(a)
        wide = a.astype(np.float64)
        result = _whole(wide * scale) / scale
        return np.where(np.isfinite(result), result, wide).astype(a.dtype)

    return run


def _whole(a: Array) -> Array:
    """Return the nearest whole numbers; adding a half would go wrong just below one."""
    down = np.trunc(a)
    away = (np.abs(a - down) >= _HALF).astype(a.dtype)
    return np.where(np.isfinite(a), down + np.copysign(away, a), a)


def sign(a: Array) -> Array:
    """Return -1, 0 or 1; NaN has none."""
    return (a > 0).astype(np.int8) - (a < 0).astype(np.int8)


FLOAT: Final[dict[str, Kernel]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "%": np.fmod,
    "negate": np.negative,
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "ln": np.log,
    "log10": np.log10,
    "log2": np.log2,
    "sin": np.sin,
    "cos": np.cos,
    "power": np.power,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
}


def compared(op: str, a: Array, b: Array) -> Array:
    """Return a comparison; NaN equals itself and is greater than all other floats."""
    plain: Array = _COMPARE[op](a, b)
    if a.dtype.kind != "f":
        return plain
    nan_a, nan_b = a != a, b != b  # noqa: PLR0124 - NaN alone is not itself
    return _WITH_NAN[op](plain, nan_a, nan_b)


def compared_to_constant(op: str, a: Array, b: Array) -> Array:
    """Return a comparison of floats with a constant that is no NaN: NaN is greater than it."""
    if op in (">", ">="):
        return np.asarray(~_COMPARE[_OPPOSITE[op]](a, b))
    return np.asarray(_COMPARE[op](a, b))


_COMPARE: Final[dict[str, Any]] = {
    "=": np.equal,
    "<>": np.not_equal,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
}
_OPPOSITE: Final = {">": "<=", ">=": "<"}
MIRRORED: Final = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""What a comparison is called when its sides are swapped."""
_WITH_NAN: Final[dict[str, Callable[[Array, Array, Array], Array]]] = {
    "=": lambda plain, a, b: plain | (a & b),
    "<>": lambda plain, a, b: plain & ~(a & b),
    "<": lambda plain, a, b: plain | (b & ~a),
    "<=": lambda plain, _a, b: plain | b,
    ">": lambda plain, a, b: plain | (a & ~b),
    ">=": lambda plain, a, _b: plain | a,
}

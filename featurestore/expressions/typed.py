"""Types of expressions: DuckDB's, as `featurestore.types.type_name` writes them.

A constant without a type of its own ("integer", "decimal", "null") takes one from what it stands
beside, as DuckDB has it: `clicks + 1` is an int8 when clicks is. Signed and unsigned integers do
not meet without a cast: DuckDB's own results there are irregular, or wider than 64 bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from featurestore.expressions.errors import InvalidExpressionError

SIGNED: Final = ("int8", "int16", "int32", "int64")
UNSIGNED: Final = ("uint8", "uint16", "uint32", "uint64")
INTEGERS: Final = (*SIGNED, *UNSIGNED)
FLOATS: Final = ("float32", "float64")
NUMBERS: Final = (*INTEGERS, *FLOATS)
TIME: Final = "timestamp[us, UTC]"
DATES: Final = ("date32", TIME)
INPUT_TYPES: Final = ("bool", *NUMBERS, "string", *DATES)
"""What an input of an expression may be."""
OPEN: Final = ("integer", "decimal", "null")
"""Constants that take their type from what they stand beside."""

_BITS: Final = {name: int(name.lstrip("uint")) for name in INTEGERS}


@dataclass(frozen=True, slots=True)
class Typed:
    """A node with its type.

    Attributes:
        op: "column" (`value` is its position among the inputs), "constant", or what a kernel does.
        dtype: The type of its values.
        args: What it is computed from, in the types that its kernel takes.
        value: A constant's value (days, microseconds, None for null), or the kernel's option.
    """

    op: str
    dtype: str
    args: tuple["Typed", ...] = ()
    value: Any = None

    @property
    def is_open(self) -> bool:
        """Whether it is a constant without a type of its own."""
        return self.op == "constant" and self.dtype in OPEN


def bounds(dtype: str) -> tuple[int, int]:
    """Return the least and the greatest value of an integer type."""
    bits = _BITS[dtype]
    return (0, 2**bits - 1) if dtype in UNSIGNED else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def common_type(args: Sequence[Typed], what: str) -> str:
    """Return the type in which values meet in `what`.

    Raises:
        InvalidExpressionError: There is none without a cast.
    """
    found = args[0]
    for arg in args[1:]:
        found = _joined(found, arg, what)
    return settled(found, what).dtype


def _joined(a: Typed, b: Typed, what: str) -> Typed:
    if a.is_open and b.is_open:
        return _joined_constants(a, b, what)
    if a.is_open or b.is_open:
        open_one, other = (a, b) if a.is_open else (b, a)
        return Typed("", _beside(open_one, other.dtype, what))
    return Typed("", _wider(a.dtype, b.dtype, what))


def _joined_constants(a: Typed, b: Typed, what: str) -> Typed:
    if a.dtype == "null" or a == b:
        return b
    if b.dtype == "null":
        return a
    return Typed("", _wider(settled(a, what).dtype, settled(b, what).dtype, what))


def _beside(constant: Typed, dtype: str, what: str) -> str:
    """Return the type in which an open constant and a value of `dtype` meet."""
    if constant.dtype == "null" or dtype in FLOATS:
        return dtype
    if constant.dtype == "integer" and dtype in INTEGERS:
        least, most = bounds(dtype)
        if least <= constant.value <= most:
            return dtype
        if dtype in UNSIGNED:
            raise InvalidExpressionError(
                f"{constant.value} is beyond {dtype} in {what}; CAST the other side AS BIGINT"
            )
    return _wider(settled(constant, what).dtype, dtype, what)


def _wider(a: str, b: str, what: str) -> str:
    if a == b:
        return a
    if a in NUMBERS and b in NUMBERS:
        if a in FLOATS or b in FLOATS:
            return "float64" if "float64" in (a, b) else "float32"
        if (a in SIGNED) == (b in SIGNED):
            return a if _BITS[a] >= _BITS[b] else b
        raise InvalidExpressionError(
            f"{a} and {b} meet in {what}; CAST one of them, for instance AS BIGINT"
        )
    if a in DATES and b in DATES:
        return TIME
    raise InvalidExpressionError(f"{a} and {b} do not go together in {what}; CAST one of them")


def settled(node: Typed, what: str = "the expression") -> Typed:
    """Return a node whose type is its own: an integer is an int32, or an int64 if it needs to be.

    Raises:
        InvalidExpressionError: It is a NULL, a number with a point, or an integer beyond 64 bits.
    """
    if not node.is_open:
        return node
    if node.dtype == "null":
        raise InvalidExpressionError(f"a bare NULL in {what} has no type; CAST it")
    if node.dtype == "decimal":
        raise InvalidExpressionError(
            f"{node.value} in {what} is a DECIMAL, for which there is no arithmetic here; write"
            f" {node.value}e0, which is a DOUBLE, or CAST the other side AS DOUBLE"
        )
    for dtype in ("int32", "int64"):
        if bounds(dtype)[0] <= node.value <= bounds(dtype)[1]:
            return Typed("constant", dtype, value=node.value)
    raise InvalidExpressionError(f"{node.value} is beyond 64 bits")


def coerced(node: Typed, dtype: str) -> Typed:
    """Return a node as one of type `dtype`, with a cast where it has another one."""
    if node.dtype == dtype:
        return node
    if node.op == "constant":
        if node.value is None:
            return Typed("constant", dtype)
        if dtype in FLOATS and node.dtype in (*OPEN, *INTEGERS):
            return Typed("constant", dtype, value=float(node.value) + 0.0)  # no decimal is -0.0
        if dtype in INTEGERS and node.dtype in ("integer", *INTEGERS):
            return Typed("constant", dtype, value=node.value)
    return Typed("cast", dtype, (node,))

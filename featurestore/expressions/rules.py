"""What each function takes and gives: from typed arguments to a typed node, or a refusal."""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.typed import (
    DATES,
    FLOATS,
    INTEGERS,
    NUMBERS,
    SIGNED,
    TIME,
    UNSIGNED,
    Typed,
    coerced,
    common_type,
    settled,
)

Args: TypeAlias = tuple[Typed, ...]
Rule: TypeAlias = Callable[[str, Args, str | None], Typed]
"""From a function's name, arguments and option to what is computed."""

MAX_DIGITS: Final = 15


def _meet(name: str, args: Args, allowed: Sequence[str]) -> tuple[str, Args]:
    """Return the type in which all arguments meet, and the arguments in it."""
    dtype = common_type(args, name)
    _check(name, dtype, allowed)
    return dtype, tuple(coerced(arg, dtype) for arg in args)


def _check(name: str, dtype: str, allowed: Sequence[str]) -> None:
    if dtype not in allowed:
        shown = "numbers" if tuple(allowed) == NUMBERS else " or ".join(allowed)
        raise InvalidExpressionError(f"{name} takes {shown}, not {dtype}")


def _each(name: str, args: Args, allowed: Sequence[str]) -> Args:
    """Return arguments that need not meet, each with a type of its own among those allowed."""
    found = tuple(settled(arg, name) for arg in args)
    for arg in found:
        _check(name, arg.dtype, allowed)
    return found


def _of(name: str, args: Args, dtype: str) -> Args:
    """Return arguments that all must be of one type; a NULL becomes one of it."""
    found = tuple(
        coerced(arg, dtype) if arg.dtype == "null" else settled(arg, name) for arg in args
    )
    for arg in found:
        _check(name, arg.dtype, (dtype,))
    return found


def plus_minus(name: str, args: Args, _option: str | None) -> Typed:
    """Numbers of one type; a date and whole days; two dates, which differ by days."""
    kinds = [arg.dtype for arg in args]
    if kinds == ["date32", "date32"] and name == "-":
        return Typed("days between", "int64", args)
    if "date32" in kinds and (name == "+" or kinds[0] == "date32"):
        day, days = args if kinds[0] == "date32" else args[::-1]
        days = settled(days, name)
        _check(f"a date {name}", days.dtype, ("int8", "int16", "int32", "uint8", "uint16"))
        return Typed(f"days {name}", "date32", (day, coerced(days, "int32")))
    return arithmetic(name, args, None)


def arithmetic(name: str, args: Args, _option: str | None) -> Typed:
    """Numbers, in the wider of their types; what does not fit into an integer is an error."""
    dtype, args = _meet(name, args, NUMBERS)
    return Typed(name, dtype, args)


def division(name: str, args: Args, _option: str | None) -> Typed:
    """Numbers as floats: float64 unless one is a float32 and the other is no float64."""
    args = tuple(a if a.dtype == "decimal" else settled(a, name) for a in args)
    floats = {a.dtype for a in args if a.dtype in FLOATS}
    dtype = "float32" if floats == {"float32"} else "float64"
    for arg in args:
        if arg.dtype != "decimal":
            _check(name, arg.dtype, NUMBERS)
    return Typed(name, dtype, tuple(coerced(arg, dtype) for arg in args))


def whole_division(name: str, args: Args, _option: str | None) -> Typed:
    """Integers, towards zero."""
    dtype, args = _meet(name, args, INTEGERS)
    return Typed(name, dtype, args)


def negation(_name: str, args: Args, _option: str | None) -> Typed:
    """A signed integer or a float."""
    (arg,) = _each("-", args, (*SIGNED, *FLOATS))
    return Typed("negate", arg.dtype, (arg,))


def comparison(name: str, args: Args, _option: str | None) -> Typed:
    """Two values of one type."""
    dtype = common_type(args, name)
    return Typed(name, "bool", tuple(coerced(arg, dtype) for arg in args))


def between(_name: str, args: Args, _option: str | None) -> Typed:
    """Three values of one type, both ends included."""
    dtype = common_type(args, "BETWEEN")
    value, low, high = (coerced(arg, dtype) for arg in args)
    above, below = Typed(">=", "bool", (value, low)), Typed("<=", "bool", (value, high))
    return Typed("and", "bool", (above, below))


def logic(name: str, args: Args, _option: str | None) -> Typed:
    """Booleans, in three-valued logic."""
    return Typed(name, "bool", _of(name.upper(), args, "bool"))


def null_test(name: str, args: Args, _option: str | None) -> Typed:
    """Anything that has a type."""
    return Typed(name, "bool", (settled(args[0], "IS NULL"),))


def case(_name: str, args: Args, _option: str | None) -> Typed:
    """Conditions and values in turn, then the value otherwise; values meet in one type."""
    *pairs, default = args
    conditions = _of("a condition", tuple(pairs[::2]), "bool")
    values = (*pairs[1::2], default)
    dtype = common_type(values, "CASE")
    given = [coerced(value, dtype) for value in values]
    turns = [part for pair in zip(conditions, given[:-1], strict=True) for part in pair]
    return Typed("case", dtype, (*turns, given[-1]))


def same_type(name: str, args: Args, _option: str | None) -> Typed:
    """Values of one type, of which one comes out."""
    dtype = common_type(args, name)
    return Typed(name, dtype, tuple(coerced(arg, dtype) for arg in args))


def nullif(name: str, args: Args, _option: str | None) -> Typed:
    """The first value, unless it equals the second in the type in which they meet."""
    value = settled(args[0], name)
    dtype = common_type(args, name)
    left = value if value.dtype == dtype else coerced(args[0], dtype)
    return Typed(name, value.dtype, (value, left, coerced(args[1], dtype)))


def absolute(name: str, args: Args, _option: str | None) -> Typed:
    """A number; its type stays."""
    (arg,) = _each(name, args, NUMBERS)
    return arg if arg.dtype in UNSIGNED else Typed(name, arg.dtype, (arg,))


def sign(name: str, args: Args, _option: str | None) -> Typed:
    """A number; -1, 0 or 1 as int8."""
    return Typed(name, "int8", _each(name, args, NUMBERS))


def rounding(name: str, args: Args, option: str | None) -> Typed:
    """A float keeps its type; floor and ceil of an integer are float64, round takes floats only."""
    allowed = FLOATS if name == "round" else NUMBERS
    (arg,) = _each(name, args, allowed)
    digits = int(option or 0)
    if not 0 <= digits <= MAX_DIGITS:
        raise InvalidExpressionError(f"{name} takes 0 to {MAX_DIGITS} digits, not {digits}")
    dtype = arg.dtype if arg.dtype in FLOATS else "float64"
    return Typed(name, dtype, (coerced(arg, dtype),), digits)


def as_float64(name: str, args: Args, _option: str | None) -> Typed:
    """Numbers, computed in float64."""
    found = tuple(a if a.dtype == "decimal" else settled(a, name) for a in args)
    for arg in found:
        if arg.dtype != "decimal":
            _check(name, arg.dtype, NUMBERS)
    return Typed(name, "float64", tuple(coerced(arg, "float64") for arg in found))


def constant_pi(_name: str, _args: Args, _option: str | None) -> Typed:
    """No argument."""
    return Typed("constant", "float64", value=3.141592653589793)


def float_test(name: str, args: Args, _option: str | None) -> Typed:
    """A float."""
    return Typed(name, "bool", _each(name, args, FLOATS))


def text_to_text(name: str, args: Args, option: str | None) -> Typed:
    """Texts, and what the option says."""
    return Typed(name, "string", _of(name, args, "string"), option)


def slice_of_text(name: str, args: Args, option: str | None) -> Typed:
    """A text, where to begin (from 1) and how many characters: constants."""
    counts = [int(part) for part in (option or "").split(",") if part]
    if any(count < 0 for count in counts) or (name == "substr" and counts[0] < 1):
        raise InvalidExpressionError(f"{name} counts from 1, and takes no negative number")
    return Typed(name, "string", _of(name, args, "string"), tuple(counts))


def text_to_int(name: str, args: Args, _option: str | None) -> Typed:
    """Texts; a count or position as int64."""
    return Typed(name, "int64", _of(name, args, "string"))


def text_test(name: str, args: Args, option: str | None) -> Typed:
    """Texts, and what the option says."""
    return Typed(name, "bool", _of(name, args, "string"), option)


def date_part(name: str, args: Args, option: str | None) -> Typed:
    """A date or time; int64."""
    return Typed(name, "int64", _as_times(name, args), option)


def date_trunc(name: str, args: Args, option: str | None) -> Typed:
    """A date or time; a time."""
    if option in ("dayofweek", "isodow", "dayofyear", "millisecond", "microsecond"):
        raise InvalidExpressionError(f"{name} cannot cut to {option!r}")
    return Typed(name, TIME, _as_times(name, args), option)


def date_diff(name: str, args: Args, option: str | None) -> Typed:
    """Two dates or times; the boundaries of `option` between them, as int64."""
    if option in ("week", "dayofweek", "isodow", "dayofyear"):
        raise InvalidExpressionError(f"{name} does not count in {option!r}; count in 'day'")
    return Typed(name, "int64", _as_times(name, args), option)


def epoch(name: str, args: Args, _option: str | None) -> Typed:
    """A date or time; seconds as float64, milli- and microseconds as int64."""
    dtype = "float64" if name == "epoch" else "int64"
    return Typed(name, dtype, _as_times(name, args))


def _as_times(name: str, args: Args) -> Args:
    return tuple(coerced(arg, TIME) for arg in _each(name, args, DATES))


_NUMERIC: Final = ("bool", *NUMBERS)
_CASTS: Final = {
    "string": ("bool", *INTEGERS, "date32", "string"),
    "date32": DATES,
    TIME: DATES,
} | dict.fromkeys(_NUMERIC, _NUMERIC)


def cast(name: str, args: Args, option: str | None) -> Typed:
    """A value and the type it becomes."""
    (arg,) = args
    dtype = str(option)
    if arg.dtype == "null" or (arg.dtype == "decimal" and dtype in FLOATS):
        return coerced(arg, dtype)
    arg = settled(arg, "CAST")
    if dtype not in _CASTS or arg.dtype not in _CASTS[dtype]:
        raise InvalidExpressionError(f"{arg.dtype} cannot be cast to {dtype}")
    return arg if arg.dtype == dtype else Typed(name, dtype, (arg,))

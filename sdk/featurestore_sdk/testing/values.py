"""The server's side of values: from a request's column to Python, and from Python to a reply's."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from featurestore_protos.v1.values_pb2 import Values

from featurestore_sdk.values import days_of, decode, element_type, field_of, micros_of

# Any type that travels in this field will do to read it.
_DTYPES: Final = {
    "bools": "bool",
    "int32s": "int32",
    "int64s": "int64",
    "uint32s": "uint32",
    "uint64s": "uint64",
    "float32s": "float32",
    "float64s": "float64",
    "strings": "string",
    "binaries": "binary",
    "decimals": "decimal128(38, 0)",
    "dates": "date32",
    "timestamps_us": "timestamp[us, UTC]",
}
_WRITTEN: Final[Mapping[str, Callable[[Any], Any]]] = {
    "decimals": lambda value: format(Decimal(value), "f"),
    "dates": days_of,
    "timestamps_us": micros_of,
}
_PLACEHOLDERS: Final[Mapping[str, Any]] = {"strings": "", "binaries": b"", "decimals": "0"}
_INTEGERS: Final = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
}
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "bool": bool,
    "string": str,
    "binary": bytes,
    "date32": date,
    "timestamp[us, UTC]": datetime,
    "float32": (int, float),
    "float64": (int, float),
}


def plain(values: Values) -> list[Any]:
    """Return a request's column as Python values; None where they are null."""
    filled = [field.name for field, _ in values.ListFields() if field.name != "nulls"]
    if not filled:
        return [None] * len(values.nulls)
    if filled == ["lists"]:
        elements = iter(plain(values.lists.elements))
        lists = [[next(elements) for _ in range(length)] for length in values.lists.lengths]
        nulls = values.nulls or bytes(len(lists))
        return [None if null else found for found, null in zip(lists, nulls, strict=True)]
    return decode(values, _DTYPES[filled[0]])


def encode_as(dtype: str, column: Sequence[Any]) -> Values:
    """Return a column in the type that a reply declares.

    Raises:
        TypeError, ValueError: A value is not of the type.
    """
    message = Values()
    if any(value is None for value in column):
        message.nulls = bytes([value is None for value in column])
    if dtype.startswith("list<"):
        lists = [value or [] for value in column]
        message.lists.lengths.extend(map(len, lists))
        flat = [element for found in lists for element in found]
        message.lists.elements.MergeFrom(encode_as(element_type(dtype), flat))
        return message
    field = field_of(dtype)
    write = _WRITTEN.get(field, lambda value: value)
    empty = _PLACEHOLDERS.get(field, 0)
    written = [empty if value is None else write(value) for value in column]
    getattr(message, field).extend(written)
    return message


def as_key(dtype: str, value: Any) -> Any:
    """Return a request's value in the type that a column is declared with; None stays None.

    Raises:
        ValueError: It does not have that type.
    """
    if value is None:
        return None
    if dtype in _INTEGERS:
        lowest, highest = _INTEGERS[dtype]
        whole = type(value) is int or (isinstance(value, float) and value.is_integer())
        if whole and lowest <= value <= highest:
            return int(value)
    elif dtype.startswith("decimal"):
        if isinstance(value, Decimal) or type(value) is int:
            return Decimal(value)
    elif isinstance(value, _KINDS[dtype]) and not _is_other(dtype, value):
        return value
    raise ValueError(f"{value!r} is no {dtype}")


def _is_other(dtype: str, value: Any) -> bool:
    """Whether Python calls a value what it is not: a bool an int, a datetime a date."""
    if dtype == "date32":
        return isinstance(value, datetime)
    return dtype.startswith("float") and isinstance(value, bool)

"""Values of JSON -> what a lookup takes, by the type that is declared.

JSON is proto3's: 64-bit integers are text in replies and may be text or numbers in requests; NaN
and the infinities are text; binary is base64; decimals are text; dates and instants are RFC 3339.
What no JSON value stands for is refused with the row. Everything else, the ranges of integers
among it, is decided where gRPC's values are.
"""

import base64
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from typing import Any, Final, NoReturn

from featurestore.errors import EntityValueError, shown

Json = Any

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,30})")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,400})(\.[0-9]{1,1000})?([eE][+-]?[0-9]{1,4})?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_NOT_NUMBERS: Final = {
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
_EXAMPLES: Final = {
    "bool": "write true or false",
    "binary": "write it in base64",
    "date32": 'write it as "2026-01-31"',
    "timestamp[us, UTC]": 'write it as "2026-01-31T12:00:00Z"',
    "string": "write it in quotes",
}


def read_column(values: Sequence[Json], dtype: str, *, field: str) -> list[Any]:
    """Return a column of JSON values as Python values.

    Args:
        values: The values; null is a null.
        dtype: The declared type.
        field: What the column is called in messages.

    Raises:
        EntityValueError: A value is not of that type; names the row.
    """
    accepted, parse = _reader(dtype)
    # Most columns hold what needs no reading, all of one type.
    if {*map(type, values)} <= accepted:
        return list(values)
    return [
        value
        if value is None or type(value) in accepted
        else _read(parse, value, dtype, field, row)
        for row, value in enumerate(values)
    ]


def _read(parse: Callable[[str], Any] | None, value: Json, dtype: str, field: str, row: int) -> Any:
    if parse is None or not isinstance(value, str):
        _refuse(value, dtype, field, row)
    try:
        return parse(value)
    except (ValueError, ArithmeticError):
        _refuse(value, dtype, field, row)


def _refuse(value: Json, dtype: str, field: str, row: int) -> NoReturn:
    raise EntityValueError(
        f"{shown(field)} is {dtype}, but row {row} holds {_kind(value)}.",
        field=field,
        row=row,
        hint=_EXAMPLES.get(dtype),
    )


def _kind(value: Json) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {shown(value)}"
    kinds = {dict: "an object", list: "an array", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def _reader(dtype: str) -> tuple[set[type], Callable[[str], Any] | None]:
    """Return the types that are taken as they are, and what reads text."""
    if "int" in dtype:
        return {int, float}, _integer
    if dtype.startswith("float"):
        return {int, float}, _float
    if dtype == "string":
        return {str}, None
    if dtype == "bool":
        return {bool}, None
    return set(), _PARSERS[dtype]


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    if text in _NOT_NUMBERS:
        return _NOT_NUMBERS[text]
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return finite(text)


def finite(text: str) -> float:
    """Return the number that JSON's `text` is.

    Raises:
        ValueError: No float is as large.
    """
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _binary(text: str) -> bytes:
    standard = text.replace("-", "+").replace("_", "/").rstrip("=")
    if not _BASE64.fullmatch(text.replace("-", "+").replace("_", "/")):
        raise ValueError(text)
    return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)


def _date(text: str) -> date:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    return date.fromisoformat(text)


def _instant(text: str) -> datetime:
    if not _INSTANT.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text.upper()).astimezone(UTC)


_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "binary": _binary,
    "date32": _date,
    "timestamp[us, UTC]": _instant,
}

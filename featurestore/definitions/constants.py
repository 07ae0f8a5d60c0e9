"""Constants of rules: plain values in documents, literals of a column's type in expressions."""

import math
from datetime import date, datetime
from typing import Final

import pyarrow as pa

from featurestore.errors import shown
from featurestore.expressions.tree import Literal
from featurestore.time import as_utc, format_instant, parse_instant, to_micros
from featurestore.types import type_name

MAX_CONSTANT_TEXT: Final = 1_000
"""Characters of a constant that is a text."""
_MAX_INTEGER: Final = 2**64
_EPOCH: Final = date(1970, 1, 1)

Constant = bool | int | float | str
"""What a rule compares with, as documents have it: a date or time is its text."""


def read_constant(value: object) -> Constant:
    """Return a constant as documents have it.

    Raises:
        ValueError: It is no plain value, or none that can be compared with.
    """
    if isinstance(value, datetime):
        return format_instant(as_utc(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= _MAX_INTEGER:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, str) and len(value) <= MAX_CONSTANT_TEXT:
        return _checked_text(value)
    text = repr(value)
    raise ValueError(
        f"{text if len(text) <= 80 else f'{text[:80]}...'} is no number, text, bool, date or time"  # noqa: PLR2004
        " that values can be compared with"
    )


def meant(value: Constant) -> Constant:
    """Return the one way to write a constant: no value is equal to 2 and not to 2.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _MAX_INTEGER:
        return int(value)
    return value


def _checked_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{shown(text)} holds a surrogate") from None
    return text


def literal_of(value: Constant, dtype: pa.DataType) -> Literal:
    """Return a constant as an expression has it that stands beside values of a type.

    Raises:
        ValueError: It is none that values of this type can be equal to, or less or greater than.
    """
    if isinstance(value, bool):
        if pa.types.is_boolean(dtype):
            return Literal("bool", value)
    elif isinstance(value, str):
        if (found := _from_text(value, dtype)) is not None:
            return found
    elif pa.types.is_floating(dtype):
        return _beside_float(value, dtype)
    elif pa.types.is_integer(dtype):
        return _beside_integer(value)
    raise ValueError(f"{shown(str(value))} does not go with {type_name(dtype)}")


def _beside_float(value: int | float, dtype: pa.DataType) -> Literal:
    """Return a number that is rounded to the column's own type, as the column's values were.

    It is written as a float64, in which each value of a narrower type has its place: then it does
    not matter whether the two meet in the column's type, or, beside greater constants, in float64.
    """
    rounded = pa.scalar(float(value), pa.float64()).cast(dtype).as_py()
    return Literal("float64", rounded if math.isfinite(rounded) else float(value))


def _beside_integer(value: int | float) -> Literal:
    if value == int(value):
        return Literal("integer", int(value))
    return Literal("float64", float(value))


def _from_text(text: str, dtype: pa.DataType) -> Literal | None:
    if pa.types.is_string(dtype):
        return Literal("string", text)
    try:
        if dtype == pa.date32():
            return Literal("date32", (date.fromisoformat(text) - _EPOCH).days)
        if pa.types.is_timestamp(dtype):
            return Literal("time", to_micros(parse_instant(text)))
    except ValueError:
        raise ValueError(f"{shown(text)} is no {type_name(dtype)}") from None
    return None

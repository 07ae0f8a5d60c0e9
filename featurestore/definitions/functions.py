"""Aggregate functions: how they are written, and their result types (SEMANTICS, section 4)."""

import re
from dataclasses import dataclass
from typing import Final, Literal

import pyarrow as pa

from featurestore.errors import close_names, did_you_mean, shown
from featurestore.types import Float64, Int64, UInt64, base_type, type_name

Kind = Literal[
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "var",
    "stddev",
    "first",
    "last",
    "count_distinct",
    "median",
    "quantile",
    "last_n",
    "first_n",
]

PLAIN: Final[tuple[Kind, ...]] = (
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "var",
    "stddev",
    "first",
    "last",
    "count_distinct",
    "median",
)
MAX_LIST: Final = 1_000
"""Most values of one `last_n` or `first_n`."""
_NUMBERED: Final = re.compile(r"(last|first)_([1-9][0-9]{0,3})")
_PERCENTILE: Final = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,4})?|100)")
_NEED_NUMBERS: Final = frozenset({"sum", "mean", "var", "stddev", "median", "quantile"})
_COUNTS: Final = frozenset({"count", "count_distinct"})
_FLOATS: Final = frozenset({"mean", "var", "stddev", "median", "quantile"})


@dataclass(frozen=True, slots=True)
class AggregateFunction:
    """One function.

    Attributes:
        text: As it is written, which is also its part of a feature's name: "sum", "p95", "last_5".
        kind: What it does.
        quantile: Of "quantile", between 0 and 1; else None.
        length: Of "last_n" and "first_n", the most values; else None.
    """

    text: str
    kind: Kind
    quantile: float | None = None
    length: int | None = None

    @property
    def is_count(self) -> bool:
        """Whether an empty window counts 0 rather than being null."""
        return self.kind in _COUNTS

    @property
    def certain_type(self) -> pa.DataType | None:
        """The result's type where it does not depend on that of the values, else None."""
        if self.kind in _COUNTS:
            return Int64
        return Float64 if self.kind in _FLOATS else None

    def result_type(self, dtype: pa.DataType) -> pa.DataType:
        """Return the type of the result over values of `dtype`.

        Raises:
            ValueError: The function cannot be taken of such values.
        """
        dtype = base_type(dtype)
        if self.kind in _NEED_NUMBERS and not _is_number(dtype):
            raise ValueError(f"{self.text} takes numbers, not {type_name(dtype)}")
        if pa.types.is_nested(dtype) and not self.is_count:
            raise ValueError(f"{self.text} takes plain values, not {type_name(dtype)}")
        if self.certain_type is not None:
            return self.certain_type
        if self.kind == "sum":
            return _sum_type(dtype)
        return pa.list_(dtype) if self.length is not None else dtype


def parse_function(text: str) -> AggregateFunction:
    """Return the function that is written as `text`.

    Raises:
        ValueError: There is none; it suggests one that looks alike.
    """
    for kind in PLAIN:
        if text == kind:
            return AggregateFunction(text, kind)
    if match := _NUMBERED.fullmatch(text):
        length = int(match[2])
        if length <= MAX_LIST:
            return AggregateFunction(
                text, "last_n" if match[1] == "last" else "first_n", length=length
            )
    if match := _PERCENTILE.fullmatch(text):
        return AggregateFunction(text, "quantile", quantile=float(match[1]) / 100)
    guess = did_you_mean(close_names(text, PLAIN))
    known = f"{', '.join(PLAIN)}, p95 (any percentile), last_5 and first_5 (up to {MAX_LIST:,})"
    raise ValueError(f"{shown(text)} is no aggregate function; {guess or f'there are {known}'}")


def _is_number(dtype: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype)
    )


def _sum_type(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal(dtype):
        return pa.decimal128(38, dtype.scale)
    if pa.types.is_floating(dtype):
        return Float64
    return UInt64 if pa.types.is_unsigned_integer(dtype) else Int64

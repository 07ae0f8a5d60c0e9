"""Columns as numbers: which integers or floats stand for the values of an Arrow type."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import RequestError, shown
from featurestore.statistics.grid import FloatLadder, IntegerLadder, Ladder
from featurestore.statistics.moments import as_float
from featurestore.statistics.values import PER_SECOND, day, moment
from featurestore.time import as_utc
from featurestore.types import MAX_DECIMAL_DIGITS

NARROW_DIGITS: Final = 18
"""Decimals of so many digits are int64 without their point."""
_DAY_S: Final = 86_400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_UTC_EPOCH: Final = as_utc(datetime(1970, 1, 1))  # noqa: DTZ001 - as_utc gives it the zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What numbers mean.

    Attributes:
        numbers: Returns the numbers of an Arrow array without nulls.
        ladder: Widths of histogram cells.
        shown: Returns a number as the value that it stands for.
        number: Returns a value, such as an edge, as a number.
        mean: Returns a mean of numbers as a value.
        per_unit: The numbers' standard deviation is divided by it.
        has_nan: Whether values may be NaN or infinite.
    """

    numbers: Callable[[pa.Array], npt.NDArray[Any]]
    ladder: Ladder
    shown: Callable[[Any], Any]
    number: Callable[[Any], int | float]
    mean: Callable[[Fraction], Any] = as_float
    per_unit: float = 1.0
    has_nan: bool = False


def numbers_as(dtype: type[np.generic]) -> Callable[[pa.Array], npt.NDArray[Any]]:
    """Return what reads Arrow numbers as numbers of a NumPy type that holds them all."""

    def numbers(values: pa.Array) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = values.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
        return found

    return numbers


_integers: Final = numbers_as(np.int64)


def _plain(value: Any) -> int | float:
    number = value if isinstance(value, int) else float(value)
    if number != number:  # noqa: PLR0124 - NaN
        raise ValueError(value)
    return number


def unit_of(dtype: pa.DataType) -> Unit | None:
    """Return what the numbers of a type mean; None if it has no numbers."""
    if pa.types.is_integer(dtype):
        wide = np.uint64 if pa.types.is_uint64(dtype) else np.int64
        return Unit(numbers=numbers_as(wide), ladder=IntegerLadder(), shown=int, number=_plain)
    if pa.types.is_floating(dtype):
        numbers = numbers_as(np.float64)
        return Unit(numbers=numbers, ladder=FloatLadder(), shown=float, number=_plain, has_nan=True)
    if pa.types.is_date(dtype):
        return _days()
    if pa.types.is_timestamp(dtype):
        return _ticks(dtype)
    if pa.types.is_decimal(dtype) and dtype.precision <= MAX_DECIMAL_DIGITS:
        return _wide() if is_wide_decimal(dtype) else _narrow(dtype.scale)
    return None


def is_wide_decimal(dtype: pa.DataType) -> bool:
    """Whether a type's values are decimals that int64 cannot hold."""
    return bool(pa.types.is_decimal(dtype)) and dtype.precision > NARROW_DIGITS


LENGTH_UNIT: Final = Unit(numbers=_integers, ladder=IntegerLadder(), shown=int, number=_plain)
"""Lengths."""


def given_edges(unit: Unit, edges: Sequence[Any], column: str) -> list[int | float]:
    """Return edges that a caller gave as numbers.

    Raises:
        RequestError: They are not two or more rising values of the column.
    """
    try:
        numbers = [unit.number(edge) for edge in edges]
    except (TypeError, ValueError, ArithmeticError, AttributeError):
        raise RequestError(f"Edges of column {shown(column)} are not values of it.") from None
    pairs = list(pairwise(numbers))
    constant = len(numbers) == 2 and numbers[0] == numbers[1]  # noqa: PLR2004 - of one value
    if not pairs or not (constant or all(low < high for low, high in pairs)):
        raise RequestError(f"Edges of column {shown(column)} are not two or more that rise.")
    return numbers


def _days() -> Unit:
    def numbers(values: pa.Array) -> npt.NDArray[Any]:
        return _integers(values.cast(pa.date32()).view(pa.int32()))

    return Unit(
        numbers=numbers,
        ladder=IntegerLadder(),
        shown=day,
        number=lambda value: int(value.toordinal()) - _EPOCH_DAY,
        mean=lambda mean: day(round(mean)),
        per_unit=1 / _DAY_S,
    )


def _ticks(dtype: pa.DataType) -> Unit:
    unit, aware, per_second = dtype.unit, dtype.tz is not None, PER_SECOND[dtype.unit]

    def shown_time(ticks: int) -> datetime | str:
        return moment(int(ticks), unit, aware=aware)

    def number(value: datetime) -> int:
        since = as_utc(value) - _UTC_EPOCH
        seconds = since.days * _DAY_S + since.seconds
        return seconds * per_second + since.microseconds * per_second // 1_000_000

    return Unit(
        numbers=lambda values: values.view(pa.int64()).to_numpy(zero_copy_only=False),
        ladder=IntegerLadder.of_ticks(per_second),
        shown=shown_time,
        number=number,
        mean=lambda mean: shown_time(round(mean)),
        per_unit=per_second,
    )


def _narrow(scale: int) -> Unit:
    return Unit(
        numbers=lambda values: decimal_words(values)[:, 0].copy(),
        ladder=IntegerLadder(),
        shown=lambda number: Decimal(int(number)).scaleb(-scale),
        number=lambda value: int(Decimal(value).scaleb(scale)),
        mean=lambda mean: as_float(mean / 10**scale),
        per_unit=10.0**scale,
    )


def _wide() -> Unit:
    """Of decimals with more digits the nearest floats are looked at."""
    return Unit(
        numbers=lambda values: values.cast(pa.float64()).to_numpy(zero_copy_only=False),
        ladder=FloatLadder(),
        shown=lambda number: Decimal(repr(float(number))),
        number=float,
    )


def decimal_words(values: pa.Array) -> npt.NDArray[np.int64]:
    """Return decimals without nulls as two words each, the low one first."""
    values = values.cast(pa.decimal128(max(values.type.precision, 1), values.type.scale))
    words = np.frombuffer(values.buffers()[1], dtype=np.int64).reshape(-1, 2)
    return words[values.offset : values.offset + len(values)]

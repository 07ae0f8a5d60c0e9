"""Statistics of one column, whatever its type, gathered chunk by chunk."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.statistics.distinct import DistinctSummary, Hashes, mixed
from featurestore.statistics.frequent import HELD_BYTES, FrequentValues
from featurestore.statistics.grid import IntegerLadder
from featurestore.statistics.numbers import Numbers
from featurestore.statistics.report import Distinct, TopValues
from featurestore.statistics.spread import Spread
from featurestore.statistics.units import (
    LENGTH_UNIT,
    Unit,
    decimal_words,
    given_edges,
    is_wide_decimal,
    unit_of,
)
from featurestore.types import base_type, type_name

TOP_VALUES: Final = 20
_HASH_SEED: Final = 1


class ColumnStatistics(Protocol):
    """What is gathered of one column."""

    def add(self, values: pa.Array) -> None:
        """Take in values without nulls, 65,536 at most."""
        ...

    def merge(self, other: Self) -> None:
        """Take over what was gathered from another column of this type."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what a `ColumnProfile` says besides name, type, rows and nulls."""
        ...


def statistics_of(field: pa.Field, edges: Sequence[Any] | None) -> ColumnStatistics:
    """Return what gathers the statistics of a column, with a histogram of these edges if given.

    Raises:
        RequestError: The column cannot have these edges.
    """
    dtype = plain_type(field.type)
    if unit := unit_of(dtype):
        numbers = None if edges is None else given_edges(unit, edges, field.name)
        return (WideDecimals if is_wide_decimal(dtype) else NumberColumn)(unit, numbers)
    if pa.types.is_boolean(dtype):
        return BoolColumn()
    if type_name(dtype) in ("string", "binary"):
        return TextColumn(text=type_name(dtype) == "string")
    return ListColumn() if pa.types.is_list(base_type(dtype)) else OtherColumn()


def plain_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type of the values themselves: of a dictionary's, of an extension's storage."""
    if pa.types.is_dictionary(dtype):
        return plain_type(dtype.value_type)
    return plain_type(dtype.storage_type) if isinstance(dtype, pa.BaseExtensionType) else dtype


class NumberColumn:
    """Integers, floats, dates, times, and decimals of at most 18 digits."""

    def __init__(self, unit: Unit, edges: Sequence[int | float] | None) -> None:
        self._unit = unit
        self._numbers = Numbers(unit.ladder, edges)

    def add(self, values: pa.Array) -> None:
        """See `ColumnStatistics`."""
        self._numbers.add(self._unit.numbers(values))

    def merge(self, other: Self) -> None:
        """See `ColumnStatistics`."""
        self._numbers.merge(other._numbers)

    def facts(self) -> dict[str, Any]:
        """See `ColumnStatistics`."""
        numbers = self._numbers
        told = {"distinct": numbers.distinct(), "values": numbers.spread(self._unit)}
        if not self._unit.has_nan:
            return told
        return {**told, "nan": numbers.nan, "infinities": (numbers.negative, numbers.positive)}


class WideDecimals:
    """Decimals of more than 18 digits.

    Minimum, maximum and distinct values are exact; the rest is told of the nearest floats.
    """

    def __init__(self, unit: Unit, edges: Sequence[int | float] | None) -> None:
        self._unit = unit
        self._numbers = Numbers(unit.ladder, edges, distinct=False)
        self._distinct = DistinctSummary()
        self._low: Decimal | None = None
        self._high: Decimal | None = None

    def add(self, values: pa.Array) -> None:
        """See `ColumnStatistics`."""
        self._numbers.add(self._unit.numbers(values))
        words = decimal_words(values)
        self._distinct.add(mixed(mixed(words[:, 0].copy()) ^ mixed(~words[:, 1])))
        self._widen(pc.min(values).as_py(), pc.max(values).as_py())

    def merge(self, other: Self) -> None:
        """See `ColumnStatistics`."""
        self._numbers.merge(other._numbers)
        self._distinct.merge(other._distinct)
        self._widen(other._low, other._high)

    def facts(self) -> dict[str, Any]:
        """See `ColumnStatistics`."""
        spread = replace(self._numbers.spread(self._unit), min=self._low, max=self._high)
        return {"distinct": Distinct.of(self._distinct), "values": spread}

    def _widen(self, low: Decimal | None, high: Decimal | None) -> None:
        if low is not None and high is not None:
            self._low = low if self._low is None else min(low, self._low)
            self._high = high if self._high is None else max(high, self._high)


class TextColumn:
    """Text, or bytes; text is looked at as UTF-8, whose order is that of its characters."""

    def __init__(self, *, text: bool) -> None:
        self._text = text
        self._low: bytes | None = None
        self._high: bytes | None = None
        self._distinct = DistinctSummary()
        self._frequent = FrequentValues()
        self._lengths = Numbers(IntegerLadder(), distinct=False)

    def add(self, values: pa.Array) -> None:
        """See `ColumnStatistics`."""
        measure = pc.utf8_length if self._text else pc.binary_length
        self._lengths.add(measure(values).to_numpy(zero_copy_only=False).astype(np.int64))
        encoded = values.cast(pa.large_binary()).dictionary_encode()
        unique = encoded.dictionary
        hashes = _hashes(unique)
        counts = np.bincount(encoded.indices.to_numpy(), minlength=len(unique))
        self._distinct.add(hashes)
        self._frequent.add(unique, hashes, counts)
        self._widen(_cut(pc.min(unique).as_py()), _cut(pc.max(unique).as_py()))

    def merge(self, other: Self) -> None:
        """See `ColumnStatistics`."""
        self._lengths.merge(other._lengths)
        self._distinct.merge(other._distinct)
        self._frequent.merge(other._frequent)
        self._widen(other._low, other._high)

    def facts(self) -> dict[str, Any]:
        """See `ColumnStatistics`."""
        top = tuple((self._shown(value), n) for value, n in self._frequent.top(TOP_VALUES))
        return {
            "distinct": Distinct.of(self._distinct),
            "values": Spread(min=self._shown(self._low), max=self._shown(self._high)),
            "lengths": self._lengths.spread(LENGTH_UNIT),
            "top": TopValues(counts=top, error=self._frequent.error),
        }

    def _widen(self, low: bytes | None, high: bytes | None) -> None:
        if low is not None and high is not None:
            self._low = low if self._low is None else min(low, self._low)
            self._high = high if self._high is None else max(high, self._high)

    def _shown(self, value: bytes | None) -> str | bytes | None:
        if value is None:
            return None
        cut = len(value) >= HELD_BYTES
        if not self._text:
            return value[: HELD_BYTES - 1] + b"..." if cut else value
        if cut:
            return value[: HELD_BYTES - 1].decode(errors="ignore") + "..."
        return value.decode(errors="replace")


class BoolColumn:
    """Truth values."""

    def __init__(self) -> None:
        self._false = self._true = 0

    def add(self, values: pa.Array) -> None:
        """See `ColumnStatistics`."""
        true = values.true_count
        self._true += true
        self._false += len(values) - true

    def merge(self, other: Self) -> None:
        """See `ColumnStatistics`."""
        self._true += other._true
        self._false += other._false

    def facts(self) -> dict[str, Any]:
        """See `ColumnStatistics`."""
        counts = [(value, n) for value, n in ((True, self._true), (False, self._false)) if n]
        counts.sort(key=lambda pair: -pair[1])
        values = [value for value, _ in counts]
        spread = Spread(min=min(values), max=max(values)) if values else Spread()
        return {
            "distinct": Distinct(count=len(counts)),
            "values": spread,
            "top": TopValues(counts=tuple(counts)),
        }


class ListColumn:
    """Lists, of which the lengths are told."""

    def __init__(self) -> None:
        self._lengths = Numbers(IntegerLadder(), distinct=False)

    def add(self, values: pa.Array) -> None:
        """See `ColumnStatistics`."""
        lengths = pc.list_value_length(values)
        self._lengths.add(lengths.to_numpy(zero_copy_only=False).astype(np.int64))

    def merge(self, other: Self) -> None:
        """See `ColumnStatistics`."""
        self._lengths.merge(other._lengths)

    def facts(self) -> dict[str, Any]:
        """See `ColumnStatistics`."""
        return {"lengths": self._lengths.spread(LENGTH_UNIT)}


class OtherColumn:
    """Structs, and what a spine may have beyond our types: only nulls are counted."""

    def add(self, values: pa.Array) -> None:
        """See `ColumnStatistics`."""

    def merge(self, other: Self) -> None:
        """See `ColumnStatistics`."""

    def facts(self) -> dict[str, Any]:
        """See `ColumnStatistics`."""
        return {}


def _hashes(values: pa.Array) -> Hashes:
    import polars as pl

    return pl.Series(values).hash(_HASH_SEED).to_numpy()


def _cut(value: bytes) -> bytes:
    return value[:HELD_BYTES]

"""One aggregated column: its functions over ranges of rows."""

from collections.abc import Callable
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.definitions.aggregation import WindowFeature
from featurestore.definitions.functions import AggregateFunction
from featurestore.errors import ResourceLimitError
from featurestore.offline.timeline import Ints, first_of_runs, search, sorted_rows
from featurestore.offline.windows.floats import FloatRanges
from featurestore.offline.windows.integers import RangeSums
from featurestore.offline.windows.order_statistics import (
    count_below,
    dense_ranks,
    kth_smallest,
    order_number,
)
from featurestore.offline.windows.ranges import Floats, RangeReducer, Repeating, in_parts
from featurestore.offline.windows.runs import Runs

MAX_LIST_VALUES: Final = 2**31 - 1
PAIRS_AT_ONCE: Final = 4_000_000
"""Rows in gaps that are looked at together."""


class OverflowedError(Exception):
    """A sum does not fit its type; `row` is the first range for which it does not."""

    def __init__(self, row: int) -> None:
        super().__init__(row)
        self.row = row


class WindowColumn:
    """Values that count, in the order of their rows' places, ready for functions over ranges.

    Nulls, and rows that a predicate leaves out, are taken away first; runs of places become runs of
    what remains.

    Args:
        groups: The key's number of each row, in order of places.
        values: The column in the same order; None counts rows.
        counted: Rows that count at all; None for all.
    """

    def __init__(
        self,
        groups: npt.NDArray[np.int64],
        values: pa.Array | None,
        counted: npt.NDArray[np.bool_] | None,
    ) -> None:
        keep = None if counted is None or counted.all() else counted
        if values is not None and values.null_count:
            valid = np.asarray(values.is_valid())
            keep = valid if keep is None else keep & valid
        self._before = None if keep is None else _count_before(keep)
        self._groups = groups if keep is None else groups[keep]
        if values is not None and keep is not None:
            values = values.filter(pa.array(keep))
        self._values = values

    def __call__(self, feature: WindowFeature, windows: Runs) -> pa.Array:
        """Return a feature's function over what each window holds.

        Where nothing counts it is what the feature says of an empty window.

        Raises:
            OverflowedError: A sum does not fit.
        """
        if self._before is not None:
            windows = windows.among(self._before)
        found = self._functions[feature.function.kind](feature.function, windows)
        if feature.empty is None:  # counts are 0 as they are, all others null
            return found
        return pc.if_else(pa.array(windows.counts <= 0), feature.empty_value(), found)

    @property
    def _functions(self) -> dict[str, Callable[[AggregateFunction, Runs], pa.Array]]:
        return {
            "count": lambda _, windows: pa.array(windows.counts),
            "sum": self._sum,
            "mean": self._mean,
            "min": self._extreme,
            "max": self._extreme,
            "var": self._variance,
            "stddev": self._variance,
            "first": self._end,
            "last": self._end,
            "count_distinct": self._count_distinct,
            "median": self._quantile,
            "quantile": self._quantile,
            "first_n": self._ends,
            "last_n": self._ends,
        }

    # --- sums ----------------------------------------------------------------------------------

    def _sum(self, _function: AggregateFunction, windows: Runs) -> pa.Array:
        empty = windows.counts <= 0
        if pa.types.is_floating(self._column.type):
            return pa.array(self._floats.sums(windows), mask=empty)
        sums, bad = self._exact_sums(windows)
        if bad.any():
            raise OverflowedError(int(np.flatnonzero(bad)[0]))
        return pc.if_else(pa.array(empty), pa.scalar(None, sums.type), sums)

    def _mean(self, _function: AggregateFunction, windows: Runs) -> pa.Array:
        counts = windows.counts
        return pa.array(self._floats.sums(windows) / np.maximum(counts, 1), mask=counts <= 0)

    def _variance(self, function: AggregateFunction, windows: Runs) -> pa.Array:
        counts = windows.counts
        found = self._floats.squares(windows) / np.maximum(counts - 1, 1)
        if function.kind == "stddev":
            found = np.sqrt(found)
        return pa.array(found, mask=counts < 2)  # noqa: PLR2004 - one value has no variance

    # --- extremes and ends ---------------------------------------------------------------------

    def _extreme(self, function: AggregateFunction, windows: Runs) -> pa.Array:
        column, empty = self._column, windows.counts <= 0
        least = function.kind == "min"
        ufunc: np.ufunc = np.minimum if least else np.maximum
        if pa.types.is_floating(column.type):
            reducer = self._least if least else self._greatest
            found = windows.reduced(ufunc, reducer(windows.low, windows.high))
            return pa.array(found, column.type, mask=empty)
        rows = self._order[1]
        reducer = self._least_rank if least else self._greatest_rank
        ranks = windows.reduced(ufunc, reducer(windows.low, windows.high))
        # What empty windows take is masked.
        places = rows[np.clip(ranks, 0, len(rows) - 1)] if len(rows) else np.zeros_like(ranks)
        return column.take(pa.array(places, mask=empty))

    def _end(self, function: AggregateFunction, windows: Runs) -> pa.Array:
        end = windows.hindmost(1) if function.kind == "last" else windows.foremost(1)
        # One run at most holds the place.
        places = end.added(np.where(end.high > end.low, end.low, 0))
        return self._column.take(pa.array(places, mask=windows.counts <= 0))

    def _ends(self, function: AggregateFunction, windows: Runs) -> pa.Array:
        """Return lists of the values nearest to one end, that end first; null if there is none."""
        length = function.length or 0
        is_last = function.kind == "last_n"
        nearest = windows.hindmost(length) if is_last else windows.foremost(length)
        counts = nearest.counts
        offsets = np.concatenate([[0], np.cumsum(counts)])
        if offsets[-1] > MAX_LIST_VALUES:
            raise ResourceLimitError(
                f"{function.text} would hold {int(offsets[-1]):,} values at once.",
                hint="ask for fewer rows at a time, or for shorter lists",
            )
        places, _ = nearest.flat()
        if is_last:  # the same places, each window's from its end
            steps = np.arange(len(places)) - np.repeat(offsets[:-1], counts)
            places = places[np.repeat(offsets[1:] - 1, counts) - steps]
        values = self._column.take(pa.array(places))
        lists = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)
        return pc.if_else(pa.array(counts == 0), pa.scalar(None, lists.type), lists)

    # --- distinct values and quantiles -----------------------------------------------------------

    def _count_distinct(self, _function: AggregateFunction, windows: Runs) -> pa.Array:
        """Count the values whose previous occurrence lies before the window.

        Of a window with gaps it counts those of the whole, and takes away the values that only
        gaps hold.
        """
        whole = windows.whole()
        found = count_below(self._previous, whole.low, whole.high, whole.low + 1)
        if windows.first is None:
            return pa.array(found)
        gaps = windows.gaps()
        gapped = np.flatnonzero(gaps.counts)
        for part in in_parts(gaps.counts[gapped], PAIRS_AT_ONCE):
            some = gapped[part]
            found[some] -= self._only_in_gaps(gaps.of(some), whole.of(some))
        return pa.array(found)

    def _only_in_gaps(self, gaps: Runs, whole: Runs) -> Ints:
        """Return how many values of each window occur in its gaps alone."""
        places, _ = gaps.flat()
        windows = np.repeat(np.arange(len(gaps)), gaps.counts)
        values = self._value_numbers[places]
        order = np.lexsort((values, windows))
        windows, values = windows[order], values[order]
        firsts = first_of_runs(windows) | first_of_runs(values)
        in_gaps = np.diff(np.flatnonzero(firsts), append=len(values))
        windows, values = windows[firsts], values[firsts]
        in_whole = self._occurrences(values, whole.high[windows])
        in_whole -= self._occurrences(values, whole.low[windows])
        return np.bincount(windows[in_whole == in_gaps], minlength=len(gaps))

    def _occurrences(self, values: Ints, places: Ints) -> Ints:
        """Return how many rows have lower numbers of values, or the same one before a place."""
        return search(self._by_value, values << self._bits | places)

    def _quantile(self, function: AggregateFunction, windows: Runs) -> pa.Array:
        """Interpolate linearly between the two values around position (n - 1) * q."""
        q = 0.5 if function.quantile is None else function.quantile
        counts, spoilt = windows.counts, windows.between(self._nan_before) > 0
        numbers, before, ranks, rows = self._ranked_numbers
        rowed = np.flatnonzero((counts > 0) & ~spoilt)
        some = windows.among(before).of(np.tile(rowed, 2))
        position = (counts[rowed] - 1) * q
        below = np.floor(position).astype(np.int64)
        above = np.minimum(below + 1, counts[rowed] - 1)
        both = kth_smallest(ranks, some, np.concatenate([below, above]))
        first, second = np.split(numbers[rows[both]] if len(both) else np.empty(0), 2)
        found = np.full(len(counts), np.nan)
        found[rowed] = _between(first, second, position - below)
        return pa.array(found, mask=counts <= 0)

    # --- what functions share ---------------------------------------------------------------------

    @property
    def _column(self) -> pa.Array:
        if self._values is None:
            raise TypeError("rows can only be counted")
        return self._values

    @cached_property
    def _numbers(self) -> Floats:
        return np.asarray(self._column.cast(pa.float64(), safe=False).to_numpy())

    @cached_property
    def _floats(self) -> FloatRanges:
        return FloatRanges(self._numbers)

    @cached_property
    def _exact_sums(self) -> RangeSums:
        return RangeSums(self._column)

    @cached_property
    def _least(self) -> Repeating:
        return Repeating(RangeReducer(np.minimum, self._column.to_numpy(), np.inf))

    @cached_property
    def _greatest(self) -> Repeating:
        return Repeating(RangeReducer(np.maximum, self._column.to_numpy(), -np.inf))

    @cached_property
    def _order(self) -> tuple[Ints, Ints]:
        """Each value's rank among the distinct values, and a row of each rank."""
        return dense_ranks(_comparable(self._column))

    @cached_property
    def _least_rank(self) -> Repeating:
        return Repeating(RangeReducer(np.minimum, self._order[0], 2**62))

    @cached_property
    def _greatest_rank(self) -> Repeating:
        return Repeating(RangeReducer(np.maximum, self._order[0], -1))

    @cached_property
    def _nan_before(self) -> Ints:
        return _count_before(np.isnan(self._numbers))

    @cached_property
    def _ranked_numbers(self) -> tuple[Floats, Ints, Ints, Ints]:
        """Numbers without NaN, how many there are before each place, their ranks, rows of ranks."""
        is_number = ~np.isnan(self._numbers)
        numbers = self._numbers[is_number]
        return numbers, _count_before(is_number), *dense_ranks(order_number(numbers))

    @cached_property
    def _previous(self) -> Ints:
        """For each row 1 + the row of the same group and value before it, 0 where none is."""
        previous = np.zeros(len(self._by_value), dtype=np.int64)
        rows = self._by_value & ((1 << self._bits) - 1)
        same = np.diff(self._by_value >> self._bits) == 0
        previous[rows[1:][same]] = rows[:-1][same] + 1
        return previous

    @property
    def _bits(self) -> int:
        """How many bits a place takes, the one behind the last too."""
        return len(self._groups).bit_length()

    @cached_property
    def _by_value(self) -> Ints:
        """The rows in the order of their values' numbers, and as they stand; numbers above rows."""
        ranks, _ = self._order
        values = self._groups << int(ranks.max(initial=0)).bit_length() | ranks
        ordered, order = sorted_rows(values)
        numbers = np.cumsum(first_of_runs(ordered)) - 1
        return numbers << self._bits | order

    @cached_property
    def _value_numbers(self) -> Ints:
        """A number for each row's group and value."""
        numbers = np.empty(len(self._by_value), dtype=np.int64)
        numbers[self._by_value & ((1 << self._bits) - 1)] = self._by_value >> self._bits
        return numbers


def _count_before(marks: npt.NDArray[np.bool_]) -> Ints:
    """Return how many marks stand before each place, n + 1 numbers."""
    before = np.zeros(len(marks) + 1, dtype=np.int64)
    np.cumsum(marks, out=before[1:])
    return before


def _between(first: Floats, second: Floats, fraction: Floats) -> Floats:
    """Interpolate; equal ends and fraction 0 do no arithmetic, which infinities would spoil."""
    with np.errstate(invalid="ignore"):
        between = first + (second - first) * fraction
    return np.where((first == second) | (fraction == 0), first, between)


def _comparable(column: pa.Array) -> Ints:
    """Return numbers that are equal and in order as the values are; NaN is one value, the last."""
    dtype = column.type
    if pa.types.is_floating(dtype):
        numbers = np.asarray(column.cast(pa.float64(), safe=False).to_numpy())
        ordered = order_number(np.where(np.isnan(numbers), 0.0, numbers))
        return np.where(np.isnan(numbers), np.int64(2**63 - 1), ordered)
    if pa.types.is_uint64(dtype):
        return np.asarray((column.to_numpy() ^ np.uint64(1 << 63)).view(np.int64))
    if pa.types.is_boolean(dtype):
        return np.asarray(column.cast(pa.int8()).cast(pa.int64()).to_numpy())
    if pa.types.is_date32(dtype):
        return np.asarray(column.cast(pa.int32()).cast(pa.int64()).to_numpy())
    if pa.types.is_integer(dtype) or pa.types.is_timestamp(dtype):
        return np.asarray(column.cast(pa.int64()).to_numpy())
    encoded = column.dictionary_encode()
    places = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(places), dtype=np.int64)
    ranks[places] = np.arange(len(places))
    return ranks[encoded.indices.to_numpy()] if len(places) else np.empty(0, dtype=np.int64)

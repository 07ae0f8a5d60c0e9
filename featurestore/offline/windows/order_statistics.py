"""Which value is the k-th of a range, and how many of a range are below a bound.

Short ranges are laid out and sorted. Long ones descend a wavelet matrix (Claude, Navarro and
Ordonez, 2015), whose levels are built and asked one after the other, so that memory stays at a few
arrays of the input's size.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from featurestore.offline.timeline import Ints, first_of_runs, sorted_rows
from featurestore.offline.windows.ranges import flatten, in_parts
from featurestore.offline.windows.runs import Runs

PAIRS_AT_ONCE = 8_000_000
DIRECT_SHARE = 4
"""Ranges are laid out if all together hold at most so many times the values that there are."""


def order_number(values: npt.NDArray[np.float64]) -> Ints:
    """Return numbers that are in the order of floats (without NaN); -0.0 is 0.0."""
    bits = (values + 0.0).view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def dense_ranks(numbers: Ints) -> tuple[Ints, Ints]:
    """Return for each number its rank among the distinct ones, and a row of each rank."""
    ordered, order = sorted_rows(numbers)
    is_new = first_of_runs(ordered)
    ranks = np.empty(len(numbers), dtype=np.int64)
    ranks[order] = np.cumsum(is_new) - 1
    return ranks, order[is_new]


def kth_smallest(ranks: Ints, windows: Runs, k: Ints) -> Ints:
    """Return the rank at position k (from 0) of each window in order; 0 <= k < its count."""
    counts = windows.counts
    if _is_direct(ranks, counts):
        return _kth_direct(ranks, windows, counts, k)
    low, high, k = windows.low, windows.high, k.copy()
    found = np.zeros(len(k), dtype=np.int64)
    for bit, zeros, count in _levels(ranks):
        zeros_low, zeros_high = zeros[low], zeros[high]
        smaller = windows.added(zeros_high - zeros_low)
        is_one = k >= smaller
        goes_on = windows.spread(is_one)
        low = np.where(goes_on, count + low - zeros_low, zeros_low)
        high = np.where(goes_on, count + high - zeros_high, zeros_high)
        k -= np.where(is_one, smaller, 0)
        found |= is_one.astype(np.int64) << bit
    return found


def count_below(numbers: Ints, low: Ints, high: Ints, bounds: Ints) -> Ints:
    """Return how many of each range are below its bound; numbers and bounds are 0 or greater."""
    if _is_direct(numbers, high - low):
        return _below_direct(numbers, low, high, bounds)
    low, high = low.copy(), high.copy()
    found = np.zeros(len(low), dtype=np.int64)
    top = int(numbers.max(initial=0)).bit_length()
    beyond = bounds >> top > 0  # above all numbers
    found[beyond] = (high - low)[beyond]
    high = np.where(beyond, low, high)
    for bit, zeros, count in _levels(numbers):
        zeros_low, zeros_high = zeros[low], zeros[high]
        is_one = (bounds >> bit) & 1 == 1
        found += np.where(is_one, zeros_high - zeros_low, 0)
        low = np.where(is_one, count + low - zeros_low, zeros_low)
        high = np.where(is_one, count + high - zeros_high, zeros_high)
    return found


def _levels(numbers: Ints) -> Iterator[tuple[int, npt.NDArray[np.int64], int]]:
    """Yield per bit, the highest first: the bit, zeros before each place, and zeros in all."""
    for bit in reversed(range(int(numbers.max(initial=0)).bit_length())):
        is_zero = (numbers >> bit) & 1 == 0
        zeros = np.zeros(len(numbers) + 1, dtype=np.int64)
        np.cumsum(is_zero, out=zeros[1:])
        yield bit, zeros, int(zeros[-1])
        numbers = np.concatenate([numbers[is_zero], numbers[~is_zero]])


def _is_direct(numbers: Ints, counts: Ints) -> bool:
    return int(counts.sum()) <= DIRECT_SHARE * len(numbers)


def _kth_direct(ranks: Ints, windows: Runs, counts: Ints, k: Ints) -> Ints:
    found = np.zeros(len(k), dtype=np.int64)
    bits = max(1, int(ranks.max(initial=0)).bit_length())
    for part in in_parts(counts, PAIRS_AT_ONCE):
        lengths = counts[part]
        places, ends = windows.of(np.arange(len(k))[part]).flat()
        rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
        packed = rows << bits | ranks[places]
        packed.sort()
        some = lengths > 0
        chosen = packed[(ends - lengths + k[part])[some]] & ((1 << bits) - 1)
        found[part][some] = chosen
    return found


def _below_direct(numbers: Ints, low: Ints, high: Ints, bounds: Ints) -> Ints:
    found = np.zeros(len(low), dtype=np.int64)
    for part in in_parts(high - low, PAIRS_AT_ONCE):
        places, ends = flatten(low[part], high[part])
        is_below = numbers[places] < np.repeat(bounds[part], high[part] - low[part])
        sums = np.concatenate([[0], np.cumsum(is_below)])
        found[part] = sums[ends] - sums[ends - (high[part] - low[part])]
    return found

"""Sums, means and variances of floats over ranges, the same whatever stands around a range.

A value online is compared with training bit by bit, though each was computed among other rows: so
a result may depend on the values of its own range alone, and in their order. Up to `SHORT` values
are added one after the other. More are added exactly: each float is cut into integers that stand
for fixed powers of 2**32 (a superaccumulator, see Neal, "Fast exact summation using small and large
superaccumulators", 2015). Sums of integers are exact in any order, so here prefix sums can be
subtracted: nothing is lost, and NaN and infinities, which are counted apart, leak nowhere.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from featurestore.offline.timeline import Ints, search
from featurestore.offline.windows.ranges import Floats, Repeating, in_parts
from featurestore.offline.windows.runs import Runs

SHORT: Final = 64
PAIRS_AT_ONCE: Final = 8_000_000
LIMB_BITS: Final = 32
LIMB: Final = np.int64(0xFFFFFFFF)
LOWEST_POWER: Final = -1_074
"""The power of two of the lowest bit that a float64 can have."""
MANTISSA_BITS: Final = 53
MAX_LIMBS: Final = 67
ROWS_AT_ONCE: Final = 1 << 17
"""Rows that are cut at once: what that takes stays in the processor's cache."""
DENSE_SHARE: Final = 4
"""A limb that one in so many values has is kept for all of them."""
_SPLITTER: Final = 134_217_729.0  # 2**27 + 1, halves a mantissa (Dekker, 1971)


class FloatRanges:
    """Sums and variances over ranges of float64 values.

    Args:
        values: n values; NaN and infinities are values like others.
    """

    def __init__(self, values: Floats) -> None:
        self._values = values
        self._repeating = Repeating(lambda low, high: self._sums(Runs(low, high)))

    def sums(self, windows: Runs) -> Floats:
        """Return the sum of each window; 0 where it is empty.

        The error is at most 64 roundings of the sum of absolute values; of more than 64 values the
        sum is rounded once. Not to be written to.
        """
        if windows.first is None:
            return self._repeating(windows.low, windows.high)
        return self._sums(windows)

    def _sums(self, windows: Runs) -> Floats:
        counts = windows.counts
        found = np.zeros(len(windows))
        short, long = _by_length(counts)
        if windows.first is None:
            found[short] = _added(self._padded, windows.low[short], windows.high[short])
        else:
            for part in in_parts(counts[short], PAIRS_AT_ONCE):
                found[short[part]] = self._laid_out_sums(windows.of(short[part]))
        if len(long):
            some = windows.of(long)
            total, rest = self._exact.sums(some)
            found[long] = self._special.spoil(total + rest, some)
        return found

    def squares(self, windows: Runs) -> Floats:
        """Return the sum of squared distances from each window's mean; 0 where it is empty."""
        counts = windows.counts
        found = np.zeros(len(windows))
        short, long = _by_length(counts)
        for part in in_parts(counts[short], PAIRS_AT_ONCE):
            found[short[part]] = self._short_squares(windows.of(short[part]))
        if len(long):
            found[long] = self._long_squares(windows.of(long))
        return found

    def _laid_out_sums(self, windows: Runs) -> Floats:
        places, ends = windows.flat()
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(np.add.reduceat(self._values[places], ends - windows.counts))

    def _short_squares(self, windows: Runs) -> Floats:
        lengths = windows.counts
        places, ends = windows.flat()
        values = self._values[places]
        with np.errstate(invalid="ignore", over="ignore"):
            means = np.add.reduceat(values, ends - lengths) / lengths
            distances = (values - np.repeat(means, lengths)) ** 2
        return np.asarray(np.add.reduceat(distances, ends - lengths))

    def _long_squares(self, windows: Runs) -> Floats:
        """Return sum(x**2) - sum(x)**2 / n in double-double: 32 digits, of which few cancel."""
        count = windows.counts.astype(np.float64)
        total = self._exact.sums(windows)
        raw = self._exact_squares.sums(windows)
        square, rest = _product(total[0], total[0])
        rest += 2 * total[0] * total[1]
        mean_part = square / count
        back, back_rest = _product(mean_part, count)
        mean_rest = ((square - back) - back_rest + rest) / count
        difference, lost = _sum(raw[0], -mean_part)
        found = difference + (lost + raw[1] - mean_rest)
        with np.errstate(invalid="ignore"):
            found = np.maximum(found, 0.0)
        return np.where(self._special.inside(windows), np.nan, found)

    @cached_property
    def _padded(self) -> Floats:
        return np.append(self._values, 0.0)  # reduceat takes no end behind the last value

    @cached_property
    def _finite(self) -> Floats:
        return np.where(np.isfinite(self._values), self._values, 0.0)

    @cached_property
    def _special(self) -> "_Special":
        return _Special.of(self._values)

    @cached_property
    def _exact(self) -> "_ExactSums":
        return _ExactSums(self._finite)

    @cached_property
    def _exact_squares(self) -> "_ExactSums":
        with np.errstate(over="ignore", invalid="ignore"):
            square, rest = _product(self._finite, self._finite)
        usable = np.isfinite(square) & np.isfinite(rest)
        square, rest = np.where(usable, square, 0.0), np.where(usable, rest, 0.0)
        return _ExactSums(square, rest)


@dataclass(frozen=True, slots=True)
class _Special:
    """How many NaN and infinities stand before each place."""

    nan: Ints
    positive: Ints
    negative: Ints

    @classmethod
    def of(cls, values: Floats) -> "_Special":
        return cls(_before(np.isnan(values)), _before(values == np.inf), _before(values == -np.inf))

    def inside(self, windows: Runs) -> npt.NDArray[np.bool_]:
        """Return which windows hold any of them."""
        found: npt.NDArray[np.bool_] = windows.between(self.nan) > 0
        found |= windows.between(self.positive) > 0
        found |= windows.between(self.negative) > 0
        return found

    def spoil(self, sums: Floats, windows: Runs) -> Floats:
        """Return sums with the NaN and infinities that their windows hold."""
        up, down = windows.between(self.positive) > 0, windows.between(self.negative) > 0
        neither = (windows.between(self.nan) > 0) | (up & down)
        return np.select([neither, up, down], [np.nan, np.inf, -np.inf], sums)


class _ExactSums:
    """Exact sums over ranges of one or more arrays of finite floats, added together."""

    def __init__(self, *columns: Floats) -> None:
        self._count = len(columns[0])
        common = _common_limbs(columns)
        dense = {limb: np.zeros(self._count, dtype=np.int64) for limb in common}
        rare: dict[int, list[tuple[Ints, Ints]]] = {}
        for column in columns:
            for start in range(0, self._count, ROWS_AT_ONCE):
                _cut(column[start : start + ROWS_AT_ONCE], start, dense, rare)
        limbs = {limb: _LimbSums(None, _prefix(values)) for limb, values in dense.items()}
        limbs |= {limb: _LimbSums.of(parts) for limb, parts in rare.items()}
        self._limbs = limbs

    def sums(self, windows: Runs) -> tuple[Floats, Floats]:
        """Return each sum as the nearest float, and what it lacks of the true sum."""
        total, rest = np.zeros(len(windows)), np.zeros(len(windows))
        limbs = sorted(self._limbs)
        if not limbs:
            return total, rest
        raw = [self._raw(n, windows) for n in range(limbs[0], limbs[-1] + 1)]
        is_negative = _carried(raw)[-1] < 0
        sign = np.where(is_negative, np.int64(-1), np.int64(1))
        for place, limb in reversed(list(enumerate(_carried([sign * sums for sums in raw])))):
            power = LIMB_BITS * (limbs[0] + place) + LOWEST_POWER
            with np.errstate(over="ignore"):
                total, lost = _sum(total, np.ldexp(limb.astype(np.float64), power))
            rest += lost
        total, rest = _sum(total, rest)
        return sign * total, sign * rest

    def _raw(self, number: int, windows: Runs) -> Ints:
        limb = self._limbs.get(number)
        return np.zeros(len(windows), dtype=np.int64) if limb is None else limb(windows)


def _carried(sums: list[Ints]) -> list[Ints]:
    """Return limbs of 32 bits, the lowest first, and what is left above them.

    Of a sum that is not negative they are the same however it came about.
    """
    limbs, carry = [], np.zeros(len(sums[0]), dtype=np.int64)
    for number in sums:
        carried = number + carry
        limbs.append(carried & LIMB)
        carry = carried >> LIMB_BITS
    return [*limbs, carry]


def _common_limbs(columns: tuple[Floats, ...]) -> list[int]:
    """Return the limbs that a good part of all values have something in."""
    count = np.zeros(MAX_LIMBS + 2, dtype=np.int64)
    for column in columns:
        for start in range(0, len(column), ROWS_AT_ONCE):
            part = column[start : start + ROWS_AT_ONCE]
            first = _powers(np.frexp(part[part != 0])[1]) >> 5
            count[:MAX_LIMBS] += np.bincount(np.maximum(first, 0), minlength=MAX_LIMBS)
    reach = count + np.roll(count, 1) + np.roll(count, 2)
    return [int(n) for n in np.flatnonzero(reach * DENSE_SHARE > len(columns[0]))]


def _powers(exponents: npt.NDArray[np.int32]) -> Ints:
    """Return the place of the lowest bit of floats with these exponents, 0 for the lowest."""
    return exponents.astype(np.int64) - (MANTISSA_BITS + LOWEST_POWER)


def _cut(
    values: Floats,
    start: int,
    dense: dict[int, Ints],
    rare: dict[int, list[tuple[Ints, Ints]]],
) -> None:
    """Add the pieces of values, whose rows begin at `start`, to the limbs they belong to."""
    mantissas, exponents = np.frexp(values)
    whole = np.ldexp(mantissas, MANTISSA_BITS).astype(np.int64)
    powers = _powers(exponents)
    if powers.min() < 0:  # the lowest floats have fewer bits: those below are zeros
        whole = np.where(powers < 0, whole >> np.clip(-powers, 0, 62), whole)
        powers = np.maximum(powers, 0)
    first, shift = powers >> 5, powers & (LIMB_BITS - 1)
    sign, size = np.sign(whole), np.abs(whole)
    above = size >> (LIMB_BITS - shift)
    pieces = (sign * ((size << shift) & LIMB), sign * (above & LIMB), sign * (above >> LIMB_BITS))
    present = np.flatnonzero(np.bincount(first[whole != 0])) if whole.any() else ()
    for limb in map(int, present):
        belongs = first == limb
        for number, piece in enumerate(pieces, limb):
            if number in dense:
                dense[number][start : start + len(values)] += piece * belongs
            elif len(rows := np.flatnonzero(belongs & (piece != 0))):
                rare.setdefault(number, []).append((rows + start, piece[rows]))


@dataclass(frozen=True, slots=True)
class _LimbSums:
    """Prefix sums of one limb: for every place, or for the few rows that have it."""

    rows: Ints | None
    before: Ints

    @classmethod
    def of(cls, parts: list[tuple[Ints, Ints]]) -> "_LimbSums":
        """Return the sums of a limb that few rows have."""
        rows = np.concatenate([rows for rows, _ in parts])
        order = np.argsort(rows, kind="stable")
        return cls(rows[order], _prefix(np.concatenate([values for _, values in parts])[order]))

    def __call__(self, windows: Runs) -> Ints:
        if self.rows is not None:
            low, high = search(self.rows, windows.low), search(self.rows, windows.high)
            windows = Runs(low, high, windows.first)
        return windows.between(self.before)


def _by_length(counts: Ints) -> tuple[Ints, Ints]:
    """Return which windows are short, but not empty, and which are long."""
    is_short = counts <= SHORT
    return np.flatnonzero(is_short & (counts > 0)), np.flatnonzero(~is_short)


def _prefix(values: Ints) -> Ints:
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums


def _before(marks: npt.NDArray[np.bool_]) -> Ints:
    return _prefix(marks.astype(np.int64))


def _added(padded: Floats, low: Ints, high: Ints) -> Floats:
    """Add up ranges that are not empty, from left to right."""
    bounds = np.empty(2 * len(low), dtype=np.int64)
    bounds[::2], bounds[1::2] = low, high
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.add.reduceat(padded, bounds)[::2])


def _sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return a + b rounded, and what that lost (Knuth's two-sum)."""
    total = a + b
    other = total - a
    return total, (a - (total - other)) + (b - other)


def _product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Return a * b rounded, and what that lost (Dekker's two-product)."""
    product = a * b
    a_high = _SPLITTER * a - (_SPLITTER * a - a)
    b_high = _SPLITTER * b - (_SPLITTER * b - b)
    a_low, b_low = a - a_high, b - b_high
    lost = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, lost

"""Mean and standard deviation in one pass: exact sums, and deviations that do not cancel.

Of a chunk the deviations from its own mean are summed (the corrected two-pass algorithm), and
chunks are put together as Chan, Golub and LeVeque do ("Algorithms for computing the sample
variance", 1983). What is kept is the root of the sum of squares, put together by `hypot`: squares
of values beyond 1e154 would overflow, and those of values below 1e-154 vanish.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

_LARGE = 2.0**1000
_SCALE = 2.0**-64  # brings sums of a chunk of such values, and their differences, into range
_LOW_BITS = np.uint64(0xFFFF_FFFF)
_HALF = np.uint64(32)


@dataclass(slots=True)
class Moments:
    """Count, sum and spread of finite numbers.

    Attributes:
        count: How many there are.
        total: Their sum: of integers exactly, of floats to the rounding of a chunk's deviations.
        norm: The root of the sum of squared deviations from the mean; infinity beyond the range.
    """

    count: int = 0
    total: Fraction = Fraction(0)
    norm: float = 0.0

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Self:
        """Return the moments of sorted finite values: int64, uint64 or float64, 65,536 at most."""
        if not len(values):
            return cls()
        return cls._of_floats(values) if values.dtype.kind == "f" else cls._of_integers(values)

    @classmethod
    def _of_floats(cls, values: npt.NDArray[np.float64]) -> Self:
        scale = _SCALE if max(-values[0], values[-1]) > _LARGE else 1.0
        scaled = values * scale if scale != 1.0 else values
        mean = float(scaled.mean())
        deviations = scaled - mean
        rest = float(deviations.sum())
        deviations -= rest / len(values)
        total = (Fraction(mean) * len(values) + Fraction(rest)) / Fraction(scale)
        return cls(len(values), total, _norm(deviations) / scale)

    @classmethod
    def _of_integers(cls, values: npt.NDArray[Any]) -> Self:
        """As differences from the smallest they fit into uint64 and stay exact."""
        unsigned = values.view(np.uint64)
        above = unsigned - unsigned[0]
        high, low = int((above >> _HALF).sum()), int((above & _LOW_BITS).sum())
        rest = (high << 32) + low
        deviations = above.astype(np.float64) - rest / len(values)
        total = Fraction(int(values[0]) * len(values) + rest)
        return cls(len(values), total, _norm(deviations))

    def merge(self, other: Self) -> None:
        """Take over other values."""
        if not self.count or not other.count:
            if other.count:
                self.count, self.total, self.norm = other.count, other.total, other.norm
            return
        count = self.count + other.count
        apart = other.total / other.count - self.total / self.count
        share = math.sqrt(self.count / count) * math.sqrt(other.count)
        self.norm = math.hypot(self.norm, other.norm, as_float(apart) * share)
        self.count, self.total = count, self.total + other.total

    @property
    def mean(self) -> Fraction | None:
        """The mean, or None without values."""
        return self.total / self.count if self.count else None

    @property
    def stddev(self) -> float | None:
        """The sample standard deviation, or None for fewer than two values; perhaps infinity."""
        return self.norm / math.sqrt(self.count - 1) if self.count > 1 else None


def as_float(value: Fraction) -> float:
    """Return the nearest float; an infinity beyond the range."""
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _norm(deviations: npt.NDArray[np.float64]) -> float:
    greatest = float(np.abs(deviations).max())
    if 1e-140 < greatest < 1e140 or not greatest:  # noqa: PLR2004 - the square is a normal float
        return math.sqrt(float(np.square(deviations).sum()))  # np.dot would wake BLAS's threads
    return greatest * math.sqrt(float(np.square(deviations / greatest).sum()))

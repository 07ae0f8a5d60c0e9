"""How many distinct values there are: exactly up to a limit, estimated beyond it.

The smallest K of the values' 64-bit hashes are kept (Bar-Yossef et al., "Counting distinct elements
in a data stream", 2002; the estimator is that of Beyer et al., 2007). Up to K distinct values that
is all of them, and their number exact; beyond, the K-th smallest hash says how dense hashes lie.
Which hashes are kept depends neither on the order of values nor on how parts are merged. That, the
exact start, and that almost every later value falls to one comparison is why it is no HyperLogLog,
which would take a tenth of its 128 KB.
"""

import math
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

EXACT_DISTINCT: Final = 16_384
"""An estimate then has a relative standard error of 0.78 %: two of three are nearer, 997 of 1,000
within three times it."""
_RANGE: Final = 2.0**64

Hashes = npt.NDArray[np.uint64]


class DistinctSummary:
    """The distinct values among those whose hashes were given.

    Args:
        limit: Of so many the number is exact.
    """

    def __init__(self, limit: int = EXACT_DISTINCT) -> None:
        self._limit = limit
        self._hashes: Hashes = np.empty(0, dtype=np.uint64)
        self.exact = True

    def add(self, hashes: Hashes) -> None:
        """Take in hashes that are spread evenly over 64 bits, in any order, repeated or not."""
        if not self.exact:
            hashes = hashes[hashes < self._hashes[-1]]
        if len(hashes):
            self._hold(hashes)

    def merge(self, other: Self) -> None:
        """Take over other values."""
        self.exact &= other.exact
        self._hold(other._hashes)

    def _hold(self, hashes: Hashes) -> None:
        both = np.sort(np.concatenate([self._hashes, hashes]))
        both = both[is_first(both)]
        self.exact &= len(both) <= self._limit
        self._hashes = both[: self._limit].copy()

    @property
    def error(self) -> float:
        """The relative standard error of the count; 0 if it is exact."""
        return 0.0 if self.exact else 1 / math.sqrt(self._limit - 2)

    @property
    def count(self) -> int:
        """How many distinct values there are, exactly or nearly so."""
        if self.exact:
            return len(self._hashes)
        return round((len(self._hashes) - 1) / ((float(self._hashes[-1]) + 1) / _RANGE))


def mixed(words: npt.NDArray[Any]) -> Hashes:
    """Return hashes of 64-bit words, equal only for equal words (the finalizer of SplitMix64)."""
    mix = words.view(np.uint64) + np.uint64(0x9E37_79B9_7F4A_7C15)
    mix = (mix ^ (mix >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    mix = (mix ^ (mix >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return mix ^ (mix >> np.uint64(31))


def is_first(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return of each of some sorted values whether it differs from the one before."""
    first = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return first

"""What is told of numbers, times, and lengths; everything of a chunk follows from one sort."""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from featurestore.statistics.distinct import DistinctSummary, is_first, mixed
from featurestore.statistics.grid import GivenBins, Grid, Ladder
from featurestore.statistics.moments import Moments
from featurestore.statistics.quantiles import QuantileSummary
from featurestore.statistics.report import Distinct
from featurestore.statistics.spread import Histogram, Quantiles, Spread
from featurestore.statistics.units import Unit

CHUNK_VALUES: Final = 65_536
"""So many are taken in at once, at most."""
SHARES: Final = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)

Values = npt.NDArray[Any]


class Numbers:
    """Numbers of one NumPy type: int64, uint64 or float64.

    Args:
        ladder: Widths of the histogram's cells.
        edges: The histogram's edges, if they are given.
        distinct: Whether to count distinct values.
    """

    def __init__(
        self, ladder: Ladder, edges: Sequence[int | float] | None = None, *, distinct: bool = True
    ) -> None:
        self.nan = self.negative = self.positive = 0
        self.low: int | float | None = None
        self.high: int | float | None = None
        self.moments = Moments()
        self._quantiles = QuantileSummary()
        self._distinct = DistinctSummary() if distinct else None
        self._bins: Grid | GivenBins = Grid(ladder) if edges is None else GivenBins(edges)

    def add(self, values: Values) -> None:
        """Take in values in any order, 65,536 at most; NaN and infinities are no matter."""
        values = np.sort(values)
        finite = values
        if values.dtype.kind == "f":
            values, finite = self._without_nan(values)
        if not len(values):
            return
        low, high = values[0].item(), values[-1].item()
        self.low = low if self.low is None else min(low, self.low)
        self.high = high if self.high is None else max(high, self.high)
        self._quantiles.add(values)
        self._bins.add(finite)
        self.moments.merge(Moments.of(finite))
        if self._distinct is not None:
            self._distinct.add(mixed(values[is_first(values)]))

    def merge(self, other: Self) -> None:
        """Take over other values, of the same kind."""
        self.nan += other.nan
        self.negative += other.negative
        self.positive += other.positive
        self.low = _chosen(min, self.low, other.low)
        self.high = _chosen(max, self.high, other.high)
        self.moments.merge(other.moments)
        self._quantiles.merge(other._quantiles)
        self._bins.merge(other._bins)  # type: ignore[arg-type]
        if self._distinct is not None and other._distinct is not None:
            self._distinct.merge(other._distinct)

    def distinct(self) -> Distinct | None:
        """Return the number of distinct values; NaN is one."""
        if self._distinct is None:
            return None
        return Distinct.of(self._distinct, more=1 if self.nan else 0)

    def spread(self, unit: Unit) -> Spread:
        """Return what is told of the values that the numbers stand for."""
        mean, stddev = self.moments.mean, self.moments.stddev
        return Spread(
            min=None if self.low is None else unit.shown(self.low),
            max=None if self.high is None else unit.shown(self.high),
            mean=None if mean is None else unit.mean(mean),
            stddev=None if stddev is None else stddev / unit.per_unit,
            quantiles=self._told_quantiles(unit.shown),
            histogram=self._histogram(unit.shown),
        )

    def _told_quantiles(self, shown: Callable[[Any], Any]) -> Quantiles | None:
        found = self._quantiles
        if not found.count:
            return None
        values = dict(zip(SHARES, map(shown, found.at(SHARES)), strict=True))
        return Quantiles(values=values, error=found.error / found.count)

    def _histogram(self, shown: Callable[[Any], Any]) -> Histogram | None:
        edges, counts = self._bins.bins()
        if not edges:
            return None
        below, above = self._bins.outside if isinstance(self._bins, GivenBins) else (0, 0)
        return Histogram(
            edges=tuple(map(shown, edges)), counts=tuple(counts), below=below, above=above
        )

    def _without_nan(self, values: Values) -> tuple[Values, Values]:
        """Count what is not finite; return the sorted values without NaN, and the finite ones."""
        count = len(values) - int(np.isnan(values).sum())
        self.nan += len(values) - count
        values = values[:count] + 0.0  # -0.0 is 0.0
        low = int(np.searchsorted(values, -np.inf, "right"))
        high = int(np.searchsorted(values, np.inf))
        self.negative += low
        self.positive += count - high
        return values, values[low:high]


def _chosen(choose: Callable[..., Any], one: Any, other: Any) -> Any:
    known = [value for value in (one, other) if value is not None]
    return choose(known) if known else None

"""How values are spread, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Values of the column below which shares of its values lie.

    Attributes:
        values: Share -> the smallest value that this share of the values does not exceed.
        error: By how much a value's true share may differ; 0 if all are exact. A bound, not a
            likelihood: 0.001 means that the median is between the 49.9th and the 50.1st percentile.
    """

    values: Mapping[float, Any]
    error: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether these are the values themselves."""
        return self.error == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Exact counts of finite values in bins.

    Attributes:
        edges: Where bins begin, and the last one ends. A bin holds its lower edge and not its upper
            one; the last holds both.
        counts: Values in each bin, one fewer than edges.
        below: Values below the first edge; only given edges leave any out.
        above: Values above the last edge.
    """

    edges: tuple[Any, ...]
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How values, or their lengths, are spread.

    Attributes:
        min: The smallest value; infinities count, NaN does not. Long text is cut.
        max: The greatest.
        mean: The mean of the finite values; of times, a time. None for text.
        stddev: Their sample standard deviation; of times, in seconds.
        quantiles: Shares and values; infinities count, NaN does not.
        histogram: Counts of the finite values.
    """

    min: Any = None
    max: Any = None
    mean: Any = None
    stddev: float | None = None
    quantiles: Quantiles | None = None
    histogram: Histogram | None = None

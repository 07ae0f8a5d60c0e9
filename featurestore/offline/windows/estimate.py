"""How many rows windows hold, estimated from footers and a sample of keys."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from featurestore.offline.engine import RowFilter
from featurestore.offline.samples import distinct_keys, row_groups, sample_of, spread
from featurestore.offline.scan import SourceScan
from featurestore.offline.timeline import Ints

_ALL = RowFilter(until_us=2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class WindowEstimate:
    """What windows hold if keys and times are even; skewed keys have more.

    Attributes:
        keys: Distinct keys of the source.
        rows: Length of a window in microseconds, None without a beginning -> rows of one, mean.
    """

    keys: int
    rows: dict[int | None, float]


def estimate_windows(
    scan: SourceScan, lengths: Sequence[int | None], times: Ints
) -> WindowEstimate | None:
    """Estimate windows that end at some times; None where footers have no times.

    Args:
        scan: The source's columns; footers and some row groups are read.
        lengths: Lengths of windows.
        times: Their ends, n microseconds.

    Raises:
        SourceError: A file cannot be read.
    """
    groups = list(row_groups(scan, _ALL))
    bounds = [group.times for group in groups if group.times is not None]
    if not groups or len(bounds) < len(groups) or not len(times):
        return None
    sample = [sample_of(scan, group) for group in spread(groups)]
    keys = max(distinct_keys(scan, sample, scan.row_count), 1.0)
    first, last = min(low for low, _ in bounds), max(high for _, high in bounds)
    ends = np.clip(times.astype(np.float64), first, last)

    def share(length: int | None) -> float:
        begins = np.full(len(times), first) if length is None else times - float(length)
        inside = ends - np.clip(begins, first, last)
        return float(inside.mean() / (last - first)) if last > first else 1.0

    of_key = scan.row_count / keys
    return WindowEstimate(keys=round(keys), rows={n: of_key * share(n) for n in lengths})

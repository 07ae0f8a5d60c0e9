"""The data of `win`: events, a spine, and the right answers, which plain numpy computes.

The amounts are whole cents, so that sums are exact as integers, and a sum over a window is the
difference of two prefix sums. Minima and maxima come from tables that double: the table of level n
holds that of 2**n rows from each place on, so any range is covered by two of its entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import data
from benchmarks.training_data import (
    CENTS,
    TrainingSet,
    View,
    amounts,
    once,
    path_of,
    scaled,
    zipf,
)

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from benchmarks.data import Draw

COLUMN = "amount"
FUNCTIONS = ("count", "sum", "mean", "min", "max")
WINDOWS = ("1d", "7d", "30d")
MANY_FUNCTIONS = ("count", "sum")
HOURS_OF_MANY = range(8, 801, 8)
HOUR_US = 3_600_000_000
# A time since `data.START` takes less; a key stands above it in one int64.
TIME_BITS = 43


@dataclass(frozen=True, slots=True)
class Shape:
    """How keys are spread; the counts are of the full size."""

    keys: int
    is_skewed: bool = False

    def draws(self, size: str) -> tuple[Draw, Draw]:
        """Keys of the events, and of the spine."""
        keys = scaled(self.keys, size)
        if self.is_skewed:
            return zipf("user_id", keys), zipf("user_id", keys)
        return data.uniform("user_id", keys), data.uniform("user_id", data.with_unknown(keys))


SHAPES = {
    "sparse": Shape(1_000_000),
    "dense": Shape(10_000),
    "zipf": Shape(1_000_000, is_skewed=True),
}


def many_windows() -> tuple[str, ...]:
    """A hundred windows, from 8 hours to 33 days; `WINDOWS` are among them."""
    return tuple(f"{h // 24}d" if h % 24 == 0 else f"{h}h" for h in HOURS_OF_MANY)


def window_us(window: str) -> int:
    """The length of a window such as "8h" or "7d"."""
    return int(window[:-1]) * HOUR_US * (24 if window.endswith("d") else 1)


def feature_names(functions: tuple[str, ...], windows: tuple[str, ...]) -> tuple[str, ...]:
    """What the features are called, in their order."""
    return tuple(f"{COLUMN}_{function}_{w}" for function in functions for w in windows)


def windows(
    size: str,
    *,
    shape: str,
    functions: tuple[str, ...] = FUNCTIONS,
    lengths: tuple[str, ...] = WINDOWS,
) -> TrainingSet:
    """Ten events for each row of the spine, and functions of the amount over some windows."""
    name = f"win-{shape}-{size}"
    of_events, of_spine = SHAPES[shape].draws(size)
    spine_rows = scaled(1_000_000, size)
    events, spine = (path_of(f"{name}-{kind}") for kind in ("events", "spine"))
    if not events.exists():
        seed = [data.SEED, 9, spine_rows]
        count = scaled(10_000_000, size)
        data.write_history(events, count, seed=seed, keys=of_events, values=amounts(COLUMN))
    if not spine.exists():
        data.write_spine(spine, spine_rows, seed=[data.SEED, 10, spine_rows], keys=of_spine)
    aggregation = {"column": COLUMN, "functions": functions, "windows": lengths}
    features = feature_names(functions, lengths)
    view = View("spend", ("user_id",), features, events, (aggregation,))
    compute = partial(window_digest, events, spine, functions, lengths)
    named = f"{name}-{'-'.join(functions)}-{len(lengths)}"
    return TrainingSet(named, spine, spine_rows, (view,), partial(once, named, compute))


def window_digest(
    events: Path,
    spine: Path,
    functions: tuple[str, ...] = FUNCTIONS,
    lengths: tuple[str, ...] = WINDOWS,
    *,
    first: int | None = None,
) -> dict[str, float]:
    """What `data.digest` must say of the windows of a spine, or of its ``first`` rows alone."""
    import numpy as np
    import pyarrow.parquet as pq

    rows = pq.read_table(events)
    places, order = _sorted_places(rows)
    cents = np.rint(rows[COLUMN].to_numpy()[order] * CENTS).astype(np.int64)
    asked, _ = _sorted_places(pq.read_table(spine)[:first])
    keys, times = asked >> TIME_BITS, asked & ((1 << TIME_BITS) - 1)
    high = np.searchsorted(places, asked)
    found = {"rows": float(len(asked))}
    for length in lengths:
        starts = keys << TIME_BITS | np.maximum(times - window_us(length), 0)
        low = np.searchsorted(places, starts)
        for function in functions:
            values = _values(function, cents, low, high)
            found[f"{COLUMN}_{function}_{length}_count"] = float(len(values))
            found[f"{COLUMN}_{function}_{length}_sum"] = float(values.sum())
    return found


def _sorted_places(table: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each row's key above its time since `data.START` (us), sorted, and the order that does it."""
    import numpy as np
    import pyarrow as pa

    start = int(data.START.timestamp()) * 1_000_000
    times = table["event_timestamp"].cast(pa.int64()).to_numpy() - start
    places = table["user_id"].to_numpy() << TIME_BITS | times
    order = np.argsort(places, kind="stable")
    return places[order], order


def _values(
    function: str,
    cents: npt.NDArray[np.int64],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """The function over each range [low, high); empty ones are left out, but not of counts."""
    import numpy as np

    if function == "count":
        return (high - low).astype(np.float64)
    some = high > low
    low, high = low[some], high[some]
    if function in ("min", "max"):
        return _extremes(np.minimum if function == "min" else np.maximum, cents, low, high) / CENTS
    before = np.concatenate([[0], np.cumsum(cents)])
    sums: npt.NDArray[np.float64] = (before[high] - before[low]) / CENTS
    return sums if function == "sum" else sums / (high - low)


def _extremes(
    ufunc: np.ufunc,
    values: npt.NDArray[np.int64],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    import numpy as np

    found = np.empty(len(low), dtype=np.int64)
    level = np.frexp((high - low).astype(np.float64))[1] - 1
    for exponent in range(int(level.max(initial=-1)) + 1):
        width = 1 << exponent
        rows = np.flatnonzero(level == exponent)
        found[rows] = ufunc(values[low[rows]], values[high[rows] - width])
        values = ufunc(values[:-width], values[width:])
    return found

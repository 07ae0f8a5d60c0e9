"""Windowed features of one view for the rows of a spine."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from itertools import repeat
from math import inf
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.definitions.aggregation import ROWS, Closed, WindowFeature, window_name
from featurestore.errors import SumOverflowError
from featurestore.offline.as_of import BYTES_PER_ROW, explain, key_ranges, passes_for
from featurestore.offline.dedup import NEVER
from featurestore.offline.engine import Mode, OfflineEngine, ScanReader
from featurestore.offline.history import LOWEST, Arrived, History
from featurestore.offline.scan import SourceScan
from featurestore.offline.spine_keys import NumberedKeys, number_keys
from featurestore.offline.timeline import NOBODY, Ints, Side, Timeline
from featurestore.offline.windows.column import OverflowedError, WindowColumn
from featurestore.offline.windows.estimate import estimate_windows
from featurestore.offline.windows.floats import SHORT
from featurestore.offline.windows.hidden import Written
from featurestore.offline.windows.lookback import Lookback
from featurestore.offline.windows.predicate import counted_rows
from featurestore.offline.windows.runs import Runs
from featurestore.types import type_name, width_of

Ranges = Mapping[tuple[int | None, Closed], tuple[Ints, Ints]]
"""A window's length and closed ends -> low and high places of the rows in it."""
Windows = Mapping[tuple[int | None, Closed], Runs]
"""The same -> the places that count."""
ColumnKey = tuple[str, pa.DataType, str | None]
"""Column, the type it is read as, and the predicate of the rows that count."""
Moved = Callable[[int, int], None]
"""Called with (features done, features in all); raises if nobody wants the rest."""
_LOWER: Final[Mapping[str, Side]] = {
    "left": "left",
    "both": "left",
    "right": "right",
    "neither": "right",
}
_UPPER: Final[Mapping[str, Side]] = {
    "left": "left",
    "neither": "left",
    "right": "right",
    "both": "right",
}


def _go_on(_done: int, _total: int) -> None:
    """Tell nobody."""


def windows_as_of(
    engine: OfflineEngine,
    scan: SourceScan,
    features: Sequence[WindowFeature],
    spine: pa.Table,
    *,
    mode: Mode,
) -> pa.Table:
    """Return windowed features as of each spine row.

    Args:
        engine: Reads the files.
        scan: The source's columns that the features need (`open_scan`).
        features: What to compute.
        spine: Columns `q` (int64 microseconds) and `k0..`, n rows; nulls are allowed.
        mode: With "as_served" only rows count that had been written by `q`.

    Returns:
        Columns `f0..`, one for each of `features`, n rows in the spine's order. Rows without a
        whole key or a time, or with an unknown key, have what an empty window has.

    Raises:
        SumOverflowError: A sum of integers or decimals does not fit its type.
        SourceError, SourceTimeError, ResourceLimitError: See `OfflineEngine`.
    """
    with engine.reader(scan) as reader:
        keys = number_keys(spine)
        join = WindowJoin(engine, reader, scan, features, keys, mode=mode)
        return join.features(0, spine.num_rows)


def explain_windows(
    engine: OfflineEngine, scan: SourceScan, features: Sequence[WindowFeature], spine: pa.Table
) -> str:
    """Return how `windows_as_of` would compute it, for people.

    Rows are those of the footers; what windows hold is estimated from these and a sample of keys.
    """
    keys = number_keys(spine)
    passes = passes_for(engine, scan)
    read = explain(engine, scan, keys, ttl_us=_age_us(features), passes=passes)
    lengths = {feature.window_us for feature in features}
    held = BYTES_PER_ROW + sum(width_of(column.dtype) for column in scan.features)
    most = -(-scan.row_count // passes)
    return (
        f"{read}\n"
        f"window lengths: {len(lengths):,}; the rows of each key are put in order once, and every"
        " window is found\n"
        f"  by steps from the next shorter one, or by a search; {len(features):,} features, on"
        f" {engine.threads:,} threads\n"
        f"  at most {most:,} rows at a time, about {most * held / 1e6:,.0f} MB\n"
        f"  {_explain_plan(scan, features, keys)}"
    )


def _explain_plan(scan: SourceScan, features: Sequence[WindowFeature], keys: NumberedKeys) -> str:
    """Return what windows hold, about, and so what is done with their rows."""
    lengths = sorted({f.window_us for f in features}, key=lambda n: (n is None, n))
    found = estimate_windows(scan, lengths, keys.times)
    if found is None:
        return "how many rows the windows hold is not known: the footers have no times"
    pairs = sum(found.rows[feature.window_us] for feature in features) * len(keys.rows)
    held = ", ".join(f"{window_name(_as_delta(n))} {found.rows[n]:,.3g}" for n in lengths)
    is_short = [found.rows[length] <= SHORT for length in lengths]
    kinds = ["laid out"] * any(is_short) + ["by blocks"] * (not all(is_short))
    return (
        f"about {found.keys:,} keys in the source; rows in a window, if keys and times are even:"
        f" {held}\n"
        f"  about {pairs:,.0f} pairs of a window and a row; sums {' and '.join(kinds)}: a window of"
        f" up to {SHORT} rows is laid out,\n  a longer one is put together from blocks"
    )


def _as_delta(length_us: int | None) -> timedelta | None:
    return None if length_us is None else timedelta(microseconds=length_us)


class WindowJoin:
    """A spine beside one source's rows, in order, ready to compute windows for any of its rows.

    A source that would not fit into memory is read for a part of the keys at a time; then all is
    computed at once and kept.

    Args:
        engine: See `windows_as_of`.
        reader: Reads the source.
        scan: See `windows_as_of`.
        features: See `windows_as_of`.
        keys: Those of the spine; see `number_keys`.
        mode: See `windows_as_of`.
        moved: Told how far `features` has got.
    """

    def __init__(
        self,
        engine: OfflineEngine,
        reader: ScanReader,
        scan: SourceScan,
        features: Sequence[WindowFeature],
        keys: NumberedKeys,
        *,
        mode: Mode,
        moved: Moved = _go_on,
    ) -> None:
        self._features = features
        self._order = sorted(range(len(features)), key=lambda n: _computed_at(features[n]))
        self._moved = moved
        check = partial(moved, 0, len(features))
        self._threads = engine.threads
        self._rows = keys.count
        passes = passes_for(engine, scan)
        age_us = _age_us(features)
        parts = _parts(reader, scan, keys, age_us, passes=passes, mode=mode, check=check)
        self._whole = self._computed(parts, 0, self._rows) if passes > 1 else None
        self._parts = list(parts)

    def features(self, start: int, stop: int) -> pa.Table:
        """Return the features of some of the spine's rows: columns `f0..`."""
        stop = min(stop, self._rows)
        if self._whole is not None:
            return self._whole.slice(start, stop - start)
        return self._computed(self._parts, start, stop)

    def _computed(self, parts: Iterable["_Part"], start: int, stop: int) -> pa.Table:
        found: list[list[pa.Array]] = [[] for _ in self._features]
        in_order = [self._features[n] for n in self._order]
        places = np.full(stop - start, NOBODY, dtype=np.int64)
        count = 0
        with ThreadPoolExecutor(self._threads, thread_name_prefix="windows") as pool:
            for part in parts:
                asked = np.flatnonzero((part.rows >= start) & (part.rows < stop))
                places[part.rows[asked] - start] = count + np.arange(len(asked))
                count += len(asked)
                part.prepare(self._features)
                ranges = part.ranges(self._features, asked)
                for rows, windows in part.windows(asked, ranges):
                    arrays = pool.map(part.compute, in_order, repeat(rows), repeat(windows))
                    for done, (number, array) in enumerate(zip(self._order, arrays, strict=True)):
                        self._moved(done + 1, len(in_order))
                        found[number].append(array)
            # Where a row has no place it takes the value behind all others: null places would
            # take Arrow twice as long.
            indices = pa.array(np.where(places == NOBODY, count, places))
            columns = list(pool.map(_finished, self._features, found, repeat(indices)))
        return pa.table(columns, names=[f"f{n}" for n in range(len(columns))])


def _computed_at(feature: WindowFeature) -> tuple[str, str, str, float]:
    """Return what puts features into an order in which each has most from the one before.

    That is the same function of the same values over the next longer window (see `Repeating`).
    """
    length = inf if feature.window_us is None else feature.window_us
    return feature.column, feature.where or "", feature.function.text, length


def _finished(feature: WindowFeature, parts: list[pa.Array], indices: pa.Array) -> pa.Array:
    """Return a feature in the spine's order.

    Args:
        feature: The feature.
        parts: Its n values; the list is emptied, so that they are held no longer than needed.
        indices: Which of them each row has; n for what an empty window has.
    """
    values = [*parts, pa.repeat(feature.empty_value(), 1)]
    parts.clear()
    return pa.chunked_array(values, feature.result_type).combine_chunks().take(indices)


def _parts(
    reader: ScanReader,
    scan: SourceScan,
    keys: NumberedKeys,
    age_us: int | None,
    *,
    passes: int,
    mode: Mode,
    check: Callable[[], None],
) -> Iterator["_Part"]:
    aliases = [column.alias for column in scan.features]
    for some in key_ranges(range(keys.table.num_rows), passes):
        arrived = Arrived.read(reader, scan, keys, some, age_us=age_us, columns=aliases, mode=mode)
        history = arrived.of_keys()
        check()
        asked = keys.places(some)
        yield _Part(
            rows=keys.rows[asked],
            groups=keys.groups[asked],
            times=keys.times[asked],
            history=history,
            timeline=history.by_event(),
            source=scan.source.name,
            aliases={(column.name, column.dtype): column.alias for column in scan.features},
            types={column.name: column.dtype for column in reversed(scan.features)},
            is_served=mode == "as_served",
            check=check,
        )


def _age_us(features: Sequence[WindowFeature]) -> int | None:
    """Return the length of the longest window; None if one has no beginning."""
    lengths = [feature.window_us for feature in features]
    return None if None in lengths else max(length or 0 for length in lengths)


@dataclass(frozen=True)
class _Part:
    """Some of the spine's rows beside all source rows of their keys.

    Attributes:
        rows: Positions in the spine, in the order of key and time: windows then begin one after the
            other, which the kernels rely on to be fast.
        groups: Their keys' numbers.
        times: Their times.
        history: The source's rows.
        timeline: Their order.
        source: The source's name.
        aliases: Column and type -> its alias in `history.values`.
        types: Column -> its type, the first of several: the one that predicates read.
        is_served: Whether rows written after a moment are left out.
        check: Called now and then; raises if nobody wants the result any more.
    """

    rows: Ints
    groups: npt.NDArray[np.int32]
    times: Ints
    history: History
    timeline: Timeline
    source: str
    aliases: Mapping[tuple[str, pa.DataType], str]
    types: Mapping[str, pa.DataType]
    is_served: bool
    check: Callable[[], None]
    columns: dict[ColumnKey, WindowColumn] = field(default_factory=dict)
    predicates: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    def prepare(self, features: Sequence[WindowFeature]) -> None:
        """Bring all columns into order; afterwards `compute` may be called from several threads."""
        for feature in features:
            key = (feature.column, feature.dtype, feature.where)
            if key not in self.columns:
                self.columns[key] = self._gathered(feature)

    def ranges(self, features: Sequence[WindowFeature], asked: Ints) -> Ranges:
        """Return each window's ranges of places, for the rows at positions `asked`."""
        lookback = Lookback(self.timeline, self.groups[asked], self.times[asked])
        windows = {(feature.window_us, feature.closed) for feature in features}
        found = {}
        for side in sorted({_LOWER[closed] for _, closed in windows}):
            of_side = {(length, c) for length, c in windows if _LOWER[c] == side}
            begins = lookback.begins({n for n, _ in of_side if n is not None}, side)
            for length, closed in of_side:
                low = lookback.start if length is None else begins[length]
                found[length, closed] = low, np.maximum(low, lookback.end(_UPPER[closed]))
        return found

    def windows(self, asked: Ints, ranges: Ranges) -> Iterator[tuple[Ints, Windows]]:
        """Yield some of the rows at positions `asked`, and what their windows hold."""
        if not self.is_served:
            yield asked, {window: Runs(*bounds) for window, bounds in ranges.items()}
            return
        low = np.minimum.reduce([low for low, _ in ranges.values()])
        high = np.maximum.reduce([high for _, high in ranges.values()])
        for some, hidden in self._written.hidden(low, high, self.times[asked]):
            self.check()
            yield (
                asked[some],
                {window: hidden.rest(a[some], b[some]) for window, (a, b) in ranges.items()},
            )

    def compute(self, feature: WindowFeature, asked: Ints, windows: Windows) -> pa.Array:
        """Return a feature for the rows at positions `asked` of this part."""
        self.check()
        try:
            return self._column(feature)(feature, windows[feature.window_us, feature.closed])
        except OverflowedError as error:
            raise SumOverflowError(
                feature=feature.name,
                dtype=type_name(feature.result_type),
                row=int(self.rows[asked[error.row]]),
            ) from None

    def _column(self, feature: WindowFeature) -> WindowColumn:
        return self.columns[feature.column, feature.dtype, feature.where]

    def _gathered(self, feature: WindowFeature) -> WindowColumn:
        """Return a feature's column in the order of places."""
        order = self.timeline.order
        values = None
        if feature.column != ROWS:
            alias = self.aliases[feature.column, feature.dtype]
            values = self.history.values[alias].take(pa.array(order))
        groups = self.history.groups[order].astype(np.int64)
        return WindowColumn(groups, values, self._counted(feature))

    def _counted(self, feature: WindowFeature) -> npt.NDArray[np.bool_] | None:
        """Return the rows, in the order of places, that fulfil the predicate; None if all do."""
        if feature.where is None or feature.predicate is None:
            return None
        if feature.where not in self.predicates:
            self.predicates[feature.where] = counted_rows(
                feature.predicate, self.types, self._values, source=self.source
            )
        return self.predicates[feature.where][self.timeline.order]

    def _values(self, column: str) -> pa.Array:
        return self.history.values[self.aliases[column, self.types[column]]]

    @cached_property
    def _written(self) -> Written:
        """When each row counts, in the order of places; without a created time never."""
        order, superseded = self.timeline.order, self.history.superseded
        until = None if superseded is None else superseded[order]
        if self.history.created is None:
            return Written(np.full(len(order), NEVER), until)
        created = self.history.created[order]
        return Written(np.where(created == LOWEST, NEVER, created), until)

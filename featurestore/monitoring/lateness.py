"""How long after their event a source's rows were written, and what `lateness` that asks for."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from featurestore.definitions import FileSource
from featurestore.errors import RequestError
from featurestore.monitoring.ranks import GREATEST, Ints, Reading, Tally
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.scan import open_times
from featurestore.time import MICROSECOND, format_duration

Progress = Callable[[str, int, int], None]
PER_MILLE: Final = (500, 900, 990, 999)
"""The percentiles, in rows of a thousand."""
ROWS_HELD: Final = 4_000_000
"""A source of so many rows is read once and its times kept: 32 MB."""
_UNITS: Final = tuple(timedelta(seconds=s) for s in (86_400, 3_600, 60, 1))


@dataclass(frozen=True, kw_only=True)
class LatenessReport:
    """Created minus event time over a source's rows, and the `lateness` that it suggests.

    Durations are exact, to the microsecond. A percentile is the smallest duration that at least
    that share of the measured rows does not exceed; it and the greatest are None without such rows.

    Attributes:
        source: The source's name.
        rows: Rows read.
        measured: Those with both times.
        null_events: Rows without an event time.
        null_created: Rows with an event time and without a created time.
        late: Measured rows that were created after their event.
        early: Measured rows that were created before their event.
        covered: Measured rows that are not later than the declared lateness.
        p50: Half of the rows are not later.
        p90: 90 % of the rows are not later.
        p99: 99 % of the rows are not later.
        p999: 99.9 % of the rows are not later.
        greatest: No row is later.
        declared: The source's `lateness`.
        suggested: A round duration that covers 99.9 % of the rows; None without measured rows.
    """

    source: str
    rows: int
    measured: int
    null_events: int
    null_created: int
    late: int
    early: int
    covered: int
    p50: timedelta | None
    p90: timedelta | None
    p99: timedelta | None
    p999: timedelta | None
    greatest: timedelta | None
    declared: timedelta
    suggested: timedelta | None

    @property
    def late_share(self) -> float:
        """The share of measured rows that are late at all; 0 without any."""
        return self.late / self.measured if self.measured else 0.0

    @property
    def covered_share(self) -> float:
        """The share of measured rows that the declared lateness covers; 1 without any."""
        return self.covered / self.measured if self.measured else 1.0

    @property
    def reason(self) -> str:
        """Why this lateness is suggested, beside the declared one, in a sentence."""
        if self.suggested is None:
            return "no row has both an event time and a created time"
        suggested, declared = format_duration(self.suggested), format_duration(self.declared)
        would = f"a lateness of {suggested} would have covered 99.9 % of rows"
        if self.suggested == self.declared:
            return f"{would}, as declared"
        return f"{would}; the declared {declared} covers {_per_cent(self.covered, self.measured)}"


def measure_lateness(
    source: FileSource,
    *,
    engine: OfflineEngine,
    root: Path,
    after_us: int | None = None,
    until_us: int | None = None,
    progress: Progress | None = None,
    rows_held: int = ROWS_HELD,
) -> LatenessReport:
    """Measure how late the rows of a source are, in memory that does not depend on their number.

    Args:
        source: It has a created_timestamp_column.
        engine: Reads the files.
        root: Folder that the source's relative path starts at.
        after_us: Only rows with `event_ts > after_us`, or None.
        until_us: Only rows with `event_ts <= until_us`, or None.
        progress: Called with (source, rows done, rows in all) of the first reading.
        rows_held: A source of at most so many rows is read only once.

    Raises:
        RequestError: The source does not say when rows were written, or the bounds cross.
        SourceError, SourceTimeError, ResourceLimitError: See `OfflineEngine`.
    """
    if source.created_timestamp_column is None:
        raise RequestError(
            f"Source {source.name!r} does not say when its rows were written, so nobody can tell"
            " how late they are.",
            hint="declare its created_timestamp_column, if it has one",
        )
    if after_us is not None and until_us is not None and after_us >= until_us:
        raise RequestError("The start is not before the end: no event is in between.")
    scan = open_times(source, root)

    def read() -> Iterator[pa.RecordBatch]:
        return engine.times(scan, after_us=after_us, until_us=until_us)

    seen = _Seen(declared_us=source.lateness // MICROSECOND)
    held: list[Ints] | None = [] if scan.row_count <= rows_held else None
    for batch in read():
        numbers = seen.add(batch)
        if held is not None:
            held.append(numbers)
        if progress is not None:
            progress(source.name, seen.rows, scan.row_count)
    return seen.report(source, lambda: map(_lateness, read()) if held is None else iter(held))


class _Seen:
    """What one reading of all times tells."""

    def __init__(self, *, declared_us: int) -> None:
        self._declared_us = declared_us
        self._tally = Tally()
        self._greatest = -GREATEST
        self._counts = dict.fromkeys(
            ("rows", "measured", "null_events", "null_created", "late", "early", "covered"), 0
        )

    @property
    def rows(self) -> int:
        """Rows so far."""
        return self._counts["rows"]

    def add(self, batch: pa.RecordBatch) -> Ints:
        """Count rows with columns `e` and `c`; return how late those with both are."""
        numbers = _lateness(batch)
        found = {
            "rows": batch.num_rows,
            "measured": len(numbers),
            "null_events": batch["e"].null_count,
            "null_created": batch.num_rows - batch["e"].null_count - len(numbers),
            "late": np.count_nonzero(numbers > 0),
            "early": np.count_nonzero(numbers < 0),
            "covered": np.count_nonzero(numbers <= self._declared_us),
        }
        for name, count in found.items():
            self._counts[name] += int(count)
        self._tally.add(numbers)
        self._greatest = max(self._greatest, int(numbers.max(initial=-GREATEST)))
        return numbers

    def report(self, source: FileSource, again: Reading) -> LatenessReport:
        """Return the report; what was added is read again, in any order."""
        measured = self._counts["measured"]
        p50 = p90 = p99 = p999 = greatest = None
        if measured:
            ranks = [-(-measured * part // 1_000) for part in PER_MILLE]
            found = self._tally.at_ranks(ranks, again)
            p50, p90, p99, p999 = (number * MICROSECOND for number in found)
            greatest = self._greatest * MICROSECOND
        return LatenessReport(
            source=source.name,
            **self._counts,
            p50=p50,
            p90=p90,
            p99=p99,
            p999=p999,
            greatest=greatest,
            declared=source.lateness,
            suggested=None if p999 is None else _rounded_up(p999),
        )


def _lateness(batch: pa.RecordBatch) -> Ints:
    """Return created minus event time, in microseconds, of the rows that have both."""
    rows = batch
    if batch["e"].null_count or batch["c"].null_count:
        rows = batch.drop_null()
    event, created = rows["e"].to_numpy(), rows["c"].to_numpy()
    if not len(event):
        return np.empty(0, dtype=np.int64)
    # Infinite times are further apart than can be counted: halves cannot overflow.
    far = np.abs((created >> 1) - (event >> 1)) >= GREATEST >> 1
    apart = np.where(far, np.sign(created) * GREATEST, np.where(far, 0, created) - event * ~far)
    return np.asarray(apart)


def _rounded_up(duration: timedelta) -> timedelta:
    """Return the next whole number of the largest unit that fits twice; nothing if never late."""
    if duration <= timedelta(0):
        return timedelta(0)
    unit = next((unit for unit in _UNITS if duration >= 2 * unit), _UNITS[-1])
    return -(-duration // unit) * unit


def _per_cent(part: int, whole: int) -> str:
    """Return a share as text that says 100 % of nothing less than all: `99.98 %`."""
    return f"{10_000 * part // whole / 100:g} %"

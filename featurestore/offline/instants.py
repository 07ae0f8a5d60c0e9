"""Time columns of every unit as microseconds of UTC, in numpy (SEMANTICS, section 1)."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.definitions import FileSource
from featurestore.offline.local_times import YEAR_US, is_naive, policy_spans
from featurestore.offline.scan_columns import is_nanoseconds
from featurestore.time import LocalSpan, local_spans, local_year

Ints = npt.NDArray[np.int64]

LAST = 2**63 - 1
DAY_US = 86_400_000_000
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}


class FarTimeError(ValueError):
    """A time that no int64 of microseconds can say."""

    def __init__(self, number: int, unit: str) -> None:
        super().__init__(f"{number} {unit} since 1970 are too many for microseconds")


class Instants:
    """Reads time columns of one source, whose zone and policy hold for those without a zone."""

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self._tables: dict[frozenset[int], SpanTable] = {}

    def micros(self, column: pa.Array, *, up: bool) -> pa.Array:
        """Return times as int64 microseconds of UTC; null stays null.

        Args:
            column: Timestamps of any unit, dates, or nulls.
            up: Whether nanoseconds round up; else they round down.

        Returns:
            Infinite times (the last number of a unit, and its opposite) as the last microseconds.

        Raises:
            FarTimeError: A time does not fit.
        """
        if pa.types.is_null(column.type):
            return pa.nulls(len(column), pa.int64())
        raw, unit, infinity = _numbers(column)
        read = _to_micros(raw, unit, infinity)
        answer = read + (raw % 1_000 > 0) if unit == "ns" and up else read
        if is_naive(column.type) and self._source.timezone != "UTC":
            # A local time is read as it stands and rounded afterwards, never across a change of the
            # clocks.
            finite = np.abs(raw) != infinity
            answer[finite] = self._from_local(answer[finite], read[finite])
        return pa.array(answer, mask=_mask(column))

    def refused(self, column: pa.Array, kinds: set[str]) -> tuple[int, int, LocalSpan] | None:
        """Return the first local time in a span of one of these kinds: its row, time and span."""
        if pa.types.is_null(column.type):
            return None
        raw, unit, infinity = _numbers(column)
        rows = np.flatnonzero(np.asarray(column.is_valid()) & (np.abs(raw) != infinity))
        local = _to_micros(raw[rows], unit, infinity)
        if not len(local):
            return None
        table = self._table(local)
        index = table.index(local)
        is_refused = np.array([span.kind in kinds for span in table.spans])
        bad = np.flatnonzero(is_refused[index])
        if not bad.size:
            return None
        first = bad[0]
        return int(rows[first]), int(local[first]), table.spans[index[first]]

    def _from_local(self, micros: Ints, read: Ints) -> Ints:
        if not len(micros):
            return micros
        _refuse_far(micros, LAST - DAY_US, "us")
        table = self._table(read)
        index = table.index(read)
        return np.where(table.never[index], table.resumes[index], micros - table.offsets[index])

    def _table(self, local: Ints) -> "SpanTable":
        years = frozenset(local_year(int(part) * YEAR_US) for part in np.unique(local // YEAR_US))
        if years not in self._tables:
            self._tables[years] = SpanTable.of(policy_spans(self._source, years))
        return self._tables[years]


@dataclass(frozen=True)
class SpanTable:
    """Spans in order, and their attributes as arrays."""

    spans: tuple[LocalSpan, ...]
    starts: Ints
    offsets: Ints
    resumes: Ints
    never: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, spans: tuple[LocalSpan, ...]) -> "SpanTable":
        """Return the table of these spans."""

        def ints(name: str) -> Ints:
            return np.array([getattr(span, name) for span in spans], dtype=np.int64)

        never = np.array([span.kind == "never" for span in spans])
        return cls(spans, ints("start"), ints("offset"), ints("resume"), never)

    def index(self, local: Ints) -> Ints:
        """Return the number of the span in which each local time lies."""
        return np.searchsorted(self.starts, local, side="right") - 1


def to_local(column: pa.Array, zone: str) -> pa.Array:
    """Return instants as times of a zone, without it, in the same unit.

    Of a local time that occurs twice the result does not say which it was.

    Args:
        column: Timestamps with a zone; what is not finite stays as it is.
        zone: An IANA time zone.

    Raises:
        FarTimeError: A time does not fit.
    """
    raw, unit, infinity = _numbers(column)
    micros = _to_micros(raw, unit, infinity)
    finite = np.abs(raw) != infinity
    starts, offsets = _offsets(zone, micros[finite])
    moved = offsets[np.searchsorted(starts, micros[finite], side="right") - 1]
    local = raw.copy()
    local[finite] += moved * 1_000 if unit == "ns" else moved // _MICROS[unit]
    return pa.array(local, mask=_mask(column)).cast(pa.timestamp(unit))


def _offsets(zone: str, micros: Ints) -> tuple[Ints, Ints]:
    """Return from when on a zone has which offset, around these instants."""
    years = {local_year(int(part) * YEAR_US) for part in np.unique(micros // YEAR_US)} or {1970}
    spans = local_spans(zone, years)
    starts, offsets = [-LAST], [spans[0].offset]
    for before, span in pairwise(spans):
        if span.kind != "plain":
            continue
        twice = before.kind == "twice"
        otherwise = before.resume if before.kind == "never" else span.start - span.offset
        starts.append(before.start - before.later_offset if twice else otherwise)
        offsets.append(span.offset)
    return np.array(starts, np.int64), np.array(offsets, np.int64)


def moved_by_rounding(column: pa.Array) -> pa.Array:
    """Return by how many nanoseconds rounding up moved each time, negative: -999 to 0.

    Times that meet in a microsecond are in this order, also if they come from files of other units.
    """
    if not is_nanoseconds(column.type):
        return pa.array(np.zeros(len(column), dtype=np.int64))
    rest = _numbers(column)[0] % 1_000
    return pa.array(rest - 1_000 * (rest > 0), mask=_mask(column))


def _numbers(column: pa.Array) -> tuple[Ints, str, int]:
    """Return times as they are stored (null as 0), their unit, and the number of infinity."""
    unit, infinity = "days", 2**31 - 1
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    else:
        unit, infinity = getattr(column.type, "unit", "ms"), LAST
    column = column.cast(pa.int64())
    filled = column.fill_null(0) if column.null_count else column
    return filled.to_numpy(), unit, infinity


def _to_micros(raw: Ints, unit: str, infinity: int) -> Ints:
    """Return stored numbers as microseconds, nanoseconds rounded down."""
    if unit == "us":
        return raw.copy()
    if unit == "ns":
        return np.asarray(raw // 1_000)
    factor = _MICROS.get(unit, DAY_US)
    infinite = np.abs(raw) == infinity
    finite = np.where(infinite, 0, raw)
    _refuse_far(finite, LAST // factor, unit)
    return np.where(infinite, np.sign(raw) * LAST, finite * factor)


def _refuse_far(numbers: Ints, most: int, unit: str) -> None:
    far = (numbers > most) | (numbers < -most)
    if far.any():
        raise FarTimeError(int(numbers[far][0]), unit)


def _mask(column: pa.Array) -> npt.NDArray[np.bool_] | None:
    return np.asarray(column.is_null()) if column.null_count else None

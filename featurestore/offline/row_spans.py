"""Where in time the rows of a file's row groups lie, by their statistics, and what follows.

Row groups without rows in a span of time need not be read for it; and where few lie in several
parts of time, a source can be read in such parts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

SLICE_ROWS: Final = 2_000_000
"""Rows of a part of time: for fewer, preparing to read them takes longer than it saves."""
SLICES: Final = 16
"""The most parts of time that a source is read in."""
REREAD: Final = 1.25
"""How often rows may be read on average, as row groups lie in several parts."""
_DAYS_US: Final = 2 * 86_400_000_000

_PER_UNIT: Final = {"ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}


@dataclass(frozen=True, slots=True)
class RowSpan:
    """A row group: how many rows it has, and between which times as written, in microseconds."""

    rows: int
    first_us: int
    last_us: int


def time_spans(metadata: pq.FileMetaData, schema: pa.Schema) -> dict[str, tuple[RowSpan, ...]]:
    """Return the row groups of a file by each time column of which all have statistics."""
    spans = {}
    paths = [metadata.schema.column(index).path for index in range(metadata.num_columns)]
    counts = Counter(paths)  # a column inside another has the path of one called "outer.inner"
    for index, name in enumerate(paths):
        at = schema.get_field_index(name) if counts[name] == 1 else -1
        if at < 0 or not pa.types.is_timestamp(schema.field(at).type):
            continue
        unit = schema.field(at).type.unit
        groups = range(metadata.num_row_groups)
        found = [_span(metadata.row_group(g), index, unit) for g in groups]
        if all(span is not None for span in found):
            spans[name] = tuple(span for span in found if span is not None)
    return spans


def _span(group: pq.RowGroupMetaData, index: int, unit: str) -> RowSpan | None:
    statistics = group.column(index).statistics
    is_number = statistics is not None and statistics.physical_type == "INT64"
    if not is_number or unit not in _PER_UNIT or not statistics.has_min_max:
        return None
    times, per = _PER_UNIT[unit]
    first, last = (raw * times // per for raw in (statistics.min_raw, statistics.max_raw))
    return RowSpan(group.num_rows, first, last)


def margin_us(written: pa.DataType, zone: str) -> int:
    """Return how far an instant may be from what is written, by rounding and by a source's zone."""
    if written.tz is None and zone != "UTC":
        return _DAYS_US
    return 1 if written.unit == "ns" else 0


def reaches(span: RowSpan, since_us: int | None, until_us: int | None, margin: int = 0) -> bool:
    """Whether a row group may have rows in a span of time."""
    return (since_us is None or span.last_us + margin >= since_us) and (
        until_us is None or span.first_us - margin <= until_us
    )


def rows_within(spans: Iterable[RowSpan], since_us: int | None, until_us: int | None) -> int:
    """Return how many rows are in row groups that reach into a span of time."""
    return sum(span.rows for span in spans if reaches(span, since_us, until_us))


def newest_first(
    spans: Sequence[RowSpan] | None, since_us: int | None, until_us: int
) -> Iterator[tuple[int | None, int]]:
    """Yield a span of time in parts that a source is read in, the newest first.

    Rows that are not in the order of time would be read several times over: then there is one part.

    Args:
        spans: The row groups of all files; None if not all are known.
        since_us: Where it begins, or None.
        until_us: Where it ends.
    """
    for cut in reversed(_cuts(spans or ())):
        if cut <= until_us and (since_us is None or cut > since_us):
            yield cut, until_us
            until_us = cut - 1
    yield since_us, until_us


def _cuts(spans: Sequence[RowSpan]) -> list[int]:
    """Return rising times that divide rows into parts of about one size, where that is cheap."""
    total = sum(span.rows for span in spans)
    size = max(SLICE_ROWS, -(-total // SLICES))
    ordered = sorted(spans, key=lambda span: span.first_us)
    cuts: list[int] = []
    count = 0
    for before, span in pairwise(ordered):
        count += before.rows
        if count >= size * (len(cuts) + 1) and span.first_us > before.first_us:
            cuts.append(span.first_us)
    parts = zip([None, *cuts], [*(cut - 1 for cut in cuts), None], strict=True)
    read = sum(rows_within(spans, first, last) for first, last in parts)
    return cuts if read <= REREAD * total else []

"""What there is to draw of a column, and its words; how is decided elsewhere."""

import json
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from featurestore.naming import printable
from featurestore.statistics.report import ColumnProfile
from featurestore.statistics.spread import Histogram
from featurestore.statistics.values import to_json

MAX_TEXT: Final = 40
MIDNIGHT: Final = "T00:00:00"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: what it stands for, in printable words, and how many values."""

    label: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Bars of a column.

    Attributes:
        title: What they show.
        bars: The bars, in order.
        is_histogram: Whether they lie side by side on a scale.
        low: Where the scale begins; empty if there is none.
        high: Where it ends.
    """

    title: str
    bars: tuple[Bar, ...]
    is_histogram: bool = False
    low: str = ""
    high: str = ""

    @property
    def most(self) -> int:
        """The greatest count; 1 if there is none, so that one can divide by it."""
        return max((bar.count for bar in self.bars), default=0) or 1


def chart_of(column: ColumnProfile) -> Chart | None:
    """Return what to draw: the histogram, else top values, else lengths; None for nothing."""
    name = value_text(column.name)
    if column.histogram is not None:
        return _histogram(f"Histogram of {name}", column.histogram)
    if column.top is not None and column.top.counts:
        return _top(f"Most frequent values of {name}", column)
    if column.lengths is not None and column.lengths.histogram is not None:
        return _histogram(f"Lengths of {name}", column.lengths.histogram)
    return None


def value_text(value: Any) -> str:
    """Return a value in printable words of a bounded length; nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime | date):
        text = str(to_json(value, ""))
        return text.replace(f"{MIDNIGHT}Z", "").replace(MIDNIGHT, "")
    text = value.hex(" ") if isinstance(value, bytes) else str(value)
    text = printable(text[: MAX_TEXT + 1])
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."


def share_text(part: int, whole: int) -> str:
    """Return a share in per cent: 100 % and 0 % are said of all and of nothing only."""
    if not whole:
        return ""
    percent = 100 * part / whole
    if part and percent < 0.1:  # noqa: PLR2004 - smaller than what is shown
        return "<0.1 %"
    return ">99.9 %" if part < whole and percent >= 99.95 else f"{percent:.3g} %"  # noqa: PLR2004


def _histogram(title: str, found: Histogram) -> Chart:
    edges = [value_text(edge) for edge in found.edges]
    ends = [*(")" for _ in found.counts[1:]), "]"]
    bars = (
        Bar(edges[n] if edges[n] == edges[n + 1] else f"[{edges[n]}, {edges[n + 1]}{end}", count)
        for n, (count, end) in enumerate(zip(found.counts, ends, strict=True))
    )
    return Chart(title=title, bars=tuple(bars), is_histogram=True, low=edges[0], high=edges[-1])


def _top(title: str, column: ColumnProfile) -> Chart:
    assert column.top is not None  # noqa: S101 - asked before
    bars = [Bar(value_text(value) or '""', count) for value, count in column.top.counts]
    rest = column.rows - column.nulls - sum(count for _, count in column.top.counts)
    if rest > 0:
        bars.append(Bar("(all others)", rest))
    return Chart(title=title, bars=tuple(bars))

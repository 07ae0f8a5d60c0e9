"""Charts as SVG: small, without scripts or fonts of their own, light and dark, and in words."""

from html import escape
from typing import Final

from featurestore.statistics.charts import Bar, Chart, chart_of, share_text, value_text
from featurestore.statistics.report import ColumnProfile, Profile

WIDTH: Final = 480
_PLOT: Final = 120
_TOP: Final = 28
_LINE: Final = 18
_LABEL: Final = 170
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#1f2328}.bar{fill:#3b6ea8}.axis{stroke:#8b949e}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.bar{fill:#79b0ea}}"
)


def column_svg(column: ColumnProfile) -> str:
    """Return a column's chart as an SVG document."""
    return _document(*_drawn(column))


def profile_svg(profile: Profile) -> str:
    """Return the charts of all columns as one SVG document, one below the other."""
    top, parts = 0, []
    for column in profile.columns.values():
        body, height, words = _drawn(column)
        parts.append(f'<g transform="translate(0 {top})">{_said(*words)}{body}</g>')
        top += height
    words = (f"Profile of {profile.rows:,} rows", f"{len(parts):,} columns")
    return _document("".join(parts), top, words)


def sparkline_svg(column: ColumnProfile) -> str:
    """Return a column's bars as a small SVG element for a line of text, nothing without any."""
    chart = chart_of(column)
    if chart is None or not chart.is_histogram:
        return ""
    count = len(chart.bars)
    bars = "".join(
        f'<rect x="{n * 5}" y="{20 - _part(bar, chart, 20):g}" width="4"'
        f' height="{_part(bar, chart, 20):g}"/>'
        for n, bar in enumerate(chart.bars)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{count * 5}" height="20" role="img"'
        f' fill="currentColor" aria-label="{escape(chart.title)}">{bars}</svg>'
    )


def _document(body: str, height: int, words: tuple[str, str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {max(height, 1)}"'
        f' width="{WIDTH}" height="{max(height, 1)}" role="img">'
        f"{_said(*words)}<style>{_STYLE}</style>{body}</svg>\n"
    )


def _said(title: str, description: str) -> str:
    return f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"


def _drawn(column: ColumnProfile) -> tuple[str, int, tuple[str, str]]:
    """Return a chart's elements, its height, and its title and description."""
    chart = chart_of(column)
    facts = _facts(column)
    title = value_text(column.name) if chart is None else chart.title
    heading = f'<text x="8" y="18">{escape(title)}</text>'
    if chart is None:
        return heading, _TOP + 4, (title, facts)
    body, height = (_columns if chart.is_histogram else _rows)(chart)
    return heading + body, height, (title, facts)


def _facts(column: ColumnProfile) -> str:
    facts = [f"{column.rows:,} rows, {share_text(column.nulls, column.rows) or '0 %'} null"]
    if column.min is not None:
        facts.append(f"from {value_text(column.min)} to {value_text(column.max)}")
    if column.mean is not None:
        facts.append(f"mean {value_text(column.mean)}")
    return ", ".join(facts)


def _columns(chart: Chart) -> tuple[str, int]:
    step = (WIDTH - 16) / len(chart.bars)
    base = _TOP + _PLOT
    parts = [
        f'<rect class="bar" x="{8 + n * step:g}" y="{base - _part(bar, chart, _PLOT):g}"'
        f' width="{max(step - 1, 1):g}" height="{_part(bar, chart, _PLOT):g}">{_tip(bar)}</rect>'
        for n, bar in enumerate(chart.bars)
    ]
    parts += [
        f'<line class="axis" x1="8" x2="{WIDTH - 8}" y1="{base}" y2="{base}"/>',
        f'<text x="8" y="{base + 16}">{escape(chart.low)}</text>',
        f'<text x="{WIDTH - 8}" y="{base + 16}" text-anchor="end">{escape(chart.high)}</text>',
    ]
    return "".join(parts), base + 28


def _rows(chart: Chart) -> tuple[str, int]:
    room = WIDTH - _LABEL - 88
    parts = [
        f'<text x="{_LABEL - 6}" y="{_TOP + n * _LINE + 13}" text-anchor="end">'
        f"{escape(_short(bar.label))}</text>"
        f'<rect class="bar" x="{_LABEL}" y="{_TOP + n * _LINE + 2}"'
        f' width="{_part(bar, chart, room):g}" height="{_LINE - 4}">{_tip(bar)}</rect>'
        f'<text x="{_LABEL + _part(bar, chart, room) + 6:g}" y="{_TOP + n * _LINE + 13}">'
        f"{bar.count:,}</text>"
        for n, bar in enumerate(chart.bars)
    ]
    return "".join(parts), _TOP + len(chart.bars) * _LINE + 8


def _tip(bar: Bar) -> str:
    return f"<title>{escape(f'{bar.label}: {bar.count:,}')}</title>"


def _part(bar: Bar, chart: Chart, room: int) -> float:
    """Return a bar's length; one that stands for anything can be seen."""
    return round(max(bar.count / chart.most * room, 1.0), 1) if bar.count else 0.0


def _short(text: str, most: int = 24) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."

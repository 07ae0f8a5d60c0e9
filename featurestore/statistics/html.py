"""Profiles for notebooks."""

from collections.abc import Iterable, Sequence
from html import escape

from featurestore.statistics.report import ColumnProfile, Profile
from featurestore.statistics.svg import sparkline_svg
from featurestore.statistics.text import (
    COVERAGE_HEADERS,
    FEATURE_HEADERS,
    HEADERS,
    column_row,
    coverage_row,
    feature_rows,
)


def profile_html(profile: Profile) -> str:
    """Return a profile as HTML tables; everything that comes from data is escaped."""
    parts = [
        f"<p>{profile.rows:,} rows</p>",
        _table(HEADERS, map(_cells, profile.columns.values())),
    ]
    if profile.coverage:
        rows = (coverage_row(view, found) for view, found in profile.coverage.items())
        parts.append(_table(COVERAGE_HEADERS, map(_escaped, rows)))
        parts.append(_table(FEATURE_HEADERS, map(_escaped, feature_rows(profile))))
    return "".join(parts)


def _cells(column: ColumnProfile) -> list[str]:
    *cells, chart = _escaped(column_row(column, ascii_only=False))
    return [*cells, sparkline_svg(column) or chart]


def _escaped(cells: Sequence[str]) -> list[str]:
    return [escape(cell) for cell in cells]


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(header)}</th>" for header in headers)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

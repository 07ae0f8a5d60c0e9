"""Profiles for terminals: tables and bars of characters."""

import sys
from collections.abc import Iterable, Sequence
from typing import Final, TextIO

from featurestore.statistics.charts import Chart, chart_of, share_text, value_text
from featurestore.statistics.coverage import ViewCoverage
from featurestore.statistics.report import ColumnProfile, Profile

HEADERS: Final = (
    "column", "type", "null", "distinct", "min", "median", "mean", "max", "stddev", "histogram",
)  # fmt: skip
COVERAGE_HEADERS: Final = (
    "view", "found", "no key", "unknown key", "not yet", "expired", "age: median", "95 %", "max",
)  # fmt: skip
FEATURE_HEADERS: Final = ("view", "feature", "row or event", "value")
SPARKS: Final = "▁▂▃▄▅▆▇█"
ASCII_SPARKS: Final = ".:-=+*#@"
BAR_WIDTH: Final = 40
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def can_draw(stream: TextIO) -> bool:
    """Whether a stream's encoding has the characters for bars."""
    try:
        (SPARKS + _EIGHTHS).encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def profile_text(profile: Profile, *, ascii_only: bool | None = None) -> str:
    """Return a profile as text: a line for each column, and the coverage if there is one.

    Args:
        profile: The profile.
        ascii_only: Draw with ASCII; None leaves it to the encoding of standard output.
    """
    plain = not can_draw(sys.stdout) if ascii_only is None else ascii_only
    rows = [column_row(column, ascii_only=plain) for column in profile.columns.values()]
    parts = [f"{profile.rows:,} rows", *aligned(HEADERS, rows)]
    if profile.coverage:
        views = [coverage_row(view, found) for view, found in profile.coverage.items()]
        parts += ["", "coverage", *aligned(COVERAGE_HEADERS, views)]
        parts += ["", *aligned(FEATURE_HEADERS, feature_rows(profile))]
    return "\n".join(parts)


def column_row(column: ColumnProfile, *, ascii_only: bool) -> tuple[str, ...]:
    """Return a column as the cells under `HEADERS`."""
    distinct, quantiles = column.distinct, column.quantiles
    chart = chart_of(column)
    return (
        value_text(column.name),
        value_text(column.type),
        share_text(column.nulls, column.rows),
        "" if distinct is None else f"{'' if distinct.exact else '~'}{distinct.count:,}",
        value_text(column.min),
        "" if quantiles is None else value_text(quantiles.values.get(0.5)),
        value_text(column.mean),
        value_text(column.max),
        value_text(column.stddev),
        "" if chart is None else _summary(chart, ascii_only=ascii_only),
    )


def coverage_row(view: str, found: ViewCoverage) -> tuple[str, ...]:
    """Return a view's coverage as the cells under `COVERAGE_HEADERS`."""
    missing = found.missing
    reasons = (
        (0, 0, 0) if missing is None else (missing.unknown_key, missing.not_yet, missing.expired)
    )
    age = found.age
    values = {} if age is None or age.quantiles is None else age.quantiles.values
    return (
        value_text(view),
        "" if found.found is None else share_text(found.found, found.rows),
        share_text(found.null_keys, found.rows),
        *("" if missing is None else share_text(n, found.rows) for n in reasons),
        *(_age(values.get(share)) for share in (0.5, 0.95)),
        _age(None if age is None else age.max),
    )


def feature_rows(profile: Profile) -> list[tuple[str, ...]]:
    """Return the coverage of features as rows of cells under `FEATURE_HEADERS`."""
    return [
        (
            value_text(view),
            value_text(name),
            share_text(feature.found, covered.rows),
            share_text(feature.values, covered.rows),
        )
        for view, covered in (profile.coverage or {}).items()
        for name, feature in covered.features.items()
    ]


def chart_lines(column: ColumnProfile, *, ascii_only: bool) -> list[str]:
    """Return a column's chart, a line for each bar; nothing if there is nothing to draw."""
    chart = chart_of(column)
    if chart is None:
        return []
    width = max(len(bar.label) for bar in chart.bars)
    lines = [
        f"{bar.label:<{width}}  {_bar(bar.count / chart.most, ascii_only=ascii_only)}{bar.count:,}"
        for bar in chart.bars
    ]
    return [chart.title, *lines]


def aligned(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows of cells below headers as lines."""
    table = [tuple(headers), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table
    ]


def sparks(counts: Sequence[int], *, ascii_only: bool) -> str:
    """Return counts as a row of characters; a space is none at all."""
    marks = ASCII_SPARKS if ascii_only else SPARKS
    most = max(counts, default=0) or 1
    return "".join(marks[-(-count * len(marks) // most) - 1] if count else " " for count in counts)


def _summary(chart: Chart, *, ascii_only: bool) -> str:
    if chart.is_histogram:
        return sparks([bar.count for bar in chart.bars], ascii_only=ascii_only)
    return ", ".join(f"{bar.label} {bar.count:,}" for bar in chart.bars[:3])


def _bar(share: float, *, ascii_only: bool) -> str:
    if not share:
        return ""
    if ascii_only:
        return "#" * max(round(share * BAR_WIDTH), 1) + " "
    whole, part = divmod(max(round(share * BAR_WIDTH * 8), 1), 8)
    return f"{_EIGHTHS[8] * whole}{_EIGHTHS[part] if part else ''} "


def _age(seconds: float | None) -> str:
    """Return an age in its largest unit: `1.5d`, `3.2h`, `10s`."""
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds:.3g}s"

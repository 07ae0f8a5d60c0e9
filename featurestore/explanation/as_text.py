"""An explanation as text for a terminal: at most 100 columns, no colours."""

import textwrap
from collections.abc import Iterator
from typing import Final

from featurestore.explanation.model import Explanation
from featurestore.explanation.outline import Part, Rows, outline

WIDTH: Final = 100
MAX_LABEL: Final = 40


def as_text(explanation: Explanation) -> str:
    """Return an explanation as lines of at most 100 columns, where names allow it."""
    return "\n".join(line.rstrip() for line in _lines(explanation))


def _lines(explanation: Explanation) -> Iterator[str]:
    for number, part in enumerate(outline(explanation)):
        if number:
            yield ""
        yield from _part(part)


def _part(part: Part) -> Iterator[str]:
    margin = "  " * part.level
    yield from _wrapped(part.title, margin, margin + "    ")
    width = max((len(label) for label, _ in part.facts), default=0)
    width = min(width, MAX_LABEL)
    for label, text in part.facts:
        first = f"{margin}  {label:<{width}}  "
        yield from _wrapped(text, first, " " * (len(margin) + width + 4))
    for table in part.tables:
        yield from _rows(table, margin + "  ")


def _rows(table: Rows, margin: str) -> Iterator[str]:
    yield from _wrapped(table.heading, margin, margin + "  ")
    inner = f"{margin}  "
    for line, values in _in_columns(table):
        if len(inner) + len(line) + 2 + len(values) <= WIDTH:
            yield f"{inner}{line}  {values}"
        else:
            yield inner + line
            yield from _wrapped(values, f"{inner}    ", f"{inner}    ")
    if table.more and table.rows:
        yield f"{inner}and {table.more:,} more"


def _in_columns(table: Rows) -> Iterator[tuple[str, str]]:
    """Yield times and place of each row in columns, and its values."""
    widths = [max(len(row[n]) for row in table.rows) for n in range(3)] if table.rows else []
    for row in table.rows:
        cells = (f"{row[n]:<{width}}" for n, width in enumerate(widths) if width)
        yield "  ".join(cells), row[3]


def _wrapped(text: str, first: str, later: str) -> Iterator[str]:
    lines = textwrap.wrap(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=later,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    yield from lines or [first]

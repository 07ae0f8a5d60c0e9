"""An explanation as HTML for a notebook. Everything that is not ours is escaped."""

from collections.abc import Iterator
from html import escape
from typing import Final

from featurestore.explanation.model import Explanation
from featurestore.explanation.outline import Part, Rows, outline

_CELL: Final = 'style="text-align: left; vertical-align: top"'


def as_html(explanation: Explanation) -> str:
    """Return an explanation as a block of HTML without scripts or references."""
    return f"<div>{''.join(_lines(explanation))}</div>"


def _lines(explanation: Explanation) -> Iterator[str]:
    for part in outline(explanation):
        yield from _part(part)


def _part(part: Part) -> Iterator[str]:
    tag = f"h{4 + part.level}"
    yield f"<{tag}>{escape(part.title)}</{tag}>"
    if part.facts:
        facts = (
            f"<tr><th {_CELL}>{escape(label)}</th><td {_CELL}>{escape(text)}</td></tr>"
            for label, text in part.facts
        )
        yield f"<table>{''.join(facts)}</table>"
    for table in part.tables:
        yield from _table(table)


def _table(table: Rows) -> Iterator[str]:
    more = f" ({table.more:,} more)" if table.more and table.rows else ""
    yield f"<p>{escape(table.heading)}{more}</p>"
    if table.rows:
        rows = (
            f"<tr>{''.join(f'<td {_CELL}>{escape(cell)}</td>' for cell in row)}</tr>"
            for row in table.rows
        )
        yield f"<table>{''.join(rows)}</table>"

"""Tables and lines for people. rich is imported to print, and for nothing else."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

from featurestore.naming import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MAX_CELL: Final = 300
PIPE_WIDTH: Final = 10_000
"""Nothing is wrapped for a program that reads the output."""
_PLAN_STYLES: Final = {"+": "green", "~": "yellow", "-": "red"}


def console(stream: TextIO) -> "Console":
    """Return a console that prints text as it is: no markup, no emoji names, no guessed colours."""
    from rich.console import Console

    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def one_line(text: str) -> str:
    """Return text that was written in several lines as one, printable."""
    return printable(" ".join(text.split()))


def cell(value: object) -> str:
    """Return a value as a cell of a table."""
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    text = str(value)
    return printable(text if len(text) <= MAX_CELL else f"{text[:MAX_CELL]}...")


def print_table(stream: TextIO, headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headers; columns of integers are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    listed = [list(row) for row in rows]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for number, header in enumerate(headers):
        column = [row[number] for row in listed if row[number] is not None]
        numbers = bool(column) and all(type(value) is int for value in column)
        table.add_column(cell(header), justify="right" if numbers else "left", overflow="fold")
    for row in listed:
        table.add_row(*map(cell, row))
    _print(stream, table, wrap=True)


def print_facts(stream: TextIO, facts: Mapping[str, object]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    said = [(cell(name), cell(value)) for name, value in facts.items() if cell(value)]
    width = max((len(name) for name, _ in said), default=0)
    stream.writelines(f"{name:<{width}}  {text}\n" for name, text in said)


def print_heading(stream: TextIO, text: str, *, apart: bool = True) -> None:
    """Print a line that begins a part; apart from what came before by an empty line."""
    from rich.text import Text

    if apart:
        stream.write("\n")
    _print(stream, Text(printable(text), "bold"))


def print_plan(stream: TextIO, lines: Iterable[str]) -> None:
    """Print the lines of a plan, additions in green, changes in yellow, deletions in red."""
    from rich.text import Text

    _print(stream, *(Text(line, _PLAN_STYLES.get(line[:1], "")) for line in lines))


def _print(stream: TextIO, *items: "RenderableType", wrap: bool = False) -> None:
    """Print what rich makes of it, without the spaces that fill its lines up."""
    printer = console(stream)
    with printer.capture() as captured:
        for item in items:
            printer.print(item, soft_wrap=not wrap)
    stream.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def counted(count: int, thing: str) -> str:
    """Return `1 file` or `1,200 files`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def listed(values: Iterable[Any]) -> str:
    """Return values as one text: `a, b, c`."""
    return ", ".join(map(str, values))

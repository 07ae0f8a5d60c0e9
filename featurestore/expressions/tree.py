"""What an expression is made of once it is parsed: three kinds of nodes, JSON-ready."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from featurestore.expressions.errors import InvalidExpressionError

MAX_DEPTH: Final = 50
MAX_NODES: Final = 1_000
MAX_TEXT: Final = 10_000
"""Characters of an expression, and of a text inside one."""

LITERAL_TYPES: Final = ("null", "bool", "integer", "decimal", "float64", "string", "date32", "time")


@dataclass(frozen=True, slots=True)
class Column:
    """The value of an input.

    Attributes:
        name: The feature's or request field's name.
        source: The view, role or request source it is of; None where the name alone is enough.
    """

    name: str
    source: str | None = None

    def __str__(self) -> str:
        return self.name if self.source is None else f"{self.source}.{self.name}"


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant.

    Attributes:
        kind: One of `LITERAL_TYPES`. An "integer" takes the type of what it stands beside, and so
            does a "decimal" (written with a point), which stands beside floats only.
        value: None, bool, int, float or str; decimals as text, dates in days, times in
            microseconds.
    """

    kind: str
    value: bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or function.

    Attributes:
        function: Its name in `featurestore.expressions.functions`.
        args: Its arguments.
        option: What is part of the function rather than an argument: the type of a cast, the part
            of a date, a number of digits.
    """

    function: str
    args: tuple["Node", ...]
    option: str | None = None


Node = Column | Literal | Call


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and all below it, each before those that come after it in the text."""
    yield node
    if isinstance(node, Call):
        for arg in node.args:
            yield from walk(arg)


def with_columns(node: Node, column: Callable[[Column], Node]) -> Node:
    """Return a tree with other columns, or trees, in place of its own columns."""
    if isinstance(node, Column):
        return column(node)
    if isinstance(node, Call):
        return Call(node.function, tuple(with_columns(a, column) for a in node.args), node.option)
    return node


def depth(node: Node) -> int:
    """Return the number of nodes on the longest way down."""
    return 1 + max(map(depth, node.args), default=0) if isinstance(node, Call) else 1


def to_json(node: Node) -> Any:
    """Return a tree as JSON-ready lists: `["+", null, ["column", "a", null], ...]` reads back."""
    if isinstance(node, Column):
        return ["column", node.name, node.source]
    if isinstance(node, Literal):
        return ["literal", node.kind, node.value]
    return [node.function, node.option, *map(to_json, node.args)]


def from_json(data: Any) -> Node:
    """Return the tree that `to_json` wrote.

    Raises:
        InvalidExpressionError: It is none, or is larger than a tree may be.
    """
    try:
        node = _read(data, MAX_DEPTH)
    except (ValueError, TypeError, KeyError, IndexError):
        raise InvalidExpressionError("this is not the tree of an expression") from None
    check_size(node)
    return node


def _read(data: Any, room: int) -> Node:
    head, first, *rest = data
    if not room or not isinstance(head, str):
        raise ValueError
    if head == "column":
        (source,) = rest
        return Column(_text(first), None if source is None else _text(source))
    if head == "literal":
        (value,) = rest
        return Literal(first, _constant(first, value))
    option = None if first is None else _text(first)
    return Call(head, tuple(_read(arg, room - 1) for arg in rest), option)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


_KINDS: Final[Mapping[str, type]] = {
    "null": type(None),
    "bool": bool,
    "integer": int,
    "decimal": str,
    "float64": float,
    "string": str,
    "date32": int,
    "time": int,
}


def _constant(kind: str, value: Any) -> Any:
    if type(value) is not _KINDS[kind]:
        raise TypeError
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError
    return value


def check_size(node: Node) -> None:
    """Refuse a tree that is too deep or has too many nodes.

    Raises:
        InvalidExpressionError: It is.
    """
    if depth(node) > MAX_DEPTH:
        raise InvalidExpressionError(f"it is nested more than {MAX_DEPTH} levels deep")
    if (count := sum(1 for _ in walk(node))) > MAX_NODES:
        raise InvalidExpressionError(f"it has {count:,} parts; {MAX_NODES:,} are allowed")

"""From a tree and the types of its inputs to a typed tree. Pure; sqlglot is not needed."""

from collections.abc import Callable
from typing import Final

from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.functions import FUNCTIONS
from featurestore.expressions.tree import Call, Column, Literal, Node, walk
from featurestore.expressions.typed import INPUT_TYPES, TIME, Typed, settled

_TYPES: Final = {"time": TIME}

Inputs = Callable[[Column], tuple[int, str]]
"""From a column to its position among the inputs and its type; it raises for one that is none."""


def typed(node: Node, inputs: Inputs) -> Typed:
    """Return a tree with every node's type.

    Raises:
        InvalidExpressionError: Types do not go together, or a column is not an input.
    """
    return settled(_typed(node, inputs))


def columns_of(node: Node) -> tuple[Column, ...]:
    """Return the columns that an expression uses, each once, in the order of the text."""
    return tuple(dict.fromkeys(part for part in walk(node) if isinstance(part, Column)))


def _typed(node: Node, inputs: Inputs) -> Typed:
    if isinstance(node, Literal):
        return Typed("constant", _TYPES.get(node.kind, node.kind), value=node.value)
    if isinstance(node, Column):
        position, dtype = inputs(node)
        if dtype not in INPUT_TYPES:
            raise InvalidExpressionError(
                f"{str(node)!r} is {dtype}, which expressions cannot compute with"
            )
        return Typed("column", dtype, value=position)
    return _call(node, tuple(_typed(arg, inputs) for arg in node.args))


def _call(node: Call, args: tuple[Typed, ...]) -> Typed:
    function = FUNCTIONS.get(node.function)
    if function is None or not function.counts[0] <= len(args) <= function.counts[1]:
        raise InvalidExpressionError(f"there is no {node.function!r} of {len(args)} arguments")
    return function.rule(node.function, args, node.option)

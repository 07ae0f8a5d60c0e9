"""SQL expressions over a row's values: parsed once, checked, run by one evaluator.

    parse_expression    text -> tree of allowed nodes (needs sqlglot: when something is defined)
    typed               tree + types of its inputs -> every node's type
    Program             columns in, a column out: the same over a training set and over one request

Only `parse` needs sqlglot, and the evaluator needs numpy alone, so that a server's workers start
fast. `docs/on-demand.md` says what the dialect is; DuckDB is its oracle in the tests.
"""

from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Call, Column, Literal, Node, from_json, to_json

__all__ = [
    "Call",
    "Column",
    "InvalidExpressionError",
    "Literal",
    "Node",
    "from_json",
    "to_json",
]

"""Checked expressions as DuckDB's SQL, written anew from their trees: no text of users' is run.

Columns are aliases of a scan's; a time among them is BIGINT microseconds, as everywhere inside the
engine, and a TIMESTAMP inside the expression.
"""

from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa

from featurestore.expressions.functions import FUNCTIONS
from featurestore.expressions.texts import whole
from featurestore.expressions.tree import Call, Column, Literal, Node
from featurestore.offline.duckdb_text import any_float, sql_type, text
from featurestore.types import parse_type

_BETWEEN: Final = {"and": "AND", "or": "OR", "is distinct from": "IS DISTINCT FROM"} | {
    "is not distinct from": "IS NOT DISTINCT FROM"
}


def expression(node: Node, dtypes: Mapping[str, pa.DataType]) -> str:
    """Return the SQL of a tree that was checked.

    Args:
        node: The tree; its columns are aliases.
        dtypes: Alias -> declared type.
    """
    if isinstance(node, Column):
        return _column(node.name, dtypes[node.name])
    if isinstance(node, Literal):
        return _literal(node)
    args = [expression(arg, dtypes) for arg in node.args]
    if (write := _WRITERS.get(node.function)) is not None:
        return write(args, node)
    function = FUNCTIONS[node.function]
    if not function.callable:
        sign = _BETWEEN.get(node.function, node.function)
        return f"({args[0]} {sign} {args[1]})"
    return _call(node, args)


def _cast_type(name: str) -> str:
    """Return DuckDB's type for one of ours: a time is a TIMESTAMP inside an expression."""
    dtype = parse_type(name)
    return "TIMESTAMP" if pa.types.is_timestamp(dtype) else sql_type(dtype)


def _column(alias: str, dtype: pa.DataType) -> str:
    if pa.types.is_floating(dtype):
        return any_float(alias)
    return f"make_timestamp({alias})" if pa.types.is_timestamp(dtype) else alias


def _literal(node: Literal) -> str:
    if node.kind == "string":
        return text(str(node.value))
    if node.kind == "date32":
        return f"(DATE '1970-01-01' + ({node.value}))"
    if node.kind == "time":
        return f"make_timestamp({node.value})"
    if node.kind == "float64":
        written = repr(node.value)
        return f"({written if 'e' in written else f'{written}e0'})"
    if node.kind in ("integer", "decimal"):
        return f"({node.value})"
    return "NULL" if node.value is None else str(bool(node.value)).lower()


def _call(node: Call, args: list[str]) -> str:
    at = FUNCTIONS[node.function].option_at
    if at is not None and node.option is not None:
        digits = node.function in ("round", "left", "right", "substr")
        options = node.option.split(",") if digits else [text(node.option)]
        args = [*args[:at], *(str(int(o)) if digits else o for o in options), *args[at:]]
    return f"{node.function}({', '.join(args)})"


def _case(args: list[str], _: Call) -> str:
    *pairs, default = args
    turns = zip(pairs[::2], pairs[1::2], strict=True)
    return f"CASE {' '.join(f'WHEN {a} THEN {b}' for a, b in turns)} ELSE {default} END"


def _cast(args: list[str], node: Call) -> str:
    return f"{node.function.upper()}({args[0]} AS {_cast_type(str(node.option))})"


_WRITERS: Final[Mapping[str, Callable[[list[str], Call], str]]] = {
    "negate": lambda args, _: f"(-{args[0]})",
    "not": lambda args, _: f"(NOT {args[0]})",
    "is null": lambda args, _: f"({args[0]} IS NULL)",
    "between": lambda args, _: f"({args[0]} BETWEEN {args[1]} AND {args[2]})",
    "in": lambda args, _: f"({args[0]} IN ({', '.join(args[1:])}))",
    "like": lambda args, node: f"({args[0]} LIKE {text(str(node.option))})",
    "matches": lambda args, node: f"regexp_matches({args[0]}, {text(whole(str(node.option)))})",
    "case": _case,
    "if": _case,
    "cast": _cast,
    "try_cast": _cast,
}
"""Functions that are not written as a call, nor between two arguments."""

"""From text to a tree: only what is listed here passes."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from featurestore.expressions.errors import InvalidExpressionError, unknown
from featurestore.expressions.functions import ALIASES, FUNCTIONS, PARTS
from featurestore.expressions.syntax import RESERVED, check_parentheses, parsed, shown
from featurestore.expressions.tree import (
    MAX_DEPTH,
    MAX_TEXT,
    Call,
    Column,
    Literal,
    Node,
    check_size,
)

_OPERATORS: Final = {
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Div": "/",
    "IntDiv": "//",
    "Mod": "%",
    "EQ": "=",
    "NEQ": "<>",
    "LT": "<",
    "LTE": "<=",
    "GT": ">",
    "GTE": ">=",
    "And": "and",
    "Or": "or",
    "NullSafeEQ": "is not distinct from",
    "NullSafeNEQ": "is distinct from",
    "DPipe": "||",
}
TYPE_NAMES: Final = {
    "BOOLEAN": "bool",
    "TINYINT": "int8",
    "SMALLINT": "int16",
    "INT": "int32",
    "BIGINT": "int64",
    "UTINYINT": "uint8",
    "USMALLINT": "uint16",
    "UINT": "uint32",
    "UBIGINT": "uint64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "VARCHAR": "string",
    "TEXT": "string",
    "DATE": "date32",
    "TIMESTAMPNTZ": "timestamp[us, UTC]",
    "TIMESTAMP": "timestamp[us, UTC]",
}
"""What sqlglot calls a type -> what it is here."""

TOO_DEEP: Final = f"it is nested more than {MAX_DEPTH} levels deep"
_INTEGER: Final = re.compile(r"\d{1,40}")
_DECIMAL: Final = re.compile(r"\d*\.\d*")
_FLOAT: Final = re.compile(r"(\d+\.?\d*|\.\d+)[eE][+-]?\d{1,4}")
_SAFE: Final = frozenset({"this", "expression", "expressions", "safe", "typed", "_type", "quoted"})
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1_024)
def parse_expression(text: str) -> Node:
    """Return the tree of one SQL expression.

    Raises:
        InvalidExpressionError: It is no expression, uses something that is not allowed, or is too
            large. The message names the part, and what comes close to it.
    """
    if not text.strip():
        raise InvalidExpressionError("the expression is empty")
    if len(text) > MAX_TEXT:
        raise InvalidExpressionError(f"it has {len(text):,} characters; {MAX_TEXT:,} are the limit")
    try:
        node = _read(parsed(text))
    except RecursionError:
        raise InvalidExpressionError(TOO_DEEP) from None
    check_size(node)
    return node


def read_expression(node: Any) -> Node:
    """Return what one of sqlglot's nodes means: an expression inside a statement.

    Raises:
        InvalidExpressionError: As `parse_expression`.
    """
    found = _read(node)
    check_size(found)
    return found


def _read(node: Any) -> Node:
    """Return what a node means."""
    kind = type(node).__name__
    check_parentheses(node, kind)
    if kind in _OPERATORS:
        _only(node, _SAFE)
        return Call(_OPERATORS[kind], (_read(node.this), _read(node.expression)))
    if kind not in _NODES:
        raise InvalidExpressionError(_refusal(node, kind))
    return _NODES[kind](node)


def _all(nodes: Any) -> Iterator[Node]:
    return (_read(node) for node in nodes)


def _read_paren(node: Any) -> Node:
    return _read(node.this)


def _read_column(node: Any) -> Node:
    _only(node, {"this", "table"})
    for part in (node.this, node.args.get("table")):
        if part is None:
            continue
        if type(part).__name__ != "Identifier":
            raise InvalidExpressionError(_refusal(part, type(part).__name__))
        if not part.args.get("quoted") and part.name.lower() in RESERVED:
            raise InvalidExpressionError(
                f'{part.name!r} is a reserved word; a column of that name is written "{part.name}"'
            )
    return Column(node.name, node.table or None)


def _read_literal(node: Any) -> Node:
    text = node.this
    if node.is_string:
        return Literal("string", text)
    if _INTEGER.fullmatch(text):
        return Literal("integer", int(text))
    if _DECIMAL.fullmatch(text) and len(text) > 1:
        return Literal("decimal", text)
    if _FLOAT.fullmatch(text) and abs(float(text)) != float("inf"):
        return Literal("float64", float(text))
    raise InvalidExpressionError(f"{text[:40]!r} is no number")


def _read_boolean(node: Any) -> Node:
    return Literal("bool", bool(node.this))


def _read_null(_node: Any) -> Node:
    return Literal("null", None)


def _read_neg(node: Any) -> Node:
    inner = _read(node.this)
    if isinstance(inner, Literal):
        if inner.kind in ("integer", "float64"):
            assert isinstance(inner.value, int | float)  # noqa: S101 - narrows for mypy
            return Literal(inner.kind, -inner.value)
        if inner.kind == "decimal":
            text = str(inner.value)
            return Literal("decimal", text[1:] if text.startswith("-") else f"-{text}")
    return Call("negate", (inner,))


def _read_not(node: Any) -> Node:
    return Call("not", (_read(node.this),))


def _read_is(node: Any) -> Node:
    if type(node.expression).__name__ != "Null":
        raise InvalidExpressionError(
            f"IS takes NULL or [NOT] DISTINCT FROM, not {shown(node.expression)}"
        )
    return Call("is null", (_read(node.this),))


def _read_between(node: Any) -> Node:
    _only(node, {"this", "low", "high"})
    return Call("between", tuple(_all((node.this, node.args["low"], node.args["high"]))))


def _read_in(node: Any) -> Node:
    if node.args.get("query"):
        raise InvalidExpressionError(f"{shown(node)} is not allowed: {_INSTEAD['Subquery']}")
    _only(node, {"this", "expressions"})
    items = tuple(_all(node.expressions))
    if not items or not all(isinstance(i, Literal) and i.kind != "null" for i in items):
        raise InvalidExpressionError("IN takes a list of constants, none of them NULL")
    return Call("in", (_read(node.this), *items))


def _read_like(node: Any) -> Node:
    _only(node, {"this", "expression", "negate"})
    pattern = _read(node.expression)
    if not isinstance(pattern, Literal) or not isinstance(pattern.value, str):
        raise InvalidExpressionError("LIKE takes a constant pattern, such as 'a%'")
    found = Call("like", (_read(node.this),), pattern.value)
    return Call("not", (found,)) if node.args.get("negate") else found


def _read_case(node: Any) -> Node:
    _only(node, {"this", "ifs", "default"})
    args: list[Node] = []
    subject = None if node.this is None else _read(node.this)
    for branch in node.args["ifs"]:
        when = _read(branch.this)
        args += [
            when if subject is None else Call("=", (subject, when)),
            _read(branch.args["true"]),
        ]
    default = node.args.get("default")
    return Call("case", (*args, Literal("null", None) if default is None else _read(default)))


def _read_cast(node: Any) -> Node:
    _only(node, {"this", "to", "safe", "_type"})
    return _cast(_read(node.this), _type_of(node), "cast")


def _read_try_cast(node: Any) -> Node:
    _only(node, {"this", "to", "safe", "_type"})
    return _cast(_read(node.this), _type_of(node), "try_cast")


def _read_extract(node: Any) -> Node:
    return Call("date_part", (_read(node.expression),), _part(node.this.name))


def _read_anonymous(node: Any) -> Node:
    written = str(node.this).lower()
    name = ALIASES.get(written, written)
    if written in _REFUSED:
        raise InvalidExpressionError(f"{written}() is not allowed: {_REFUSED[written]}")
    args = tuple(_all(node.expressions))
    if name in PARTS and name not in FUNCTIONS:
        return _call("date_part", args, PARTS[name], written)
    if written not in ALIASES and not (name in FUNCTIONS and FUNCTIONS[name].callable):
        known = (*(n for n, f in FUNCTIONS.items() if f.callable), *ALIASES, *PARTS)
        advice = "docs/on-demand.md lists those that there are"
        raise InvalidExpressionError(unknown("function", written, known, advice))
    first = FUNCTIONS[name].option_at
    if first is None or first >= len(args):
        return _call(name, args, None, written)
    until = first + FUNCTIONS[name].options
    option = ",".join(_option(name, arg, written) for arg in args[first:until])
    return _call(name, args[:first] + args[until:], option, written)


def _call(name: str, args: tuple[Node, ...], option: str | None, written: str) -> Node:
    least, most = FUNCTIONS[name].counts
    if not least <= len(args) <= most:
        expected = (
            str(least)
            if least == most
            else f"{least} to {most}"
            if most < MAX_TEXT
            else f"{least} or more"
        )
        raise InvalidExpressionError(
            f"{written}() takes {expected} arguments to compute with, not {len(args)}"
        )
    if name == "if":
        return Call("case", args if len(args) % 2 else (*args, Literal("null", None)))
    return Call(name, args, option)


def _option(name: str, given: Node, written: str) -> str:
    if not isinstance(given, Literal) or given.kind not in ("string", "integer"):
        raise InvalidExpressionError(
            f"{written}() takes a constant there, as docs/on-demand.md says"
        )
    if name in ("date_part", "date_diff", "date_trunc"):
        if given.kind != "string":
            raise InvalidExpressionError(f"{written}() takes a part such as 'day' first")
        return _part(str(given.value))
    return str(given.value)


def _part(written: str) -> str:
    name = written.lower()
    if name not in PARTS:
        raise InvalidExpressionError(unknown("part of a date", name, tuple(PARTS)))
    return PARTS[name]


def _type_of(node: Any) -> str:
    kind = node.args["to"]
    name = getattr(kind.this, "name", str(kind.this))
    if name not in TYPE_NAMES or kind.expressions:
        allowed = "BOOLEAN, TINYINT to BIGINT, UTINYINT to UBIGINT, FLOAT, DOUBLE, VARCHAR, DATE"
        raise InvalidExpressionError(
            f"nothing can be cast to {shown(kind)}; what there is is {allowed} and TIMESTAMP (UTC)"
        )
    return TYPE_NAMES[name]


def _cast(inner: Node, dtype: str, how: str) -> Node:
    """Return a cast; of a constant text to a date or time, the constant that it means."""
    if isinstance(inner, Literal) and isinstance(inner.value, str) and inner.kind == "string":
        if dtype == "date32":
            return Literal("date32", _days(inner.value))
        if dtype == "timestamp[us, UTC]":
            return Literal("time", _micros(inner.value))
    return Call(how, (inner,), dtype)


def _days(text: str) -> int:
    try:
        return (date.fromisoformat(text) - _EPOCH.date()).days
    except ValueError:
        raise InvalidExpressionError(f"{text[:40]!r} is no date such as '2024-03-05'") from None


def _micros(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is not None:
        raise InvalidExpressionError(
            f"{text[:40]!r} is no time in UTC such as '2024-03-05 10:00:00' (without an offset)"
        )
    return (at.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def _only(node: Any, allowed: set[str] | frozenset[str]) -> None:
    extra = [key for key, value in node.args.items() if value and key not in allowed]
    if extra:
        raise InvalidExpressionError(f"{shown(node)} says more than an expression may ({extra[0]})")


_CLOCK: Final = "a feature cannot depend on the clock; pass the time as a request field"
_CHANCE: Final = "a feature cannot depend on chance"
_MANY_ROWS: Final = "an expression sees one row; aggregations belong into a feature view"
_REFUSED: Final = {
    **dict.fromkeys(("now", "today", "current_date", "get_current_timestamp", "age"), _CLOCK),
    **dict.fromkeys(("random", "uuid", "gen_random_uuid", "setseed", "nextval"), _CHANCE),
    **dict.fromkeys(("sum", "avg", "mean", "min", "max", "count", "first", "last"), _MANY_ROWS),
    **dict.fromkeys(("stddev", "variance", "median", "quantile", "row_number", "lag"), _MANY_ROWS),
    "try": "use try_cast(), nullif() or CASE",
}
_INSTEAD: Final = {
    "Pow": "write power(a, b)",
    "Subquery": "a subquery reads other rows",
    "Window": "an aggregation over a window belongs into a feature view",
    "Star": "name the columns",
    **dict.fromkeys(("CurrentTimestamp", "CurrentDate", "CurrentTime"), _CLOCK),
    **dict.fromkeys(("CurrentDatetime", "Localtime", "Localtimestamp"), _CLOCK),
    "Alias": "the feature's name is given beside the expression",
    "Bracket": "lists cannot be used in expressions",
    "RegexpLike": "use LIKE, starts_with or contains",
    "ILike": "write lower(a) LIKE 'b%'",
    "Interval": "compute with epoch_us() or date_diff()",
    "AtTimeZone": "times are in UTC",
}


def _refusal(node: Any, kind: str) -> str:
    instead = _INSTEAD.get(kind)
    text = f"{shown(node)} ({kind}) is not allowed in an expression"
    return f"{text}: {instead}" if instead else text


_NODES: Final[dict[str, Callable[[Any], Node]]] = {
    "Paren": _read_paren,
    "Column": _read_column,
    "Literal": _read_literal,
    "Boolean": _read_boolean,
    "Null": _read_null,
    "Neg": _read_neg,
    "Not": _read_not,
    "Is": _read_is,
    "Between": _read_between,
    "In": _read_in,
    "Like": _read_like,
    "Case": _read_case,
    "Cast": _read_cast,
    "TryCast": _read_try_cast,
    "Extract": _read_extract,
    "Anonymous": _read_anonymous,
}

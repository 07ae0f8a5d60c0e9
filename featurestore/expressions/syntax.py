"""The text of one expression as sqlglot's tree, as DuckDB reads it.

sqlglot rewrites many functions into others' (it turns DuckDB's `epoch_ms(t)` into a conversion from
seconds, for one), so its functions are switched off: a call comes through under the name that was
written. Where its order of operators is not certain to be DuckDB's, parentheses are asked for.
"""

from functools import cache
from typing import Any, ClassVar, Final

from featurestore.expressions.errors import InvalidExpressionError

MAX_SHOWN: Final = 60

RESERVED: Final = frozenset(
    [
        "all",
        "analyse",
        "analyze",
        "and",
        "anti",
        "any",
        "array",
        "as",
        "asc",
        "asof",
        "asymmetric",
        "at",
        "authorization",
        "binary",
        "both",
        "by",
        "case",
        "cast",
        "check",
        "collate",
        "collation",
        "column",
        "columns",
        "concurrently",
        "constraint",
        "create",
        "cross",
        "default",
        "deferrable",
        "desc",
        "describe",
        "distinct",
        "do",
        "else",
        "end",
        "except",
        "false",
        "fetch",
        "for",
        "foreign",
        "freeze",
        "from",
        "full",
        "generated",
        "glob",
        "group",
        "having",
        "ilike",
        "in",
        "initially",
        "inner",
        "intersect",
        "into",
        "is",
        "isnull",
        "join",
        "lambda",
        "lateral",
        "leading",
        "left",
        "like",
        "limit",
        "map",
        "natural",
        "not",
        "notnull",
        "null",
        "offset",
        "on",
        "only",
        "or",
        "order",
        "outer",
        "overlaps",
        "pivot",
        "pivot_longer",
        "pivot_wider",
        "placing",
        "positional",
        "primary",
        "qualify",
        "references",
        "returning",
        "right",
        "select",
        "semi",
        "show",
        "similar",
        "some",
        "struct",
        "summarize",
        "symmetric",
        "table",
        "tablesample",
        "then",
        "to",
        "trailing",
        "true",
        "try_cast",
        "tuple",
        "union",
        "unique",
        "unpack",
        "unpivot",
        "using",
        "variadic",
        "verbose",
        "when",
        "where",
        "window",
        "with",
    ]
)
"""Words that DuckDB takes for a column only in double quotes."""

_COMPARING: Final = frozenset(
    {"EQ", "NEQ", "LT", "LTE", "GT", "GTE", "Is", "In", "Between", "Like"}
    | {"NullSafeEQ", "NullSafeNEQ"}
)
_COMPUTING: Final = frozenset({"Add", "Sub", "Mul", "Div", "IntDiv", "Mod", "Neg"})
_CLOSED: Final[dict[str, frozenset[str]]] = {
    **dict.fromkeys(_COMPARING, _COMPARING | {"Not"}),
    **dict.fromkeys(_COMPUTING, frozenset({"DPipe"})),
    **dict.fromkeys(("Is", "In", "Like"), _COMPARING | _COMPUTING | {"DPipe", "Not"}),
    "Between": _COMPARING | {"DPipe", "Not"},
    "DPipe": _COMPUTING | _COMPARING,
    "Neg": frozenset({"Cast", "TryCast", "DPipe"}),
}
"""Node -> what may stand in it in parentheses only, because readers of SQL differ on it."""


def parsed(text: str) -> Any:
    """Return sqlglot's tree of the one expression in `text`."""
    if text.lstrip().lower().startswith(("select ", "with ")):
        raise InvalidExpressionError("it is a statement; write one expression, without SELECT")
    statements = _statements(text, f"SELECT {text}")
    select = statements[0] if len(statements) == 1 else None
    extra = select is None or [k for k, v in select.args.items() if v and k != "expressions"]
    if select is None or extra or type(select).__name__ != "Select":
        raise InvalidExpressionError("it is a statement; write one expression, without SELECT")
    if len(select.expressions) != 1:
        raise InvalidExpressionError("it is a list of expressions; write a feature for each")
    return select.expressions[0]


def statement(text: str) -> Any:
    """Return sqlglot's tree of the one statement in `text`."""
    statements = _statements(text, text)
    if len(statements) != 1 or statements[0] is None:
        raise InvalidExpressionError(f"it is {len(statements)} statements; write one SELECT")
    return statements[0]


def _statements(written: str, text: str) -> list[Any]:
    """Return sqlglot's trees of `text`, which holds what was `written`."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    if "\0" in written:
        raise InvalidExpressionError("it holds a NUL")
    try:
        _check_tokens(written)
        found: list[Any] = sqlglot.parse(text, read=_dialect())
    except SqlglotError as error:
        raise InvalidExpressionError(f"it cannot be read{_where(error)}") from None
    return found


def _check_tokens(text: str) -> None:
    """Refuse what sqlglot knows from other dialects, and DuckDB does not."""
    for token in _dialect()().tokenize(text):
        kind = token.token_type.name
        if kind == "STRING":
            continue
        if kind == "NULLSAFE_EQ" or token.text == "!" or (kind == "DIV" and token.text != "//"):
            raise InvalidExpressionError(f"{token.text!r} is no operator of DuckDB's")


def _where(error: Any) -> str:
    first = (getattr(error, "errors", None) or [{}])[0]
    near = str(first.get("highlight") or "")[:40]
    return f" near {near!r}" if near and near != "SELECT" else ": something is missing or unknown"


@cache
def _dialect() -> Any:
    """Return DuckDB's dialect without any function of sqlglot's."""
    from sqlglot.dialects import duckdb

    base: Any = duckdb.DuckDB.Parser

    def kept(parsers: dict[str, Any], *names: str) -> dict[str, Any]:
        return {name: parser for name, parser in parsers.items() if name in names}

    class Plain(duckdb.DuckDB):
        class Parser(base):  # type: ignore[misc]
            FUNCTIONS: ClassVar[dict[str, Any]] = {}
            FUNCTION_PARSERS = kept(base.FUNCTION_PARSERS, "CAST", "TRY_CAST", "EXTRACT")
            NO_PAREN_FUNCTION_PARSERS = kept(base.NO_PAREN_FUNCTION_PARSERS, "CASE")

            def _parse_paren(self) -> Any:
                """Mark the parentheses that were written: sqlglot adds some of its own."""
                node = super()._parse_paren()
                if type(node).__name__ == "Paren":
                    node.meta["written"] = True
                return node

    return Plain


def check_parentheses(node: Any, kind: str) -> None:
    """Refuse a node whose order is not certain; parentheses that were written make it so.

    Raises:
    InvalidExpressionError: It says where to put them.
    """
    closed = _CLOSED.get(kind, frozenset())
    for child in node.iter_expressions() if closed else ():
        while type(child).__name__ == "Paren" and not child.meta.get("written"):
            child = child.this  # noqa: PLW2901 - sqlglot's own guess, not the user's
        if type(child).__name__ in closed:
            raise InvalidExpressionError(
                f"the order in {shown(node)} is not certain; put parentheses around {shown(child)}"
            )


def shown(node: Any) -> str:
    """Return the text of a node for a message."""
    try:
        text = node.sql(dialect="duckdb")
    except (ValueError, TypeError, AttributeError, RecursionError):
        text = type(node).__name__
    return repr(text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}...")

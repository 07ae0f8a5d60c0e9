"""From the text of one row-level SELECT to its columns and its filter: one row in, one or none out.

Its expressions are those of on-demand features. What would need other rows, a clock or chance is
refused by name, so that a row means the same whenever and beside whatever it is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.parse import TOO_DEEP, read_expression
from featurestore.expressions.syntax import shown, statement
from featurestore.expressions.tree import Column, Node, with_columns

MAX_COLUMNS: Final = 2_000
MAX_TEXT: Final = 100_000
"""Characters of a SELECT."""


@dataclass(frozen=True, slots=True)
class Select:
    """A parsed SELECT.

    Attributes:
        table: The table it reads, as it was written behind FROM.
        columns: Name -> what it is; columns of the table have no source in front.
        star: Whether `*` adds the table's other columns, unchanged.
        where: The predicate of the rows that stay, or None for all.
    """

    table: str
    columns: tuple[tuple[str, Node], ...]
    star: bool
    where: Node | None


def parse_select(text: str) -> Select:
    """Return what a SELECT means.

    Raises:
        InvalidExpressionError: It is more than one row's SELECT, or not read as one; the message
            names the rule.
    """
    if not text.strip():
        raise InvalidExpressionError("it is empty; write SELECT ... FROM and the source's name")
    if len(text) > MAX_TEXT:
        raise InvalidExpressionError(f"it has {len(text):,} characters; {MAX_TEXT:,} are the limit")
    try:
        return _parsed(statement(text))
    except RecursionError:
        raise InvalidExpressionError(TOO_DEEP) from None


def _parsed(select: Any) -> Select:
    if type(select).__name__ != "Select":
        raise InvalidExpressionError(
            f"a transform is one SELECT over its source, not {type(select).__name__.upper()}"
        )
    _check_clauses(select)
    table, names = _table(select.args.get("from_"))
    where = select.args.get("where")
    if len(select.expressions) > MAX_COLUMNS:
        raise InvalidExpressionError(f"it selects more than {MAX_COLUMNS:,} columns")
    stars = [node for node in select.expressions if _is_star(node)]
    return Select(
        table=table,
        columns=tuple(_columns(select.expressions, names)),
        star=bool(stars),
        where=None if where is None else _read(where.this, names),
    )


_ONE_ROW: Final = "a transform sees one row at a time"
_REFUSED: Final = {
    "distinct": f"DISTINCT compares rows, and {_ONE_ROW}",
    "group": f"GROUP BY collects rows, and {_ONE_ROW}; aggregations belong into aggregations=",
    "having": f"HAVING is about groups, and {_ONE_ROW}; filter with WHERE",
    "qualify": f"QUALIFY is about windows, and {_ONE_ROW}; filter with WHERE",
    "windows": f"WINDOW looks at other rows, and {_ONE_ROW}",
    "order": "ORDER BY has no meaning in a transform: rows have the order of their times",
    "limit": f"LIMIT counts rows, and {_ONE_ROW}; filter with WHERE",
    "offset": f"OFFSET counts rows, and {_ONE_ROW}; filter with WHERE",
    "sample": "a sample depends on chance",
    "with_": "WITH is a subquery; write one SELECT",
    "joins": "a transform reads its source alone; a JOIN is not supported",
    "laterals": "a transform reads its source alone; LATERAL is not supported",
    "pivots": f"PIVOT collects rows, and {_ONE_ROW}",
}
_KEPT: Final = frozenset({"expressions", "from_", "where"})


def _check_clauses(select: Any) -> None:
    for clause, value in select.args.items():
        if value and clause not in _KEPT:
            name = clause.strip("_").upper()
            raise InvalidExpressionError(
                _REFUSED.get(clause, f"{name} is not allowed in a transform")
            )


def _table(clause: Any) -> tuple[str, frozenset[str]]:
    """Return the table's name, and the names that may stand in front of its columns."""
    if clause is None:
        raise InvalidExpressionError("FROM is missing; write FROM and the source's name")
    table = clause.this
    extra = [key for key, value in table.args.items() if value and key not in ("this", "alias")]
    if table.args.get("sample"):
        raise InvalidExpressionError(_REFUSED["sample"])
    if type(table).__name__ != "Table" or type(table.this).__name__ != "Identifier" or extra:
        raise InvalidExpressionError(f"FROM takes the source's name, not {shown(table)}")
    alias = table.args.get("alias")
    if alias is not None and alias.args.get("columns"):
        raise InvalidExpressionError(f"FROM takes the source's name, not {shown(table)}")
    return table.name, frozenset({table.alias or table.name})


def _is_star(node: Any) -> bool:
    kind = type(node).__name__
    if kind == "Column" and type(node.this).__name__ == "Star":
        raise InvalidExpressionError(f"write * for {shown(node)}")
    if kind != "Star":
        return False
    if any(node.args.values()):
        raise InvalidExpressionError(
            f"{shown(node)} says more than *; a column that is listed beside * takes the place of"
            " the source's"
        )
    return True


def _columns(nodes: Any, names: frozenset[str]) -> Iterator[tuple[str, Node]]:
    for node in nodes:
        kind = type(node).__name__
        if kind == "Star":
            continue
        found = _read(node.this if kind == "Alias" else node, names)
        if kind == "Alias":
            yield node.alias, found
        elif isinstance(found, Column):
            yield found.name, found
        else:
            raise InvalidExpressionError(f"{shown(node)} has no name; write AS and one behind it")


def _read(node: Any, names: frozenset[str]) -> Node:
    return with_columns(read_expression(node), lambda column: _of_table(column, names))


def _of_table(column: Column, names: frozenset[str]) -> Column:
    if column.source is None:
        return column
    if column.source not in names:
        raise InvalidExpressionError(
            f"{column} is of no table in FROM; write {column.name!r} alone"
        )
    return Column(column.name)

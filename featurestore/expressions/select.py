"""From the text of one row-level SELECT to its columns and its filter: one row in, one or none out.

Its expressions are those of on-demand features. What would need other rows, a clock or chance is
refused by name, so that a row means the same whenever and beside whatever it is read.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.parse import TOO_DEEP, read_expression
from featurestore.expressions.select_joins import SelectJoin, read_joins, table_name
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
        columns: Name -> what it is; columns of the table have no source in front, those of a
            joined table its name.
        star: Whether `*` adds the table's other columns, unchanged.
        where: The predicate of the rows that stay, or None for all.
        joins: What is joined to each row.
        bare: With joins, the columns that were written without a table in front.
    """

    table: str
    columns: tuple[tuple[str, Node], ...]
    star: bool
    where: Node | None
    joins: tuple[SelectJoin, ...] = ()
    bare: tuple[str, ...] = ()


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
    if select.args.get("from_") is None:
        raise InvalidExpressionError("FROM is missing; write FROM and the source's name")
    table, name = table_name(select.args["from_"].this, "FROM")
    joins = read_joins(select.args.get("joins") or (), name)
    where = select.args.get("where")
    if len(select.expressions) > MAX_COLUMNS:
        raise InvalidExpressionError(f"it selects more than {MAX_COLUMNS:,} columns")
    tables = _Tables(name, frozenset(join.name for join in joins))
    return Select(
        table=table,
        star=any(map(tables.is_star, select.expressions)),
        columns=tuple(_columns(select.expressions, tables)),
        where=None if where is None else tables.read(where.this),
        joins=joins,
        bare=tuple(tables.bare) if joins else (),
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
    "laterals": f"LATERAL is a subquery, and {_ONE_ROW}",
    "pivots": f"PIVOT collects rows, and {_ONE_ROW}",
}
_KEPT: Final = frozenset({"expressions", "from_", "where", "joins"})


def _check_clauses(select: Any) -> None:
    for clause, value in select.args.items():
        if value and clause not in _KEPT:
            name = clause.strip("_").upper()
            raise InvalidExpressionError(
                _REFUSED.get(clause, f"{name} is not allowed in a transform")
            )


class _Tables:
    """The tables of a SELECT, by the names that stand in front of their columns.

    Attributes:
        bare: Columns that were read without a table in front, each once, as keys.
    """

    def __init__(self, first: str, joined: frozenset[str]) -> None:
        self._first = first
        self._joined = joined
        self.bare: dict[str, None] = {}

    def read(self, node: Any) -> Node:
        """Return an expression over the columns of these tables."""
        return with_columns(read_expression(node), self._column)

    def is_star(self, node: Any) -> bool:
        """Whether a node stands for all columns of the first table."""
        kind = type(node).__name__
        if kind == "Column" and type(node.this).__name__ == "Star":
            return self._is_first(node)
        if kind != "Star":
            return False
        if self._joined:
            raise InvalidExpressionError(
                f"* means the columns of joined tables as well; write {self._first}.*"
            )
        if any(node.args.values()):
            raise _more_than_star(node)
        return True

    def _is_first(self, node: Any) -> bool:
        if not self._joined:
            raise InvalidExpressionError(f"write * for {shown(node)}")
        if node.table != self._first:
            raise InvalidExpressionError(f"list the columns that you want of {shown(node)}")
        if any(node.this.args.values()):
            raise _more_than_star(node)
        return True

    def _column(self, column: Column) -> Column:
        if column.source is None:
            self.bare.setdefault(column.name)
            return column
        if column.source in self._joined:
            return column
        if column.source != self._first:
            raise InvalidExpressionError(
                f"{column} is of no table in FROM; write {column.name!r} alone"
            )
        return Column(column.name)


def _more_than_star(node: Any) -> InvalidExpressionError:
    return InvalidExpressionError(
        f"{shown(node)} says more than *; a column that is listed beside * takes the place of the"
        " source's"
    )


def _columns(nodes: Any, tables: _Tables) -> Iterator[tuple[str, Node]]:
    for node in nodes:
        if tables.is_star(node):
            continue
        is_named = type(node).__name__ == "Alias"
        found = tables.read(node.this if is_named else node)
        if is_named:
            yield node.alias, found
        elif isinstance(found, Column):
            yield found.name, found
        else:
            raise InvalidExpressionError(f"{shown(node)} has no name; write AS and one behind it")

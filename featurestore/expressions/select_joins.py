"""The joins of a row-level SELECT: to one row of another table at most, found by equal columns.

Only two forms are read, each of which leaves a row as it is or (without LEFT) leaves it out: a
lookup by key, and the newest row as of the row's own time. No text of a join is ever run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.syntax import shown

MAX_JOINS: Final = 32
MAX_KEYS: Final = 16
"""Equal columns of one join."""

_FORMS: Final = (
    "write LEFT JOIN merchants ON payments.merchant_id = merchants.id for a static source, or"
    " ASOF LEFT JOIN rates ON payments.currency = rates.currency AND payments.paid_at >="
    " rates.quoted_at"
)
_REFUSED: Final = {
    "RIGHT": "RIGHT JOIN makes rows that the view's source does not have",
    "FULL": "FULL JOIN makes rows that the view's source does not have",
    "CROSS": "CROSS JOIN makes several rows of one",
    "SEMI": "SEMI JOIN is not supported; JOIN leaves out rows without a partner",
    "ANTI": "ANTI JOIN is not supported; LEFT JOIN, and WHERE asks whether a column is null",
    "NATURAL": "NATURAL JOIN depends on what columns files happen to have; write ON",
    "POSITIONAL": "POSITIONAL JOIN depends on the order of rows",
}


@dataclass(frozen=True, slots=True)
class SelectJoin:
    """One JOIN.

    Attributes:
        table: The table, as it was written.
        name: What its columns are called by: its alias, or the table.
        keys: Pairs of columns that are equal: of the table in FROM, and of this one.
        times: For ASOF the pair of times, of which the first is not before the second; else None.
        inner: Whether rows without a partner are left out.
    """

    table: str
    name: str
    keys: tuple[tuple[str, str], ...]
    times: tuple[str, str] | None
    inner: bool


def read_joins(nodes: Sequence[Any], first: str) -> tuple[SelectJoin, ...]:
    """Return what JOINs mean.

    Args:
        nodes: sqlglot's.
        first: What the columns of the table in FROM are called by.

    Raises:
        InvalidExpressionError: A form that is not read, by its name.
    """
    if len(nodes) > MAX_JOINS:
        raise InvalidExpressionError(f"it has {len(nodes)} joins; {MAX_JOINS} are the limit")
    joins: list[SelectJoin] = []
    for node in nodes:
        joins.append(_join(node, first, [join.name for join in joins]))
    return tuple(joins)


def table_name(node: Any, where: str) -> tuple[str, str]:
    """Return the name of a plain table, and what its columns are called by.

    Raises:
        InvalidExpressionError: It is none.
    """
    problem = f"{where} takes the source's name, not {shown(node)}"
    if type(node).__name__ != "Table" or type(node.this).__name__ != "Identifier":
        raise InvalidExpressionError(problem)
    if node.args.get("sample"):
        raise InvalidExpressionError("a sample depends on chance")
    alias = node.args.get("alias")
    extra = [key for key, value in node.args.items() if value and key not in ("this", "alias")]
    if extra or (alias is not None and alias.args.get("columns")):
        raise InvalidExpressionError(problem)
    return node.name, node.alias or node.name


def _join(node: Any, first: str, earlier: Sequence[str]) -> SelectJoin:
    words = [str(node.args.get(part) or "") for part in ("method", "side", "kind")]
    method, side, kind = words
    for word in words:
        if word in _REFUSED:
            raise InvalidExpressionError(_REFUSED[word])
    if method not in ("", "ASOF") or side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER"):
        raise InvalidExpressionError(f"{' '.join(filter(None, words))} JOIN is not supported")
    if node.args.get("using"):
        raise InvalidExpressionError(f"USING is not supported; {_FORMS}")
    table, name = table_name(node.this, "JOIN")
    if node.args.get("on") is None:
        raise InvalidExpressionError(
            f"{shown(node.this)} is joined without ON, which makes several rows of one; {_FORMS}"
        )
    if name.casefold() in (taken.casefold() for taken in (first, *earlier)):
        raise InvalidExpressionError(
            f"two tables are called {name!r}; give one another name with AS"
        )
    sides = _Sides(first, name, earlier)
    keys: list[tuple[str, str]] = []
    times: list[tuple[str, str]] = []
    for condition in _conditions(node.args["on"]):
        pair, is_time = sides.pair(condition)
        (times if is_time else keys).append(pair)
    _check_form(name, keys, times, is_as_of=method == "ASOF")
    return SelectJoin(table, name, tuple(keys), times[0] if times else None, side != "LEFT")


def _check_form(name: str, keys: Sequence[Any], times: Sequence[Any], *, is_as_of: bool) -> None:
    if len(keys) > MAX_KEYS:
        raise InvalidExpressionError(f"{name!r} is joined by more than {MAX_KEYS} columns")
    if is_as_of and len(times) != 1:
        raise InvalidExpressionError(
            f"ASOF JOIN {name} takes one >= between the times of both tables, not {len(times)}"
        )
    if not is_as_of and times:
        raise InvalidExpressionError(f"JOIN {name} finds a row by equal columns alone; {_FORMS}")
    if not is_as_of and not keys:
        raise InvalidExpressionError(f"JOIN {name} names no equal columns; {_FORMS}")


def _conditions(node: Any) -> Iterator[Any]:
    """Yield the parts of a conjunction."""
    waiting = [node]
    while waiting:
        node = waiting.pop(0)
        kind = type(node).__name__
        if kind == "Paren":
            waiting.insert(0, node.this)
        elif kind == "And":
            waiting[:0] = [node.this, node.expression]
        else:
            yield node


@dataclass(frozen=True, slots=True)
class _Sides:
    """The two tables of a join, by the names that stand in front of their columns."""

    first: str
    joined: str
    earlier: Sequence[str]

    def pair(self, node: Any) -> tuple[tuple[str, str], bool]:
        """Return a condition's columns, that of FROM first, and whether it compares times."""
        kind = type(node).__name__
        if kind not in ("EQ", "GTE", "LTE"):
            raise InvalidExpressionError(
                f"ON takes columns that are equal, joined by AND, not {shown(node)}; filter with"
                " WHERE"
            )
        found = {}
        for part in (node.this, node.expression):
            found[self._table(part, node)] = part.name
        if len(found) != 2:  # noqa: PLR2004 - a column of each table
            raise InvalidExpressionError(
                f"{shown(node)} compares columns of one table; ON takes one of {self.first!r} and"
                f" one of {self.joined!r}"
            )
        left_is_first = node.this.table == self.first
        if kind != "EQ" and (kind == "GTE") != left_is_first:
            raise InvalidExpressionError(
                f"{shown(node)} looks into the future: the time of {self.first!r} has to be >= that"
                f" of {self.joined!r}"
            )
        return (found[self.first], found[self.joined]), kind != "EQ"

    def _table(self, node: Any, condition: Any) -> str:
        if type(node).__name__ != "Column" or type(node.this).__name__ != "Identifier":
            raise InvalidExpressionError(
                f"ON compares columns, not {shown(node)}; compute in the SELECT, or in the files"
            )
        table: str = node.table
        if not table:
            raise InvalidExpressionError(
                f"in ON write each column with its table: {self.first}.{node.name} or"
                f" {self.joined}.{node.name} in {shown(condition)}"
            )
        if table in self.earlier:
            raise InvalidExpressionError(
                f"{shown(node)} is of a table that is joined itself; join on columns of"
                f" {self.first!r}"
            )
        if table not in (self.first, self.joined):
            raise InvalidExpressionError(f"{shown(node)} is of no table in FROM")
        return table

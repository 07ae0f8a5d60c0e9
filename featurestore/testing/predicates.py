"""Predicates of `where=`, for the oracle: a small part of SQL, read and decided row by row.

Comparisons of columns with literals or columns, `IS NULL`, `IS NOT NULL`, `NOT`, `AND`, `OR` and
parentheses; literals are numbers, 'texts', TRUE, FALSE and NULL; a column that is no plain word
stands in double quotes. Logic has three values, of which null is Python's None. NaN equals NaN and
is greater than every other number, as in DuckDB.
"""

import math
import re
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from featurestore.testing.plain import Row

Expression = Callable[[Row], Any]
"""Row -> value; of a condition True, False or None."""

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?)|(?P<text>'(?:[^']|'')*')|(?P<quoted>"(?:[^"]|"")*")
    |(?P<word>[A-Za-z_]\w*)|(?P<sign><>|!=|<=|>=|[=<>()]))""",
    re.VERBOSE,
)
_LITERALS: Final[dict[str, object]] = {"TRUE": True, "FALSE": False, "NULL": None}
_COMPARE: Final[dict[str, Callable[[int], bool]]] = {
    "=": lambda order: order == 0,
    "<>": lambda order: order != 0,
    "!=": lambda order: order != 0,
    "<": lambda order: order < 0,
    "<=": lambda order: order <= 0,
    ">": lambda order: order > 0,
    ">=": lambda order: order >= 0,
}


def holds(predicate: str | None, row: Row) -> bool:
    """Whether a row counts: the predicate is true of it, neither false nor null.

    Raises:
        ValueError: The predicate is beyond what is understood here.
    """
    return predicate is None or parse_predicate(predicate)(row) is True


@lru_cache(maxsize=256)
def parse_predicate(text: str) -> Expression:
    """Return a predicate as a function of a row.

    Raises:
        ValueError: It is beyond what is understood here.
    """
    parser = _Parser(text)
    expression = parser.disjunction()
    parser.finish()
    return expression


class _Parser:
    """Reads a predicate from left to right; each method takes what it is named after."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        rest = text.rstrip()
        at = 0
        while at < len(rest):
            match = _TOKEN.match(rest, at)
            if match is None:
                raise ValueError(f"{text!r} cannot be read from {rest[at:]!r} on")
            assert match.lastgroup is not None
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()

    def finish(self) -> None:
        if self.tokens:
            raise ValueError(f"{self.text!r} goes on with {self.tokens[0][1]!r}")

    def took(self, *words: str) -> bool:
        """Take these words or signs if they come next."""
        coming = [
            token.upper() if kind in ("word", "sign") else ""
            for kind, token in self.tokens[: len(words)]
        ]
        if coming != list(words):
            return False
        del self.tokens[: len(words)]
        return True

    def disjunction(self) -> Expression:
        found = self.conjunction()
        while self.took("OR"):
            found = _either(found, self.conjunction())
        return found

    def conjunction(self) -> Expression:
        found = self.negation()
        while self.took("AND"):
            found = _both(found, self.negation())
        return found

    def negation(self) -> Expression:
        return _opposite(self.negation()) if self.took("NOT") else self.comparison()

    def comparison(self) -> Expression:
        if self.took("("):
            found = self.disjunction()
            if not self.took(")"):
                raise ValueError(f"{self.text!r} lacks a parenthesis")
            return found
        left = self.operand()
        if self.took("IS", "NOT", "NULL"):
            return lambda row: left(row) is not None
        if self.took("IS", "NULL"):
            return lambda row: left(row) is None
        for sign in _COMPARE:
            if self.took(sign):
                return _compared(left, sign, self.operand())
        return left

    def operand(self) -> Expression:
        if not self.tokens:
            raise ValueError(f"{self.text!r} ends too early")
        kind, token = self.tokens.pop(0)
        if kind == "number":
            return _constant(Decimal(token) if "." in token else int(token))
        if kind == "text":
            return _constant(token[1:-1].replace("''", "'"))
        if kind == "quoted":
            return _column(token[1:-1].replace('""', '"'))
        if kind == "word":
            upper = token.upper()
            return _constant(_LITERALS[upper]) if upper in _LITERALS else _column(token)
        raise ValueError(f"{self.text!r} has {token!r} where a value is expected")


def _constant(value: object) -> Expression:
    return lambda _: value


def _column(name: str) -> Expression:
    return lambda row: row[name]


def _compared(left: Expression, sign: str, right: Expression) -> Expression:
    def compare(row: Row) -> bool | None:
        a, b = left(row), right(row)
        return None if a is None or b is None else _COMPARE[sign](_order(a, b))

    return compare


def _order(a: Any, b: Any) -> int:
    a_is_nan = isinstance(a, float) and math.isnan(a)
    b_is_nan = isinstance(b, float) and math.isnan(b)
    if a_is_nan or b_is_nan:
        return a_is_nan - b_is_nan
    return int(a > b) - int(a < b)


def _opposite(found: Expression) -> Expression:
    def negate(row: Row) -> bool | None:
        value = found(row)
        return None if value is None else not value

    return negate


def _both(left: Expression, right: Expression) -> Expression:
    def conjoin(row: Row) -> bool | None:
        values = (left(row), right(row))
        if False in values:
            return False
        return None if None in values else True

    return conjoin


def _either(left: Expression, right: Expression) -> Expression:
    def disjoin(row: Row) -> bool | None:
        values = (left(row), right(row))
        if True in values:
            return True
        return None if None in values else False

    return disjoin

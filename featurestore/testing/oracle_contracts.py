"""Rules of contracts in the plainest way: Python's own comparisons, one row at a time."""

import math
import re
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from featurestore.definitions.contract import (
    InRange,
    Matches,
    NotNull,
    OneOf,
    RowRule,
    Rule,
    Sql,
    hiding,
)
from featurestore.testing.plain import Row
from featurestore.testing.predicates import parse_predicate
from featurestore.time import parse_instant


def keeps(rule: RowRule, row: Row) -> bool:
    """Whether a row keeps a rule: a null breaks none but `NotNull`, and NaN lies in no range."""
    if isinstance(rule, Sql):
        return parse_predicate(rule.expression)(row) is not False
    (name,) = rule.columns
    value: Any = row[name]
    if isinstance(rule, NotNull) or value is None:
        return value is not None or not isinstance(rule, NotNull)
    if isinstance(rule, Matches):
        # Python's classes are Unicode's, and RE2's are not.
        return re.fullmatch(rule.pattern, str(value), re.ASCII) is not None
    if isinstance(value, float) and math.isnan(value):
        return False
    if isinstance(rule, OneOf):
        return any(_like(value, constant) == value for constant in rule.values)
    assert isinstance(rule, InRange)
    above = rule.min is None or _like(value, rule.min) <= value
    return above and (rule.max is None or value <= _like(value, rule.max))


def _like(value: Any, constant: Any) -> Any:
    """Return what a constant of a rule means beside a value."""
    if isinstance(value, datetime):
        return parse_instant(str(constant))
    return date.fromisoformat(str(constant)) if isinstance(value, date) else constant


def is_hidden(rules: Iterable[Rule], row: Row) -> bool:
    """Whether a rule leaves a row out of everything."""
    return not all(keeps(rule, row) for rule in hiding(rules))

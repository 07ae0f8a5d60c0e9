"""What an expression may use: the allow-list, with what each function takes and gives."""

from dataclasses import dataclass
from typing import Final

from featurestore.expressions import rules
from featurestore.expressions.rules import Rule

_MANY: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Function:
    """An operator or function.

    Attributes:
        rule: From typed arguments to a typed node.
        counts: Least and greatest number of arguments, without the option.
        option_at: Position of the first written argument that is an option; None without one.
        options: How many may be.
        callable: Whether it is written as a call; operators are not.
    """

    rule: Rule
    counts: tuple[int, int] = (1, 1)
    option_at: int | None = None
    options: int = 1
    callable: bool = True


def _operators(rule: Rule, *names: str, count: int = 2) -> dict[str, Function]:
    return {name: Function(rule, (count, count), callable=False) for name in names}


def _calls(rule: Rule, *names: str, least: int = 1, most: int = 1) -> dict[str, Function]:
    return {name: Function(rule, (least, most)) for name in names}


FUNCTIONS: Final[dict[str, Function]] = {
    **_operators(rules.plus_minus, "+", "-"),
    **_operators(rules.arithmetic, "*", "%"),
    **_operators(rules.division, "/"),
    **_operators(rules.whole_division, "//"),
    **_operators(rules.negation, "negate", count=1),
    **_operators(rules.comparison, "=", "<>", "<", "<=", ">", ">="),
    **_operators(rules.comparison, "is distinct from", "is not distinct from"),
    **_operators(rules.logic, "and", "or"),
    **_operators(rules.logic, "not", count=1),
    **_operators(rules.null_test, "is null", count=1),
    **_operators(rules.between, "between", count=3),
    "in": Function(rules.comparison, (2, _MANY), callable=False),
    "case": Function(rules.case, (3, _MANY), callable=False),
    "cast": Function(rules.cast, callable=False),
    "try_cast": Function(rules.cast, callable=False),
    "like": Function(rules.text_test, callable=False),
    "matches": Function(rules.text_test, callable=False),  # of contracts: no text becomes it
    "||": Function(rules.text_to_text, (2, 2), callable=False),
    "if": Function(rules.case, (2, 3)),
    **_calls(rules.same_type, "coalesce", "greatest", "least", most=_MANY),
    **_calls(rules.nullif, "nullif", least=2, most=2),
    **_calls(rules.absolute, "abs"),
    **_calls(rules.sign, "sign"),
    **_calls(rules.rounding, "floor", "ceil"),
    "round": Function(rules.rounding, option_at=1),
    **_calls(rules.as_float64, "sqrt", "exp", "ln", "log10", "log2", "sin", "cos"),
    **_calls(rules.as_float64, "power", least=2, most=2),
    **_calls(rules.constant_pi, "pi", least=0, most=0),
    **_calls(rules.float_test, "isnan", "isinf", "isfinite"),
    **_calls(rules.text_to_text, "lower", "upper"),
    **_calls(rules.text_to_text, "concat", most=_MANY),
    **_calls(rules.text_to_text, "replace", least=3, most=3),
    "trim": Function(rules.text_to_text, option_at=1),
    "ltrim": Function(rules.text_to_text, option_at=1),
    "rtrim": Function(rules.text_to_text, option_at=1),
    "left": Function(rules.slice_of_text, option_at=1),
    "right": Function(rules.slice_of_text, option_at=1),
    "substr": Function(rules.slice_of_text, option_at=1, options=2),
    **_calls(rules.text_to_int, "length"),
    **_calls(rules.text_to_int, "strpos", least=2, most=2),
    **_calls(rules.text_test, "starts_with", "ends_with", "contains", least=2, most=2),
    "date_part": Function(rules.date_part, option_at=0),
    "date_trunc": Function(rules.date_trunc, option_at=0),
    "date_diff": Function(rules.date_diff, (2, 2), option_at=0),
    **_calls(rules.epoch, "epoch", "epoch_ms", "epoch_us"),
}

ALIASES: Final[dict[str, str]] = {
    "pow": "power",
    "ceiling": "ceil",
    "ifnull": "coalesce",
    "log": "log10",
    "mod": "%",
    "lcase": "lower",
    "ucase": "upper",
    "len": "length",
    "char_length": "length",
    "substring": "substr",
    "prefix": "starts_with",
    "suffix": "ends_with",
    "instr": "strpos",
    "datepart": "date_part",
    "datetrunc": "date_trunc",
    "datediff": "date_diff",
}
"""Other names under which DuckDB knows the same functions."""

PARTS: Final[dict[str, str]] = {
    "year": "year",
    "quarter": "quarter",
    "month": "month",
    "week": "week",
    "day": "day",
    "dayofyear": "dayofyear",
    "dayofweek": "dayofweek",
    "isodow": "isodow",
    "hour": "hour",
    "minute": "minute",
    "second": "second",
    "millisecond": "millisecond",
    "microsecond": "microsecond",
    "doy": "dayofyear",
    "dow": "dayofweek",
    "weekday": "dayofweek",
    "weekofyear": "week",
    "dayofmonth": "day",
}
"""Parts of a date and their other names; each but doy and dow is a function of its own, too."""

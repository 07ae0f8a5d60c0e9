"""Contracts: rules that the rows of a source, or of a view behind its transform, have to keep.

A rule about rows is an expression over one row (`RowRule.passes`); a null never breaks one, as in a
SQL CHECK, but for `NotNull`. `Unique`, `Fresh` and `RowCount` are about all rows together.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from functools import reduce
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, cast, get_args

import pyarrow as pa
import pydantic
from pydantic import AfterValidator, BeforeValidator

from featurestore.definitions.aggregation import Tree
from featurestore.definitions.base import Document, Duration, Model, in_order
from featurestore.definitions.constants import literal_of, meant, read_constant
from featurestore.definitions.names import ColumnName, check_distinct, check_text
from featurestore.errors import shown
from featurestore.expressions.check import columns_of
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Call, Column, Node
from featurestore.expressions.tree import Literal as LiteralNode

MAX_RULES: Final = 60
"""Rules of one contract."""
MAX_VALUES: Final = 500
"""Values of one `OneOf`."""
MAX_PATTERN: Final = 1_000
"""Characters of a pattern."""
MAX_RULE_NAME: Final = 300
MAX_AGE: Final = timedelta(days=36_500)

Policy = Literal["warn", "quarantine", "fail"]
"""What a broken rule does: it is told; its rows are left out everywhere; or the check fails."""
POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)
TypeOf = Callable[[str], pa.DataType]
"""Column -> its type."""


def _check_rule_name(name: str) -> str:
    if not 1 <= len(name) <= MAX_RULE_NAME or not name.isprintable():
        raise ValueError(
            f"{shown(name)} cannot name a rule: it takes 1 to 300 printable characters"
        )
    return check_text(name)


RuleName = Annotated[str, AfterValidator(_check_rule_name)]


class Rule(Model):
    """What has to hold.

    Attributes:
        name: Unique within its contract; made of the columns and the kind when left out.
        policy: What happens when it does not hold: "warn" tells it; "fail" ends what asked for the
            check; "quarantine" leaves the rows that break it out of everything that is made of the
            source or view, as a transform's WHERE does, and a check writes them to a file.
    """

    is_about_rows: ClassVar[bool] = False

    name: RuleName = ""
    policy: Policy = "fail"

    def model_post_init(self, _context: Any, /) -> None:
        """Give the rule a name, and refuse what it cannot do."""
        if not self.name:
            name = "".join(c if c.isprintable() else "_" for c in self._default_name())
            object.__setattr__(self, "name", _check_rule_name(name))
        if self.policy == "quarantine" and not self.is_about_rows:
            raise ValueError(
                f"rule {shown(self.name)} is about all rows together, and cannot tell which to"
                " leave out; its policy is 'warn' or 'fail'"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it looks at."""
        return ()

    @property
    def kind(self) -> str:
        """What kind of rule it is: "not_null", "in_range" and so on."""
        return str(type(self).model_fields["rule"].default)

    def _default_name(self) -> str:
        return self.kind

    @property
    def text(self) -> str:
        """What it says, for people."""
        raise NotImplementedError


class RowRule(Rule):
    """A rule that one row alone keeps or breaks."""

    is_about_rows: ClassVar[bool] = True

    def passes(self, type_of: TypeOf) -> Node:
        """Return the predicate of the rows that keep it: true or null.

        Args:
            type_of: Column -> the type in which it is compared.

        Raises:
            ValueError: It does not go with the types.
        """
        raise NotImplementedError

    def meaning(self) -> Document:
        """Return what decides which rows break it, as JSON-ready data."""
        return self.model_dump(mode="json", exclude={"name", "policy"})


class _ColumnRule(RowRule):
    column: ColumnName

    @property
    def columns(self) -> tuple[str, ...]:
        """The column."""
        return (self.column,)

    def _default_name(self) -> str:
        return f"{self.column}_{super()._default_name()}"


class NotNull(_ColumnRule):
    """No value is null."""

    rule: Literal["not_null"] = "not_null"

    def __init__(self, column: str, **data: Any) -> None:
        Model.__init__(self, column=column, **data)

    def passes(self, type_of: TypeOf) -> Node:
        """Return that the value is there."""
        del type_of
        return Call("not", (Call("is null", (Column(self.column),)),))

    @property
    def text(self) -> str:
        """What it says."""
        return f"{self.column} is not null"


Bound = Annotated[
    Any, BeforeValidator(lambda value: None if value is None else read_constant(value))
]


class InRange(_ColumnRule):
    """Every value lies between two bounds, which belong to the range. NaN lies in no range.

    Attributes:
        column: Of numbers, texts, dates or times. A decimal is compared as a float64.
        min: The least value; None for no such bound.
        max: The greatest value; None for no such bound.
    """

    rule: Literal["in_range"] = "in_range"
    min: Bound = None
    max: Bound = None

    def __init__(
        self,
        column: str,
        min: float | str | date | datetime | None = None,  # noqa: A002 - what the field says
        max: float | str | date | datetime | None = None,  # noqa: A002
        **data: Any,
    ) -> None:
        Model.__init__(self, column=column, min=min, max=max, **data)

    def model_post_init(self, context: Any, /) -> None:
        """Refuse a range without bounds, or with bounds that cross."""
        super().model_post_init(context)
        if self.min is None and self.max is None:
            raise ValueError(f"the range of {shown(self.column)} has neither min nor max")
        if isinstance(self.min, bool) or isinstance(self.max, bool):
            raise ValueError("a bool is no bound; use OneOf")  # noqa: TRY004 - pydantic reports it
        both = (self.min, self.max)
        if all(isinstance(v, int | float) for v in both) and self.min > self.max:
            raise ValueError(f"min={self.min!r} is greater than max={self.max!r}")

    def meaning(self) -> Document:
        """Return the bounds, however they are written."""
        return super().meaning() | {"min": meant(self.min), "max": meant(self.max)}

    def passes(self, type_of: TypeOf) -> Node:
        """Return that the value is within the bounds."""
        column, dtype = Column(self.column), type_of(self.column)
        bounds = {">=": self.min, "<=": self.max}
        parts: list[Node] = [
            Call(sign, (column, literal_of(bound, dtype)))
            for sign, bound in bounds.items()
            if bound is not None
        ]
        if pa.types.is_floating(dtype):  # NaN is greater than everything: only max would find it
            parts.append(Call("not", (Call("isnan", (column,)),)))
        return all_of(parts)

    @property
    def text(self) -> str:
        """What it says."""
        least = "" if self.min is None else f"{self.min} <= "
        return f"{least}{self.column}{'' if self.max is None else f' <= {self.max}'}"


def _read_values(values: object) -> object:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError("values is a list")  # noqa: TRY004 - pydantic reports this
    found = tuple(map(read_constant, values))
    if not 1 <= len(found) <= MAX_VALUES:
        raise ValueError(f"a rule lists 1 to {MAX_VALUES} values, not {len(found):,}")
    if len({(type(v), v) for v in found}) < len(found):
        raise ValueError("a value is listed twice")
    return found


class OneOf(_ColumnRule):
    """Every value is one of a list.

    Attributes:
        column: Of numbers, texts, bools, dates or times.
        values: At most 500 of them; NULL is none, and passes anyway.
    """

    rule: Literal["one_of"] = "one_of"
    values: Annotated[tuple[Any, ...], BeforeValidator(_read_values)]

    def __init__(self, column: str, values: Sequence[object], **data: Any) -> None:
        Model.__init__(self, column=column, values=values, **data)

    def meaning(self) -> Document:
        """Return the values in no order of theirs, however they are written."""
        return super().meaning() | {"values": in_order(map(meant, self.values))}

    def passes(self, type_of: TypeOf) -> Node:
        """Return that the value is listed."""
        dtype = type_of(self.column)
        values = tuple(literal_of(value, dtype) for value in self.values)
        return Call("in", (Column(self.column), *values))

    @property
    def text(self) -> str:
        """What it says."""
        values = ", ".join(map(str, self.values))
        return f"{self.column} is one of {values}"


def _check_pattern(pattern: str) -> str:
    import pyarrow.compute as pc

    from featurestore.expressions.texts import whole  # loads the evaluator

    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has at most {MAX_PATTERN:,} characters, not {len(pattern):,}")
    try:
        for each in (pattern, whole(pattern)):  # an open \Q swallows what is put behind it
            pc.match_substring_regex(pa.array([""], pa.string()), pattern=each)
    except (pa.ArrowException, UnicodeEncodeError) as error:
        reason = str(error).removeprefix("Invalid regular expression: ")
        raise ValueError(
            f"{shown(pattern)} is no pattern ({reason[:200]}); it has RE2's syntax, without"
            " look-arounds and references back, so that no text takes it long"
        ) from None
    return pattern


class Matches(_ColumnRule):
    """Every text matches a regular expression as a whole.

    Attributes:
        column: Of texts.
        pattern: In RE2's syntax, whose time is linear in the text's length; `.` is no line break.
    """

    rule: Literal["matches"] = "matches"
    pattern: Annotated[str, AfterValidator(_check_pattern)]

    def __init__(self, column: str, pattern: str, **data: Any) -> None:
        Model.__init__(self, column=column, pattern=pattern, **data)

    def passes(self, type_of: TypeOf) -> Node:
        """Return that the text matches."""
        del type_of
        return Call("matches", (Column(self.column),), self.pattern)

    @property
    def text(self) -> str:
        """What it says."""
        return f"{self.column} matches {self.pattern}"


class Sql(RowRule):
    """An expression over the row is true, in the SQL of on-demand features.

    Attributes:
        expression: A predicate; null passes.
        tree: What it means; it is parsed once, when the rule is defined.
    """

    rule: Literal["sql"] = "sql"
    expression: str
    tree: Tree | None = None

    def __init__(self, name: str, expression: str, **data: Any) -> None:
        Model.__init__(self, name=name, expression=expression, **data)

    def model_post_init(self, context: Any, /) -> None:
        """Read the expression."""
        super().model_post_init(context)
        if self.tree is None:
            object.__setattr__(self, "tree", _parsed(self.expression))
        found = columns_of(self.predicate)
        if not found:
            raise ValueError(f"{shown(self.expression)} names no column")
        if (column := next((c for c in found if c.source is not None), None)) is not None:
            raise ValueError(f"{shown(self.expression)}: write {column.name!r} alone")

    @property
    def predicate(self) -> Node:
        """What the expression means."""
        tree: Node = cast("Any", self.tree)
        return tree

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the expression."""
        return tuple(column.name for column in columns_of(self.predicate))

    def passes(self, type_of: TypeOf) -> Node:
        """Return the expression."""
        del type_of
        return self.predicate

    def meaning(self) -> Document:
        """Return what the expression means, however it is written."""
        return self.model_dump(mode="json", include={"rule", "tree"})

    @property
    def text(self) -> str:
        """What it says."""
        return " ".join(self.expression.split())


def _parsed(text: str) -> Node:
    from featurestore.expressions.parse import parse_expression  # loads sqlglot

    try:
        return parse_expression(text)
    except InvalidExpressionError as error:
        raise ValueError(f"{shown(text)}: {error}") from None


def _listed(names: object) -> object:
    return (names,) if isinstance(names, str) else names


class Unique(Rule):
    """No two rows share a value, or all values of several columns.

    A row with a null in one of them is like no other. Of rows that are alike, all but the first
    break the rule, in the order of files and rows.

    Attributes:
        key: The columns: of any type but floats and lists.
    """

    rule: Literal["unique"] = "unique"
    key: Annotated[tuple[ColumnName, ...], BeforeValidator(_listed)]

    def __init__(self, *columns: str, **data: Any) -> None:
        Model.__init__(self, **({"key": columns} if columns else {}), **data)

    def model_post_init(self, context: Any, /) -> None:
        """Refuse no column, and one twice."""
        if not self.key:
            raise ValueError("a unique rule names a column")
        check_distinct(self.key, "column")
        super().model_post_init(context)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns."""
        return self.key

    def _default_name(self) -> str:
        return f"{'_'.join(self.key)[: MAX_RULE_NAME // 2]}_unique"

    @property
    def text(self) -> str:
        """What it says."""
        return f"{', '.join(self.key)} unique"


def _check_age(age: timedelta) -> timedelta:
    if not timedelta(0) < age <= MAX_AGE:
        raise ValueError("max_age is longer than zero and at most 36,500 days")
    return age


class Fresh(Rule):
    """The newest event is not older than this; no event at all is not fresh.

    Attributes:
        max_age: The greatest age, such as "2h", by the clock of the repository; where the rows that
            are looked at end before now, as of that end.
    """

    rule: Literal["fresh"] = "fresh"
    max_age: Annotated[Duration, AfterValidator(_check_age)]

    def __init__(self, max_age: timedelta | str, **data: Any) -> None:
        Model.__init__(self, max_age=max_age, **data)

    @property
    def text(self) -> str:
        """What it says."""
        return f"newest event at most {self.model_dump(mode='json')['max_age']} old"


Rows = Annotated[int, pydantic.Field(ge=0, strict=True)]


class RowCount(Rule):
    """There are so many rows.

    Attributes:
        min: At least; None for no such bound.
        max: At most; None for no such bound.
    """

    rule: Literal["row_count"] = "row_count"
    min: Rows | None = None
    max: Rows | None = None

    def model_post_init(self, context: Any, /) -> None:
        """Refuse no bounds, and bounds that cross."""
        super().model_post_init(context)
        if self.min is None and self.max is None:
            raise ValueError("a row count has neither min nor max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min={self.min} is greater than max={self.max}")

    @property
    def text(self) -> str:
        """What it says."""
        least = "" if self.min is None else f"{self.min:,} <= "
        return f"{least}rows{'' if self.max is None else f' <= {self.max:,}'}"


AnyRule = NotNull | InRange | OneOf | Matches | Sql | Unique | Fresh | RowCount


def _read_rules(value: object) -> object:
    if isinstance(value, Rule):
        raise ValueError("contract is a list of rules")  # noqa: TRY004 - pydantic reports this
    return value


def _check_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    if len(rules) > MAX_RULES:
        raise ValueError(f"a contract has at most {MAX_RULES} rules, not {len(rules)}")
    check_distinct([rule.name for rule in rules], "rule")
    return tuple(rules)


Contract: TypeAlias = Annotated[
    Sequence[Annotated[AnyRule, pydantic.Field(discriminator="rule")]],
    BeforeValidator(_read_rules),
    AfterValidator(_check_rules),
]
"""The rules of a source or view, in order."""


def hiding(rules: Iterable[Rule]) -> tuple[RowRule, ...]:
    """Return the rules whose rows are left out of everything."""
    return tuple(r for r in rules if isinstance(r, RowRule) and r.policy == "quarantine")


def hidden_meaning(rules: Iterable[Rule]) -> list[Any]:
    """Return what decides which rows are left out, as JSON-ready data: in whatever order it is."""
    return in_order(rule.meaning() for rule in hiding(rules))


def passing(rule: RowRule, type_of: TypeOf) -> Node:
    """Return the predicate of the rows that keep a rule, which is never null.

    Raises:
        ValueError: See `RowRule.passes`.
    """
    return Call("coalesce", (rule.passes(type_of), LiteralNode(kind="bool", value=True)))


def all_of(parts: Sequence[Node]) -> Node:
    """Return the conjunction of one or more predicates."""
    return reduce(lambda a, b: Call("and", (a, b)), parts)

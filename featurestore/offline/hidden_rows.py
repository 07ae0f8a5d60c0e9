"""Rules whose rows are left out of everything, as a filter of a scan; and all rules against types.

The predicate is over the source's columns, so that engines filter by it as by a transform's WHERE.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.contract import (
    NotNull,
    RowRule,
    Rule,
    TypeOf,
    Unique,
    all_of,
    hiding,
    passing,
)
from featurestore.errors import DefinitionError, shown
from featurestore.expressions.check import typed
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Call, Column, Node, with_columns
from featurestore.expressions.typed import INPUT_TYPES
from featurestore.offline.column_types import (
    column_type,
    computed_type,
    input_type,
    row_type,
)
from featurestore.offline.files import SourceFile
from featurestore.offline.view_files import ViewFiles
from featurestore.types import Float64, Timestamp, type_name

MAX_SHOWN_RULES: Final = 5
_CHECKED_ONLY: Final = "choose the policy 'warn' or 'fail', or store a column of another type"


def view_filter(view: FeatureView, files: ViewFiles) -> Node | None:
    """Return the predicate of the rows that no rule of a view or its source leaves out.

    Returns:
        A tree over the columns of the source and of joined ones; None if no rule leaves rows out.

    Raises:
        DefinitionError: A rule does not go with the types of its columns.
        SourceSchemaError: The source does not have a column.
    """

    def behind(column: Column) -> Node:
        tree = view.row_column(column.name) or Column(column.name)
        found = (
            input_type(view, files, tree)
            if isinstance(tree, Column)
            else computed_type(view, files, column.name, tree)
        )
        wanted = view_column_type(view, files, column.name)
        return tree if found == wanted else Call("cast", (tree,), type_name(wanted))

    def type_of(name: str) -> pa.DataType:
        return view_column_type(view, files, name)

    own = (with_columns(_passing(view, rule, type_of), behind) for rule in hiding(view.contract))
    parts = [*own, *_of_source(view.source, lambda: files.own)]
    return all_of(parts) if parts else None


def filter_parts(
    view: FeatureView, where: Node | None
) -> tuple[Node | None, tuple[tuple[RowRule, Node], ...]]:
    """Take apart what `all_of` made of a transform's WHERE and `view_filter`.

    Args:
        view: The view.
        where: The filter of its scan.

    Returns:
        The WHERE alone, None without one, and each rule that leaves rows out with its predicate.
    """
    rules = (*hiding(view.contract), *hiding(view.source.contract))
    if where is None or not rules:
        return where, ()
    own, tree, found = None, where, []
    if view.row_transform is not None and view.row_transform.where is not None:
        own, tree = _both(tree)
    for rule in reversed(rules[1:]):
        tree, last = _both(tree)
        found.append((rule, last))
    return own, ((rules[0], tree), *reversed(found))


def _both(tree: Node) -> tuple[Node, Node]:
    assert isinstance(tree, Call)  # noqa: S101 - `all_of` made it
    left, right = tree.args
    return left, right


def source_filter(source: FileSource, files: tuple[SourceFile, ...]) -> Node | None:
    """Return the same of a source alone; raises like `view_filter`."""
    parts = list(_of_source(source, lambda: files))
    return all_of(parts) if parts else None


def filter_name(owner: FeatureView | FileSource) -> str:
    """Return what decides which rows of a view or source there are, for messages."""
    rules = [*hiding(owner.contract)]
    found = []
    if isinstance(owner, FeatureView):
        rules += hiding(owner.source.contract)
        if owner.row_transform is not None and owner.row_transform.where is not None:
            found.append("'WHERE' of the transform")
    names = [shown(rule.name) for rule in rules[:MAX_SHOWN_RULES]]
    if rules:
        more = ", ..." if len(rules) > len(names) else ""
        found.append(f"rule {', '.join(names)}{more} of the contract")
    return " or ".join(found)


def _of_source(source: FileSource, files: Callable[[], tuple[SourceFile, ...]]) -> Iterator[Node]:
    """Yield a predicate for each rule; without one the files are not asked for, as in a push."""
    for rule in hiding(source.contract):
        yield _passing(source, rule, lambda name: column_type(source, files(), name))


def _passing(owner: FeatureView | FileSource, rule: RowRule, type_of: TypeOf) -> Node:
    check_rule(owner, rule, type_of)
    for name in rule.columns:
        if (found := type_name(type_of(name))) not in INPUT_TYPES:
            raise _error(
                owner,
                rule,
                f"{shown(name)} is {found}, and rows cannot be left out by such columns",
                hint=_CHECKED_ONLY,
            )
    return passing(rule, type_of)


def view_column_type(view: FeatureView, files: ViewFiles, name: str) -> pa.DataType:
    """Return the type of a column that rules of a view may be about."""
    if name in (view.source.timestamp_field, view.source.created_timestamp_column):
        return Timestamp
    if (key := view.join_keys.get(name)) is not None:
        return key
    declared = view.declared_type(name)
    return row_type(view, files, name) if declared is None else declared


def compared_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type in which rules compare values: expressions know no decimals."""
    return Float64 if pa.types.is_decimal(dtype) else dtype


def check_rules(
    owner: FeatureView | FileSource, rules: Iterable[Rule], type_of: Callable[[str], pa.DataType]
) -> None:
    """Refuse rules that do not go with the types of their columns.

    Args:
        owner: Whose rules they are.
        rules: The rules.
        type_of: Column -> its type; it raises for one that is not there.

    Raises:
        DefinitionError: It names the rule.
    """
    for rule in rules:
        if isinstance(rule, Unique):
            _check_unique(owner, rule, type_of)
        elif isinstance(rule, RowRule):
            check_rule(owner, rule, type_of)


def _check_unique(owner: FeatureView | FileSource, rule: Unique, type_of: TypeOf) -> None:
    for name in rule.key:
        dtype = type_of(name)
        if pa.types.is_floating(dtype) or pa.types.is_nested(dtype):
            raise _error(owner, rule, f"{shown(name)} is {type_name(dtype)}, which has no equality")


def check_rule(owner: FeatureView | FileSource, rule: RowRule, type_of: TypeOf) -> None:
    """Refuse a rule that does not go with the types of its columns; see `check_rules`."""
    types = {name: type_of(name) for name in rule.columns}
    if isinstance(rule, NotNull):
        return  # of any type

    def compared(name: str) -> pa.DataType:
        return compared_type(types[name])

    try:
        found = typed(rule.passes(compared), lambda c: (0, type_name(compared(c.name)))).dtype
    except (InvalidExpressionError, ValueError) as error:
        raise _error(owner, rule, str(error)) from None
    if found != "bool":
        raise _error(owner, rule, f"it is {found}, and a rule is bool")


def _error(
    owner: FeatureView | FileSource, rule: Rule, reason: str, *, hint: str | None = None
) -> DefinitionError:
    subject = f"{type(owner).__name__} {owner.name!r}: contract, rule {shown(rule.name)}"
    return DefinitionError(f"{subject}: {reason}.", hint=hint)

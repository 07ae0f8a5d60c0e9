"""What a view's contract may be about, and what its rules that leave rows out look at."""

from typing import TYPE_CHECKING

from featurestore.definitions.contract import hiding
from featurestore.errors import close_names, did_you_mean, shown
from featurestore.expressions.check import columns_of
from featurestore.expressions.tree import Column

if TYPE_CHECKING:
    from featurestore.definitions.view import FeatureView


def contract_columns(view: "FeatureView") -> tuple[str, ...]:
    """Return the columns that rules of a view may be about."""
    times = (view.source.timestamp_field, view.source.created_timestamp_column)
    return tuple(dict.fromkeys((*view.join_keys, *(t for t in times if t), *view.row_columns)))


def hidden_by(view: "FeatureView") -> tuple[Column, ...]:
    """Return what rules that leave rows out look at: columns of the source, and of joined ones."""
    own = [name for rule in hiding(view.contract) for name in rule.columns]
    trees = [view.row_column(name) or Column(name) for name in dict.fromkeys(own)]
    of_source = (name for rule in hiding(view.source.contract) for name in rule.columns)
    found = (column for tree in trees for column in columns_of(tree))
    return tuple(dict.fromkeys((*found, *map(Column, of_source))))


def check_view_contract(view: "FeatureView") -> None:
    """Refuse rules about what a view does not have, or by which served rows could be taken back.

    Raises:
        ValueError: It names the rule.
    """
    known = contract_columns(view)
    for rule in view.contract:
        for name in rule.columns:
            if name not in known:
                guess = did_you_mean(close_names(name, known))
                raise ValueError(
                    f"contract: rule {shown(rule.name)} is about {shown(name)}, which is none of"
                    f" the view's columns; {guess or 'a rule on the source may be about it'}"
                )
    joins = () if view.row_transform is None else view.row_transform.joins
    times = {join.name for join in joins if join.times}
    late = {str(column.source) for column in hidden_by(view) if column.source in times}
    if view.online and late:
        raise ValueError(
            f"contract: a rule whose policy is 'quarantine' looks at {shown(min(late))}, which is"
            " joined as of the row's time: a late row of it could take back a row that is served"
            " already; choose another policy, or set online=False"
        )

"""What leaves rows out: a transform's WHERE, its inner joins, the rules of contracts."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.definitions.contract import Rule, hiding
from featurestore.errors import SourceError
from featurestore.expressions.tree import Node
from featurestore.offline.hidden_rows import filter_parts
from featurestore.offline.row_expressions import RowExpressions
from featurestore.offline.row_joins import RowJoins
from featurestore.offline.scan import SourceScan

_WHERE = "the transform's WHERE is not true"


def possible_causes(view: FeatureView) -> tuple[str, ...]:
    """Return all that may leave rows of a view out, for people."""
    transform, found = view.row_transform, []
    if transform is not None and transform.where is not None:
        found.append(_WHERE)
    if (missing := _no_partner(view)) is not None:
        found.append(missing)
    if rules := hiding([*view.contract, *view.source.contract]):
        names = ", ".join(rule.name for rule in rules)
        found.append(f"in quarantine by {'one or more of ' if len(rules) > 1 else ''}{names}")
    return tuple(found)


def cause_of(
    view: FeatureView, scan: SourceScan, joins: RowJoins | None, row: Mapping[str, pa.Array]
) -> str:
    """Return why a row is left out, for people.

    A row that the transform leaves out is not looked at by rules: it is none of the view's.

    Args:
        view: The view.
        scan: Its scan.
        joins: What the scan joins.
        row: Of a row that is left out all that its filter reads; arrays of one.
    """
    where, rules = filter_parts(view, scan.where)

    def passes(part: Node | None) -> bool:
        expressions = RowExpressions(replace(scan, where=part), joins)
        return bool(expressions.passing(row, np.zeros(1, dtype=np.int64))[0])

    if not passes(None):
        return _no_partner(view) or ""
    if where is not None and not passes(where):
        return _WHERE
    broken: list[Rule] = []
    for rule, part in rules:
        try:
            if not passes(part):
                broken.append(rule)
        except SourceError:  # it has no value, which the rules before it excuse
            continue
    return f"in quarantine by {', '.join(rule.name for rule in broken)}"


def _no_partner(view: FeatureView) -> str | None:
    transform = view.row_transform
    found = [] if transform is None else [join for join in transform.joins if join.inner]
    if not found:
        return None
    told = []
    for join in found:
        rules = hiding(view.joined_source(join).contract)
        names = ", ".join(rule.name for rule in rules)
        told.append(f"{join.name} (but for those in quarantine by {names})" if rules else join.name)
    return f"no row of {' or '.join(told)} to join"

"""Rules that compare features with a label: is it among them, or do they say it?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.definitions import Definition, FeatureView
from featurestore.leakage.findings import Finding, subject
from featurestore.training.query import Selection

Found = Iterator[tuple[Definition, Finding]]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

RULE: Final = "label-in-features"
ENOUGH: Final = 50
"""Of fewer rows with label and feature nothing is concluded."""
EQUAL: Final = 0.99
DECIDED: Final = 0.995
"""The share of rows whose label their feature's value, or its order, says."""
REPEATED: Final = 5
"""A value says something if it comes so often on average."""


def named_findings(view: FeatureView, label: str) -> Found:
    """Yield features that have the label's name, or are read from a column of that name."""
    for feature, columns in view.lineage.items():
        names = {feature, *(column.rpartition(".")[2] for column in columns)}
        if label.casefold() in {name.casefold() for name in names}:
            yield (
                view,
                _finding(
                    view,
                    "warning",
                    f"Feature {feature} has the name of the label {label}, or comes from a column"
                    " of that name.",
                    {"feature": feature, "columns": columns},
                ),
            )


def value_findings(
    selection: Selection, names: Sequence[str], columns: Sequence[pa.ChunkedArray], label: pa.Array
) -> Found:
    """Yield features whose values say the label's.

    Args:
        selection: Whose features these are.
        names: Their names.
        columns: Their values.
        label: The label of the same rows.
    """
    view = selection.view
    for name, column in zip(names, columns, strict=True):
        said = _says(column.combine_chunks(), label)
        if said is not None:
            evidence = {"feature": name, said.name: said.figure}
            yield view, _finding(view, "error", f"Feature {name} {said.how}.", evidence)


def _finding(view: Definition, severity: Any, message: str, evidence: dict[str, Any]) -> Finding:
    return Finding(
        rule=RULE,
        severity=severity,
        object=subject(view),
        message=message,
        evidence=evidence,
        advice="leave the feature out, or stamp its rows with when it was known",
    )


def _says(feature: pa.Array, label: pa.Array) -> "_Said | None":
    """Return how a feature says the label, as far as both are known; None if it does not."""
    known = np.asarray(feature.is_valid()) & np.asarray(label.is_valid())
    feature, label = feature.filter(pa.array(known)), label.filter(pa.array(known))
    classes = _numbered(label)
    if len(label) < ENOUGH or classes is None or classes.max() == 0:
        return None  # a label of one value is said by anything
    ways = (_equals(feature, label), _orders(feature, label, classes), _decides(feature, classes))
    return next((said for said in ways if said is not None), None)


@dataclass(frozen=True, slots=True)
class _Said:
    """That a feature says the label: how, for people, and a figure by its name."""

    how: str
    name: str
    figure: float


def _equals(feature: pa.Array, label: pa.Array) -> _Said | None:
    values, numbers = _as_floats(feature), _as_floats(label)
    if values is None or numbers is None:
        return None
    equal = float(np.mean(values == numbers))
    how = f"equals the label in {_per_cent(equal)} of {len(label):,} rows"
    return _Said(how, "equal_share", equal) if equal >= EQUAL else None


def _orders(feature: pa.Array, label: pa.Array, classes: Ints) -> _Said | None:
    values, numbers = _as_floats(feature), _as_floats(label)
    if values is None or numbers is None:
        return None
    order = _order(values, numbers, binary=classes.max() == 1)
    if order is None or order < DECIDED:
        return None
    what = "AUC" if classes.max() == 1 else "rank correlation"
    how = f"rises or falls with the label ({what} {order:.4f} in {len(label):,} rows)"
    return _Said(how, what.replace(" ", "_").lower(), order)


def _decides(feature: pa.Array, classes: Ints) -> _Said | None:
    kinds = _numbered(feature)
    share = None if kinds is None else _decided(kinds, classes)
    if share is None or share < DECIDED:
        return None
    how = f"decides the label in {_per_cent(share)} of {len(classes):,} rows"
    return _Said(how, "decided_share", share)


def _numbered(values: pa.Array) -> Ints | None:
    """Return a number for each value, the same for equal ones; None for what has no equality."""
    if pa.types.is_nested(values.type):
        return None
    encoded = values if pa.types.is_dictionary(values.type) else values.dictionary_encode()
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _as_floats(values: pa.Array) -> Floats | None:
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return None
    found = np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return np.asarray(np.nan_to_num(found))


def _order(feature: Floats, label: Floats, *, binary: bool) -> float | None:
    """Return how well a feature's order tells the label's: AUC, or the rank correlation's size."""
    ranks, others = _ranks(feature), _ranks(label)
    if not np.ptp(ranks) or not np.ptp(others):
        return None
    if binary:
        positive = label == label.max()
        count, rest = int(positive.sum()), int((~positive).sum())
        auc = (ranks[positive].sum() - count * (count + 1) / 2) / (count * rest)
        return float(max(auc, 1 - auc))
    return float(abs(np.corrcoef(ranks, others)[0, 1]))


def _ranks(values: Floats) -> Floats:
    """Return ranks from 1 on, equal values sharing the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])


def _decided(kinds: Ints, classes: Ints) -> float | None:
    """Return in which share of rows a value's commonest label is the row's own.

    None where values seldom come again, or one label is so common that this says nothing.
    """
    rows, values = len(kinds), int(kinds.max()) + 1
    commonest = np.bincount(classes).max() / rows
    if values * REPEATED > rows or commonest > 2 * DECIDED - 1:
        return None
    pairs, counts = np.unique(np.stack([kinds, classes]), axis=1, return_counts=True)
    best = np.zeros(values, dtype=np.int64)
    np.maximum.at(best, pairs[0], counts)
    return float(best.sum() / rows)


def _per_cent(share: float) -> str:
    return f"{100 * share:.4g} %"

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
ORDERED: Final = 0.995
"""AUC or rank correlation from which on a feature's order says the label."""
REMOVED: Final = 0.98
"""The share of errors that a feature spares who would else guess the commonest label.

Not the share of rows it is right about: where one label in a thousand is a fraud, a feature that is
always 0 is right about 99.9 % of them.
"""
REPEATED: Final = 5
"""A value says something, and the rarer labels are worth a look, if they come so often."""
CLASS_ROWS: Final = 20
"""Rows of each of two labels, of fewer of which no order is a sign: chance puts few in order."""


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
    """Return how a feature says the label, where that is known; None if it does not.

    A feature that is missing is not 0: it is compared where it is known, and that it is missing
    may decide the label like any value.
    """
    is_known = np.asarray(label.is_valid())
    if pa.types.is_floating(label.type):
        is_known &= ~np.isnan(_with_nan(label))
    feature, label = feature.filter(pa.array(is_known)), label.filter(pa.array(is_known))
    kinds, classes = _numbered(feature), _numbered(label)
    if classes is None:
        return None
    return _compares(feature, label) or (_decides(kinds, classes) if kinds is not None else None)


@dataclass(frozen=True, slots=True)
class _Said:
    """That a feature says the label: how, for people, and a figure by its name."""

    how: str
    name: str
    figure: float


def _compares(feature: pa.Array, label: pa.Array) -> _Said | None:
    """Return how a number says another, in rows that have both."""
    values, numbers = _as_floats(feature), _as_floats(label)
    if values is None or numbers is None:
        return None
    is_known = ~np.isnan(values)
    values, numbers = values[is_known], numbers[is_known]
    classes = np.unique(numbers, return_inverse=True)[1]
    if not _is_telling(classes):
        return None
    return _equals(values, numbers, classes) or _orders(values, numbers, classes)


def _equals(values: Floats, numbers: Floats, classes: Ints) -> _Said | None:
    equal = float(np.mean(values == numbers))
    if _errors_removed(equal, classes) < REMOVED:
        return None
    return _Said(f"equals the label in {_share_of(equal, classes)}", "equal_share", equal)


def _orders(values: Floats, numbers: Floats, classes: Ints) -> _Said | None:
    is_binary = classes.max() == 1
    if is_binary and np.bincount(classes).min() < CLASS_ROWS:
        return None
    order = _order(values, numbers, binary=is_binary)
    if order is None or order < ORDERED:
        return None
    what = "AUC" if is_binary else "rank correlation"
    how = f"rises or falls with the label ({what} {order:.4f} in {len(numbers):,} rows)"
    return _Said(how, what.replace(" ", "_").lower(), order)


def _decides(kinds: Ints, classes: Ints) -> _Said | None:
    if not _is_telling(classes):
        return None
    share = _decided(kinds, classes)
    if _errors_removed(share, classes) < REMOVED:
        return None
    how = f"decides the label, by its value or by being null, in {_share_of(share, classes)}"
    return _Said(how, "decided_share", share)


def _is_telling(classes: Ints) -> bool:
    """Whether there are enough rows, and enough whose label is not the commonest."""
    return len(classes) >= ENOUGH and len(classes) - np.bincount(classes).max() >= REPEATED


def _commonest(classes: Ints) -> float:
    return float(np.bincount(classes).max() / len(classes))


def _errors_removed(share: float, classes: Ints) -> float:
    """Return which share of the errors of always guessing the commonest label are spared."""
    return 1 - (1 - share) / (1 - _commonest(classes))


def _share_of(share: float, classes: Ints) -> str:
    common = _per_cent(_commonest(classes))
    return f"{_per_cent(share)} of {len(classes):,} rows (the commonest label has {common})"


def _numbered(values: pa.Array) -> Ints | None:
    """Return a number for each value, the same for equal ones; None for what has no equality.

    Null is a value of its own, and so is NaN.
    """
    if pa.types.is_nested(values.type):
        return None
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    encoded = values.dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _as_floats(values: pa.Array) -> Floats | None:
    """Return values as numbers, NaN for null; None for what is no number."""
    kind = values.type
    if pa.types.is_boolean(kind):
        values = values.cast(pa.int8())
    elif pa.types.is_temporal(kind):
        values = values.cast(pa.int32() if kind.bit_width == 32 else pa.int64())  # noqa: PLR2004
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return None
    return _with_nan(values)


def _with_nan(values: pa.Array) -> Floats:
    return np.asarray(values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


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


def _decided(kinds: Ints, classes: Ints) -> float:
    """Return in which share of rows a value's commonest label is the row's own.

    Values that seldom come count as one: each by itself has its rows' label by chance.
    """
    counts = np.bincount(kinds)
    kinds = np.where(counts[kinds] < REPEATED, len(counts), kinds)
    pairs, rows = np.unique(kinds * (classes.max() + 1) + classes, return_counts=True)
    best = np.zeros(len(counts) + 1, dtype=np.int64)
    np.maximum.at(best, pairs // (classes.max() + 1), rows)
    return float(best.sum() / len(classes))


def _per_cent(share: float) -> str:
    return f"{100 * share:.4g} %"

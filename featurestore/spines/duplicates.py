"""Rows of a spine that ask the same question twice."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import SpineError, shown
from featurestore.offline.timeline import Ints, first_of_runs, sorted_rows
from featurestore.spines.row_numbers import row_numbers, whole_rows

Keep = Literal["first", "last"]
Conflicts = Literal["raise", "keep", "drop"]
KEEPS: Final[tuple[Keep, ...]] = ("first", "last")
CONFLICTS: Final[tuple[Conflicts, ...]] = ("raise", "keep", "drop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """What is left of a spine.

    Attributes:
        kept: Whether each row stays.
        conflicts: How many questions had rows with different labels.
    """

    kept: npt.NDArray[np.bool_]
    conflicts: int


def deduplicated(
    table: pa.Table,
    identity: list[str],
    labels: tuple[str, ...],
    *,
    keep: Keep,
    conflicts: Conflicts,
) -> Distinct:
    """Return one row of each question; see `Spine.deduplicate`.

    Args:
        table: The spine.
        identity: Its keys and its time: what a question is.
        labels: Columns in which rows of one question conflict if they differ.
        keep: Which of the rows stays.
        conflicts: What becomes of a question whose rows conflict.
    """
    if keep not in KEEPS or conflicts not in CONFLICTS:
        raise SpineError(f"keep is one of {KEEPS}, and conflicts one of {CONFLICTS}.")
    whole = whole_rows(table, identity)
    rows = np.flatnonzero(whole)
    if not len(rows):
        return Distinct(kept=~whole, conflicts=0)
    asked = table if whole.all() else table.filter(pa.array(whole))
    groups = row_numbers([asked[name] for name in identity], len(rows))
    ordered, order = sorted_rows(groups)
    begins = first_of_runs(ordered)
    conflicting = _conflicting(asked, labels, order, begins)
    if conflicting.any() and conflicts == "raise":
        raise _conflict(table, labels, rows[order[np.cumsum(begins) - 1 == conflicting.argmax()]])
    chosen = order[begins if keep == "first" else np.roll(begins, -1)]
    if conflicts == "drop":
        chosen = chosen[~conflicting]
    kept = ~whole
    kept[rows[chosen]] = True
    return Distinct(kept=kept, conflicts=int(conflicting.sum()))


def _conflicting(
    table: pa.Table, labels: tuple[str, ...], order: Ints, begins: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Return which questions, in order, have rows with different labels."""
    found = row_numbers([table[name] for name in labels], table.num_rows)[order]
    runs = np.cumsum(begins) - 1
    differs = found != found[begins][runs]
    return np.asarray(np.bincount(runs, weights=differs) > 0)


def _conflict(table: pa.Table, labels: tuple[str, ...], rows: Ints) -> SpineError:
    first = int(rows[0])
    for name in labels:
        column = table[name]
        known = repr(column[first].as_py())
        other = next((int(r) for r in rows if repr(column[int(r)].as_py()) != known), None)
        if other is not None:
            return SpineError(
                f"Rows {first:,} and {other:,} of the spine have the same keys and time, but"
                f" different values of the label {shown(name)}.",
                column=name,
                row=other,
                hint="conflicts='drop' leaves such rows out, conflicts='keep' takes one of them",
            )
    raise AssertionError("the rows do not differ")

"""Some of a spine's rows, chosen by what they are and not by where they stand."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import SpineError
from featurestore.offline.timeline import Ints, Timeline
from featurestore.spines.row_hash import Hashes, row_hashes
from featurestore.spines.row_numbers import row_numbers

MAX_SEED = 2**63 - 1


def sampled(
    table: pa.Table,
    identity: list[str],
    *,
    n: int | None,
    fraction: float | None,
    seed: int,
    by: list[str],
) -> npt.NDArray[np.bool_]:
    """Return which rows of a spine are in a sample; see `Spine.sample`.

    Args:
        table: The spine.
        identity: Its keys and its time: what is hashed.
        n: Rows of each group, or None.
        fraction: Or the share of them.
        seed: Chooses.
        by: Columns that tell the groups apart; none means one group.
    """
    _check(n, fraction, seed)
    rows = table.num_rows
    hashes = row_hashes([table[name] for name in identity], rows, seed=seed)
    if n is None and not by:
        assert fraction is not None  # noqa: S101 - `_check` saw to it
        return np.asarray(hashes < int(Fraction(fraction) * 2**64)) if fraction < 1 else _all(rows)
    others = [table[name] for name in table.column_names if name not in identity]
    groups = row_numbers([table[name] for name in by], rows)
    rank, sizes = _ranks(groups, hashes, lambda: row_hashes(others, rows, seed=seed))
    if n is not None:
        return np.asarray(rank < n)
    return np.asarray(rank < np.rint(sizes * float(fraction or 0.0)))


def _all(rows: int) -> npt.NDArray[np.bool_]:
    return np.ones(rows, dtype=bool)


def _ranks(groups: Ints, hashes: Hashes, ties: Callable[[], Hashes]) -> tuple[Ints, Ints]:
    """Return each row's place among its group by hash, and the size of its group.

    Rows of one key and time are told apart by their other values; what is equal in all of them is
    taken in the order given, which nobody can tell.
    """
    timeline = Timeline(groups, hashes.view(np.int64))
    ordered = hashes[timeline.order]
    if (ordered[1:] == ordered[:-1]).any():
        timeline.break_ties(ties().view(np.int64))
    counts = np.bincount(groups) if len(groups) else np.zeros(0, dtype=np.int64)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(groups), dtype=np.int64)
    rank[timeline.order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return rank, counts[groups]


def _check(n: int | None, fraction: float | None, seed: int) -> None:
    if (n is None) == (fraction is None):
        raise SpineError("A sample is either n rows or a fraction of them.", hint="give one")
    if n is not None and n < 0:
        raise SpineError(f"A sample cannot have n={n} rows.")
    if fraction is not None and not 0 <= fraction <= 1:
        raise SpineError(f"fraction={fraction} is not between 0 and 1.")
    if not 0 <= seed <= MAX_SEED:
        raise SpineError(f"seed={seed} is not between 0 and 2**63 - 1.")

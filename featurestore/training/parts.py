"""How many rows of a training set are computed at once, so that they fit into the memory."""

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from featurestore.offline.filled import is_number
from featurestore.training.task import JoinTask
from featurestore.types import width_of

MEMORY_SHARE: Final = 10
"""The part of the engine's memory that a result's rows may take in any case before it is computed
in parts: one in so many, because features are held as they were read and in the spine's order."""
AT_ONCE_SHARE: Final = 0.6
"""The part of the memory, without what the spine takes, that is used to compute all rows at once,
or larger parts; the rest is for reading."""
AT_ONCE_BYTES: Final = 5 << 29
"""And how much of it at most: who has a large machine need not have it to himself."""
ROW_BYTES: Final = 80
"""What a row takes while its features are fetched: which row of the source it gets and where that
goes, in several orders. Measured: ten million rows of ten float64 raise the peak by 1.4 GB."""
UNKNOWN_WIDTH: Final = 7
"""How often a value without a fixed width counts: it may be longer than it is taken for, and is
held as it was read and in the spine's order."""
WINDOWS_AT_ONCE_BYTES: Final = 256 << 20
"""How large a part of a result is that comes from windows alone. Memory that was used for one part
is used again for the next, where the system takes its time to hand out more: a million rows of 200
windows took 9.0 s and 1.8 GB where they had taken 14.6 s and 5.6 GB."""


def rows_at_once(
    spine: pa.Table, schema: pa.Schema, tasks: Sequence[JoinTask], *, memory_bytes: int
) -> int:
    """Return how many rows of a result are computed at once, 1 or more.

    Args:
        spine: The spine.
        schema: The result's: the spine's fields, then the features.
        tasks: What is joined.
        memory_bytes: The engine's memory.
    """
    types = [field.type for field in schema]
    most = memory_bytes // MEMORY_SHARE
    if all(task.windows for task in tasks):  # of others, each part is read again
        most = min(most, WINDOWS_AT_ONCE_BYTES)
    rows = most // sum(map(width_of, types))
    if not any(task.windows for task in tasks):
        free = memory_bytes - spine.nbytes - 8 * spine.num_rows * len(tasks)
        features = types[len(spine.schema) :]
        rows = max(rows, fetched_at_once(spine.num_rows, features, free))
    return max(1, rows)


def fetched_at_once(rows: int, features: Sequence[pa.DataType], memory_bytes: int) -> int:
    """Return how many rows are computed at once where features are fetched.

    Args:
        rows: How many there are.
        features: The types of what is computed.
        memory_bytes: What there is for it.
    """
    width = sum(width_of(t) * (1 if is_number(t) else UNKNOWN_WIDTH) for t in features)
    most = min(int(max(0, memory_bytes) * AT_ONCE_SHARE), AT_ONCE_BYTES)
    if rows * (ROW_BYTES + width) <= most:
        return rows
    # Whoever takes a part may hold it while the next one is made.
    return most // (ROW_BYTES + 2 * width)

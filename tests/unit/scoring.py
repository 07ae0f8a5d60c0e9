"""A module of functions, for tests that refer to them as objects."""

import functools
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

Batches = Callable[[pa.RecordBatch], pa.RecordBatch]


def ratio(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return amount / x."""
    return pa.record_batch({"ratio": pc.divide(batch["amount"], batch["x"])})


def _logged(function: Batches) -> Batches:
    @functools.wraps(function)
    def call(batch: pa.RecordBatch) -> pa.RecordBatch:
        return function(batch)

    return call


@_logged
def wrapped(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the same."""
    return batch

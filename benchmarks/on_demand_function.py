"""A module of functions, as a user would write it: what the on-demand workload calls."""

import pyarrow as pa
import pyarrow.compute as pc


def ratios(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return amount / f for each feature f, null where that is zero or null."""
    names = [name for name in batch.schema.names if name != "amount"]
    columns = [
        pc.divide(batch["amount"], pc.if_else(pc.equal(batch[name], 0.0), None, batch[name]))
        for name in names
    ]
    return pa.RecordBatch.from_arrays(columns, names=[f"amount_to_{name}" for name in names])

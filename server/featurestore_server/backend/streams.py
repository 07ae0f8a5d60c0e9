"""A training set as an Arrow IPC stream, part by part."""

from typing import Any, Final

import pyarrow as pa

from featurestore.training.job import BATCH_ROWS, RetrievalJob
from featurestore.types import width_of

BATCH_BYTES: Final = 8 << 20
"""About how large a record batch is, in memory."""


def write_stream(job: RetrievalJob, file: Any) -> None:
    """Compute a job and write its result to a file, as an Arrow IPC stream."""
    schema = job.schema
    width = sum(width_of(field.type) for field in schema)
    rows = min(BATCH_ROWS, max(1, BATCH_BYTES // max(1, width)))
    with pa.ipc.new_stream(file, schema) as writer:
        for batch in job.to_batches(rows):
            writer.write_batch(_compact(batch))


def _compact(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch without the text of other rows, which views of text keep and Arrow writes."""
    columns = [_compact_views(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _compact_views(column: pa.Array) -> pa.Array:
    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string()).cast(column.type)
    if pa.types.is_binary_view(column.type):
        return column.cast(pa.large_binary()).cast(column.type)
    return column

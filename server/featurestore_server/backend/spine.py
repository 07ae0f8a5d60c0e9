"""The spine as it comes in: bytes into a file, and the file as a table that was looked at."""

import mmap
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa

from featurestore.errors import ResourceLimitError, SpineError
from featurestore.offline.source_errors import first_line
from featurestore_server.backend.ipc import check_messages, check_schema, decoded_bytes
from featurestore_server.errors import LimitExceededError
from featurestore_server.options import BackendLimits

_OPTIONS: Final = pa.ipc.IpcReadOptions(
    ensure_alignment=pa.ipc.Alignment.DataTypeSpecific, use_threads=False
)


def received(parts: Iterator[bytes], folder: Path | None, limits: BackendLimits) -> pa.Table:
    """Return the table whose Arrow IPC stream comes in parts.

    It lies in a file without a name, which the system removes however this process ends, and of
    which it keeps in memory what fits.

    Args:
        parts: The stream, cut anywhere.
        folder: Where the file is made; None for the system's folder.
        limits: What is taken.

    Raises:
        LimitExceededError: There are too many rows or bytes.
        SpineError: The bytes are no Arrow stream, or one that is not taken.
        ResourceLimitError: The file cannot be written.
    """
    size = 0
    with _disk_errors(), tempfile.TemporaryFile(dir=folder) as file:
        for part in parts:
            size += len(part)
            if size > limits.max_spine_bytes:
                raise _too_large(limits)
            file.write(part)
        file.flush()
        # Not closed here: the table keeps it until it is gone itself.
        stream = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    return table_of(pa.py_buffer(stream), limits)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResourceLimitError(f"A spine cannot be kept: {error}.") from None


def table_of(stream: pa.Buffer, limits: BackendLimits) -> pa.Table:
    """Return the table in a stream; raises as `received` does."""
    try:
        check_messages(stream)
        return _read(stream, limits)
    except (pa.ArrowException, struct.error, OSError, ValueError, MemoryError) as error:
        raise SpineError(
            f"The spine is no Arrow IPC stream: {first_line(error)}",
            hint="send what pyarrow.ipc.new_stream() writes, whole and in order",
        ) from None


def _read(stream: pa.Buffer, limits: BackendLimits) -> pa.Table:
    batches, rows, size = [], 0, 0
    with pa.ipc.open_stream(stream, options=_OPTIONS) as reader:
        check_schema(reader.schema)
        for batch in reader:
            rows += batch.num_rows
            if rows > limits.max_spine_rows:
                raise LimitExceededError(
                    f"The spine has more than {limits.max_spine_rows:,} rows.",
                    field="spine",
                    hint="ask in parts, or have server.backend.max_spine_rows raised",
                )
            batch.validate(full=True)
            size += decoded_bytes(batch)
            if size > limits.max_spine_bytes:
                raise _too_large(limits)
            batches.append(batch)
        return pa.Table.from_batches(batches, reader.schema)


def _too_large(limits: BackendLimits) -> LimitExceededError:
    return LimitExceededError(
        f"The spine has more than {limits.max_spine_bytes:,} bytes.",
        field="spine",
        hint="ask in parts, or have server.backend.max_spine_bytes raised",
    )

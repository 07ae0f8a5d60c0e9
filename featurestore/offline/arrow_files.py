"""Files read by Arrow, which confuses no names and changes no types."""

import contextlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.offline.files import SourceFile, check_unchanged
from featurestore.offline.footer import has_uuid
from featurestore.offline.instants import FarTimeError
from featurestore.offline.scan import SourceScan
from featurestore.offline.source_errors import first_line, unreadable
from featurestore.types import base_type


@contextlib.contextmanager
def opened(
    scan: SourceScan, file: SourceFile, *, metadata: pq.FileMetaData | None = None
) -> Iterator[pq.ParquetFile]:
    """Open one of a source's files for reading.

    Args:
        scan: The source.
        file: The file.
        metadata: Its footer, if that has been read.

    Raises:
        SourceError: What is read inside cannot be read.
        SourceChangedError: The file has changed since it was listed, which is why.
    """
    try:
        # Arrow would read INT96 as nanoseconds, which wrap around outside the years 1678 to 2261.
        with pq.ParquetFile(
            file.path, metadata=metadata, coerce_int96_timestamp_unit="us"
        ) as reading:
            yield reading
    except MemoryError:  # Arrow's is one of its other errors too
        raise
    except (pa.ArrowException, OSError, FarTimeError) as error:
        check_unchanged(scan.source.name, [file])
        raise unreadable(scan, first_line(error), file) from None


def read_file(scan: SourceScan, file: SourceFile, columns: Sequence[str]) -> pa.Table:
    """Return columns of one file, by their names in it; see `opened` for errors."""
    with opened(scan, file) as reading:
        return reading.read(columns=columns)


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column without dictionaries, so that columns of several files agree.

    Types that DuckDB does not take from Arrow become what they stand for.
    """
    found = column.type
    if pa.types.is_dictionary(found):
        return column.cast(found.value_type)
    if pa.types.is_float16(found):
        return column.cast(pa.float32())
    unknown = has_uuid(found) or pa.types.is_decimal256(found)
    return column.cast(base_type(found)) if unknown else column

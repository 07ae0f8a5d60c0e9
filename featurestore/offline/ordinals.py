"""The position of a row in its source: what decides between rows when nothing else does.

Byte order of the files' paths, then the number of the row. With several files the file's number,
from 1, stands above the row's; with one file the ordinal is the row's number.
"""

from featurestore.offline.files import SourceFile
from featurestore.offline.scan import SourceScan

MAX_ROWS_BITS = 40  # a file has fewer than 2^40 rows


def first_ordinals(scan: SourceScan) -> dict[str, int]:
    """Return the ordinal of each file's first row, by path."""
    if len(scan.files) == 1:
        return {scan.files[0].path: 0}
    return {f.path: (number + 1) << MAX_ROWS_BITS for number, f in enumerate(scan.files)}


def place_of(scan: SourceScan, ordinal: int) -> tuple[SourceFile, int]:
    """Return the file and the number of the row (from 0) that an ordinal stands for."""
    if len(scan.files) == 1:
        return scan.files[0], ordinal
    number = (ordinal >> MAX_ROWS_BITS) - 1
    return scan.files[number], ordinal & ((1 << MAX_ROWS_BITS) - 1)

"""The position of a row in its source: what decides between rows when nothing else does.

Byte order of the files' paths, then the number of the row. With several files the file's number,
from 1, stands above the row's; with one file the ordinal is the row's number.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from featurestore.offline.files import SourceFile
from featurestore.offline.footer import read_footer
from featurestore.offline.row_spans import margin_us, reaches
from featurestore.offline.scan import SourceScan
from featurestore.offline.scan_columns import FileGroup

MAX_ROWS_BITS = 40  # a file has fewer than 2^40 rows
BEYOND = 2**63 - 1  # no row has this ordinal


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


def even_ranges(sample: npt.NDArray[np.int64], count: int) -> list[range]:
    """Return at most `count` ranges of ordinals that hold about equally many of a sample each.

    They rise, and together they hold every ordinal.
    """
    places = np.arange(1, count) * len(sample) // count
    cuts = np.unique(np.sort(sample)[places]) if len(sample) else sample
    bounds = (0, *cuts.tolist(), BEYOND)
    return [range(first, stop) for first, stop in pairwise(bounds) if first < stop]


def reading_only(scan: SourceScan, ordinals: range) -> SourceScan:
    """Return a scan that reads only the files which have rows in a range of ordinals.

    It still lists all files, because ordinals count them; groups may be left without any.
    """
    inside = set(_files_within(scan, ordinals))
    groups = (
        replace(group, files=tuple(f for f in group.files if f.path in inside))
        for group in scan.groups
    )
    return replace(scan, groups=tuple(groups))


def reading_between(scan: SourceScan, since_us: int | None, until_us: int | None) -> SourceScan:
    """Return a scan that reads only files which may have rows in a span of event time, or one.

    It still lists all files, because ordinals count them.
    """
    if scan.spans is None or len(scan.files) == 1:
        return scan
    column, zone = scan.event_column.in_file, scan.source.timezone

    def may_have_some(group: FileGroup, file: SourceFile) -> bool:
        margin = margin_us(group.types["e"], zone)
        spans = read_footer(scan.source.name, file).spans.get(column)
        return spans is None or any(reaches(s, since_us, until_us, margin) for s in spans)

    files = [tuple(f for f in group.files if may_have_some(group, f)) for group in scan.groups]
    if not any(files):
        files[0] = scan.groups[0].files[:1]
    groups = (replace(g, files=some) for g, some in zip(scan.groups, files, strict=True))
    return replace(scan, groups=tuple(groups))


def _files_within(scan: SourceScan, ordinals: range) -> Iterator[str]:
    for path, first in first_ordinals(scan).items():
        beyond = BEYOND if len(scan.files) == 1 else first + (1 << MAX_ROWS_BITS)
        if first < ordinals.stop and ordinals.start < beyond:
            yield path

"""Naive times of a source: which columns have them, and what its policy makes of the odd ones."""

from collections.abc import Iterable

import pyarrow as pa

from featurestore.definitions import FileSource
from featurestore.offline.scan import SourceScan
from featurestore.offline.scan_columns import ScanColumn
from featurestore.time import LocalSpan, local_spans
from featurestore.types import base_type

YEAR_US = 31_556_952_000_000  # a year on average; a time's year is right to within one


def is_naive(found: pa.DataType) -> bool:
    """Whether times of this physical type (or its elements) have no zone; dates have none."""
    if pa.types.is_list(base_type(found)):
        return is_naive(found.value_type)
    if pa.types.is_timestamp(found):
        return found.tz is None
    return bool(pa.types.is_date(found))


def local_columns(scan: SourceScan) -> list[ScanColumn]:
    """Return the columns that hold local times of a zone other than UTC, in some file at least."""
    if scan.source.timezone == "UTC":
        return []
    return [column for column in scan.columns if _holds_local_times(scan, column)]


def _holds_local_times(scan: SourceScan, column: ScanColumn) -> bool:
    is_list = pa.types.is_list(column.dtype)
    declared = column.dtype.value_type if is_list else column.dtype
    naive = (is_naive(group.types[column.alias]) for group in scan.groups)
    return pa.types.is_timestamp(declared) and any(naive)


def refused_kinds(source: FileSource) -> set[str]:
    """Return the kinds of spans in which the source's policy allows no time."""
    refused = {"twice"} if source.ambiguous == "error" else set()
    return refused | ({"never"} if source.missing == "error" else set())


def policy_spans(source: FileSource, years: Iterable[int]) -> tuple[LocalSpan, ...]:
    """Return the spans of local times of these years, give or take one.

    A span of kind "twice" maps to the instants that the source's policy names.
    """
    near = {y for year in years for y in (year - 1, year, year + 1)}
    spans = local_spans(source.timezone, near)
    late = source.ambiguous == "latest"
    return tuple(span.later() if late and span.kind == "twice" else span for span in spans)

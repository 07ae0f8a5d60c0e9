"""Rows of an extract as far as they decide who sees them: times, keys, order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pyarrow as pa

from featurestore.leakage.extract import Extract, ExtractedFile, column_values, decoded
from featurestore.offline.instants import FarTimeError, Instants, moved_by_rounding, to_local
from featurestore.offline.local_times import is_naive
from featurestore.offline.timeline import Ints
from featurestore.types import Timestamp

NEVER: Final = int(np.iinfo(np.int64).min)
"""Stands for a time that is null."""
NULL: Final = -1
"""Stands for a key that is null."""


class Codes:
    """Numbers for values, so that keys of several sources and of a spine can be compared."""

    def __init__(self) -> None:
        self._numbers: dict[object, int] = {}

    def of(self, values: Sequence[object]) -> Ints:
        """Return the number of each value, the same for equal ones; `NULL` for None."""
        numbers = self._numbers
        found = (NULL if v is None else numbers.setdefault(v, len(numbers)) for v in values)
        return np.fromiter(found, dtype=np.int64, count=len(values))


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows, real or imagined.

    Attributes:
        event: Event times in microseconds, or `NEVER`.
        created: Created times likewise; `NEVER` everywhere without a created column.
        place: Where the row stands among the extract's: its number, and halves between rows.
        codes: Column -> numbers of its values; see `Codes`.
    """

    event: Ints
    created: Ints
    place: np.ndarray[tuple[int], np.dtype[np.float64]]
    codes: Mapping[str, Ints]

    def __len__(self) -> int:
        return len(self.event)

    def tuples(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the numbers of several columns, row by row."""
        columns = [self.event if name == "" else self.codes[name] for name in names]
        return (
            list(zip(*(c.tolist() for c in columns), strict=True)) if columns else [()] * len(self)
        )

    def take(self, rows: Ints) -> "Rows":
        """Return some of the rows."""
        return Rows(
            event=self.event[rows],
            created=self.created[rows],
            place=self.place[rows],
            codes={name: codes[rows] for name, codes in self.codes.items()},
        )


class SourceRows:
    """The rows of an extract.

    Args:
        extract: The extract.
        coded: Columns that decide who sees a row, by name, with the type that they are compared as.
        codes: Shared with whatever else is compared.
    """

    def __init__(self, extract: Extract, coded: Mapping[str, pa.DataType], codes: Codes) -> None:
        self.extract = extract
        self.source = extract.source
        self.starts = np.cumsum([0, *(f.table.num_rows for f in extract.files)])
        self._coded = coded
        self._codes = codes
        self._instants = Instants(extract.source)

    @cached_property
    def rows(self) -> Rows:
        """All rows, file by file."""
        count = self.extract.row_count
        files = self.extract.files
        event, created = self.source.timestamp_field, self.source.created_timestamp_column
        return Rows(
            event=self._joined([self._times(file, event) for file in files]),
            created=self._joined([self._times(file, created) for file in files]),
            place=np.arange(count, dtype=np.float64),
            codes={name: self._joined([self._of(f, name) for f in files]) for name in self._coded},
        )

    @cached_property
    def has_nanoseconds(self) -> bool:
        """Whether times that are equal here may differ in the files."""
        names = (self.source.timestamp_field, self.source.created_timestamp_column)
        columns = [
            file.table.column(self.source.column_in_file(name))
            for file in self.extract.files
            for name in names
            if name is not None
        ]
        return any(np.any(moved_by_rounding(c.combine_chunks())) for c in columns)

    def file_of(self, row: int) -> int:
        """Return the number of the file that a row is in."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def time(self, row: int, name: str, instant_us: int) -> tuple[pa.Array, int] | None:
        """Return a time as the file of a row would hold it, and what is read from that.

        None if the file cannot hold it, or the source's policy refuses it.
        """
        table = self.extract.files[self.file_of(row)].table
        column = self.source.column_in_file(name)
        if column not in table.column_names:
            return None
        try:
            array = _as_type(instant_us, table.schema.field(column).type, self.source.timezone)
            if array is None or self._is_refused(array):
                return None
            found = self._instants.micros(array, up=True)[0].as_py()
        except (FarTimeError, pa.ArrowException, OverflowError):
            return None
        return array, NEVER if found is None else found

    def instant(self, column: pa.Array) -> int | None:
        """Return a time of one of the files, an array of one value, in microseconds."""
        found: int | None = self._instants.micros(column, up=True)[0].as_py()
        return found

    def _is_refused(self, array: pa.Array) -> bool:
        if not is_naive(array.type) or self.source.timezone == "UTC":
            return False
        return self._instants.refused(array, {"twice", "never"}) is not None

    def _times(self, file: ExtractedFile, name: str | None) -> Ints:
        if name is None:
            return np.full(file.table.num_rows, NEVER)
        column = file.table.column(self.source.column_in_file(name)).combine_chunks()
        found = self._instants.micros(column, up=True).fill_null(NEVER)
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)

    def _of(self, file: ExtractedFile, name: str) -> Ints:
        dtype = self._coded[name]
        if pa.types.is_timestamp(dtype):
            return self._codes.of(self._times(file, name).tolist())
        values = column_values(self.source, file.origin, file.table, name, dtype)
        return self._codes.of(decoded(values).to_pylist())

    def _joined(self, parts: Sequence[Ints]) -> Ints:
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])


def _as_type(instant_us: int, dtype: pa.DataType, zone: str) -> pa.Array | None:
    if not pa.types.is_timestamp(dtype):
        return None
    instant = pa.array([instant_us], pa.int64()).cast(Timestamp)
    if dtype.tz is None:
        instant = to_local(instant, zone) if zone != "UTC" else instant.cast(pa.timestamp("us"))
    return instant.cast(dtype, safe=False)

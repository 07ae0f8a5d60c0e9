"""Tables as people pass them (pandas, Polars, Arrow, DuckDB, a Parquet file) as Arrow tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import TableError, shown


@dataclass(frozen=True, slots=True)
class GivenTables:
    """Converts tables that are given for one purpose, values and types untouched.

    Attributes:
        noun: What such a table is called in messages, behind "the".
        singular: The same at the beginning of a sentence about any such table.
        error: What is raised if one cannot be taken.
        forms: Which forms there are, for messages.
    """

    noun: str
    singular: str
    error: type[TableError]
    forms: str

    def table(self, given: object, *, times: Sequence[str]) -> pa.Table:
        """Return a table given in any of the forms.

        Args:
            given: The table; text is none.
            times: Columns that are checked for naive and aware times side by side.

        Raises:
            SpineError | RowsError: It has none of the forms, or cannot be converted.
        """
        if isinstance(given, Path):
            return self._read_parquet(given)
        if isinstance(given, pa.Table):
            return given
        if isinstance(given, pa.RecordBatch):
            return pa.Table.from_batches([given])
        if type(given).__module__.split(".")[0] == "pandas":
            return self._from_pandas(given, times)
        return self._from_capsule(given)

    def check_one_kind_of_time(self, values: Iterable[object], column: str) -> None:
        """Refuse naive and aware times in one column: reading the naive ones would be a guess."""
        seen: dict[bool, int] = {}
        for row, value in enumerate(values):
            if isinstance(value, datetime) and value == value:  # noqa: PLR0124 - NaT is not itself
                seen.setdefault(value.tzinfo is not None, row)
            if len(seen) == 2:  # noqa: PLR2004 - both kinds
                raise self.error(
                    f"Column {column!r} of the {self.noun} mixes times with and without a zone; row"
                    f" {max(seen.values())} is the first that differs.",
                    column=column,
                    row=max(seen.values()),
                    hint="give all of them a zone",
                )

    def _read_parquet(self, path: Path) -> pa.Table:
        try:
            return pq.ParquetFile(path).read()
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self.error(
                f"The {self.noun} {shown(str(path))} cannot be read: {_brief(error)}."
            ) from None

    def _from_pandas(self, frame: Any, times: Sequence[str]) -> pa.Table:
        if not hasattr(frame, "columns"):
            raise self._unsupported(frame)
        for name in times:
            column = frame.get(name)
            if str(getattr(column, "dtype", "")) == "object":
                self.check_one_kind_of_time(column, name)
        try:
            # Arrow would look at the frame's own memory, which may change until it is used.
            own = pa.Table.from_pandas(frame.copy(), preserve_index=False)
            return own.replace_schema_metadata(None)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            broken = _inconvertible(frame)
            where = "" if broken is None else f" (column {shown(broken)})"
            raise self.error(
                f"The {self.noun}{where} cannot be converted to Arrow: {_brief(error)}.",
                column=broken,
            ) from None

    def _from_capsule(self, given: object) -> pa.Table:
        if type(given).__module__.split(".")[0] == "polars" and hasattr(given, "collect"):
            given = given.collect()
        try:
            if hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_c_array__"):
                return pa.table(given)
            if hasattr(given, "to_arrow_table"):
                return given.to_arrow_table()
        except pa.ArrowInvalid as error:
            raise self._unsupported(given, _brief(error)) from None
        raise self._unsupported(given)

    def _unsupported(self, given: object, reason: str = "") -> TableError:
        name = type(given).__name__
        return self.error(
            f"{self.singular} cannot be a value of type {name}{f': {reason}' if reason else ''}.",
            hint=f"use {self.forms}",
        )


def _inconvertible(frame: Any) -> str | None:
    """Return the first column that Arrow does not take."""
    for name, values in frame.items():
        try:
            pa.array(values, from_pandas=True)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return str(name)
    return None


def _brief(error: BaseException) -> str:
    line = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in line)

"""How two tables of the same rows differ: which columns, in how many rows, and how at first."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.datasets.digest import (
    TableDigest,
    fixed_bytes,
    logical_type,
    plain,
    stored_as,
    validity,
)

MAX_EXAMPLES: Final = 5
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A value that differs.

    Attributes:
        row: The row, from 0.
        before: What the dataset has.
        after: What was computed now.
    """

    row: int
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnDifference:
    """A column that differs.

    Attributes:
        column: Its name.
        what: "values", or what else: "gone", "new", or the two types.
        rows: Rows whose values differ; None if they were not compared.
        examples: The first of them.
    """

    column: str
    what: str
    rows: int | None = None
    examples: tuple[Example, ...] = ()

    def __str__(self) -> str:
        if self.rows is None:
            return f"{self.column}: {self.what}"
        first = self.examples[0]
        return (
            f"{self.column}: {self.rows:,} rows differ, first row {first.row:,}:"
            f" {first.before!r:.60} was, {first.after!r:.60} is"
        )


class Comparison:
    """Compares two tables that come in parts of any sizes.

    Args:
        before: The schema of the one.
        after: That of the other.
    """

    def __init__(self, before: pa.Schema, after: pa.Schema) -> None:
        self._apart = list(_columns_apart(before, after))
        apart = {difference.column for difference in self._apart}
        self._columns = {
            name: _Column(name)
            for name in before.names
            if name in after.names and name not in apart
        }
        self._row = 0

    def compare(self, before: Iterable[pa.RecordBatch], after: Iterable[pa.Table]) -> None:
        """Compare all rows; of `after` each part is taken once the one before is done with."""
        batches = iter(before)
        rest: pa.RecordBatch | None = None
        for part in (batch for table in after for batch in table.to_batches()):
            start = 0
            while start < part.num_rows:
                if rest is None or not rest.num_rows:
                    rest = next(batches)
                    continue
                count = min(rest.num_rows, part.num_rows - start)
                self._compare(rest.slice(0, count), part.slice(start, count))
                rest, start = rest.slice(count), start + count

    def differences(self) -> tuple[ColumnDifference, ...]:
        """Return the columns that differ."""
        compared = (column.difference() for column in self._columns.values() if column.rows)
        return (*self._apart, *compared)

    def _compare(self, before: pa.RecordBatch, after: pa.RecordBatch) -> None:
        for name, column in self._columns.items():
            column.compare(before.column(name), after.column(name), self._row)
        self._row += before.num_rows


@dataclass(slots=True)
class _Column:
    name: str
    rows: int = 0
    examples: list[Example] = field(default_factory=list)

    def compare(self, before: pa.Array, after: pa.Array, first_row: int) -> None:
        old, new = plain(before), plain(after)
        if old.type == new.type and not _has_floats(old.type) and old.equals(new):
            return
        differing = differing_rows(old, new)
        self.rows += len(differing)
        for row in differing[: MAX_EXAMPLES - len(self.examples)].tolist():
            example = Example(
                row=first_row + row, before=_python(old[row]), after=_python(new[row])
            )
            self.examples.append(example)

    def difference(self) -> ColumnDifference:
        return ColumnDifference(
            column=self.name, what="values", rows=self.rows, examples=tuple(self.examples)
        )


def differing_rows(old: pa.Array, new: pa.Array) -> Rows:
    """Return the rows in which two `plain` arrays of one logical type have different digests."""
    if pa.types.is_nested(old.type):
        return np.array(list(_nested_differ(old, new, 0)), np.int64)
    differs = validity(old) != validity(new)
    differs |= _text_differs(old, new) if _has_text(old) else _bits_differ(old, new)
    return np.flatnonzero(differs)


def _nested_differ(old: pa.Array, new: pa.Array, first: int) -> Iterator[int]:
    """Yield the rows that differ, by halving what has another digest."""
    if _digest(old) == _digest(new):
        return
    if len(old) == 1:
        yield first
        return
    half = len(old) // 2
    yield from _nested_differ(old[:half], new[:half], first)
    yield from _nested_differ(old[half:], new[half:], first + half)


def _digest(array: pa.Array) -> str:
    found = TableDigest(pa.schema([("", array.type)]))
    found.update(pa.table([array], names=[""]))
    return found.hexdigest()


def _python(value: pa.Scalar) -> Any:
    """Return a value for people; a time that Python has no type for as text."""
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return " ".join(pa.repeat(value, 1).to_string().split())[2:-2]


def _bits_differ(old: pa.Array, new: pa.Array) -> npt.NDArray[np.bool_]:
    if pa.types.is_null(old.type):
        return np.zeros(len(old), np.bool_)
    return np.asarray((fixed_bytes(old) != fixed_bytes(new)).any(axis=1))


def _text_differs(old: pa.Array, new: pa.Array) -> npt.NDArray[np.bool_]:
    either = (array.cast(pa.large_binary()) for array in (old, new))
    return np.asarray(pc.fill_null(pc.not_equal(*either), False))  # noqa: FBT003 - it takes no names


def _has_text(array: pa.Array) -> bool:
    return logical_type(array.type) in ("string", "binary")


def _has_floats(dtype: pa.DataType) -> bool:
    """Whether values of a type may be equal and have different digests: 0.0 and -0.0."""
    dtype = stored_as(dtype)
    parts = (dtype.field(number).type for number in range(dtype.num_fields))
    return pa.types.is_floating(dtype) or any(map(_has_floats, parts))


def _columns_apart(before: pa.Schema, after: pa.Schema) -> Iterator[ColumnDifference]:
    for name in before.names:
        if name not in after.names:
            yield ColumnDifference(column=name, what="gone")
            continue
        types = [logical_type(schema.field(name).type) for schema in (before, after)]
        if types[0] != types[1]:
            yield ColumnDifference(column=name, what=f"{types[0]} was, {types[1]} is")
    for name in after.names:
        if name not in before.names:
            yield ColumnDifference(column=name, what="new")
    if _in_another_order(before.names, after.names):
        yield ColumnDifference(column="", what="the columns are in another order")


def _in_another_order(before: Sequence[str], after: Sequence[str]) -> bool:
    both = set(before) & set(after)
    return [n for n in before if n in both] != [n for n in after if n in both]

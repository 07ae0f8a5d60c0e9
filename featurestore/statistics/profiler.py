"""Profiles of tables that are read once, batch by batch."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeAlias, TypeVar

import pyarrow as pa

from featurestore.errors import RequestError, shown
from featurestore.statistics.columns import plain_type, statistics_of
from featurestore.statistics.numbers import CHUNK_VALUES
from featurestore.statistics.report import ColumnProfile, Profile
from featurestore.types import type_name

CHUNK_ROWS: Final = CHUNK_VALUES
"""Rows are looked at in parts of so many, however they come: the answer depends on them alone."""

Rows: TypeAlias = pa.RecordBatch | pa.Table
T = TypeVar("T", pa.RecordBatch, pa.Table)


class Profiler:
    """Gathers a table's statistics while somebody else reads or writes it.

    Of the rows themselves it holds fewer than 65,536; of each column it keeps at most about a
    megabyte, whatever it sees. For one thread at a time.

    Args:
        schema: Of the rows to come.
        edges: Column -> edges of its histogram, which rise; others are chosen by what comes.

    Raises:
        RequestError: Two columns have one name, or edges do not fit.
    """

    def __init__(
        self, schema: pa.Schema, *, edges: Mapping[str, Sequence[Any]] | None = None
    ) -> None:
        if len(set(schema.names)) != len(schema.names):
            raise RequestError("Two columns to be profiled have one name.")
        wanted = edges or {}
        if unknown := [name for name in wanted if name not in schema.names]:
            raise RequestError(f"There are edges for {shown(unknown[0])}, which is no column.")
        self.schema = schema
        self._columns = [statistics_of(field, wanted.get(field.name)) for field in schema]
        self._nulls = [0] * len(schema)
        self._rows = 0
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, rows: Rows) -> None:
        """Take in rows, which have the schema."""
        if not rows.num_rows:
            return
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        if self._waiting_rows >= CHUNK_ROWS:
            self._look()

    def over(self, parts: Iterable[T]) -> Iterator[T]:
        """Yield batches or tables on their way, and look at each."""
        for part in parts:
            self.add(part)
            yield part

    def merge(self, other: Self) -> None:
        """Take over what another profiler of the same schema and edges has gathered."""
        self._look(everything=True)
        other._look(everything=True)
        self._rows += other._rows
        self._nulls = [a + b for a, b in zip(self._nulls, other._nulls, strict=True)]
        for column, more in zip(self._columns, other._columns, strict=True):
            column.merge(more)

    def finish(self) -> Profile:
        """Return what is known by now; more rows may follow."""
        self._look(everything=True)
        columns = {}
        for field, statistics, nulls in zip(self.schema, self._columns, self._nulls, strict=True):
            columns[field.name] = ColumnProfile(
                name=field.name,
                type=type_name(field.type),
                rows=self._rows,
                nulls=nulls,
                **statistics.facts(),
            )
        return Profile(rows=self._rows, columns=columns)

    def _look(self, *, everything: bool = False) -> None:
        """Look at the waiting rows in whole chunks, or at all of them."""
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting)
        start = 0
        while table.num_rows - start >= (1 if everything else CHUNK_ROWS):
            self._look_at(table.slice(start, CHUNK_ROWS))
            start += CHUNK_ROWS
        self._waiting = [table.slice(start)] if start < table.num_rows else []
        self._waiting_rows = max(0, table.num_rows - start)

    def _look_at(self, table: pa.Table) -> None:
        self._rows += table.num_rows
        for number, statistics in enumerate(self._columns):
            values = _whole(table.column(number))
            self._nulls[number] += values.null_count
            if values.null_count:
                values = values.drop_null()
            if len(values):
                statistics.add(values)


def profile(
    batches: Iterable[Rows],
    schema: pa.Schema,
    *,
    edges: Mapping[str, Sequence[Any]] | None = None,
) -> Profile:
    """Return the statistics of a table that is read once.

    Args:
        batches: The table's rows in order, as record batches or tables of the schema. The answer
            does not depend on how they are cut.
        schema: Their schema.
        edges: Column -> edges of its histogram, as `Profile.edges` has them, for two profiles that
            are to be compared.

    Raises:
        RequestError: Two columns have one name, or edges do not fit.
    """
    profiler = Profiler(schema, edges=edges)
    for rows in batches:
        profiler.add(rows)
    return profiler.finish()


def _whole(column: pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, as values: large text, because a piece may exceed 2 GB."""
    dtype = plain_type(column.type)
    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], dtype)
    name = type_name(dtype)
    if name in ("string", "binary"):
        dtype = pa.large_string() if name == "string" else pa.large_binary()
    if column.type != dtype:
        column = column.cast(dtype)
    return column.combine_chunks()

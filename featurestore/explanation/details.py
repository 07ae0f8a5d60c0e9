"""Rows by their ordinals: where they are, what they hold, what a transform read and joined."""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.explanation.left_out import cause_of
from featurestore.explanation.rows import JoinedRow, Place, SourceRow, Value, Values
from featurestore.offline.arrow_rows import ArrowRows, Piece
from featurestore.offline.as_of import fetch
from featurestore.offline.engine import OfflineEngine, ScanReader
from featurestore.offline.joined_tables import row_joins
from featurestore.offline.ordinals import place_of
from featurestore.offline.row_joins import RowJoins
from featurestore.offline.scan import JoinScan, SourceScan, only_files

Times = tuple[int | None, int | None]
"""Event and created time of a row in microseconds, None where null or not recorded."""


@dataclass(frozen=True, kw_only=True)
class RowDetails:
    """Describes rows of one scan.

    Attributes:
        engine: Its memory and threads.
        reader: Reads the scan.
        view: The view.
        scan: The scan.
        root: Folder of the repository, which paths below it leave out.
    """

    engine: OfflineEngine
    reader: ScanReader
    view: FeatureView
    scan: SourceScan
    root: Path

    def place(self, ordinal: int) -> Place:
        """Return where a row is."""
        return _place(self.scan, ordinal, self.root)

    def describe(
        self, there: Mapping[int, Times], left_out: Mapping[int, Times]
    ) -> dict[int, SourceRow]:
        """Return rows by their ordinals.

        Args:
            there: Ordinal -> times, of rows that the view's transform lets through.
            left_out: The same of rows that it, or a rule, leaves out.
        """
        values = self._values(sorted(there))
        before = self._before(sorted({*there, *left_out}), left_out)
        return {
            ordinal: SourceRow(
                place=self.place(ordinal),
                event_us=event_us,
                created_us=created_us,
                values=values.get(ordinal, {}),
                read=before[ordinal].read if ordinal in before else {},
                joined=before[ordinal].joined if ordinal in before else (),
                left_out=before[ordinal].left_out if ordinal in before else None,
            )
            for ordinal, (event_us, created_us) in {**there, **left_out}.items()
        }

    def scalars(self, ordinals: Sequence[int]) -> pa.Table:
        """Return the features of rows as the engine has them: `f0..`, in this order."""
        return fetch(self.reader, self.scan, np.array(ordinals, dtype=np.int64), threads=1)

    def _values(self, ordinals: Sequence[int]) -> dict[int, Values]:
        if not ordinals or not self.scan.features:
            return {}
        table = self.scalars(ordinals)
        return {
            ordinal: {
                column.name: Value(table.column(column.alias)[number])
                for column in self.scan.features
            }
            for number, ordinal in enumerate(ordinals)
        }

    @property
    def _is_transformed(self) -> bool:
        scan = self.scan
        return bool(scan.inputs or scan.joins or any(c.tree is not None for c in scan.features))

    def _before(self, ordinals: Sequence[int], left_out: Container[int]) -> "dict[int, _Before]":
        """Return what the transform read of rows, and joined to them; why rows are left out."""
        if not ordinals or not self._is_transformed:
            return {}
        aliases = ["o", *self._read_aliases]
        batches = list(self._stored(ordinals, aliases))
        table = pa.Table.from_batches(batches).combine_chunks()
        joins = row_joins(
            self.scan, threads=self.engine.threads, memory_bytes=self.engine.memory_bytes
        )
        joined = self._joined(table, joins)

        def cause(number: int) -> str:
            row = {n: _array(table.column(n).slice(number, 1)) for n in table.schema.names}
            return cause_of(self.view, self.scan, joins, row)

        return {
            ordinal: _Before(
                read=self._read(table, number),
                joined=joined[number],
                left_out=cause(number) if ordinal in left_out else None,
            )
            for number, ordinal in enumerate(table.column("o").to_pylist())
        }

    @property
    def _read_aliases(self) -> list[str]:
        """What the transform starts from: its inputs, the columns it lets through, the times."""
        plain = [c.alias for c in self.scan.features if c.tree is None]
        times = ["e", *(["c"] if self.scan.created is not None else [])]
        return [*(c.alias for c in self.scan.inputs), *plain, *times]

    def _stored(self, ordinals: Sequence[int], aliases: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield rows as they are before the transform; only their own row groups are read."""
        places = [place_of(self.scan, ordinal) for ordinal in ordinals]
        firsts = {f.path: o - row for o, (f, row) in zip(ordinals, places, strict=True)}
        for path, found in groupby(places, lambda place: place[0].path):
            chosen = np.array([row for _, row in found], dtype=np.int64)
            rows = ArrowRows(only_files(replace(self.scan.unfiltered, dedup=()), {path}))
            for piece in rows.pieces:
                if _holds_any(piece, chosen):
                    for batch in rows.read(piece, aliases, chosen=chosen):
                        moved = pa.array(batch.column("o").to_numpy() + firsts[path])
                        yield batch.set_column(0, "o", moved)

    def _read(self, table: pa.Table, number: int) -> Values:
        scan = self.scan
        columns = [*scan.inputs, *(c for c in scan.features if c.tree is None)]
        return {c.in_file: Value(table.column(c.alias)[number]) for c in columns}

    def _joined(self, table: pa.Table, joins: RowJoins | None) -> list[tuple[JoinedRow, ...]]:
        """Return the joined rows of each row."""
        count = table.num_rows
        if joins is None:
            return [()] * count
        whole = {name: _array(table.column(name)) for name in table.schema.names}
        partners = joins.partner_rows(whole, count)
        return [
            tuple(self._partner(join, partners[join.name], n) for join in self.scan.joins)
            for n in range(count)
        ]

    def _partner(self, join: JoinScan, rows: pa.Table, number: int) -> JoinedRow:
        def cell(alias: str) -> int | None:
            found = rows.column(alias)[number].as_py() if alias in rows.schema.names else None
            assert found is None or isinstance(found, int)  # noqa: S101 - ordinals and times
            return found

        ordinal = cell("o")
        read = [*join.scan.keys, *join.scan.features]
        return JoinedRow(
            name=join.name,
            source=join.scan.source.name,
            place=None if ordinal is None else _place(join.scan, ordinal, self.root),
            event_us=cell("e"),
            created_us=cell("c"),
            values={c.name: Value(rows.column(c.alias)[number]) for c in read},
        )


@dataclass(frozen=True)
class _Before:
    """What a transform read of a row, and joined to it."""

    read: Values
    joined: tuple[JoinedRow, ...]
    left_out: str | None


def _array(column: pa.ChunkedArray) -> pa.Array:
    found = column.combine_chunks()
    return found.chunk(0) if isinstance(found, pa.ChunkedArray) else found


def _place(scan: SourceScan, ordinal: int, root: Path) -> Place:
    file, row = place_of(scan, ordinal)
    path = Path(file.path)
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return Place(file=str(shown), row=row)


def _holds_any(piece: Piece, chosen: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> bool:
    low, high = np.searchsorted(chosen, [piece.first, piece.first + piece.rows])
    return bool(low < high)


def times_of(ordinals: Iterable[int]) -> dict[int, Times]:
    """Return rows of which no time is known."""
    return dict.fromkeys(ordinals, (None, None))

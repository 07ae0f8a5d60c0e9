"""Rows that an application writes, from its hands into the online store.

They are rows of the view's source: what materialization does to those of files (names, transform,
zones, rounding) the same code does to them. All are checked before the first is written.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import (
    NotFoundError,
    RequestError,
    RowsError,
    SourceError,
    StoreDataError,
    shown,
)
from featurestore.materialize.append import AddedFile
from featurestore.materialize.encode import RowEncoder
from featurestore.materialize.live import generations, table_of
from featurestore.materialize.pushed_rows import (
    NO_ROWS,
    UNWRITTEN,
    Ints,
    check_rules,
    check_view,
    rows_hidden,
    rule_checks,
    seen_rows,
    time_columns,
)
from featurestore.materialize.rows import Given, given_columns
from featurestore.offline.arrow_values import taken
from featurestore.offline.atomic import atomic_file
from featurestore.offline.history import numbers_of
from featurestore.offline.scan import SourceScan
from featurestore.offline.source_roots import check_sources_within
from featurestore.online.store import EncodedRows, OnlineStore, TableId, WriteCounts
from featurestore.registry.generations import LiveView
from featurestore.registry.state import RegisteredView
from featurestore.time import Clock, format_instant, from_micros

AHEAD_US: Final = 5 * 60 * 1_000_000
"""How far behind the clock's now an event may lie: clocks of other machines differ."""
BATCH_ROWS: Final = 50_000


@dataclass(frozen=True, kw_only=True)
class PushReport:
    """What became of rows that were pushed.

    Attributes:
        view: The view's name.
        rows: Rows given.
        written: Rows that the store took.
        kept: Rows that lost to a newer stored one.
        filtered: Rows that the view's transform leaves out, or a rule whose policy is to.
        expired: Rows so old that the store might drop them at once; they were not offered.
        file: The file of the source that they were appended to, or None.
        missed: Other generations of the view than the one that lookups read, which could not take
            the rows -> why. They lack them when lookups switch.
    """

    view: str
    rows: int = 0
    written: int = 0
    kept: int = 0
    filtered: int = 0
    expired: int = 0
    file: Path | None = None
    missed: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """Rows as the table of one generation takes them."""

    table: TableId
    encoded: Sequence[EncodedRows]
    filtered: int

    @property
    def offered(self) -> int:
        return sum(len(part.keys) for part in self.encoded)


@dataclass(frozen=True, kw_only=True)
class Pusher:
    """Pushes rows of one project.

    Attributes:
        project: The project.
        store: Where to.
        clock: Says what is the future, and when rows that do not say it were created.
        root: Folder that the sources' relative paths start at.
        live: Returns a view with the generations that are alive now.
        source_roots: Folders below which sources have to lie; None allows every place.
    """

    project: str
    store: OnlineStore
    clock: Clock
    root: Path
    live: Callable[[str], LiveView]
    source_roots: Sequence[Path] | None = None

    def push(self, name: str, rows: object, *, append: bool = False) -> PushReport:
        """Write rows of a view's source; see `FeatureStore.push`.

        They go to all generations that are alive. What lookups read has to take them; an older or
        newer meaning of the view may need columns that the rows do not have. The newest one's rules
        are kept by what is written to any of them.
        """
        view = self.live(name)
        source = view.newest.definition.source
        given = given_columns(rows, times=time_columns(view.served.definition))
        if not given:
            check_view(view.served.definition)
            return PushReport(view=view.name)
        sources = (w.definition.source for w in view.written)
        check_sources_within(self.source_roots, sources, root=self.root)
        if not append:
            return self._push(view, given)
        added = AddedFile.of(source, self.root)
        table = added.table(given, now_us=self.clock.now_micros())
        with atomic_file(added.path) as temporary:
            # The file gets its name when the store has the rows: whoever has to try again because
            # the store failed does not leave events there twice.
            pq.write_table(table, temporary)
            columns = dict(zip(table.column_names, table.columns, strict=True))
            return self._push(view, columns, file=added.path)

    def _push(self, view: LiveView, given: Given, file: Path | None = None) -> PushReport:
        rows, now_us = len(next(iter(given.values()))), self.clock.now_micros()
        served, hidden = view.served, NO_ROWS
        if view.is_pending and not view.is_held:  # who rolled it back does not want its rules
            hidden = rows_hidden(view.newest.definition, given, now_us, self.root)
        first = self._prepared(served, given, now_us, hidden)  # what lookups read has to take them
        counts = self._write(first)
        missed: dict[int, str] = {}
        for other in generations(view.written, lambda: self._alive(view.name)):
            if other.generation == served.generation:
                continue
            try:
                self._write(self._prepared(other, given, now_us, hidden))
            except (RequestError, SourceError, StoreDataError) as error:
                missed[other.generation] = error.message.replace(UNWRITTEN, ".")
        return PushReport(
            view=view.name,
            rows=rows,
            written=counts.written,
            kept=counts.kept,
            filtered=first.filtered,
            expired=rows - first.filtered - first.offered,
            file=file,
            missed=missed,
        )

    def _alive(self, name: str) -> Sequence[RegisteredView]:
        try:
            return self.live(name).written
        except NotFoundError:  # the view was deleted meanwhile
            return ()

    def _prepared(self, view: RegisteredView, given: Given, now_us: int, hidden: Ints) -> _Prepared:
        definition = view.definition
        seen = seen_rows(definition, given, now_us, self.root).without(hidden)
        checks = rule_checks(definition, seen.scan)
        for batch in seen.batches:
            _check_batch(seen.scan, batch, now_us)
            if checks is not None:
                check_rules(definition, checks, batch)
        encoder = RowEncoder(definition, now_us=now_us, is_pushed=True)
        parts = (part for batch in _in_order(seen.scan, seen.batches) for part in _parts(batch))
        return _Prepared(
            table=table_of(self.project, view),
            encoded=[encoder.encode(part) for part in parts],
            filtered=seen.given - sum(batch.num_rows for batch in seen.batches),
        )

    def _write(self, rows: _Prepared) -> WriteCounts:
        counts = [self.store.write(rows.table, part) for part in rows.encoded if part.keys]
        return WriteCounts(
            written=sum(count.written for count in counts), kept=sum(count.kept for count in counts)
        )


def _check_batch(scan: SourceScan, batch: pa.RecordBatch, now_us: int) -> None:
    """Refuse rows that nobody could ever read, and those of the future."""
    for column in (*scan.keys, scan.event_column):
        values = batch.column(column.alias)
        if values.null_count:
            row = _row(batch, np.asarray(values.is_null()))
            kind = "the event time" if column.alias == "e" else "a join key"
            raise RowsError(
                f"Row {row} has no {shown(column.in_file)}, which is {kind}{UNWRITTEN}",
                column=column.in_file,
                row=row,
            )
    events = numbers_of(batch.column("e"))
    late = events > now_us + AHEAD_US
    if late.any():
        row, event_us = _row(batch, late), int(events[late][0])
        raise RowsError(
            f"Row {row} took place at {_shown(event_us)}, more than 5 minutes after now,"
            f" {_shown(now_us)}{UNWRITTEN}",
            column=scan.event_column.in_file,
            row=row,
            hint="a row of the future would hide all that come before it; check the clocks",
        )


def _row(batch: pa.RecordBatch, selected: npt.NDArray[np.bool_]) -> int:
    return int(numbers_of(batch.column("o"))[selected][0])


def _in_order(scan: SourceScan, batches: list[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """Return rows such that, of those with equal times, the one that wins comes last."""
    if not scan.ties_by_nanoseconds or not batches:
        return batches
    table = pa.Table.from_batches(batches).combine_chunks()
    created, event = (
        numbers_of(table["cn"].combine_chunks()),
        numbers_of(table["en"].combine_chunks()),
    )
    (whole,) = table.to_batches()
    return [taken(whole, np.lexsort((created, event)))]


def _parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(start, BATCH_ROWS)


def _shown(micros: int) -> str:
    try:
        return format_instant(from_micros(micros))
    except OverflowError:
        return f"{micros} us since 1970"

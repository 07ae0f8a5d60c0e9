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

from featurestore.contracts.rows import RowChecks
from featurestore.contracts.subject import Subject
from featurestore.definitions import FeatureView
from featurestore.definitions.contract import RowRule
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
from featurestore.materialize.rows import Given, given_columns, source_table, with_created
from featurestore.offline.arrow_values import taken
from featurestore.offline.atomic import atomic_file
from featurestore.offline.history import numbers_of
from featurestore.offline.scan import SourceScan, columns_read, scan_of_table
from featurestore.offline.source_roots import check_sources_within
from featurestore.offline.table_rows import TableRows
from featurestore.online.store import EncodedRows, OnlineStore, TableId, WriteCounts
from featurestore.registry.generations import LiveView
from featurestore.registry.state import RegisteredView
from featurestore.time import Clock, format_instant, from_micros

AHEAD_US: Final = 5 * 60 * 1_000_000
"""How far behind the clock's now an event may lie: clocks of other machines differ."""
BATCH_ROWS: Final = 50_000
MAX_RULE_TEXT: Final = 200
ROWS: Final = "the rows"
"""What rows are called where a message names a file."""


@dataclass(frozen=True, kw_only=True)
class PushReport:
    """What became of rows that were pushed.

    Attributes:
        view: The view's name.
        rows: Rows given.
        written: Rows that the store took.
        kept: Rows that lost to a newer stored one.
        filtered: Rows that the view's transform leaves out.
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
        newer meaning of the view may need columns that the rows do not have.
        """
        view = self.live(name)
        source = view.newest.definition.source
        given = given_columns(rows, times=_time_columns(view.served.definition))
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
        served, *_ = view.written
        first = self._prepared(served, given, now_us)  # what lookups read has to take them
        counts = self._write(first)
        missed: dict[int, str] = {}
        for other in generations(view.written, lambda: self._alive(view.name)):
            if other.generation == served.generation:
                continue
            try:
                self._write(self._prepared(other, given, now_us))
            except (RequestError, SourceError, StoreDataError) as error:
                missed[other.generation] = error.message
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

    def _prepared(self, view: RegisteredView, given: Given, now_us: int) -> _Prepared:
        definition = view.definition
        types = column_types(definition, self.root)
        complete = with_created(definition.source, given, now_us)
        table = source_table(complete, types, source=definition.source.name)
        scan = scan_of_table(definition, table, ROWS, self.root)
        try:
            batches = list(_visible_rows(scan, table))
        except SourceError as error:  # there is no file that the caller could look at
            raise RowsError(error.message, hint=error.hint) from None
        checks = _rules(definition, scan)
        for batch in batches:
            _check_batch(scan, batch, now_us)
            if checks is not None:
                _check_contract(definition, checks, batch)
        encoder = RowEncoder(definition, now_us=now_us, is_pushed=True)
        parts = (part for batch in _in_order(scan, batches) for part in _parts(batch))
        return _Prepared(
            table=table_of(self.project, view),
            encoded=[encoder.encode(part) for part in parts],
            filtered=table.num_rows - sum(batch.num_rows for batch in batches),
        )

    def _write(self, rows: _Prepared) -> WriteCounts:
        counts = [self.store.write(rows.table, part) for part in rows.encoded if part.keys]
        return WriteCounts(
            written=sum(count.written for count in counts), kept=sum(count.kept for count in counts)
        )


def column_types(view: FeatureView, root: Path) -> dict[str, pa.DataType | None]:
    """Return the columns of a source's file that a view needs, and their types; None for times.

    Raises:
        RequestError: Rows cannot be pushed to this view.
    """
    check_view(view)
    types: dict[str, pa.DataType | None] = {}
    # What a transform computes with comes last: its types are those of the files.
    for column in columns_read(view, root):
        is_time = column.alias in ("e", "c") or column.in_file in _time_columns(view)
        types[column.in_file] = None if is_time else column.dtype
    return types


def check_view(view: FeatureView) -> None:
    """Refuse a view whose rows are not rows of its source.

    Raises:
        RequestError: It is not served online, has windows, or joins other sources.
    """
    name = f"View {shown(view.name)}"
    if not view.online:
        raise RequestError(f"{name} is not served online.")
    if view.aggregations:
        raise RequestError(
            f"{name} has windows, which are computed from all events of an entity: a row cannot be"
            " pushed into them.",
            hint="add the row to its source, and materialize",
        )
    if view.row_transform is not None and view.row_transform.joins:
        raise RequestError(
            f"{name} joins other sources, which are looked up when it is materialized: a row cannot"
            " be pushed into it.",
            hint="add the row to its source, and materialize",
        )


def _time_columns(view: FeatureView) -> list[str]:
    source = view.source
    names = (source.timestamp_field, source.created_timestamp_column)
    return [source.column_in_file(name) for name in names if name is not None]


def _visible_rows(scan: SourceScan, table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows that the transform lets through, as engines deliver those of files."""
    reader = TableRows(scan, table)
    reader.check_local_times()
    aliases = [column.alias for column in (*scan.keys, *scan.features)]
    aliases += ["o", "e", *(["c"] if scan.created else [])]
    if scan.ties_by_nanoseconds:
        aliases += ["en", "cn"]
    for piece in reader.pieces:
        for batch in reader.read(piece, aliases):
            if scan.created:
                yield batch
            else:
                yield batch.append_column("c", pa.nulls(batch.num_rows, pa.int64()))


def _check_batch(scan: SourceScan, batch: pa.RecordBatch, now_us: int) -> None:
    """Refuse rows that nobody could ever read, and those of the future."""
    for column in (*scan.keys, scan.event_column):
        values = batch.column(column.alias)
        if values.null_count:
            row = _row(batch, np.asarray(values.is_null()))
            kind = "the event time" if column.alias == "e" else "a join key"
            raise RowsError(
                f"Row {row} has no {shown(column.in_file)}, which is {kind}; nothing was written.",
                column=column.in_file,
                row=row,
            )
    events = numbers_of(batch.column("e"))
    late = events > now_us + AHEAD_US
    if late.any():
        row, event_us = _row(batch, late), int(events[late][0])
        raise RowsError(
            f"Row {row} took place at {_shown(event_us)}, more than 5 minutes after now,"
            f" {_shown(now_us)}; nothing was written.",
            column=scan.event_column.in_file,
            row=row,
            hint="a row of the future would hide all that come before it; check the clocks",
        )


def _rules(view: FeatureView, scan: SourceScan) -> RowChecks | None:
    """Return what checks the view's rules about rows whose policy is to fail; None without any."""
    rules = [r for r in view.contract if isinstance(r, RowRule) and r.policy == "fail"]
    if not rules:
        return None
    subject = Subject(kind="feature view", name=view.name, rules=tuple(rules), scan=scan)
    return RowChecks(subject, None, frozenset())


def _check_contract(view: FeatureView, checks: RowChecks, batch: pa.RecordBatch) -> None:
    """Refuse rows that break a rule of the view."""
    found = checks.check(batch)
    for rule, (first, *_) in ((checks.rules[n], rows) for n, rows in found.examples.items()):
        raise RowsError(
            f"Row {first.ordinal} breaks rule {shown(rule.name)} of view {view.name!r}"
            f" ({rule.text[:MAX_RULE_TEXT]}); nothing was written.",
            column=rule.columns[0],
            row=first.ordinal,
            hint="correct the row, or give the rule the policy 'quarantine' or 'warn'",
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

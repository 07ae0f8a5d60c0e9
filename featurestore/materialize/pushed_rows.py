"""Rows that an application writes, as one meaning of a view sees them; and its rules.

A new meaning waits until it is complete, and lookups read the one before; but a rule is asked from
the moment that it is applied. Otherwise rows would be served that break it, and could not be taken
over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.contracts.rows import RowChecks
from featurestore.contracts.subject import Subject
from featurestore.definitions import FeatureView
from featurestore.definitions.contract import RowRule, hiding
from featurestore.errors import RequestError, RowsError, SourceError, StoreDataError, shown
from featurestore.materialize.rows import Given, source_table, with_created
from featurestore.offline.history import numbers_of
from featurestore.offline.scan import SourceScan, columns_read, scan_of_table
from featurestore.offline.table_rows import TableRows

MAX_RULE_TEXT: Final = 200
ROWS: Final = "the rows"
"""What rows are called where a message names a file."""
UNWRITTEN: Final = "; nothing was written."
"""How a message ends: it is so where what lookups read does not take the rows."""

Ints = npt.NDArray[np.int64]
NO_ROWS: Final[Ints] = np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class SeenRows:
    """What is left of rows behind a view's transform and the rules that leave rows out.

    Attributes:
        given: How many rows there were.
        scan: Of them.
        batches: Keys, features and times, and `o`, which is a row's number among those given.
    """

    given: int
    scan: SourceScan
    batches: list[pa.RecordBatch]

    @property
    def numbers(self) -> Ints:
        """Which rows these are."""
        return np.concatenate([NO_ROWS, *(numbers_of(b.column("o")) for b in self.batches)])

    def without(self, rows: Ints) -> "SeenRows":
        """Return what is left without some rows."""
        if not len(rows):
            return self
        kept = (~np.isin(numbers_of(batch.column("o")), rows) for batch in self.batches)
        batches = [b.filter(pa.array(k)) for b, k in zip(self.batches, kept, strict=True)]
        return replace(self, batches=batches)


def seen_rows(view: FeatureView, given: Given, now_us: int, root: Path) -> SeenRows:
    """Return rows as a view sees them.

    Args:
        view: The view.
        given: The rows.
        now_us: When rows that do not say it were created.
        root: Folder that the source's relative path starts at.

    Raises:
        RequestError: Rows cannot be pushed to this view, or these are not of its source.
        SourceError: The source, whose types they have to have, cannot be read.
    """
    types = column_types(view, root)
    table = source_table(with_created(view.source, given, now_us), types, source=view.source.name)
    scan = scan_of_table(view, table, ROWS, root)
    try:
        batches = list(_visible_rows(scan, table))
    except SourceError as error:  # there is no file that the caller could look at
        raise RowsError(error.message, hint=error.hint) from None
    return SeenRows(given=table.num_rows, scan=scan, batches=batches)


def rows_hidden(view: FeatureView, given: Given, now_us: int, root: Path) -> Ints:
    """Return which rows the rules of a view leave out that is not served yet, and of its source.

    Rows that it could not take, for want of a column, are none of these: whether its rules hold is
    not known. Raises like `check_rules`.
    """
    try:
        seen = seen_rows(view, given, now_us, root)
        hidden = NO_ROWS
        if hiding([*view.contract, *view.source.contract]):
            source = view.source.model_copy(update={"contract": ()})
            every = view.model_copy(update={"contract": (), "source": source})
            hidden = np.setdiff1d(seen_rows(every, given, now_us, root).numbers, seen.numbers)
    except (RequestError, SourceError, StoreDataError):
        return NO_ROWS
    if (checks := rule_checks(view, seen.scan)) is not None:
        for batch in seen.batches:
            check_rules(view, checks, batch)
    return hidden


def column_types(view: FeatureView, root: Path) -> dict[str, pa.DataType | None]:
    """Return the columns of a source's file that a view needs, and their types; None for times.

    Raises:
        RequestError: Rows cannot be pushed to this view.
    """
    check_view(view)
    types: dict[str, pa.DataType | None] = {}
    # What a transform computes with comes last: its types are those of the files.
    for column in columns_read(view, root):
        is_time = column.alias in ("e", "c") or column.in_file in time_columns(view)
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


def time_columns(view: FeatureView) -> list[str]:
    """Return the columns of a source's file that are times."""
    source = view.source
    names = (source.timestamp_field, source.created_timestamp_column)
    return [source.column_in_file(name) for name in names if name is not None]


def _visible_rows(scan: SourceScan, table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows that the transform lets through, as engines deliver those of files."""
    reader = TableRows(scan, table)
    reader.check_local_times()
    aliases = [column.alias for column in (*scan.keys, *scan.features)]
    aliases += scan.order
    for piece in reader.pieces:
        for batch in reader.read(piece, aliases):
            if scan.created:
                yield batch
            else:
                yield batch.append_column("c", pa.nulls(batch.num_rows, pa.int64()))


def rule_checks(view: FeatureView, scan: SourceScan) -> RowChecks | None:
    """Return what checks the view's rules about rows whose policy is to fail; None without any."""
    rules = [r for r in view.contract if isinstance(r, RowRule) and r.policy == "fail"]
    if not rules:
        return None
    subject = Subject(kind="feature view", name=view.name, rules=tuple(rules), scan=scan)
    return RowChecks(subject, None, frozenset())


def check_rules(view: FeatureView, checks: RowChecks, batch: pa.RecordBatch) -> None:
    """Refuse rows that break a rule of the view.

    Raises:
        RowsError: It names row and rule.
    """
    found = checks.check(batch)
    for rule, (first, *_) in ((checks.rules[n], rows) for n, rows in found.examples.items()):
        raise RowsError(
            f"Row {first.ordinal} breaks rule {shown(rule.name)} of view {view.name!r}"
            f" ({rule.text[:MAX_RULE_TEXT]}){UNWRITTEN}",
            column=rule.columns[0],
            row=first.ordinal,
            hint="correct the row, or give the rule the policy 'quarantine' or 'warn'",
        )

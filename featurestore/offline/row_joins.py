"""What transforms join to rows: a joined source, held in memory, and who is whose partner.

Both engines ask here, so that neither decides about ties: the partner of a row is the joined row
with its key and the greatest (event_ts, created_ts, ordinal) among those not after the row's event
time; of a static source, the one row with its key.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from threading import Lock
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import ResourceLimitError, SourceError, shown
from featurestore.offline.history import numbers_of
from featurestore.offline.key_index import UNKNOWN, KeyIndex
from featurestore.offline.ordinals import place_of
from featurestore.offline.scan import JoinScan, SourceScan
from featurestore.offline.timeline import NOBODY, Ints, Timeline, rows_at
from featurestore.types import width_of

BYTES_PER_ROW: Final = 64
"""What finding partners takes for each joined row, beside its columns."""
MEMORY_SHARE: Final = 2
"""The part of the engine's memory that a joined source may take: one in so many."""
MAX_SHOWN_ROWS: Final = 5


class RowJoins:
    """All that a scan joins, read when it is first needed. Safe to use from several threads.

    Args:
        scan: The scan.
        read: Returns the table that `JoinedRows` takes.
    """

    def __init__(self, scan: SourceScan, read: Callable[[JoinScan], pa.Table]) -> None:
        self._scan = scan
        self._read = read
        self._tables: dict[str, JoinedRows] = {}
        self._lock = Lock()

    def values(
        self, columns: Mapping[str, pa.Array], wanted: Collection[str], count: int
    ) -> dict[str, pa.Array]:
        """Return joined columns of rows.

        Args:
            columns: What `SourceScan.needed_for(wanted)` names, `count` rows.
            wanted: Aliases of joined columns; others are left alone.
            count: How many rows there are.
        """
        found: dict[str, pa.Array] = {}
        for join in self._scan.joins:
            asked = [(n, c.alias) for n, c in enumerate(join.columns) if c.alias in wanted]
            if asked:
                table = self._table(join)
                partners = table.partners(columns, count)
                found |= {alias: table.values(n, partners) for n, alias in asked}
        return found

    def matched(self, columns: Mapping[str, pa.Array], count: int) -> npt.NDArray[np.bool_]:
        """Return which rows have a partner in every join that leaves out rows without."""
        matched = np.ones(count, dtype=bool)
        for join in self._scan.joins:
            if join.inner:
                matched &= self._table(join).partners(columns, count) != NOBODY
        return matched

    def partner_rows(self, columns: Mapping[str, pa.Array], count: int) -> dict[str, pa.Table]:
        """Return name of a join -> each row's partner, nulls where it has none.

        Args:
            columns: What `JoinScan.needs` of all joins names, `count` rows.
            count: How many rows there are.

        Returns:
            Tables as `JoinedRows` takes them, `count` rows in this order.
        """
        found = {}
        for join in self._scan.joins:
            table = self._table(join)
            found[join.name] = table.rows(table.partners(columns, count))
        return found

    def _table(self, join: JoinScan) -> "JoinedRows":
        with self._lock:
            if join.name not in self._tables:
                self._tables[join.name] = JoinedRows(join, self._read(join))
            return self._tables[join.name]


class JoinedRows:
    """The rows of a joined source that can be partners. Safe to use from several threads.

    Args:
        join: The join.
        table: All rows of its scan in the order of their ordinals: `k0..`, `f0..`, `o`, and of a
            source with times `e`, perhaps `c`, `en` and `cn`.

    Raises:
        SourceError: A static source has two rows of one key.
    """

    def __init__(self, join: JoinScan, table: pa.Table) -> None:
        self._join = join
        self._table = table.filter(_usable(join, table)).combine_chunks()
        self._dtypes = [key.dtype for key in join.scan.keys]
        keys = [self._column(key.alias) for key in join.scan.keys]
        self._index = KeyIndex(keys, self._table.num_rows)
        if join.scan.event is None:
            self._check_unique()
            self._row_of_key = np.full(max(self._index.size, 1), NOBODY, dtype=np.int64)
            self._row_of_key[self._index.groups] = np.arange(self._table.num_rows)
        else:
            self._timeline = self._ordered()
        if join.as_served:
            order = self._timeline.order
            created = numbers_of(self._column("c"))[order]
            self._written = Written(self._index.groups[order], created)

    def partners(self, columns: Mapping[str, pa.Array], count: int) -> Ints:
        """Return the position of each row's partner, `NOBODY` where there is none.

        Args:
            columns: Those that `JoinScan.needs` names, `count` rows.
            count: How many rows there are.
        """
        join = self._join
        pairs = zip(join.keys, self._dtypes, strict=True)
        groups = self._index.find([_cast(columns[key], dtype) for key, dtype in pairs], count)
        if join.scan.event is None:
            return np.where(groups == UNKNOWN, NOBODY, self._row_of_key[groups])
        events = numbers_of(columns["e"])
        places = self._timeline.last(np.maximum(groups, 0), events)
        places[(groups == UNKNOWN) | ~np.asarray(columns["e"].is_valid())] = -1
        if join.as_served:
            known_at = np.maximum(events, numbers_of(columns["c"]))
            places = self._written.last_at_most(places, known_at)
        return rows_at(self._timeline.order, places)

    def values(self, feature: int, partners: Ints) -> pa.Array:
        """Return a joined column for rows with these partners, null where there is none."""
        column = self._column(f"f{feature}")
        return column.take(pa.array(partners, mask=partners == NOBODY))

    def rows(self, partners: Ints) -> pa.Table:
        """Return all that is known of these partners, nulls where there is none."""
        return self._table.take(pa.array(partners, mask=partners == NOBODY))

    def _column(self, alias: str) -> pa.Array:
        chunks = self._table.column(alias).chunks
        if len(chunks) > 1:
            raise _too_large(self._join.scan, "more than 2 GB of text in one column")
        return chunks[0] if chunks else pa.nulls(0, self._table.schema.field(alias).type)

    def _ordered(self) -> Timeline:
        """Return all rows in the order of (key, event, created, ordinal)."""
        timeline = Timeline(self._index.groups, self._column("e").to_numpy())
        names = (name for name in ("c", "en", "cn") if name in self._table.schema.names)
        if versions := [numbers_of(self._column(name)) for name in names]:
            timeline.break_ties(*versions)
        return timeline

    def _check_unique(self) -> None:
        """Refuse a static source in which a key has several rows: a join would multiply others."""
        if self._index.size == self._table.num_rows:
            return
        groups = self._index.groups
        first = int(np.argmax(np.bincount(groups)[groups] > 1))
        rows = np.flatnonzero(groups == groups[first])
        scan = self._join.scan
        ordinals = self._table.column("o").to_numpy()[rows]
        places = [place_of(scan, int(ordinal)) for ordinal in ordinals[:MAX_SHOWN_ROWS]]
        told = " and ".join(f"row {row} of {file.path}" for file, row in places)
        key = ", ".join(
            f"{column.name} = {shown(str(self._column(column.alias)[first]))}"
            for column in scan.keys
        )
        raise SourceError(
            f"Source {scan.source.name!r}: {len(rows):,} rows have the key {key} ({told}"
            f"{', ...' if len(rows) > MAX_SHOWN_ROWS else ''}), so that joining {self._join.name!r}"
            " would make several rows of one.",
            source=scan.source.name,
            file=places[0][0].path,
            hint="leave one row of each key in the file, or join by more columns",
        )


class Written:
    """Which rows, in the order of a timeline, were written by some time.

    Args:
        groups: The rising numbers of the rows' keys.
        created: When each was written.
    """

    def __init__(self, groups: Ints, created: Ints) -> None:
        self._groups = groups
        self._created = created

    def last_at_most(self, places: Ints, times: Ints) -> Ints:
        """Return the last place of the same key, not after another, that was written by a time.

        Args:
            places: A place for each question, or -1.
            times: By when it must have been written.
        """
        if not len(self._created):
            return places
        is_late = (places >= 0) & (self._created[np.maximum(places, 0)] > times)
        late = np.flatnonzero(is_late)
        if not len(late):
            return places
        at, groups, by = places[late], self._groups[places[late]], times[late]
        # From long to short, skip every run of rows that all are later.
        for length, earliest in reversed(self._earliest):
            run_is_late = (at >= 0) & (earliest[np.maximum(at, 0)] > by)
            at = np.where(run_is_late, at - length, at)
        is_same = (at >= 0) & (self._groups[np.maximum(at, 0)] == groups)
        found = places.copy()
        found[late] = np.where(is_same, at, NOBODY)
        return found

    @cached_property
    def _earliest(self) -> list[tuple[int, Ints]]:
        """For 1, 2, 4, ... the earliest time among so many rows up to each place."""
        longest = int(np.bincount(self._groups).max())
        length, earliest = 1, self._created
        found = [(length, earliest)]
        while length < longest:
            longer = earliest.copy()
            np.minimum(earliest[length:], earliest[:-length], out=longer[length:])
            length, earliest = 2 * length, longer
            found.append((length, earliest))
        return found


def check_memory(scan: SourceScan, memory_bytes: int) -> None:
    """Refuse a joined source that would take too much of an engine's memory.

    Raises:
        ResourceLimitError: It says how much it takes.
    """
    width = BYTES_PER_ROW + sum(width_of(column.dtype) for column in scan.columns)
    size = scan.row_count * width
    if size > memory_bytes // MEMORY_SHARE:
        raise _too_large(scan, f"about {size:,} bytes for {scan.row_count:,} rows")


def _too_large(scan: SourceScan, what: str) -> ResourceLimitError:
    return ResourceLimitError(
        f"Source {scan.source.name!r} is joined in a transform and held in memory, which takes"
        f" {what}.",
        hint="raise offline_store.memory_limit, join fewer columns, or join when the files are"
        " written",
    )


def _usable(join: JoinScan, table: pa.Table) -> pa.Array:
    """Return which rows can be anybody's partner: those with a key, and the times that count."""
    needed: Sequence[str] = [key.alias for key in join.scan.keys]
    if join.scan.event is not None:
        needed = [*needed, "e", *(["c"] if join.as_served else [])]
    usable = np.ones(table.num_rows, dtype=bool)
    for alias in needed:
        usable &= np.asarray(table.column(alias).is_valid())
    return pa.array(usable)


def _cast(column: pa.Array, dtype: pa.DataType) -> pa.Array:
    return column if column.type == dtype else column.cast(dtype)

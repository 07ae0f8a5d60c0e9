"""A source's rows of some keys, as an engine delivers them and in the order of their ordinals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.dedup import Survivors
from featurestore.offline.engine import Mode, ScanReader
from featurestore.offline.scan import SourceScan
from featurestore.offline.spine_keys import NumberedKeys
from featurestore.offline.timeline import Ints, Timeline, arrival_order

LOWEST = -(2**63)
"""What a null created time counts as: below every instant."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """Rows of some keys as an engine delivers them, in any order, without those nobody can see.

    Attributes:
        scan: What they were read from.
        numbers: `g` (int32), `e`, `o`, and what else decides between rows (int64), n each.
        columns: Aliases of the features that were read besides.
        held: Batches with these, n rows together.
    """

    scan: SourceScan
    numbers: Mapping[str, npt.NDArray[Any]]
    columns: Sequence[str]
    held: Sequence[pa.RecordBatch]

    @classmethod
    def read(
        cls,
        reader: ScanReader,
        scan: SourceScan,
        keys: NumberedKeys,
        part: range,
        *,
        age_us: int | None,
        columns: Sequence[str] = (),
        mode: Mode = "complete",
    ) -> "Arrived":
        """Read the rows that are of these keys and not after the last time that asks for theirs.

        Args:
            reader: Reads the source.
            scan: The source.
            keys: The keys of a spine.
            part: The numbers of those to read.
            age_us: How much older than the first time that asks a row may be, or None.
            columns: Aliases of features to read besides.
            mode: Which versions of an event may count, if the scan tells events apart.
        """
        names = ["g", *scan.order]
        survivors = None
        if scan.dedup:
            names.append("s")
            is_served = mode == "as_served" and scan.created is not None
            survivors = Survivors(keys, is_served=is_served)
        # Only what is written to takes memory. Copying a batch at once lets its own be used again:
        # the system hands out fresh memory more slowly than DuckDB fills it.
        read: dict[str, npt.NDArray[Any]]
        read = {n: np.empty(scan.row_count, np.int32 if n == "g" else np.int64) for n in names}
        wanted = keys.wanted(part, age_us)
        since, until = keys.since(age_us), keys.last_us
        count, held = 0, []
        for rows in reader.rows(wanted, columns, from_us=since, until_us=until):
            batch = rows if survivors is None else survivors.of(rows)
            for name, numbers in read.items():
                numbers[count : count + batch.num_rows] = numbers_of(batch.column(name))
            count += batch.num_rows
            held.append(batch.select(columns))
        return cls(scan, {n: numbers[:count] for n, numbers in read.items()}, columns, held)

    def of_keys(self, some: range | None = None) -> "History":
        """Return the rows of some keys, or of all, in the order of their ordinals."""
        rows = slice(None) if some is None else self._rows_of(some)
        order = arrival_order(self.numbers["o"][rows])
        if order is not None:
            rows = order if isinstance(rows, slice) else rows[order]

        def take(name: str) -> Ints:
            return self.numbers[name][rows]

        return History(
            groups=self.numbers["g"][rows],
            events=take("e"),
            created=take("c") if self.scan.created else None,
            nanoseconds=(take("en"), take("cn")) if self.scan.ties_by_nanoseconds else None,
            ordinals=take("o"),
            superseded=take("s") if self.scan.dedup else None,
            values=self._values(None if isinstance(rows, slice) else rows),
        )

    def _values(self, rows: Ints | None) -> dict[str, pa.Array]:
        """Return the features at some rows, with their declared types."""
        dtypes = {column.alias: column.dtype for column in self.scan.features}
        found = {}
        for alias in self.columns:
            parts = [batch.column(alias).cast(dtypes[alias]) for batch in self.held]
            whole = pa.chunked_array(parts, dtypes[alias]).combine_chunks()
            found[alias] = whole if rows is None else whole.take(pa.array(rows))
        return found

    def _rows_of(self, some: range) -> Ints:
        groups = self.numbers["g"]
        return np.flatnonzero((groups >= some.start) & (groups < some.stop))


@dataclass(frozen=True, slots=True)
class History:
    """Rows of some keys, without their features, in the order of their ordinals.

    Attributes:
        groups: int32, the number of each row's key.
        events: int64 microseconds.
        created: int64 microseconds, `LOWEST` where null; None if the source has none.
        nanoseconds: By how much rounding moved events and created times; None if nothing was.
        ordinals: int64, rising.
        superseded: int64 microseconds, when the next version of each row's event was created; None
            if every row is an event of its own.
        values: Alias -> column, of the columns that were asked for.
    """

    groups: npt.NDArray[np.int32]
    events: Ints
    created: Ints | None
    nanoseconds: tuple[Ints, Ints] | None
    ordinals: Ints
    superseded: Ints | None = None
    values: Mapping[str, pa.Array] = field(default_factory=dict)

    @property
    def versions(self) -> list[Ints]:
        """What decides between rows of one key and event time before the ordinal does."""
        created = [] if self.created is None else [self.created]
        return [*created, *(self.nanoseconds or ())]

    def by_event(self) -> Timeline:
        """Return the rows in the order (key, event, created, ordinal)."""
        timeline = Timeline(self.groups, self.events)
        if self.versions:
            timeline.break_ties(*self.versions)
        return timeline


def numbers_of(column: pa.Array) -> npt.NDArray[np.int64]:
    """Return the integers of a column, `LOWEST` for nulls."""
    filled = column.fill_null(LOWEST) if column.null_count else column
    return np.asarray(filled.to_numpy())

"""The events of a view or a source as rows: keys, times, and columns that are carried along."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from featurestore.definitions import Aggregation, FeatureView
from featurestore.definitions.aggregation import ROWS
from featurestore.errors import SpineError
from featurestore.offline.column_types import with_file_types
from featurestore.offline.dedup import NEVER
from featurestore.offline.scan import SourceScan, open_scan
from featurestore.offline.timeline import Ints
from featurestore.spines.context import Context, Events
from featurestore.training.watch import Watch, WatchedReader

EARLIEST: Final = -(2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRows:
    """Events in the order of (time, file, row).

    Attributes:
        keys: The join keys, n rows.
        times: n event times, int64 microseconds.
        columns: What was carried along, n rows.
        scan: What was read.
    """

    keys: pa.Table
    times: Ints
    columns: pa.Table
    scan: SourceScan


def read_events(
    context: Context,
    of: Events,
    *,
    keys: Sequence[str] | None,
    columns: Sequence[str],
    after_us: int | None,
    until_us: int,
    max_rows: int,
    watch: Watch,
) -> EventRows:
    """Return the events of a view, behind its transform, or of a source, of some span of time.

    Superseded versions of events are left out, and so are rows without a whole key or a time.

    Args:
        context: Where they are.
        of: What has the events.
        keys: The key columns of a source.
        columns: Columns of the rows to carry along.
        after_us: Only events after this, or None.
        until_us: Only events until this.
        max_rows: More are refused.
        watch: Told how far it is.

    Raises:
        SpineError: There are more events than `max_rows`.
        SourceError: The files cannot be read, or have no such columns.
    """
    reading = _Reading(
        context, of, keys=keys, columns=columns, after_us=after_us, until_us=until_us
    )
    aliases = [column.alias for column in reading.scan.features]
    parts, count = [], 0
    for batch in reading.batches(watch, aliases):
        parts.append(batch)
        count += batch.num_rows
        if count > max_rows:
            raise SpineError(
                f"{of.name!r} has more than {max_rows:,} events in that time.",
                hint="choose a later start or an earlier end, or raise max_rows",
            )
    return reading.rows(parts, aliases, columns)


def first_events(
    context: Context, of: Events, *, keys: Sequence[str] | None, until_us: int, watch: Watch
) -> tuple[pa.Table, Ints, SourceScan]:
    """Return the keys that have events until some time, in their order, and when each's first is.

    Memory grows with the keys, not with the events. Args and errors are those of `read_events`.
    """
    reading = _Reading(context, of, keys=keys, until_us=until_us)
    firsts = np.full(reading.keys.num_rows, NEVER, dtype=np.int64)
    for batch in reading.batches(watch, []):
        np.minimum.at(firsts, batch["g"].to_numpy(), batch["e"].to_numpy())
    seen = np.flatnonzero(firsts != NEVER)
    found = reading.keys.take(pa.array(seen))
    order = _key_order(found)
    return found.take(pa.array(order)), firsts[seen][order], reading.scan


def _key_order(keys: pa.Table) -> Ints:
    """Return the order of keys by their values: an engine yields them in any order."""
    columns = [
        key.cast(pa.int8()) if pa.types.is_boolean(key.type) else key for key in keys.columns
    ]
    if not columns:
        return np.arange(keys.num_rows)
    plain = pa.table(columns, names=keys.column_names)
    by = [(name, "ascending") for name in plain.column_names]
    order: Ints = pa.compute.sort_indices(plain, by).to_numpy().astype(np.int64)
    return order


class _Reading:
    """One reading of the events of one view or source.

    Attributes:
        scan: What is read.
        keys: The distinct keys, by their names.
    """

    def __init__(
        self,
        context: Context,
        of: Events,
        *,
        keys: Sequence[str] | None,
        columns: Sequence[str] = (),
        after_us: int | None = None,
        until_us: int,
    ) -> None:
        aggregations = [Aggregation(ROWS, ["count"], [None])]
        for number, name in enumerate(columns):
            aggregations.append(Aggregation(name, ["count"], [None], name=f"column{number}"))
        view = context.event_view(of, keys=keys, aggregations=aggregations)
        self._view: FeatureView = with_file_types(view, context.root)
        self._engine = context.engine
        self.scan = open_scan(self._view, self._view.feature_names, context.root)
        self._after_us, self._until_us = after_us, until_us
        self.keys = self._read_keys()

    def _read_keys(self) -> pa.Table:
        dtypes = self._view.join_keys
        if not dtypes:
            return pa.table({"nobody": pa.nulls(1)}).select([])
        schema = pa.schema([(f"k{n}", dtype) for n, dtype in enumerate(dtypes.values())])
        batches = list(self._engine.keys(self.scan))
        found = pa.Table.from_batches([batch.cast(schema) for batch in batches], schema)
        return found.rename_columns(list(dtypes))

    def batches(self, watch: Watch, aliases: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the events: `g`, `e`, `o` and the columns with these aliases."""
        if self._view.join_keys and not self.keys.num_rows:
            return
        wanted = self._wanted()
        with self._engine.reader(self.scan) as opened:
            what = f"{self._view.name}: reading"
            reader = WatchedReader(opened, watch, what=what, scan=self.scan)
            first = None if self._after_us is None else self._after_us + 1
            read = reader.rows(wanted, aliases, from_us=first, until_us=self._until_us)
            for batch in read:
                yield self._chosen(batch).select(["g", "e", "o", *aliases])

    def _wanted(self) -> pa.Table:
        count = max(self.keys.num_rows, 1)
        columns: dict[str, Any] = {"g": pa.array(np.arange(count, dtype=np.int32))}
        columns |= {f"k{n}": key for n, key in enumerate(self.keys.columns)}
        columns["until"] = pa.array(np.full(count, self._until_us, dtype=np.int64))
        if self._after_us is not None:
            columns["since"] = pa.array(np.full(count, self._after_us + 1, dtype=np.int64))
        return pa.table(columns)

    def _chosen(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the rows of a batch that are the last version of their event."""
        if not self.scan.dedup:
            return batch
        return batch.filter(pa.compute.equal(batch["s"], NEVER))

    def rows(
        self, parts: Sequence[pa.RecordBatch], aliases: Sequence[str], columns: Sequence[str]
    ) -> EventRows:
        """Return the events that batches hold, in order, each of `columns` by its name."""
        dtypes = {column.alias: column.dtype for column in self.scan.features}
        numbers = [("g", pa.int32()), ("e", pa.int64()), ("o", pa.int64())]
        schema = pa.schema([*numbers, *((alias, dtypes[alias]) for alias in aliases)])
        whole = pa.Table.from_batches([part.cast(schema) for part in parts], schema)
        times, ordinals = whole["e"].to_numpy(), whole["o"].to_numpy()
        order = np.lexsort((ordinals, times))
        whole = whole.take(pa.array(order))
        by_name = {column.name: column.alias for column in self.scan.features}
        return EventRows(
            keys=self.keys.take(whole["g"]) if self._view.join_keys else self.keys.slice(0, 0),
            times=times[order],
            columns=whole.select([by_name[name] for name in columns]).rename_columns(list(columns)),
            scan=self.scan,
        )

"""A number for every distinct join key of a spine, and the spine in order of key and time."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.arrow_values import in_one_piece
from featurestore.offline.key_index import DENSE
from featurestore.offline.timeline import (
    ByTime,
    Ints,
    distinct_places,
    first_of_runs,
)


@dataclass(frozen=True, slots=True)
class NumberedKeys:
    """The spine's rows that can have features, in the order of their keys' numbers and times.

    Attributes:
        count: How many rows the spine has.
        rows: Positions in the spine of the m rows with a whole key and a time.
        groups: int32, the key's number of each of them; rising.
        times: int64 microseconds, of each of them; rising within a group.
        table: `g` and `k0..`: the keys, numbered from 0, each of which some row has.
        bounds: For each key where in `rows` its rows begin, and at the end m.
        firsts: For each key the first of its times.
        lasts: For each key the last of its times.
    """

    count: int
    rows: Ints
    groups: npt.NDArray[np.int32]
    times: Ints
    table: pa.Table
    bounds: Ints
    firsts: Ints
    lasts: Ints

    @property
    def last_places(self) -> Ints:
        """Where in `times` the last time of each key is."""
        return self.bounds[1:] - 1

    @property
    def last_us(self) -> int:
        """The greatest time; there must be a row."""
        return int(self.lasts.max())

    def since(self, age_us: int | None) -> int | None:
        """Return the smallest event time that can matter, if there is a greatest age."""
        return None if age_us is None else int(self.firsts.min()) - age_us

    def wanted(self, keys: range, age_us: int | None) -> pa.Table:
        """Return some keys with the event times that can matter to them; see `ScanReader.rows`."""
        some = slice(keys.start, keys.stop)
        found = self.table.slice(keys.start, len(keys))
        found = found.append_column("until", pa.array(self.lasts[some]))
        return self._with_since(found, some, age_us)

    def asking(
        self, lasts: Ints, since_us: int | None, until_us: int, age_us: int | None
    ) -> pa.Table:
        """Return the keys to which rows of a span of time may matter, for `ScanReader.rows`.

        They come without `until`: to look at it costs an engine more than the rows that are after
        the last time of their key.

        Args:
            lasts: Of each key that asks, where in `times` the last time is that matters; from the
                first of its times on all do. It takes the place of the key's number.
            since_us: Where the span begins, or None.
            until_us: Where it ends.
            age_us: How much older than a time that asks a row may be, or None.
        """
        if since_us is not None:
            lasts = lasts.take(np.flatnonzero(self.times.take(lasts) >= since_us))
        keys = self.groups.take(lasts)
        if age_us is not None and until_us + age_us < self.last_us:
            young = np.flatnonzero(self.firsts.take(keys) <= until_us + age_us)
            lasts, keys = lasts.take(young), keys.take(young)
        found = self.table.drop_columns("g")
        found = found.take(keys) if len(keys) < found.num_rows else found
        found = found.add_column(0, "g", pa.array(lasts.astype(np.int32)))
        return self._with_since(found, keys, age_us)

    def _with_since(
        self, wanted: pa.Table, keys: slice | npt.NDArray[np.int32], age_us: int | None
    ) -> pa.Table:
        """Return keys with where rows that can matter to them begin.

        That is of use only where they may be far younger than the first of all; else looking at it
        would cost more than it saves.
        """
        if age_us is None or age_us >= self.last_us - int(self.firsts.min()):
            return wanted
        lowest, firsts = np.iinfo(np.int64).min, self.firsts[keys]
        since = np.where(firsts < lowest + age_us, lowest, firsts - age_us)
        return wanted.append_column("since", pa.array(since))

    def places(self, keys: range) -> slice:
        """Return where the rows of some keys are."""
        return slice(int(self.bounds[keys.start]), int(self.bounds[keys.stop]))


def number_keys(spine: pa.Table) -> NumberedKeys:
    """Number the keys of a spine.

    Args:
        spine: Columns `q` (int64 microseconds) and `k0..`, n rows; nulls are allowed everywhere.
    """
    columns = [in_one_piece(column) for column in spine.columns]
    usable = np.ones(spine.num_rows, dtype=bool)
    for column in columns:
        if column.null_count:
            usable &= np.asarray(column.is_valid())
    rows = np.flatnonzero(usable)
    if len(rows) < spine.num_rows:
        columns = [column.take(pa.array(rows)) for column in columns]
    times, *keys = columns
    with ThreadPoolExecutor(1, thread_name_prefix="times") as pool:
        by_time = pool.submit(ByTime, times.to_numpy())
        numbers, known = _number(keys, len(rows))
        order, groups, ordered = by_time.result().within(numbers)
    bounds = np.append(np.flatnonzero(first_of_runs(groups)), len(groups))
    if known is None:
        one_of_each = pa.array(order.take(bounds[:-1]))
        known = [key.take(one_of_each) for key in keys]
    table = {"g": pa.array(np.arange(len(bounds) - 1, dtype=np.int32))}
    table |= {f"k{n}": values for n, values in enumerate(known)}
    return NumberedKeys(
        count=spine.num_rows,
        rows=order if len(rows) == spine.num_rows else rows.take(order),
        groups=groups,
        times=ordered,
        table=pa.table(table),
        bounds=bounds,
        firsts=ordered.take(bounds[:-1]),
        lasts=ordered.take(bounds[1:] - 1),
    )


def _number(
    keys: list[pa.Array], count: int
) -> tuple[npt.NDArray[np.int32], list[pa.Array] | None]:
    """Return the group of each row; and the groups' keys, where they are known."""
    if not keys:
        return np.zeros(count, dtype=np.int32), []
    groups, known = _encoded(keys[0])
    if len(keys) == 1:
        return groups, [known]
    for key in keys[1:]:
        more, values = _encoded(key)
        groups = distinct_places(groups.astype(np.int64) * len(values) + more)[1].astype(np.int32)
    return groups, None


def _encoded(key: pa.Array) -> tuple[npt.NDArray[np.int32], pa.Array]:
    """Return a number for each value, and the values by their numbers."""
    if pa.types.is_integer(key.type) and key.type != pa.uint64() and len(key):
        numbers, known = _sorted_numbers(key.cast(pa.int64()).to_numpy())
        return numbers, pa.array(known).cast(key.type)
    encoded = key.dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary


def _sorted_numbers(values: Ints) -> tuple[npt.NDArray[np.int32], Ints]:
    """Number integers in their order, which takes less time and memory than a hash table."""
    low = values.min()
    span = int(values.max()) - int(low) + 1
    if span <= DENSE * len(values):
        offsets = values - low
        is_there = np.zeros(span, dtype=bool)
        is_there[offsets] = True
        of_offset = np.cumsum(is_there, dtype=np.int32)
        of_offset -= 1
        return of_offset.take(offsets), np.flatnonzero(is_there) + low
    known, numbers = distinct_places(values)
    return numbers.astype(np.int32), known

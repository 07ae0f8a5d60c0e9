"""Which entities are looked at, and when: rows of a given spine, or drawn from the sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurestore.definitions import FeatureViewSelection, FileSource
from featurestore.errors import RequestError, SourceError
from featurestore.leakage.extract import column_values
from featurestore.offline.files import SourceFile, list_files
from featurestore.offline.instants import Instants
from featurestore.types import Timestamp, parse_type

POOL_ROWS: Final = 4_000
GROUPS_READ: Final = 4
TIME: Final = "event_timestamp"
_GAPS_US: Final = (0, 0, 1, -1, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000)
"""How much later than an event a spine row is drawn."""


def chosen_rows(spine: pa.Table, count: int, chance: np.random.Generator) -> pa.Table:
    """Return at most `count` rows of a spine, in its order."""
    if spine.num_rows <= count:
        return spine
    rows = chance.choice(spine.num_rows, count, replace=False)
    return spine.take(pa.array(np.sort(rows)))


def drawn_spine(
    selections: Sequence[FeatureViewSelection],
    fields: Mapping[str, str],
    *,
    root: Path,
    count: int,
    chance: np.random.Generator,
) -> pa.Table:
    """Return a spine of keys and times that the views' own sources have.

    Args:
        selections: What is asked for; each is the first thought of about as many rows.
        fields: Request fields of on-demand features: name -> type. They are drawn as well.
        root: Folder that the sources' relative paths start at.
        count: Rows.
        chance: Draws.

    Raises:
        RequestError: No source has a row with a time.
        SourceError: A file cannot be read.
    """
    pools = {s.name: _pool(s, root, chance) for s in selections}
    filled = [s for s in selections if pools[s.name].num_rows]
    if not filled:
        raise RequestError(
            "No source of these features has a row with a time to start from.",
            hint="give the entities and times to look at with a spine",
        )
    rows = [_row(filled[number % len(filled)], filled, pools, chance) for number in range(count)]
    columns: dict[str, pa.Array] = {}
    for selection in selections:
        for key, column in selection.key_columns.items():
            values = [row.get(column) for row in rows]
            columns[column] = pa.array(values, selection.view.join_keys[key])
    for name, dtype in fields.items():
        columns[name] = _drawn_field(parse_type(dtype), count, chance)
    times = pa.array([row[TIME] for row in rows], pa.int64()).cast(Timestamp)
    return pa.table({**columns, TIME: times})


def _row(
    first: FeatureViewSelection,
    others: Sequence[FeatureViewSelection],
    pools: Mapping[str, pa.Table],
    chance: np.random.Generator,
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for selection in (first, *others):
        pool = pools[selection.name]
        one = pool.slice(int(chance.integers(pool.num_rows)), 1).to_pylist()[0]
        for key, column in selection.key_columns.items():
            row.setdefault(column, one[key])
        if TIME not in row:
            row[TIME] = one[""] + int(chance.choice(_GAPS_US))
    return row


def _pool(selection: FeatureViewSelection, root: Path, chance: np.random.Generator) -> pa.Table:
    """Return keys and event times (called "") of some rows that have a time."""
    view = selection.view
    source, keys = view.source, view.join_keys
    tables = [
        pa.table({"": pa.array([], pa.int64()), **{k: pa.array([], t) for k, t in keys.items()}})
    ]
    for table, file in sampled_rows(source, root, [*keys, source.event_field], chance):
        times = Instants(source).micros(
            table.column(source.column_in_file(source.event_field)).combine_chunks(), up=True
        )
        columns = {k: column_values(source, file, table, k, t) for k, t in keys.items()}
        tables.append(pa.table({"": times, **columns}))
    pool = pa.concat_tables(tables).filter(pc.field("").is_valid())
    in_range = pc.less(pc.abs_checked(pool.column("")), 1 << 62)
    return pool.filter(in_range)


def sampled_rows(
    source: FileSource,
    root: Path,
    names: Sequence[str],
    chance: np.random.Generator,
    *,
    groups: int = GROUPS_READ,
    most: int = POOL_ROWS,
    runs: bool = False,
) -> list[tuple[pa.Table, SourceFile]]:
    """Read some rows of some row groups: columns by their names in definitions.

    Args:
        source: The source.
        root: Folder that its relative path starts at.
        names: The columns.
        chance: Draws.
        groups: At most so many files, and row groups of each.
        most: At most so many rows of a file.
        runs: Whether these are neighbours.

    Raises:
        SourceError: A file cannot be read.
    """
    files = list_files(source, root)
    if len(files) > groups:
        files = tuple(files[n] for n in np.sort(chance.choice(len(files), groups, replace=False)))
    return [
        (_sample_of(source, file, names, chance, groups=groups, most=most, runs=runs), file)
        for file in files
    ]


def _sample_of(
    source: FileSource,
    file: SourceFile,
    names: Sequence[str],
    chance: np.random.Generator,
    *,
    groups: int,
    most: int,
    runs: bool,
) -> pa.Table:
    folders = dict(file.partitions)
    columns = [c for n in names if (c := source.column_in_file(n)) not in folders]
    try:
        with pq.ParquetFile(file.path, coerce_int96_timestamp_unit="us") as reading:
            read = np.arange(reading.num_row_groups)
            if len(read) > groups:
                read = np.sort(chance.choice(read, groups, replace=False))
            table = reading.read_row_groups(read.tolist(), columns=list(dict.fromkeys(columns)))
    except (pa.ArrowException, OSError) as error:
        text = str(error).partition("\n")[0][:200]
        raise SourceError(
            f"Source {source.name!r}: {file.path} cannot be read ({text}).",
            source=source.name,
            file=file.path,
        ) from None
    if table.num_rows > most and runs:
        return table.slice(int(chance.integers(table.num_rows - most + 1)), most)
    if table.num_rows > most:
        table = table.take(pa.array(np.sort(chance.choice(table.num_rows, most, replace=False))))
    return table


def _drawn_field(dtype: pa.DataType, count: int, chance: np.random.Generator) -> pa.Array:
    """Return values for a request field, of which nobody knows what they mean: small and plain."""
    numbers = chance.integers(0, 100, count)
    if pa.types.is_string(dtype):
        return pa.array([f"value {n}" for n in numbers.tolist()], dtype)
    if pa.types.is_boolean(dtype):
        return pa.array(numbers % 2 == 0)
    try:
        return pa.array(numbers).cast(dtype)
    except pa.ArrowException:
        return pa.nulls(count, dtype)

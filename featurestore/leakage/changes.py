"""Mutations of an extract's rows: how they are made, what they mean, how they are carried out."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa

from featurestore.leakage.report import Mutation
from featurestore.leakage.source_rows import NEVER, NULL, Rows, SourceRows
from featurestore.offline.timeline import Ints
from featurestore.time import format_instant, from_micros

MAX_COLUMNS: Final = 5
"""Of a row that must not matter so many columns are changed at once."""
Verb = Literal["changed", "removed", "added"]


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row that is changed, removed, or added beside one that is there.

    Attributes:
        source: The source's name.
        verb: What is done.
        row: The row; of an added one that which it is a copy of.
        before_it: Whether an added row stands before that, instead of behind it.
        columns: Column in the file -> what it holds then, an array of one value.
        event: The event time then.
        created: The created time then.
        codes: Column -> number of its value then.
        why: What the row is to the spine rows, for people.
    """

    source: str
    verb: Verb
    row: int
    before_it: bool = False
    columns: Mapping[str, pa.Array] = field(default_factory=dict)
    event: int
    created: int
    codes: Mapping[str, int]
    why: str

    @property
    def place(self) -> float:
        """Where the row stands then."""
        return self.row + (0.0 if self.verb != "added" else -0.5 if self.before_it else 0.5)


class Editor:
    """Makes changes of one source's rows that its files can hold.

    Args:
        rows: The rows.
        chance: Draws.
    """

    def __init__(self, rows: SourceRows, chance: np.random.Generator) -> None:
        self.rows = rows
        self._chance = chance

    @property
    def source(self) -> str:
        """The source's name."""
        return self.rows.source.name

    def removed(self, row: int, *, why: str) -> Change:
        """Return the change that takes a row away."""
        return self._change("removed", row, {}, {}, why)

    def edited(
        self,
        row: int,
        *,
        why: str,
        copy: bool = False,
        before_it: bool = False,
        event: int | None = None,
        created: int | None = None,
        keys_of: int | None = None,
        without: str | None = None,
        most: int = MAX_COLUMNS,
    ) -> Change | None:
        """Return the change that gives a row, or a copy of it, other values; None if none can be.

        Args:
            row: The row.
            why: What it is to the spine rows.
            copy: Add a copy and leave the row as it is.
            before_it: Put the copy before the row.
            event: Its event time then.
            created: Its created time then.
            keys_of: A row of the same file whose coded columns it has then.
            without: A column that is null then, by its name in definitions.
            most: So many of the columns that decide nothing are drawn anew.
        """
        base = self.rows.rows.take(np.array([row]))
        columns: dict[str, pa.Array] = {}
        codes = {name: int(found[0]) for name, found in base.codes.items()}
        times = {"event": int(base.event[0]), "created": int(base.created[0])}
        columns |= self._drawn(row, most)
        if keys_of is not None:
            self._copy_keys(row, keys_of, columns, codes)
        if not self._set_times(row, {"event": event, "created": created}, columns, times):
            return None
        if without is not None and not self._drop(row, without, columns, codes, times):
            return None
        verb: Verb = "added" if copy else "changed"
        return self._change(verb, row, columns, codes | times, why, before_it=before_it)

    def _change(
        self,
        verb: Verb,
        row: int,
        columns: Mapping[str, pa.Array],
        found: Mapping[str, int],
        why: str,
        *,
        before_it: bool = False,
    ) -> Change:
        base = self.rows.rows
        codes = {name: found.get(name, int(codes[row])) for name, codes in base.codes.items()}
        return Change(
            source=self.source,
            verb=verb,
            row=row,
            before_it=before_it,
            columns=columns,
            event=found.get("event", int(base.event[row])),
            created=found.get("created", int(base.created[row])),
            codes=codes,
            why=why,
        )

    def _drawn(self, row: int, most: int) -> dict[str, pa.Array]:
        """Return other values for columns that decide nothing: numbers moved, or other rows'."""
        table = self._table(row)
        deciding = {self.rows.source.column_in_file(name) for name in self._deciding}
        names = [name for name in table.column_names if name not in deciding]
        if len(names) > most:
            names = [names[n] for n in self._chance.choice(len(names), most, replace=False)]
        return {name: self._other(table.column(name), self._local(row)) for name in names}

    def _other(self, column: pa.ChunkedArray, row: int) -> pa.Array:
        own = column.slice(row, 1).combine_chunks()
        kind = column.type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            moved = _moved(own, int(self._chance.integers(1, 100)))
            if moved is not None:
                return moved
        for _ in range(4):
            taken = column.slice(int(self._chance.integers(len(column))), 1).combine_chunks()
            if not taken.equals(own):
                break
        else:
            return _flipped(own)
        return taken

    def _copy_keys(
        self, row: int, other: int, columns: dict[str, pa.Array], codes: dict[str, int]
    ) -> None:
        table, local = self._table(row), self._local(other)
        for name, numbers in self.rows.rows.codes.items():
            in_file = self.rows.source.column_in_file(name)
            if in_file in table.column_names:
                columns[in_file] = table.column(in_file).slice(local, 1).combine_chunks()
                codes[name] = int(numbers[other])

    def _set_times(
        self,
        row: int,
        wanted: Mapping[str, int | None],
        columns: dict[str, pa.Array],
        times: dict[str, int],
    ) -> bool:
        names = {
            "event": self.rows.source.timestamp_field,
            "created": self.rows.source.created_timestamp_column,
        }
        for which, instant in wanted.items():
            name = names[which]
            if instant is None or name is None:
                continue
            held = self.rows.time(row, name, instant)
            if held is None:
                return False
            columns[self.rows.source.column_in_file(name)], times[which] = held
        return True

    def _drop(
        self,
        row: int,
        name: str,
        columns: dict[str, pa.Array],
        codes: dict[str, int],
        times: dict[str, int],
    ) -> bool:
        in_file, table = self.rows.source.column_in_file(name), self._table(row)
        if in_file not in table.column_names or not table.schema.field(in_file).nullable:
            return False
        columns[in_file] = pa.nulls(1, table.schema.field(in_file).type)
        if name in codes:
            codes[name] = NULL
        if name == self.rows.source.timestamp_field:
            times["event"] = NEVER
        if name == self.rows.source.created_timestamp_column:
            times["created"] = NEVER
        return True

    @property
    def _deciding(self) -> set[str]:
        source = self.rows.source
        times = (source.timestamp_field, source.created_timestamp_column)
        return {*self.rows.rows.codes, *(name for name in times if name is not None)}

    def _table(self, row: int) -> pa.Table:
        return self.rows.extract.files[self.rows.file_of(row)].table

    def _local(self, row: int) -> int:
        return row - int(self.rows.starts[self.rows.file_of(row)])


def _moved(own: pa.Array, by: int) -> pa.Array | None:
    """Return a number moved a little; None if its type cannot say that, or it is none."""
    value = own[0].as_py()
    if value is None:
        return None
    try:
        moved = pa.array([value + by], own.type)
    except (pa.ArrowException, OverflowError, ValueError):
        return None
    return None if moved.equals(own) else moved


def _flipped(own: pa.Array) -> pa.Array:
    """Return something else than the only value that a column has."""
    value = own[0].as_py()
    other: Any = None
    if isinstance(value, bool):
        other = not value
    elif isinstance(value, str):
        other = f"{value}~"
    elif isinstance(value, bytes):
        other = value + b"~"
    try:
        return pa.array([other], own.type)
    except (pa.ArrowException, TypeError, ValueError):
        return pa.nulls(1, own.type)


def as_rows(changes: Sequence[Change], codes: Sequence[str]) -> Rows:
    """Return what rows of one source are after their changes; `codes` are its coded columns."""

    def ints(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, dtype=np.int64)

    return Rows(
        event=ints([c.event for c in changes]),
        created=ints([c.created for c in changes]),
        place=np.array([c.place for c in changes], dtype=np.float64),
        codes={name: ints([c.codes[name] for c in changes]) for name in codes},
    )


def carried_out(rows: SourceRows, changes: Sequence[Change]) -> dict[int, pa.Table]:
    """Return the changed files of an extract: number of the file -> its table."""
    by_file: dict[int, list[Change]] = defaultdict(list)
    for change in changes:
        by_file[rows.file_of(change.row)].append(change)
    return {
        number: _changed(
            rows.extract.files[number].table, int(rows.starts[number]), by_file[number]
        )
        for number in by_file
    }


def _changed(table: pa.Table, first: int, changes: Sequence[Change]) -> pa.Table:
    removed = np.array([c.row - first for c in changes if c.verb == "removed"], dtype=np.int64)
    kept = np.delete(np.arange(table.num_rows), removed)
    added = [c for c in changes if c.verb == "added"]
    edited = [c for c in changes if c.verb == "changed"]
    rows = np.concatenate([kept, [c.row - first for c in added]]).astype(np.int64)
    places = np.concatenate([kept, [c.place - first for c in added]])
    order = np.argsort(places, kind="stable")
    where = np.empty(len(order), dtype=np.int64)
    where[order] = np.arange(len(order))
    at = {id(c): int(where[len(kept) + n]) for n, c in enumerate(added)}
    at |= {id(c): int(where[np.searchsorted(kept, c.row - first)]) for c in edited}
    columns = [
        _column(
            table.column(name),
            rows[order],
            [(at[id(c)], c.columns[name]) for c in (*added, *edited) if name in c.columns],
        )
        for name in table.column_names
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _column(
    column: pa.ChunkedArray, rows: Ints, drawn: Sequence[tuple[int, pa.Array]]
) -> pa.ChunkedArray:
    """Return a column's values at some rows, others at some places of the result."""
    taken = rows.copy()
    for number, (place, _) in enumerate(drawn):
        taken[place] = len(column) + number
    whole = pa.chunked_array([*column.chunks, *(array for _, array in drawn)], column.type)
    return whole.combine_chunks().take(pa.array(taken))


def described(rows: SourceRows, change: Change, *, keys: Sequence[str]) -> Mutation:
    """Return a change for people.

    Args:
        rows: The rows of its source.
        change: The change.
        keys: Columns that say whose row it is.
    """
    number = rows.file_of(change.row)
    file, local = rows.extract.files[number], change.row - int(rows.starts[number])
    before = _facts(rows, file.table.slice(local, 1), keys)
    after = _facts(rows, _with_columns(file.table.slice(local, 1), change.columns), keys)
    return Mutation(
        kind=change.verb,
        why=change.why,
        source=rows.source.name,
        file=file.origin.path,
        row=int(file.rows[local]),
        before={} if change.verb == "added" else before,
        after={} if change.verb == "removed" else after,
        values=tuple(name for name in change.columns if name not in after),
    )


def _with_columns(row: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    arrays = [columns.get(name, row.column(name)) for name in row.column_names]
    return pa.table(arrays, schema=row.schema)


def _facts(rows: SourceRows, row: pa.Table, keys: Sequence[str]) -> dict[str, Any]:
    source = rows.source
    found: dict[str, Any] = {}
    for name in keys:
        in_file = source.column_in_file(name)
        if in_file in row.column_names:
            found[name] = row.column(in_file)[0].as_py()
    for time in (source.timestamp_field, source.created_timestamp_column):
        if time is not None:
            column = row.column(source.column_in_file(time)).combine_chunks()
            found[time] = instant_of(rows.instant(column))
    return found


def instant_of(micros: int | None) -> str | None:
    """Return microseconds as RFC 3339; what no date can say as a number."""
    if micros is None or micros == NEVER:
        return None
    try:
        return format_instant(from_micros(micros))
    except (OverflowError, ValueError):
        return f"{micros} us"

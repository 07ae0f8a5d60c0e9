"""The SQL that the DuckDB engine runs, as pure text. Every name is quoted, every value a literal.

Inside, instants are BIGINT microseconds of UTC, so that comparisons and differences are exact and
know no time zone; columns have positional aliases, never users' names.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from featurestore.expressions.check import columns_of
from featurestore.expressions.tree import Node
from featurestore.offline.duckdb_expressions import expression
from featurestore.offline.duckdb_text import file_pattern, quote, text
from featurestore.offline.duckdb_values import (
    instant,
    is_exactly_within,
    nanoseconds,
    value,
    within,
)
from featurestore.offline.engine import RowFilter
from featurestore.offline.local_times import is_naive
from featurestore.offline.ordinals import MAX_ROWS_BITS, reading_between
from featurestore.offline.scan import SourceScan
from featurestore.offline.scan_columns import FileGroup, ScanColumn
from featurestore.time import LocalSpan
from featurestore.types import base_type

_BEYOND_ORDINAL = 2**64
LOWEST = -(2**63)  # what a null created time counts as: below every instant
_OWN_BOUNDS = {"until": "e <= until", "since": "e >= since"}


@dataclass(frozen=True, kw_only=True)
class ScanText:
    """A scan with all that its SQL needs.

    Attributes:
        scan: What to read.
        spans: Alias of a naive time column in a zone with changing offsets -> its spans.
        tables: Number of a group that is read through Arrow -> the name it is registered under.
        folders: Number of another group with columns from folder names -> the table of these.
        since_us: Rows before it need not be there, or None.
        until_us: Rows after it need not be there, or None.
    """

    scan: SourceScan
    spans: Mapping[str, Sequence[LocalSpan]]
    tables: Mapping[int, str]
    folders: Mapping[int, str]
    since_us: int | None = None
    until_us: int | None = None

    def rows(
        self, aliases: Iterable[str], *, ordinal: bool = False, naive: str | None = None
    ) -> str:
        """Return a SELECT of these columns over all files.

        `e`, `c` and timestamp features are BIGINT microseconds. With `ordinal` there is also `o`
        (the tie-breaking position of the row) and, where times have nanoseconds, `en` and `cn`.
        Rows that the scan's filter leaves out are not there; columns that it computes may be asked
        for. With `naive` the filter does not count, but only the files in which that column has no
        time zone are read, and its times are rounded down: what a policy for local times looks at.
        """
        wanted = list(aliases)
        needed = self.scan.read_for(wanted)
        if naive is not None:
            return self._read(needed, ordinal=ordinal, naive=naive)
        if self.scan.filters_by_join:
            return self._passing(wanted, ordinal=ordinal)
        if self.scan.where is None and needed == wanted:
            return self._read(needed, ordinal=ordinal, naive=None)
        where = self.scan.where
        seen = () if where is None else (column.name for column in columns_of(where))
        inner = self._read([*needed, *seen], ordinal=ordinal, naive=None)
        computed = {column.alias: column.tree for column in self.scan.computed(wanted)}
        shown = [f"{self._sql(computed[a])} AS {a}" if a in computed else a for a in wanted]
        if ordinal:
            shown += self._order
        filtered = "" if where is None else f" WHERE {self._sql(where)}"
        return f"SELECT {', '.join(shown)} FROM ({inner}){filtered}"

    def between(self, since_us: int | None, until_us: int | None) -> "ScanText":
        """Return the same where only rows in a span of event time are needed."""
        scan = reading_between(self.scan, since_us, until_us)
        return replace(self, scan=scan, since_us=since_us, until_us=until_us)

    @property
    def is_exactly_between(self) -> bool:
        """Whether no other rows are there than those of the span that is needed."""
        types = [group.types["e"] for group in self.scan.groups if group.files]
        bounds = [us for us in (self.since_us, self.until_us) if us is not None]
        zone = self.scan.source.timezone
        return self.scan.spans is not None and all(
            is_exactly_within(found, bounds, zone=zone) for found in types
        )

    def _passing(self, aliases: Sequence[str], *, ordinal: bool) -> str:
        """Return a SELECT of columns that are in the files, of the rows in table `passing` (o)."""
        shown = _names([*aliases, *(self._order if ordinal else ())])
        inner = self._read(aliases, ordinal=True, naive=None)
        return f"SELECT {shown} FROM ({inner}) SEMI JOIN passing USING (o)"

    @property
    def _order(self) -> list[str]:
        return ["o", *(("en", "cn") if self.scan.ties_by_nanoseconds else ())]

    def _sql(self, tree: Node | None) -> str:
        assert tree is not None  # noqa: S101 - of computed columns
        return expression(tree, {column.alias: column.dtype for column in self.scan.inputs})

    def _read(self, aliases: Iterable[str], *, ordinal: bool, naive: str | None) -> str:
        """Return a SELECT of columns that are in the files; see `rows`."""
        wanted = set(aliases)
        columns = [c for c in self.scan.columns if c.alias in wanted]
        parts = [
            self._group(number, columns, ordinal=ordinal, up=naive is None)
            for number, group in enumerate(self.scan.groups)
            if group.files and (naive is None or is_naive(group.types[naive]))
        ]
        return " UNION ALL ".join(parts)

    def _group(self, number: int, columns: Sequence[ScanColumn], *, ordinal: bool, up: bool) -> str:
        group = self.scan.groups[number]
        raw = {c.alias: self._raw(number, c) for c in self.scan.columns}
        selected = [f"{self._value(group, c, raw[c.alias], up=up)} AS {c.alias}" for c in columns]
        if ordinal:
            position = "__ordinal" if number in self.tables else self._position
            selected += self._ordinal(group, raw, position)
        wanted = {c.alias for c in columns}
        inside: list[str] = []
        if self.scan.spans is not None:
            zone = self.scan.source.timezone
            inside = within(raw["e"], group.types["e"], self.since_us, self.until_us, zone=zone)
        where = f" WHERE {_all(inside)}" if inside else ""
        return f"SELECT {', '.join(selected)} FROM {self._origin(number, wanted)}{where}"

    def _origin(self, number: int, wanted: set[str]) -> str:
        if number in self.tables:
            return self.tables[number]
        group = self.scan.groups[number]
        if not wanted & group.from_folders:
            return f"{read_parquet(group)} r"
        return f"{read_parquet(group)} r JOIN {self.folders[number]} p ON r.filename = p.path"

    def _raw(self, number: int, column: ScanColumn) -> str:
        if number in self.tables:
            return column.alias
        if column.alias in self.scan.groups[number].from_folders:
            return f"p.{column.alias}"
        return f"r.{quote(column.in_file)}"

    def _value(self, group: FileGroup, column: ScanColumn, raw: str, *, up: bool) -> str:
        found = group.types[column.alias]
        spans = self.spans.get(column.alias, ()) if is_naive(found) else ()
        if column.alias in ("e", "c"):
            return instant(raw, found, spans, up=up)
        if group.through_arrow and found == pa.uuid():
            found = base_type(found)
        return value(raw, found, column.dtype, spans)

    def _ordinal(self, group: FileGroup, raw: Mapping[str, str], position: str) -> list[str]:
        ordinal = [f"{position} AS o"]
        if self.scan.ties_by_nanoseconds:
            ordinal.append(f"{nanoseconds(raw['e'], group.types['e'])} AS en")
            created = nanoseconds(raw["c"], group.types["c"]) if self.scan.created else "0"
            ordinal.append(f"{created} AS cn")
        return ordinal

    @property
    def _position(self) -> str:
        """The ordinal of a row: its file's number in byte order of paths, then its row number."""
        if len(self.scan.files) == 1:
            return "r.file_row_number"
        paths = ", ".join(text(f.path) for f in self.scan.files)
        number = f"list_position([{paths}], r.filename)::BIGINT"
        return f"(({number} << {MAX_ROWS_BITS}) + r.file_row_number)"

    @property
    def keys(self) -> list[str]:
        """Aliases of the join keys."""
        return [c.alias for c in self.scan.keys]

    @property
    def usable(self) -> str:
        """The predicate that a row has a key and an event time."""
        return " AND ".join(f"{a} IS NOT NULL" for a in [*self.keys, "e"])

    def version(self) -> str:
        """Return the tie-breaking tuple of a row: what decides between rows, greatest first."""
        parts = {"e": "e", "c": f"coalesce(c, {LOWEST})" if self.scan.created else "0"}
        if self.scan.ties_by_nanoseconds:
            parts |= {"en": "en", "cn": f"coalesce(cn, {LOWEST})"}
        parts["o"] = "o"
        return "{" + ", ".join(f"'{k}': {v}" for k, v in parts.items()) + "}"


def read_parquet(group: FileGroup) -> str:
    """Return a table function call that reads a group's files, and nothing from their folders."""
    paths = ", ".join(file_pattern(f.path) for f in group.files)
    return f"read_parquet([{paths}], hive_partitioning = false)"


def select_rows(
    rows: ScanText,
    columns: Sequence[str],
    *,
    from_us: int | None,
    until_us: int,
    bounds: Collection[str],
) -> str:
    """Return a SELECT of the rows of the keys in table `wanted`; see `ScanReader.rows`.

    Bounds that each key has for itself (`bounds`: "until", "since") are looked at behind the join:
    as a condition of the join they cost twice the join itself, and without OFFSET they would be
    made one.
    """
    keys = rows.keys
    created = ["c"] if rows.scan.created else []
    shown = list(dict.fromkeys([*rows.scan.order, *columns]))
    rows = rows.between(from_us, until_us)
    inside = [] if rows.is_exactly_between else [f"r.e <= {until_us}"]
    if inside and from_us is not None:
        inside.append(f"r.e >= {from_us}")
    inner = rows.rows(dict.fromkeys([*keys, "e", *created, *columns]), ordinal=True)
    matching = _all([*(f"r.{k} = w.{k}" for k in keys), *inside]) or "true"
    joined = f"FROM ({inner}) r JOIN wanted w ON {matching}"
    own = [name for name in _OWN_BOUNDS if name in bounds]
    if not own:
        return f"SELECT w.g, {_names(shown, 'r')} {joined}"
    joined = f"SELECT {_names(['g', *own], 'w')}, {_names(shown, 'r')} {joined} OFFSET 0"
    kept = _all(_OWN_BOUNDS[name] for name in own)
    return f"SELECT {_names(['g', *shown])} FROM ({joined}) WHERE {kept}"


def select_features(rows: ScanText) -> str:
    """Return a SELECT of `n`, `o` and what features are made of, of table `chosen` (n, o)."""
    features = rows.scan.read_for([c.alias for c in rows.scan.features])
    return (
        f"SELECT {_names(['w.n', 'w.o', *(f'r.{f}' for f in features)])}"
        f" FROM ({rows.rows(features, ordinal=True)}) r JOIN chosen w ON r.o = w.o"
    )


def create_latest(rows: ScanText, selected: RowFilter) -> str:
    """Return SQL for table `g`: per key event time and ordinal of the winner, and what was read.

    `n` is the number of rows, `mc` their greatest created time.
    """
    keys = rows.keys
    has_created = rows.scan.created is not None
    after_us = selected.after_us
    rows = rows.between(None if after_us is None else after_us + 1, selected.until_us)
    inner = rows.rows([*keys, "e", *(["c"] if has_created else [])], ordinal=True)
    predicate = _all([rows.usable, *_bounds(selected, has_created=has_created)])
    greatest_created = "max(c)" if has_created else "NULL::BIGINT"
    version, event, ordinal = rows.version(), "v.e", "v.o"
    if not has_created and not rows.scan.ties_by_nanoseconds:
        # One number of 128 bits is compared several times as fast as a struct.
        version = f"e::HUGEINT * {_BEYOND_ORDINAL} + o"
        event, ordinal = "v >> 64", f"v & {_BEYOND_ORDINAL - 1}"
    groups = (
        f"SELECT max({version}) AS v, count(*) AS n, {greatest_created} AS mc"
        f" FROM ({inner}) WHERE {predicate}"
        f"{f' GROUP BY {_names(keys)}' if keys else ' HAVING count(*) > 0'}"
    )
    return (
        f"CREATE TEMP TABLE g AS SELECT ({event})::BIGINT AS e, ({ordinal})::BIGINT AS o, n, mc"
        f" FROM ({groups})"
    )


def select_ties(rows: ScanText, *, among: str | None = None) -> str:
    """Return a SELECT of each (keys, e, c) that rows with different features share.

    Args:
        rows: The source.
        among: A table with these columns and the features to take instead of the source's rows.
    """
    version = _version(rows)
    features = [c.alias for c in rows.scan.features]
    created = "" if rows.scan.created else ", NULL::BIGINT AS c"
    return (
        f"SELECT {_names(version)}{created}"
        f" FROM ({among or rows.rows([*version, *features])})"
        f" WHERE {rows.usable} GROUP BY {_names(version)}"
        f" HAVING count(DISTINCT hash({_names(features)})) > 1"
    )


def sample_ordinals(count: int) -> str:
    """Return a SELECT of `o` of so many rows of `g`, or of all where there are fewer."""
    return f"SELECT o FROM g USING SAMPLE {count} ROWS"


def select_shared(rows: ScanText) -> str:
    """Return a SELECT of `o` and all columns of the rows that share (keys, e, c) with others."""
    version = _version(rows)
    features = rows.scan.read_for([c.alias for c in rows.scan.features])
    shown = [*version, "o", *(f for f in features if f not in version)]
    count = f"count(*) OVER (PARTITION BY {_names(version)}) > 1"
    inner = rows.rows([name for name in shown if name != "o"], ordinal=True)
    return f"SELECT {_names(shown)} FROM ({inner}) WHERE {rows.usable} QUALIFY {count}"


def _version(rows: ScanText) -> list[str]:
    return [*rows.keys, "e", *(["c"] if rows.scan.created else [])]


def select_latest(rows: ScanText, ordinals: range | None = None) -> str:
    """Return a SELECT of the rows that `g` names: keys, e, c, o and what features are made of.

    With `ordinals` only of those in that range, for which only their row groups are read.
    """
    has_created = rows.scan.created is not None
    version = [*rows.keys, "e", *(["c"] if has_created else [])]
    features = rows.scan.read_for([c.alias for c in rows.scan.features])
    features = [feature for feature in features if feature not in version]
    created = "" if has_created else " NULL::BIGINT AS c,"
    inside, winners = "", "g"
    if ordinals is not None:
        # On either side: the join would pass it on to neither.
        inside = f" WHERE o >= {ordinals.start} AND o < {ordinals.stop}"
        winners = f"(SELECT o FROM g{inside})"
    return (
        f"SELECT {_names(version, trailing=True)}{created} {_names(['o', *features])}"
        f" FROM ({rows.rows([*version, *features], ordinal=True)}) SEMI JOIN {winners} USING (o)"
        f"{inside}"
    )


def count_unusable(rows: ScanText) -> str:
    """Return SQL that counts rows without a key, and rows with a key but without an event time."""
    no_key = " OR ".join(f"{k} IS NULL" for k in rows.keys) or "false"
    return (
        f"SELECT count(*) FILTER ({no_key}), count(*) FILTER (e IS NULL AND NOT ({no_key}))"
        f" FROM ({rows.rows([*rows.keys, 'e'])})"
    )


def select_keys(rows: ScanText) -> str:
    """Return a SELECT of the distinct keys of rows that can be visible."""
    names = _names(rows.keys)
    return f"SELECT DISTINCT {names} FROM ({rows.rows([*rows.keys, 'e'])}) WHERE {rows.usable}"


def select_times(rows: ScanText, *, after_us: int | None, until_us: int | None) -> str:
    """Return a SELECT of `e` and `c` of rows in a span of event time."""
    bounds = [f"e > {after_us}"] if after_us is not None else []
    bounds += [f"e <= {until_us}"] if until_us is not None else []
    rows = rows.between(after_us, until_us)
    return f"SELECT e, c FROM ({rows.rows(['e', 'c'])}) WHERE {_all(bounds) or 'true'}"


def _bounds(selected: RowFilter, *, has_created: bool) -> list[str]:
    bounds = [f"e <= {selected.until_us}"]
    if selected.after_us is not None:
        bounds.append(f"e > {selected.after_us}")
    new = []
    if selected.created_after_us is not None and has_created:
        new += [f"c > {selected.created_after_us}", "c IS NULL"]
    if selected.or_event_after_us is not None:
        new.append(f"e > {selected.or_event_after_us}")
    if new:
        bounds.append(f"({' OR '.join(new)})")
    return bounds


def _names(names: Iterable[str], table: str = "", *, trailing: bool = False) -> str:
    prefix = f"{table}." if table else ""
    listed = ", ".join(f"{prefix}{name}" for name in names)
    return f"{listed}," if trailing and listed else listed


def _all(predicates: Iterable[str]) -> str:
    return " AND ".join(predicates)

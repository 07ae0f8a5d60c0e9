"""The SQL that the DuckDB engine runs, as pure text. Every name is quoted, every value a literal.

Inside, instants are BIGINT microseconds of UTC, so that comparisons and differences are exact and
know no time zone; columns have positional aliases, never users' names.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from featurestore.offline.engine import RowFilter, SqlTable
from featurestore.offline.local_times import is_naive
from featurestore.offline.ordinals import MAX_ROWS_BITS
from featurestore.offline.scan import FileGroup, ScanColumn, SourceScan, is_nanoseconds
from featurestore.time import LocalSpan
from featurestore.types import base_type

LAST = 2**63 - 1
LOWEST = -(2**63)  # what a null created time counts as: below every instant

_TYPES = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float": "FLOAT",
    "double": "DOUBLE",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date32[day]": "DATE",
}


def quote(name: str) -> str:
    """Return a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Return a string literal."""
    return "'" + value.replace("'", "''") + "'"


def file_pattern(path: str) -> str:
    """Return a literal that matches exactly this path, whatever glob characters it holds."""
    escaped = "".join(f"[{c}]" if c in "*?[" else c for c in path)
    return text(escaped)


def sql_type(dtype: pa.DataType, *, inside: bool = False) -> str:
    """Return DuckDB's type for values of `dtype` while they are worked on.

    Times are numbers, and times `inside` structs and nested lists are left as they are.
    """
    dtype = base_type(dtype)
    if pa.types.is_timestamp(dtype):
        return "TIMESTAMPTZ" if inside else "BIGINT"
    if pa.types.is_list(dtype):
        element = dtype.value_type
        return f"{sql_type(element, inside=inside or pa.types.is_nested(element))}[]"
    if pa.types.is_struct(dtype):
        fields = ", ".join(f"{quote(f.name)} {sql_type(f.type, inside=True)}" for f in dtype)
        return f"STRUCT({fields})"
    if pa.types.is_decimal(dtype):
        return f"DECIMAL({dtype.precision}, {dtype.scale})"
    return _TYPES[str(dtype)]


@dataclass(frozen=True, kw_only=True)
class ScanText:
    """A scan with all that its SQL needs.

    Attributes:
        scan: What to read.
        spans: Alias of a naive time column in a zone with changing offsets -> its spans.
        tables: Number of a group that is read through Arrow -> the name it is registered under.
        folders: Number of another group with columns from folder names -> the table of these.
    """

    scan: SourceScan
    spans: Mapping[str, Sequence[LocalSpan]]
    tables: Mapping[int, str]
    folders: Mapping[int, str]

    def rows(
        self, aliases: Iterable[str], *, ordinal: bool = False, naive: str | None = None
    ) -> str:
        """Return a SELECT of these columns over all files.

        `e`, `c` and timestamp features are BIGINT microseconds. With `ordinal` there is also `o`
        (the tie-breaking position of the row) and, where times have nanoseconds, `en` and `cn`.
        With `naive` only the files in which that column has no time zone are read, and its times
        are rounded down: what a policy for local times has to look at.
        """
        wanted = set(aliases)
        columns = [c for c in self.scan.columns if c.alias in wanted]
        parts = [
            self._group(number, columns, ordinal=ordinal, up=naive is None)
            for number, group in enumerate(self.scan.groups)
            if naive is None or is_naive(group.types[naive])
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
        return f"SELECT {', '.join(selected)} FROM {self._origin(number, wanted)}"

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


def instant(raw: str, found: pa.DataType, spans: Sequence[LocalSpan], *, up: bool) -> str:
    """Return a time column as microseconds of UTC, rounded up or down from nanoseconds.

    DuckDB reads the last number of a unit as infinity, and its opposite as minus infinity, of which
    it says no number. pandas writes `Timestamp.max`, a usual "for ever", as just that number.
    """
    if pa.types.is_null(found):
        return "NULL::BIGINT"
    first, last, read = -LAST, LAST, ""
    if is_nanoseconds(found):
        n = f"epoch_ns({raw})"
        read = f"({n} // 1000 - ({n} % 1000 < 0)::BIGINT)"
        micros = f"({n} // 1000 + ({n} % 1000 > 0)::BIGINT)" if up else read
        first, last = first // 1000 + up, last // 1000 + up
    elif pa.types.is_date(found):
        micros = f"epoch_us({raw}::TIMESTAMP)"
    else:
        micros = f"epoch_us({raw})"
    # A local time is read as it stands and rounded afterwards, never across a change of the clocks.
    local = from_local(micros, spans, read or micros) if spans else micros
    infinite = f"CASE {raw}::VARCHAR WHEN 'infinity' THEN {last} ELSE {first} END"
    return f"CASE WHEN {_is_infinite(raw, found)} THEN {infinite} ELSE {local} END"


def _is_infinite(raw: str, found: pa.DataType) -> str:
    """Return a cheap test: making a text of each time takes longer than reading the file."""
    if is_nanoseconds(found) and found.tz is not None:  # DuckDB 2.0.0 has no isinf for these
        return f"{raw} IN ('infinity'::TIMESTAMPTZ_NS, '-infinity'::TIMESTAMPTZ_NS)"
    return f"isinf({raw})"


def nanoseconds(raw: str, found: pa.DataType) -> str:
    """Return by how many nanoseconds rounding up moved a time, negative: -999 to 0.

    Times that meet in a microsecond are in this order, also if they come from files of other units.
    """
    if not is_nanoseconds(found):
        return "0::BIGINT"
    rest = f"epoch_ns({raw}) % 1000"
    return f"({rest} - 1000 * ({rest} > 0)::BIGINT)"


def from_local(micros: str, spans: Sequence[LocalSpan], read: str) -> str:
    """Return local microseconds as microseconds of UTC, by the span in which `read` lies.

    The policy for times that occur twice is already in the spans' offsets.
    """
    return _by_span(read, spans, lambda span: _span_value(micros, span))


def is_refused(micros: str, spans: Sequence[LocalSpan], kinds: Collection[str]) -> str:
    """Return the predicate that local microseconds lie in a span of one of these kinds."""
    return _by_span(micros, spans, lambda span: str(span.kind in kinds).lower())


def _by_span(micros: str, spans: Sequence[LocalSpan], answer: Callable[[LocalSpan], str]) -> str:
    """Return the answer for the span that a time lies in, by halves: there may be hundreds."""
    if len(spans) == 1:
        return answer(spans[0])
    middle = len(spans) // 2
    earlier = _by_span(micros, spans[:middle], answer)
    later = _by_span(micros, spans[middle:], answer)
    if earlier == later:
        return earlier
    return f"CASE WHEN {micros} < {spans[middle].start} THEN {earlier} ELSE {later} END"


def _span_value(micros: str, span: LocalSpan) -> str:
    if span.kind == "never":
        return f"CASE WHEN {micros} IS NOT NULL THEN {span.resume} END"
    return f"{micros} - ({span.offset})"


def value(raw: str, found: pa.DataType, declared: pa.DataType, spans: Sequence[LocalSpan]) -> str:
    """Return a feature or key column as its declared type."""
    declared, base = base_type(declared), base_type(found)
    if pa.types.is_null(found):
        return f"NULL::{sql_type(declared)}"
    if pa.types.is_timestamp(declared):
        return instant(raw, found, spans, up=False)
    if pa.types.is_list(declared) and pa.types.is_timestamp(declared.value_type):
        element = instant("x", found.value_type, spans, up=False)
        return f"list_transform({raw}, lambda x: {element})"
    if found == pa.uuid():
        return f"unhex(replace({raw}::VARCHAR, '-', ''))"
    return raw if base == declared else f"CAST({raw} AS {sql_type(declared)})"


def create_view(name: str, table: SqlTable) -> str:
    """Return SQL that makes files a view under their columns' names of today."""
    paths = ", ".join(file_pattern(path) for path in table.paths)
    pairs = ", ".join(f"{quote(old)} AS {quote(new)}" for old, new in table.renamed.items())
    renamed = f" RENAME ({pairs})" if pairs else ""
    return (
        f"CREATE TEMP VIEW {quote(name)} AS"
        f" SELECT *{renamed} FROM read_parquet([{paths}], union_by_name = true)"
    )


# --- queries -----------------------------------------------------------------------------------


def select_rows(
    rows: ScanText, columns: Sequence[str], *, from_us: int | None, until_us: int
) -> str:
    """Return a SELECT of the rows of the keys in table `wanted` (g, k0..); see `ScanReader`."""
    keys = rows.keys
    created = ["c"] if rows.scan.created else []
    nanoseconds = ["en", "cn"] if rows.scan.ties_by_nanoseconds else []
    shown = ["e", *created, *nanoseconds, "o", *columns]
    bounds = [f"r.e <= {until_us}"]
    if from_us is not None:
        bounds.append(f"r.e >= {from_us}")
    inner = rows.rows([*keys, "e", *created, *columns], ordinal=True)
    return (
        f"SELECT w.g, {_names(shown, 'r')} FROM ({inner}) r"
        f" JOIN wanted w ON {_equal(keys, 'r', 'w')} {_all(bounds)}"
    )


def select_features(rows: ScanText) -> str:
    """Return a SELECT of `n` and the features of the rows in table `chosen` (n, o)."""
    features = [c.alias for c in rows.scan.features]
    return (
        f"SELECT {_names(['w.n', *(f'r.{f}' for f in features)])}"
        f" FROM ({rows.rows(features, ordinal=True)}) r JOIN chosen w ON r.o = w.o"
    )


def create_latest(rows: ScanText, selected: RowFilter) -> str:
    """Return SQL for table `g`: per key the winning version, and what was read."""
    keys = rows.keys
    has_created = rows.scan.created is not None
    inner = rows.rows([*keys, "e", *(["c"] if has_created else [])], ordinal=True)
    predicate = _all([rows.usable, *_bounds(selected, has_created=has_created)])
    greatest_created = "max(c)" if has_created else "NULL::BIGINT"
    return (
        f"CREATE TEMP TABLE g AS SELECT {_names(keys, trailing=True)} max({rows.version()}) AS v,"
        f" count(*) AS n, {greatest_created} AS mc FROM ({inner}) WHERE {predicate}"
        f"{f' GROUP BY {_names(keys)}' if keys else ' HAVING count(*) > 0'}"
    )


def select_ties(rows: ScanText) -> str:
    """Return a SELECT of each (keys, e, c) that rows with different features share."""
    keys = rows.keys
    has_created = rows.scan.created is not None
    version = [*keys, "e", *(["c"] if has_created else [])]
    features = [c.alias for c in rows.scan.features]
    created = "" if has_created else ", NULL::BIGINT AS c"
    return (
        f"SELECT {_names(version)}{created} FROM ({rows.rows([*version, *features])})"
        f" WHERE {rows.usable} GROUP BY {_names(version)}"
        f" HAVING count(DISTINCT hash({_names(features)})) > 1"
    )


def select_latest(rows: ScanText) -> str:
    """Return a SELECT of the rows that `g` names: keys, e, c and features."""
    keys = rows.keys
    has_created = rows.scan.created is not None
    features = [c.alias for c in rows.scan.features]
    inner = rows.rows([*keys, "e", *(["c"] if has_created else []), *features], ordinal=True)
    created = "f.c" if has_created else "NULL::BIGINT AS c"
    return (
        f"SELECT {_names(keys, 'f', trailing=True)} f.e, {created}, {_names(features, 'f')}"
        f" FROM ({inner}) f JOIN g ON {_equal(keys, 'f', 'g')} f.e = g.v.e AND f.o = g.v.o"
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


def _equal(keys: Sequence[str], left: str, right: str) -> str:
    """Return `left.k0 = right.k0 AND ... AND`, ready for one more condition."""
    return "".join(f"{left}.{k} = {right}.{k} AND " for k in keys)


def _all(predicates: Iterable[str]) -> str:
    return " AND ".join(predicates)

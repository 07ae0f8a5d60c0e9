"""What an engine reads for one view: files, columns, types, all checked before any row is read."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path

import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.aggregation import ROWS
from featurestore.definitions.contract import all_of
from featurestore.expressions.check import columns_of
from featurestore.expressions.tree import Column, Node, with_columns
from featurestore.offline.column_types import (
    column_type,
    computed_type,
    dedup_types,
    input_type,
    row_type,
)
from featurestore.offline.files import SourceFile, check_unchanged, list_files
from featurestore.offline.footer import Footer, read_footer
from featurestore.offline.hidden_rows import filter_name, source_filter, view_filter
from featurestore.offline.join_columns import JoinColumns, JoinedColumns
from featurestore.offline.row_spans import RowSpan
from featurestore.offline.scan_columns import (
    FileGroup,
    ScanColumn,
    check_file,
    folder_value,
    is_nanoseconds,
)
from featurestore.offline.view_files import Listings, ViewFiles
from featurestore.types import String, Timestamp, base_type, is_known_type


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinScan:
    """A source of which a transform joins one row, or none, to each row.

    Attributes:
        name: What the transform calls it.
        scan: Its columns: the keys `k0..`, and as `f0..` what is joined. A static source has no
            event time.
        keys: Aliases of the row's columns that are equal to `k0..`.
        columns: What the joined columns are called in the row: `j0..` for `f0..`, in order.
        inner: Whether rows without a partner are left out.
        as_served: Whether only rows count that were written when the row was.
    """

    name: str
    scan: "SourceScan"
    keys: tuple[str, ...]
    columns: tuple[ScanColumn, ...]
    inner: bool
    as_served: bool

    @property
    def needs(self) -> tuple[str, ...]:
        """Aliases of the row's columns that decide what its partner is."""
        if self.scan.event is None:
            return self.keys
        return (*self.keys, "e", *(["c"] if self.as_served else []))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScan:
    """One view's columns in one source's files, as they were when the scan was opened.

    Attributes:
        source: The definition, for its time zone and its policies.
        files: All files, in byte order of their paths: the order that decides ties.
        groups: The same files by physical types.
        event: The event time; None of a static source, which only joins read.
        created: The created time, or None.
        keys: Join keys, `k0` first.
        features: Features, `f0` first.
        inputs: What the transform computes and joins with, `x0` first.
        where: The transform's filter, and the rules of contracts that leave rows out, over the
            aliases `x0..` and `j0..`; rows for which it is not true are never seen.
        where_name: What the filter is, for messages.
        joins: What the transform joins.
        dedup: What rows of one event share, of a view with aggregations: `d0..`, perhaps `e`. Empty
            where every row is an event of its own.
        row_count: Rows in all files.
        nulls_possible: Whether a join key or time may be null, from the files' statistics.
        spans: The row groups of all files by the event time; None if not all are known, or if
            rows that are not needed have to be looked at all the same.
    """

    source: FileSource
    files: tuple[SourceFile, ...]
    groups: tuple[FileGroup, ...]
    event: ScanColumn | None
    created: ScanColumn | None
    keys: tuple[ScanColumn, ...]
    features: tuple[ScanColumn, ...]
    row_count: int
    nulls_possible: bool
    inputs: tuple[ScanColumn, ...] = ()
    where: Node | None = None
    where_name: str = ""
    dedup: tuple[ScanColumn, ...] = ()
    joins: tuple[JoinScan, ...] = ()
    spans: tuple[RowSpan, ...] | None = None

    @property
    def columns(self) -> tuple[ScanColumn, ...]:
        """All columns that are read."""
        times = (time for time in (self.event, self.created) if time is not None)
        read = (feature for feature in self.features if feature.tree is None)
        dedup = (column for column in self.dedup if column != self.event)
        return (*self.keys, *times, *read, *self.inputs, *dedup)

    @property
    def event_column(self) -> ScanColumn:
        """The event time of a view's source."""
        assert self.event is not None  # noqa: S101 - of static sources no view is made
        return self.event

    @property
    def joined(self) -> tuple[ScanColumn, ...]:
        """All columns that are joined, `j0` first."""
        return tuple(column for join in self.joins for column in join.columns)

    @property
    def filters_by_join(self) -> bool:
        """Whether which rows there are depends on what is joined to them."""
        seen = () if self.where is None else columns_of(self.where)
        names = {column.alias for column in self.joined}
        return any(join.inner for join in self.joins) or any(c.name in names for c in seen)

    @property
    def unfiltered(self) -> "SourceScan":
        """The scan of all rows that there are in the files; nothing is joined to them."""
        return (
            self if self.where is None and not self.joins else replace(self, where=None, joins=())
        )

    @property
    def all_files(self) -> tuple[SourceFile, ...]:
        """The source's files, and those of all that is joined."""
        return (*self.files, *(file for join in self.joins for file in join.scan.files))

    def computed(self, aliases: Iterable[str]) -> tuple[ScanColumn, ...]:
        """Return those of some features that are computed."""
        wanted = set(aliases)
        return tuple(f for f in self.features if f.tree is not None and f.alias in wanted)

    def read_for(self, aliases: Sequence[str]) -> list[str]:
        """Return the aliases of what is read for some columns: themselves, or their inputs."""
        computed = self.computed(aliases)
        made = {column.alias for column in computed}
        inputs = (c.name for f in computed if f.tree is not None for c in columns_of(f.tree))
        return self.needed_for((*(a for a in aliases if a not in made), *inputs))

    def needed_for(self, aliases: Iterable[str]) -> list[str]:
        """Return aliases with what decides about joined columns in place of these, each once."""
        origins = {column.alias: join.needs for join in self.joins for column in join.columns}
        return list(dict.fromkeys(n for alias in aliases for n in origins.get(alias, (alias,))))

    @property
    def order(self) -> list[str]:
        """What decides between rows of one key, the most important first: `e`, versions, `o`."""
        created = ["c"] if self.created else []
        nanoseconds = ["en", "cn"] if self.ties_by_nanoseconds else []
        return ["e", *created, *nanoseconds, "o"]

    @property
    def ties_by_nanoseconds(self) -> bool:
        """Whether a time column has nanoseconds that rounding makes equal."""
        times = [c.alias for c in (self.event, self.created) if c]
        return any(is_nanoseconds(group.types[a]) for group in self.groups for a in times)


def open_scan(
    view: FeatureView,
    features: Sequence[str],
    root: Path,
    *,
    as_served: bool = False,
    listings: Listings | None = None,
) -> SourceScan:
    """Find the files of a view's source and check all columns that `features` needs.

    Args:
        view: The view.
        features: Names of features of the view, in the order wanted. Of a view with aggregations
            the scan has instead the columns that these need, each once.
        root: Folder that the source's relative path starts at.
        as_served: Whether a row's partners are those that were written when it was.
        listings: What lists the files, if they are listed for other views, too.

    Raises:
        SourceError: No file, or one that is not Parquet.
        SourceSchemaError: A column is missing in a file or cannot be widened to its declared type.
    """
    files = ViewFiles(view, root, listings=listings)
    rows = _Rows(view, files)
    columns, computed = rows.columns(features)
    opened = _opened(view.source, files.own, columns, computed, where=rows.where, dedup=rows.dedup)
    joins = (_open_join(join, files, as_served=as_served) for join in rows.joins)
    return replace(opened, where_name=filter_name(view), joins=tuple(joins))


def columns_read(view: FeatureView, root: Path) -> tuple[ScanColumn, ...]:
    """Return the columns that all features of a registered view are read from, or computed from.

    Its source's files are not looked at: at `plan` they were.
    """
    columns, _ = _Rows(view, ViewFiles(view, root)).columns(view.feature_names)
    return columns


def scan_of_table(view: FeatureView, table: pa.Table, name: str, root: Path) -> SourceScan:
    """Return a scan as if a table were the only file of a registered view's source.

    Args:
        view: The view, whose transform joins nothing.
        table: Has the columns of a file.
        name: What the file is called in messages.
        root: Folder that relative paths start at.

    Raises:
        SourceSchemaError: A column is missing or cannot be widened to its declared type.
    """
    rows = _Rows(view, ViewFiles(view, root))
    columns, computed = rows.columns(view.feature_names)
    file = SourceFile(path=name, size=0, mtime_ns=0)
    nowhere: frozenset[str] = frozenset()
    footer = Footer(table.schema, table.num_rows, surely_not_null=nowhere, misleading=nowhere)
    opened = _opened(
        view.source, (file,), columns, computed, where=rows.where, footer_of=lambda *_: footer
    )
    return replace(opened, where_name=filter_name(view))


def _open_join(join: JoinColumns, files: ViewFiles, *, as_served: bool) -> JoinScan:
    source = join.source
    inputs, where = _source_filter(source, files.of(source))
    read = _scan_columns(source, [*join.read, *_times(source), *inputs])
    scan = _opened(source, files.of(source), read, where=where)
    return JoinScan(
        name=join.join.name,
        scan=replace(scan, where_name=filter_name(source)),
        keys=tuple(join.own_keys),
        columns=_scan_columns(source, join.columns),
        inner=join.join.inner,
        as_served=as_served and not source.static,
    )


def _source_filter(
    source: FileSource, files: tuple[SourceFile, ...]
) -> tuple[list[tuple[str, str, pa.DataType]], Node | None]:
    """Return the columns `x0..` by which rules leave rows out, and the predicate over them."""
    found = source_filter(source, files)
    if found is None:
        return [], None
    aliases = {column: f"x{number}" for number, column in enumerate(columns_of(found))}
    inputs = [(a, c.name, column_type(source, files, c.name)) for c, a in aliases.items()]
    return inputs, with_columns(found, lambda column: Column(aliases[column]))


def _scan_columns(
    source: FileSource, columns: Iterable[tuple[str, str, pa.DataType]]
) -> tuple[ScanColumn, ...]:
    return tuple(ScanColumn(a, name, source.column_in_file(name), t) for a, name, t in columns)


def check_files(scan: SourceScan) -> None:
    """Make sure that all files of a scan are still what they were when they were listed.

    Raises:
        SourceChangedError: It names the first that is not.
    """
    check_unchanged(scan.source.name, scan.files)
    for join in scan.joins:
        check_unchanged(join.scan.source.name, join.scan.files)


def open_times(source: FileSource, root: Path) -> SourceScan:
    """Find the files of a source and check its time columns: a scan without keys and features.

    Args and errors are those of `open_scan`.
    """
    return _opened(source, list_files(source, root), _scan_columns(source, _times(source)))


def open_source(source: FileSource, root: Path) -> SourceScan:
    """Find the files of a source: a scan without keys, whose features are the other columns.

    These are the columns of the first file and of its folders' names, of a type that a feature can
    have; in every other file they have to be of that type or narrower.

    Args and errors are those of `open_scan`.
    """
    files = list_files(source, root)
    schema = read_footer(source.name, files[0]).schema
    found = {field.name: base_type(field.type) for field in schema if is_known_type(field.type)}
    found |= {name: String for name, _ in files[0].partitions if name not in found}
    times = list(_times(source))
    taken = {name for _, name, _ in times}
    renamed = [(source.field_mapping.get(name, name), dtype) for name, dtype in found.items()]
    others = ((name, dtype) for name, dtype in renamed if name not in taken)
    features = ((f"f{n}", name, dtype) for n, (name, dtype) in enumerate(others))
    return _opened(source, files, _scan_columns(source, [*features, *times]))


def open_columns(source: FileSource, names: Iterable[str], root: Path) -> SourceScan:
    """Find the files of a source and check some columns: a scan without keys.

    Args:
        source: The source; rows that its contract leaves out are there.
        names: The columns, `f0` first, in the widest type that they have in the files. Its time
            columns are there anyway, as times.
        root: Folder that the source's relative path starts at.

    Raises:
        SourceError, SourceSchemaError: See `open_scan`.
    """
    files = list_files(source, root)
    columns = [
        (f"f{number}", name, column_type(source, files, name)) for number, name in enumerate(names)
    ]
    return _opened(source, files, _scan_columns(source, [*columns, *_times(source)]))


def _times(source: FileSource) -> Iterator[tuple[str, str, pa.DataType]]:
    """Yield alias, name and type of a source's time columns."""
    if source.timestamp_field is not None:
        yield "e", source.timestamp_field, Timestamp
    if source.created_timestamp_column is not None:
        yield "c", source.created_timestamp_column, Timestamp


def _opened(
    source: FileSource,
    files: tuple[SourceFile, ...],
    columns: tuple[ScanColumn, ...],
    computed: tuple[ScanColumn, ...] = (),
    *,
    where: Node | None = None,
    dedup: Sequence[str] = (),
    footer_of: Callable[[str, SourceFile], Footer] = read_footer,
) -> SourceScan:
    groups: dict[object, tuple[list[SourceFile], FileGroup]] = {}
    count, nulls = 0, False
    spans: list[tuple[RowSpan, ...] | None] = []
    by_alias = {c.alias: c for c in (*columns, *computed)}
    event = by_alias["e"].in_file if "e" in by_alias else ""
    for file in files:
        footer = footer_of(source.name, file)
        group = check_file(source, file, footer, columns)
        key = (tuple(group.types.items()), group.from_folders, group.through_arrow)
        groups.setdefault(key, ([], group))[0].append(file)
        count += footer.row_count
        spans.append(footer.spans.get(event))
        needed = {c.in_file for c in columns if c.alias[0] not in "fxd"}
        nulls = nulls or bool(group.from_folders) or not footer.surely_not_null >= needed
    return SourceScan(
        source=source,
        files=files,
        groups=tuple(_with_files(group, members) for members, group in groups.values()),
        event=by_alias.get("e"),
        created=by_alias.get("c"),
        keys=tuple(c for c in columns if c.alias.startswith("k")),
        features=tuple(by_alias[f"f{n}"] for n in range(_count(by_alias, "f"))),
        inputs=tuple(by_alias[f"x{n}"] for n in range(_count(by_alias, "x"))),
        where=where,
        dedup=tuple(by_alias[alias] for alias in dedup),
        row_count=count,
        nulls_possible=nulls,
        spans=None if where is not None else _all_spans(spans, groups.values()),
    )


def _all_spans(
    spans: Sequence[tuple[RowSpan, ...] | None], groups: Iterable[tuple[object, FileGroup]]
) -> tuple[RowSpan, ...] | None:
    """Return the row groups of all files.

    A filter that fails for a row does so whatever times are asked for, and what is read through
    Arrow is read as a whole.
    """
    if None in spans or any(group.through_arrow for _, group in groups):
        return None
    return tuple(chain.from_iterable(span for span in spans if span is not None))


def _count(aliases: Iterable[str], kind: str) -> int:
    return sum(alias.startswith(kind) for alias in aliases)


def only_files(scan: SourceScan, paths: Collection[str]) -> SourceScan:
    """Return a scan of those of its files whose paths are given, and so of what it joins."""
    groups = (
        replace(group, files=tuple(f for f in group.files if f.path in paths))
        for group in scan.groups
    )
    return replace(
        scan,
        files=tuple(file for file in scan.files if file.path in paths),
        groups=tuple(group for group in groups if group.files),
        joins=tuple(replace(j, scan=only_files(j.scan, paths)) for j in scan.joins),
        spans=None,
    )


def folder_values(scan: SourceScan, group: FileGroup) -> pa.Table:
    """Return what the folder names say of a group's files: `path` and the columns from folders.

    The columns have their declared types. It is one row per file, so that no engine need know how
    folder names are split, unescaped and parsed.
    """
    columns = [c for c in scan.columns if c.alias in group.from_folders]
    values = {"path": pa.array([file.path for file in group.files], pa.string())}
    for column in columns:
        found = [folder_value(scan.source, file, column) for file in group.files]
        values[column.alias] = pa.array(found, column.dtype)
    return pa.table(values)


def event_as_feature(scan: SourceScan) -> SourceScan:
    """Return a scan with the event time as one more feature, the last."""
    event = replace(scan.event_column, alias=f"f{len(scan.features)}")
    groups = (
        replace(group, types={**group.types, event.alias: group.types["e"]})
        for group in scan.groups
    )
    return replace(scan, features=(*scan.features, event), groups=tuple(groups))


class _Rows:
    """The columns of a view's rows: which are read from the files, which are computed or joined.

    Args:
        view: The view.
        files: Its source's files, and those of what it joins.

    Attributes:
        where: The filter of its transform and of rules that leave rows out, over the aliases of
            inputs and of what is joined.
    """

    def __init__(self, view: FeatureView, files: ViewFiles) -> None:
        self._view = view
        self._files = files
        self._inputs: dict[str, str] = {}
        self._joins = JoinedColumns(view, files)
        where = None if view.row_transform is None else view.row_transform.where
        if where is not None:
            computed_type(view, files, "WHERE", where, declared=pa.bool_())
        parts = [part for part in (where, view_filter(view, files)) if part is not None]
        self.where = self._over_inputs(all_of(parts)) if parts else None

    @property
    def joins(self) -> tuple[JoinColumns, ...]:
        """What is joined, after `columns` was called."""
        return self._joins.used

    def columns(
        self, features: Sequence[str]
    ) -> tuple[tuple[ScanColumn, ...], tuple[ScanColumn, ...]]:
        """Return the columns to read, and those to compute."""
        view, source = self._view, self._view.source
        read = [(f"k{i}", name, dtype) for i, (name, dtype) in enumerate(view.join_keys.items())]
        read += _times(source)
        computed: list[tuple[str, str, pa.DataType, Node]] = []
        origins: dict[str, str] = {}
        for number, (name, dtype) in enumerate(self._wanted(features)):
            alias, tree = f"f{number}", view.row_column(name)
            if tree is None or (isinstance(tree, Column) and tree.source is None):
                read.append((alias, name, dtype))
                origins[alias] = name if tree is None else tree.name
            elif isinstance(tree, Column):
                joined = Column(self._joins.add(tree, dtype))
                computed.append((alias, name, dtype, joined))
            else:
                computed_type(view, self._files, name, tree, declared=dtype)
                computed.append((alias, name, dtype, self._over_inputs(tree)))
        self._joins.add_keys(self._input)
        for name, alias in self._inputs.items():
            read.append((alias, name, input_type(view, self._files, Column(name))))
        read += self._dedup_columns
        return (
            tuple(
                ScanColumn(a, name, source.column_in_file(origins.get(a, name)), dtype)
                for a, name, dtype in read
            ),
            tuple(ScanColumn(a, name, name, dtype, tree) for a, name, dtype, tree in computed),
        )

    @cached_property
    def _dedup_columns(self) -> list[tuple[str, str, pa.DataType]]:
        """What tells events apart, beside the event time; only windows ask for events."""
        if not self._view.aggregations:
            return []
        types = dedup_types(self._view.source, self._files.own)
        return [(f"d{number}", name, dtype) for number, (name, dtype) in enumerate(types.items())]

    @property
    def dedup(self) -> tuple[str, ...]:
        """Aliases of what tells events apart; empty where every row is one."""
        source, aliases = self._view.source, [alias for alias, *_ in self._dedup_columns]
        if self._view.aggregations and source.timestamp_field in (source.dedup_keys or ()):
            aliases.append("e")
        return tuple(aliases)

    def _wanted(self, features: Sequence[str]) -> list[tuple[str, pa.DataType]]:
        """Return the columns of a row that features need, with the types that they are read as.

        Two aggregations may read a column as two types; a predicate reads it as the rows have it,
        and its columns come first.
        """
        view = self._view
        if not view.aggregations:
            dtypes = {field.name: field.dtype for field in view.fields}
            return [(name, dtypes[name]) for name in features]
        asked = [f for f in view.window_features if f.name in set(features)]
        found = []
        for predicate in {f.where: f.predicate for f in asked if f.predicate is not None}.values():
            names = [column.name for column in columns_of(predicate)]
            found += [(name, row_type(view, self._files, name)) for name in names]
        found += [(f.column, f.dtype) for f in asked if f.column != ROWS]
        return list(dict.fromkeys(found))

    def _over_inputs(self, tree: Node) -> Node:
        """Return a tree over the aliases of what it is computed from, given as it is met."""

        def alias(column: Column) -> Column:
            if column.source is None:
                return Column(self._input(column.name))
            dtype = input_type(self._view, self._files, column)
            return Column(self._joins.add(column, dtype))

        return with_columns(tree, alias)

    def _input(self, name: str) -> str:
        return self._inputs.setdefault(name, f"x{len(self._inputs)}")


def _with_files(group: FileGroup, files: Sequence[SourceFile]) -> FileGroup:
    return replace(group, files=tuple(files))

"""What an engine reads for one view: files, columns, types, all checked before any row is read."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import SourceError, SourceSchemaError, close_names, did_you_mean
from featurestore.offline.files import SourceFile, list_files
from featurestore.types import can_widen, type_name

RESERVED_COLUMNS = frozenset({"filename", "file_row_number", "file_index"})
"""Names that readers give to columns of their own; a file that has one is read through Arrow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanColumn:
    """A column to read.

    Attributes:
        alias: What it is called while it is worked on: `k0`, `k1` for join keys, `e` for the event
            time, `c` for the created time, `f0`, `f1` for features.
        name: What it is called in definitions.
        in_file: What it is called in the files.
        dtype: The declared type; `timestamp[us, UTC]` for times.
    """

    alias: str
    name: str
    in_file: str
    dtype: pa.DataType


@dataclass(frozen=True, slots=True, kw_only=True)
class FileGroup:
    """Files whose columns have the same physical types.

    Attributes:
        files: In byte order of their paths.
        types: Physical Arrow type by alias; of a partition column the declared one.
        from_folders: Aliases whose values come from folder names; see `folder_values`.
        through_arrow: Whether names in the file would mislead an engine's own reader.
    """

    files: tuple[SourceFile, ...]
    types: dict[str, pa.DataType]
    from_folders: frozenset[str]
    through_arrow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceScan:
    """One view's columns in one source's files, as they were when the scan was opened.

    Attributes:
        source: The definition, for its time zone and its policies.
        files: All files, in byte order of their paths: the order that decides ties.
        groups: The same files by physical types.
        event: The event time.
        created: The created time, or None.
        keys: Join keys, `k0` first.
        features: Features, `f0` first.
        row_count: Rows in all files.
        nulls_possible: Whether a join key or time may be null, from the files' statistics.
    """

    source: FileSource
    files: tuple[SourceFile, ...]
    groups: tuple[FileGroup, ...]
    event: ScanColumn
    created: ScanColumn | None
    keys: tuple[ScanColumn, ...]
    features: tuple[ScanColumn, ...]
    row_count: int
    nulls_possible: bool

    @property
    def columns(self) -> tuple[ScanColumn, ...]:
        """All columns."""
        created = (self.created,) if self.created else ()
        return (*self.keys, self.event, *created, *self.features)


def open_scan(view: FeatureView, features: Sequence[str], root: Path) -> SourceScan:
    """Find the files of a view's source and check all columns that `features` needs.

    Args:
        view: The view.
        features: Names of features of the view, in the order wanted.
        root: Folder that the source's relative path starts at.

    Raises:
        SourceError: No file, or one that is not Parquet.
        SourceSchemaError: A column is missing in a file or cannot be widened to its declared type.
    """
    columns = tuple(_columns(view, features))
    files = list_files(view.source, root)
    groups: dict[object, tuple[list[SourceFile], FileGroup]] = {}
    rows, nulls = 0, False
    for file in files:
        footer = _footer(view.source.name, file)
        group = _check_file(view.source, file, footer, columns)
        key = (tuple(group.types.items()), group.from_folders, group.through_arrow)
        groups.setdefault(key, ([], group))[0].append(file)
        rows += footer.row_count
        needed = {c.in_file for c in columns if not c.alias.startswith("f")}
        nulls = nulls or bool(group.from_folders) or not footer.surely_not_null >= needed
    by_alias = {c.alias: c for c in columns}
    return SourceScan(
        source=view.source,
        files=files,
        groups=tuple(_with_files(group, members) for members, group in groups.values()),
        event=by_alias["e"],
        created=by_alias.get("c"),
        keys=tuple(c for c in columns if c.alias.startswith("k")),
        features=tuple(c for c in columns if c.alias.startswith("f")),
        row_count=rows,
        nulls_possible=nulls,
    )


def only_files(scan: SourceScan, paths: Collection[str]) -> SourceScan:
    """Return a scan of those of its files whose paths are given."""
    groups = (
        replace(group, files=tuple(f for f in group.files if f.path in paths))
        for group in scan.groups
    )
    return replace(
        scan,
        files=tuple(file for file in scan.files if file.path in paths),
        groups=tuple(group for group in groups if group.files),
    )


def folder_values(scan: SourceScan, group: FileGroup) -> pa.Table:
    """Return what the folder names say of a group's files: `path` and the columns from folders.

    The columns have their declared types. It is one row per file, so that no engine need know how
    folder names are split, unescaped and parsed.
    """
    columns = [c for c in scan.columns if c.alias in group.from_folders]
    values = {"path": pa.array([file.path for file in group.files], pa.string())}
    for column in columns:
        found = [_folder_value(scan.source, file, column) for file in group.files]
        values[column.alias] = pa.array(found, column.dtype)
    return pa.table(values)


def event_as_feature(scan: SourceScan) -> SourceScan:
    """Return a scan with the event time as one more feature, the last."""
    event = replace(scan.event, alias=f"f{len(scan.features)}")
    groups = (
        replace(group, types={**group.types, event.alias: group.types["e"]})
        for group in scan.groups
    )
    return replace(scan, features=(*scan.features, event), groups=tuple(groups))


def _columns(view: FeatureView, features: Sequence[str]) -> Iterator[ScanColumn]:
    source = view.source
    time = pa.timestamp("us", tz="UTC")
    wanted = [(f"k{i}", name, dtype) for i, (name, dtype) in enumerate(view.join_keys.items())]
    wanted.append(("e", source.timestamp_field, time))
    if source.created_timestamp_column is not None:
        wanted.append(("c", source.created_timestamp_column, time))
    wanted += [(f"f{i}", name, view.field(name).dtype) for i, name in enumerate(features)]
    for alias, name, dtype in wanted:
        in_file = source.column_in_file(name)
        yield ScanColumn(alias=alias, name=name, in_file=in_file, dtype=dtype)


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file says of itself."""

    schema: pa.Schema
    row_count: int
    surely_not_null: frozenset[str]


@lru_cache(maxsize=20_000)
def _footer(source: str, file: SourceFile) -> Footer:
    try:
        metadata = pq.read_metadata(file.path)
        schema = metadata.schema.to_arrow_schema()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(
            f"Source {source!r}: {file.path} is not a readable Parquet file ({_brief(error)}).",
            source=source,
            file=file.path,
            hint="is it complete? a writer that was interrupted leaves a file without a footer",
        ) from None
    return Footer(schema, metadata.num_rows, _never_null(metadata, schema))


def _brief(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _never_null(metadata: pq.FileMetaData, schema: pa.Schema) -> frozenset[str]:
    """Return the flat columns of which every row group's statistics say that nothing is null."""
    candidates = set(schema.names)
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        known = set()
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            stats = chunk.statistics
            if stats is not None and stats.has_null_count and stats.null_count == 0:
                known.add(chunk.path_in_schema)
        candidates &= known
    return frozenset(candidates)


def _check_file(
    source: FileSource, file: SourceFile, footer: Footer, columns: Sequence[ScanColumn]
) -> FileGroup:
    partitions = dict(file.partitions)
    types: dict[str, pa.DataType] = {}
    for column in columns:
        if column.in_file in partitions and column.alias not in ("e", "c"):
            _folder_value(source, file, column)
            types[column.alias] = column.dtype
        else:
            types[column.alias] = _check_column(source, file, footer, column)
    folded = [name.casefold() for name in footer.schema.names]
    misleading = len(set(folded)) < len(folded) or not RESERVED_COLUMNS.isdisjoint(folded)
    return FileGroup(
        files=(),
        types=types,
        from_folders=frozenset(
            c.alias for c in columns if c.in_file in partitions and c.alias not in ("e", "c")
        ),
        through_arrow=misleading,
    )


def _with_files(group: FileGroup, files: Sequence[SourceFile]) -> FileGroup:
    return replace(group, files=tuple(files))


def _check_column(
    source: FileSource, file: SourceFile, footer: Footer, column: ScanColumn
) -> pa.DataType:
    indices = footer.schema.get_all_field_indices(column.in_file)
    if len(indices) != 1:
        raise _column_error(source, file, footer, column, count=len(indices))
    found = footer.schema.field(indices[0]).type
    is_time = column.alias in ("e", "c")
    fits = _is_time(found) if is_time else can_widen(found, column.dtype)
    if not fits:
        raise SourceSchemaError(
            f"Source {source.name!r}: column {column.in_file!r} of {file.path} is"
            f" {type_name(found)}, which cannot be read as {type_name(column.dtype)} without"
            " losing something.",
            source=source.name,
            file=file.path,
            column=column.in_file,
            expected=type_name(column.dtype),
            found=type_name(found),
            hint=f"declare it as {type_name(found)}, or rewrite the file",
        )
    return found


def _is_time(dtype: pa.DataType) -> bool:
    found = pa.types.is_timestamp(dtype) or pa.types.is_date(dtype) or pa.types.is_null(dtype)
    return bool(found)


def _column_error(
    source: FileSource, file: SourceFile, footer: Footer, column: ScanColumn, *, count: int
) -> SourceSchemaError:
    renamed = f" (called {column.name!r} here)" if column.name != column.in_file else ""
    problem = "has no column" if count == 0 else f"has {count} columns called"
    return SourceSchemaError(
        f"Source {source.name!r}: {file.path} {problem} {column.in_file!r}{renamed}.",
        source=source.name,
        file=file.path,
        column=column.in_file,
        expected=type_name(column.dtype),
        found=None,
        hint=did_you_mean(close_names(column.in_file, footer.schema.names)),
    )


def _folder_value(source: FileSource, file: SourceFile, column: ScanColumn) -> pa.Scalar:
    text = dict(file.partitions)[column.in_file]
    try:
        return pa.scalar(text, pa.string()).cast(column.dtype)
    except (pa.ArrowException, ValueError, OverflowError):
        raise SourceSchemaError(
            f"Source {source.name!r}: the folder name {column.in_file}={text} of {file.path}"
            f" cannot be read as {type_name(column.dtype)}.",
            source=source.name,
            file=file.path,
            column=column.in_file,
            expected=type_name(column.dtype),
            found="string",
            hint="rename the folder, or declare the column as string",
        ) from None

"""Columns of a source's files: what is read of them, and whether each file has it as declared."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from featurestore.definitions import FileSource
from featurestore.errors import SourceSchemaError, close_names, did_you_mean, shown
from featurestore.expressions.tree import Node
from featurestore.offline.files import SourceFile
from featurestore.offline.footer import Footer
from featurestore.types import base_type, can_widen, is_known_type, type_name


@dataclass(frozen=True, slots=True)
class ScanColumn:
    """A column to read.

    Attributes:
        alias: What it is called while it is worked on: `k0`, `k1` for join keys, `e` for the event
            time, `c` for the created time, `f0`, `f1` for features, `x0`, `x1` for what a transform
            computes and joins with, `j0`, `j1` for what it joins, `d0`, `d1` for what tells events
            apart.
        name: What it is called in definitions.
        in_file: What it is called in the files; of a computed column its name.
        dtype: The declared type; `timestamp[us, UTC]` for times.
        tree: What it is computed from, over the aliases `x0..` and `j0..`; None for a column that
            is read.
    """

    alias: str
    name: str
    in_file: str
    dtype: pa.DataType
    tree: Node | None = None


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


def check_file(
    source: FileSource, file: SourceFile, footer: Footer, columns: Sequence[ScanColumn]
) -> FileGroup:
    """Return the types that a file has of some columns, as a group without files.

    Raises:
        SourceSchemaError: A column is missing, or cannot be widened to its declared type.
    """
    partitions = dict(file.partitions)
    types: dict[str, pa.DataType] = {}
    for column in columns:
        if column.in_file in partitions and column.alias not in ("e", "c"):
            folder_value(source, file, column)
            types[column.alias] = column.dtype
        else:
            types[column.alias] = _check_column(source, file, footer, column)
    in_file = {c.in_file for c in columns if c.in_file not in partitions or c.alias in ("e", "c")}
    return FileGroup(
        files=(),
        types=types,
        from_folders=frozenset(
            c.alias for c in columns if c.in_file in partitions and c.alias not in ("e", "c")
        ),
        through_arrow=not footer.misleading.isdisjoint(in_file),
    )


def _check_column(
    source: FileSource, file: SourceFile, footer: Footer, column: ScanColumn
) -> pa.DataType:
    indices = footer.schema.get_all_field_indices(column.in_file)
    if len(indices) != 1:
        raise _column_error(source, file, footer, column, count=len(indices))
    found = footer.schema.field(indices[0]).type
    is_time = column.alias in ("e", "c")
    fits = _is_time(found) if is_time else can_widen(found, column.dtype)
    if fits and _has_plain_times(found, source):
        return found
    raise SourceSchemaError(
        f"Source {source.name!r}: column {shown(column.in_file)} of {file.path} is"
        f" {found if fits else type_name(found)}, which cannot be read as"
        f" {type_name(column.dtype)} without losing something.",
        source=source.name,
        file=file.path,
        column=column.in_file,
        expected=type_name(column.dtype),
        found=type_name(found),
        hint=_type_hint(found, fits=fits, is_time=is_time),
    )


def _type_hint(found: pa.DataType, *, fits: bool, is_time: bool) -> str:
    if fits:
        return "inside structs and nested lists, store times with a zone, in microseconds"
    if is_time:
        return "a time column holds timestamps or dates; rewrite the file"
    if is_known_type(found):
        return f"declare it as {type_name(found)}, or rewrite the file"
    return "no feature can have this type; rewrite the file with another"


def _has_plain_times(found: pa.DataType, source: FileSource) -> bool:
    """Whether times deep inside a type mean the same without the source's zone and any rounding."""
    if not pa.types.is_nested(found):
        return True
    inner = [found.field(i).type for i in range(found.num_fields)]
    if pa.types.is_list(base_type(found)) and not pa.types.is_nested(inner[0]):
        return True
    times = [t for t in inner if pa.types.is_timestamp(t)]
    plain = all(t.unit != "ns" and (t.tz or source.timezone == "UTC") for t in times)
    return plain and all(_has_plain_times(t, source) for t in inner)


def is_nanoseconds(found: pa.DataType) -> bool:
    """Whether times of this physical type have nanoseconds."""
    return bool(pa.types.is_timestamp(found) and found.unit == "ns")


def _is_time(dtype: pa.DataType) -> bool:
    found = pa.types.is_timestamp(dtype) or pa.types.is_date(dtype) or pa.types.is_null(dtype)
    return bool(found)


def _column_error(
    source: FileSource, file: SourceFile, footer: Footer, column: ScanColumn, *, count: int
) -> SourceSchemaError:
    renamed = f" (called {column.name!r} here)" if column.name != column.in_file else ""
    problem = "has no column" if count == 0 else f"has {count} columns called"
    guesses = () if count else close_names(column.in_file, footer.schema.names)
    return SourceSchemaError(
        f"Source {source.name!r}: {file.path} {problem} {shown(column.in_file)}{renamed}.",
        source=source.name,
        file=file.path,
        column=column.in_file,
        expected=type_name(column.dtype),
        found=None,
        hint=did_you_mean(guesses) or _column_hint(count),
    )


def _column_hint(count: int) -> str:
    if count:
        return "rename one of them in the file"
    return "correct the definition, or rename the column with the source's field_mapping"


def folder_value(source: FileSource, file: SourceFile, column: ScanColumn) -> pa.Scalar:
    """Return what a file's folder says of a column, in its declared type.

    Raises:
        SourceSchemaError: It cannot be read as that.
    """
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

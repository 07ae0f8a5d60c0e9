"""What a Parquet file says of itself: columns, their types, rows, where nothing is null."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import SourceError
from featurestore.offline.files import SourceFile
from featurestore.offline.row_spans import RowSpan, time_spans

RESERVED_COLUMNS = frozenset({"filename", "file_row_number", "file_index"})
"""Names that readers give to columns of their own; a file that has one is read through Arrow."""


@dataclass(frozen=True, slots=True)
class Footer:
    """What a Parquet file says of itself.

    Attributes:
        schema: Arrow types; INT96 counts as microseconds, which is what readers agree on.
        row_count: Rows.
        surely_not_null: Flat columns in which, by the statistics, nothing is null.
        misleading: Columns that an engine's own reader may confuse with others or misread.
        spans: By time columns with statistics, all row groups.
    """

    schema: pa.Schema
    row_count: int
    surely_not_null: frozenset[str]
    misleading: frozenset[str]
    spans: Mapping[str, tuple[RowSpan, ...]] = field(default_factory=dict)


@lru_cache(maxsize=20_000)
def read_footer(source: str, file: SourceFile) -> Footer:
    """Return the footer of one of a source's files.

    Raises:
        SourceError: It is not a readable Parquet file.
    """
    try:
        metadata = pq.read_metadata(file.path)
        schema = _corrected(metadata)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(
            f"Source {source!r}: {file.path} is not a readable Parquet file ({_brief(error)}).",
            source=source,
            file=file.path,
            hint="is it complete? a writer that was interrupted leaves a file without a footer",
        ) from None
    return Footer(
        schema,
        metadata.num_rows,
        surely_not_null=_never_null(metadata, schema),
        misleading=_misleading(schema),
        spans=time_spans(metadata, schema),
    )


def _brief(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _corrected(metadata: pq.FileMetaData) -> pa.Schema:
    """Return the schema with what Arrow leaves out: which times are INT96, which bytes are UUIDs.

    Arrow takes INT96 for nanoseconds, in which the years before 1678 and after 2261 wrap around;
    and it knows UUIDs only in files that it wrote itself.
    """
    schema = metadata.schema.to_arrow_schema()
    for index in range(metadata.num_columns):
        column = metadata.schema.column(index)
        if column.physical_type == "INT96":
            schema = _replaced(schema, column.path, pa.timestamp("ns"), pa.timestamp("us"))
        elif column.logical_type.type == "UUID":
            schema = _replaced(schema, column.path, pa.binary(16), pa.uuid())
    return schema


def _replaced(schema: pa.Schema, path: str, old: pa.DataType, new: pa.DataType) -> pa.Schema:
    for index, column in enumerate(schema):
        if path == column.name or path.startswith(f"{column.name}."):
            schema = schema.set(index, column.with_type(_with_leaf(column.type, old, new)))
    return schema


def _with_leaf(dtype: pa.DataType, old: pa.DataType, new: pa.DataType) -> pa.DataType:
    if pa.types.is_list(dtype):
        return pa.list_(_with_leaf(dtype.value_type, old, new))
    if pa.types.is_struct(dtype):
        return pa.struct([(f.name, _with_leaf(f.type, old, new)) for f in dtype])
    return new if dtype == old else dtype


def _misleading(schema: pa.Schema) -> frozenset[str]:
    folded = [name.casefold() for name in schema.names]
    if len(set(folded)) < len(folded) or not RESERVED_COLUMNS.isdisjoint(folded):
        return frozenset(schema.names)
    return frozenset(f.name for f in schema if pa.types.is_nested(f.type) and has_uuid(f.type))


def has_uuid(dtype: pa.DataType) -> bool:
    """Whether a type is that of UUIDs, or holds them."""
    if pa.types.is_nested(dtype):
        return any(has_uuid(dtype.field(i).type) for i in range(dtype.num_fields))
    return bool(dtype == pa.uuid())


def _never_null(metadata: pq.FileMetaData, schema: pa.Schema) -> frozenset[str]:
    """Return the flat columns of which every row group's statistics say that nothing is null."""
    candidates = {field.name for field in schema if not pa.types.is_nested(field.type)}
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

"""The types of columns that views take without declaring them, as the source's files have them."""

from pathlib import Path

import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.aggregation import ROWS, Aggregation
from featurestore.definitions.transform import RowTransform
from featurestore.errors import DefinitionError, SourceSchemaError, close_names, did_you_mean, shown
from featurestore.expressions.check import typed
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Column, Node
from featurestore.offline.files import SourceFile, list_files
from featurestore.offline.footer import read_footer
from featurestore.types import base_type, can_widen, is_known_type, parse_type, type_name


def with_file_types(view: FeatureView, root: Path) -> FeatureView:
    """Return the view with the types of all columns that its transform and aggregations take.

    A column that has several types in several files gets the widest of them.

    Raises:
        SourceError: No file, or one that is not Parquet.
        SourceSchemaError: A column is missing in a file, has no type that features can have, or has
            types that do not widen to one another.
        DefinitionError: A function cannot be taken of such values, or what the transform makes of a
            column is not of the type that the view declares.
    """
    if view.is_resolved and not any(a.predicate for a in view.aggregations):
        return view
    files = list_files(view.source, root)
    if (transform := view.row_transform) is not None and not transform.is_resolved:
        found = {name: column_type(view.source, files, name) for name in transform.inputs}
        view = view.with_input_types(found)
        _check_transform(view, transform, files)
    for aggregation in view.aggregations:
        _check_predicate(view, files, aggregation)
    names = {a.column for a in view.aggregations if a.dtype is None and a.column != ROWS}
    types = {name: row_type(view, files, name) for name in sorted(names)}
    return view.with_column_types(types) if types else view


def row_type(view: FeatureView, files: tuple[SourceFile, ...], name: str) -> pa.DataType:
    """Return the type of a column of a view's rows, behind its transform if there is one.

    Raises:
        SourceSchemaError: See `column_type`.
        DefinitionError: The types of what it is computed from do not go together.
    """
    tree = view.row_column(name)
    if tree is None:
        raise DefinitionError(f"FeatureView {view.name!r}: transform selects no {shown(name)}.")
    if isinstance(tree, Column):
        return column_type(view.source, files, tree.name)
    return computed_type(view, files, name, tree)


def computed_type(
    view: FeatureView,
    files: tuple[SourceFile, ...],
    name: str,
    tree: Node,
    *,
    declared: pa.DataType | None = None,
) -> pa.DataType:
    """Return the type of an expression of a view's transform.

    Args:
        view: The view.
        files: Its source's files.
        name: The column's, or WHERE.
        tree: The expression, over the source's columns.
        declared: What it must widen to.

    Raises:
        SourceSchemaError: See `column_type`.
        DefinitionError: Types do not go together, or it is not what is declared.
    """

    def inputs(column: Column) -> tuple[int, str]:
        return 0, type_name(input_type(view, files, column.name))

    subject = f"FeatureView {view.name!r}: transform, {shown(name)}"
    try:
        found = parse_type(typed(tree, inputs).dtype)
    except InvalidExpressionError as error:
        raise DefinitionError(f"{subject}: {error}") from None
    if declared is not None and not can_widen(found, declared):
        wanted = type_name(declared)
        raise DefinitionError(
            f"{subject} is {type_name(found)}, and {wanted} is expected.",
            hint=None if name == "WHERE" else f"declare it as {type_name(found)}, or CAST it",
        )
    return found


def input_type(view: FeatureView, files: tuple[SourceFile, ...], name: str) -> pa.DataType:
    """Return the type that a source's column is computed with: the one found at `plan`."""
    known = {} if view.row_transform is None else view.row_transform.types
    return known[name] if name in known else column_type(view.source, files, name)


def dedup_types(source: FileSource, files: tuple[SourceFile, ...]) -> dict[str, pa.DataType]:
    """Return the types of the source's `dedup_keys`, but for its event time; of none, nothing.

    Raises:
        SourceSchemaError: A column is missing in a file, or has no type or one without equality
            that everybody agrees on.
    """
    names = [name for name in source.dedup_keys or () if name != source.timestamp_field]
    found = {name: column_type(source, files, name) for name in names}
    for name, dtype in found.items():
        if pa.types.is_floating(dtype) or pa.types.is_nested(dtype):
            raise SourceSchemaError(
                f"Source {source.name!r}: column {shown(name)} is {type_name(dtype)}, which cannot"
                " be one of its dedup_keys.",
                source=source.name,
                column=name,
                expected=None,
                found=type_name(dtype),
                hint="name columns of integers, decimals, strings, binary, bools, dates or times",
            )
    return found


def _check_transform(
    view: FeatureView, transform: RowTransform, files: tuple[SourceFile, ...]
) -> None:
    """Refuse a transform whose columns have other types than the view declares."""
    declared = {f.name: f.dtype for f in view.fields} if not view.aggregations else {}
    declared |= {a.column: a.dtype for a in view.aggregations if a.dtype is not None}
    for column in transform.columns:
        if not isinstance(column.tree, Column):
            wanted = declared.get(column.name)
            computed_type(view, files, column.name, column.tree, declared=wanted)
    if transform.where is not None:
        computed_type(view, files, "WHERE", transform.where, declared=pa.bool_())


def _check_predicate(
    view: FeatureView, files: tuple[SourceFile, ...], aggregation: Aggregation
) -> None:
    if aggregation.predicate is None:
        return
    subject = f"FeatureView {view.name!r}: where = {shown(aggregation.where or '')}"
    try:
        checked = typed(
            aggregation.predicate,
            lambda column: (0, type_name(row_type(view, files, column.name))),
        )
    except InvalidExpressionError as error:
        raise DefinitionError(f"{subject}: {error}") from None
    if checked.dtype != "bool":
        raise DefinitionError(f"{subject} is {checked.dtype}, and a predicate is bool.")


def column_type(source: FileSource, files: tuple[SourceFile, ...], name: str) -> pa.DataType:
    """Return the widest type that a column has in a source's files.

    Raises:
        SourceSchemaError: It is missing in one, or has types that do not fit together.
    """
    widest: pa.DataType | None = None
    for file in files:
        found = _type_in(source, file, name)
        if widest is None or can_widen(widest, found):
            widest = found
        elif not can_widen(found, widest):
            raise SourceSchemaError(
                f"Source {source.name!r}: column {shown(name)} is {type_name(widest)} in some files"
                f" and {type_name(found)} in {file.path}.",
                source=source.name,
                file=file.path,
                column=name,
                expected=type_name(widest),
                found=type_name(found),
                hint="rewrite the files; of an aggregation, dtype= can declare the type",
            )
    if widest is None or pa.types.is_null(widest):
        raise SourceSchemaError(
            f"Source {source.name!r}: column {shown(name)} is null in every file, without a type.",
            source=source.name,
            column=name,
            hint="write a file that has a type; of an aggregation, dtype= can declare it",
        )
    return widest


def _type_in(source: FileSource, file: SourceFile, name: str) -> pa.DataType:
    in_file = source.column_in_file(name)
    if in_file in dict(file.partitions):
        return pa.string()
    schema = read_footer(source.name, file).schema
    if in_file not in schema.names:
        raise SourceSchemaError(
            f"Source {source.name!r}: {file.path} has no column {shown(in_file)}.",
            source=source.name,
            file=file.path,
            column=in_file,
            expected=None,
            found=None,
            hint=did_you_mean(close_names(in_file, schema.names)) or "correct the definition",
        )
    found = base_type(schema.field(schema.names.index(in_file)).type)
    if pa.types.is_null(found) or is_known_type(found):
        return found
    raise SourceSchemaError(
        f"Source {source.name!r}: column {shown(in_file)} of {file.path} is {type_name(found)},"
        " which no feature can have.",
        source=source.name,
        file=file.path,
        column=in_file,
        expected=None,
        found=type_name(found),
        hint="rewrite the file with another type",
    )

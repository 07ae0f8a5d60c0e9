"""The types of columns that views take without declaring them, as the source's files have them."""

from pathlib import Path

import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.aggregation import ROWS, Aggregation
from featurestore.definitions.row_join import ColumnPair, RowJoin
from featurestore.definitions.transform import RowTransform
from featurestore.errors import DefinitionError, SourceSchemaError, close_names, did_you_mean, shown
from featurestore.expressions.check import typed
from featurestore.expressions.errors import InvalidExpressionError
from featurestore.expressions.tree import Column, Node
from featurestore.offline.files import SourceFile
from featurestore.offline.footer import read_footer
from featurestore.offline.view_files import Listings, ViewFiles
from featurestore.types import base_type, can_widen, is_known_type, parse_type, type_name


def with_file_types(
    view: FeatureView, root: Path, *, listings: Listings | None = None
) -> FeatureView:
    """Return the view with the types of all columns that its transform and aggregations take.

    A column that has several types in several files gets the widest of them. With `listings` the
    sources consist of the files that these have.

    Raises:
        SourceError: No file, or one that is not Parquet.
        SourceSchemaError: A column is missing in a file, has no type that features can have, or has
            types that do not widen to one another.
        DefinitionError: A function cannot be taken of such values, or what the transform makes of a
            column is not of the type that the view declares.
    """
    if view.is_resolved and not any(a.predicate for a in view.aggregations):
        return view
    files = ViewFiles(view, root, listings=listings)
    if (transform := view.row_transform) is not None and not transform.is_resolved:
        _check_bare_names(view, transform, files)
        own = {name: column_type(view.source, files.own, name) for name in transform.inputs}
        view = view.with_input_types(own, _joined_types(view, transform, files))
        _check_transform(view, transform, files)
    for aggregation in view.aggregations:
        _check_predicate(view, files, aggregation)
    names = {a.column for a in view.aggregations if a.dtype is None and a.column != ROWS}
    types = {name: row_type(view, files, name) for name in sorted(names)}
    return view.with_column_types(types) if types else view


def row_type(view: FeatureView, files: ViewFiles, name: str) -> pa.DataType:
    """Return the type of a column of a view's rows, behind its transform if there is one.

    Raises:
        SourceSchemaError: See `column_type`.
        DefinitionError: The types of what it is computed from do not go together.
    """
    tree = view.row_column(name)
    if tree is None:
        raise DefinitionError(f"FeatureView {view.name!r}: transform selects no {shown(name)}.")
    if isinstance(tree, Column):
        return file_type(view, files, tree)
    return computed_type(view, files, name, tree)


def computed_type(
    view: FeatureView,
    files: ViewFiles,
    name: str,
    tree: Node,
    *,
    declared: pa.DataType | None = None,
) -> pa.DataType:
    """Return the type of an expression of a view's transform.

    Args:
        view: The view.
        files: The files of its sources.
        name: The column's, or WHERE.
        tree: The expression, over the columns of these.
        declared: What it must widen to.

    Raises:
        SourceSchemaError: See `column_type`.
        DefinitionError: Types do not go together, or it is not what is declared.
    """

    def inputs(column: Column) -> tuple[int, str]:
        return 0, type_name(input_type(view, files, column))

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


def input_type(view: FeatureView, files: ViewFiles, column: Column) -> pa.DataType:
    """Return the type that a column is computed with: the one found at `plan`."""
    if (transform := view.row_transform) is not None:
        is_own = column.source is None
        known = transform.types if is_own else transform.join(str(column.source)).types
        if column.name in known:
            return known[column.name]
    return file_type(view, files, column)


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


def file_type(view: FeatureView, files: ViewFiles, column: Column) -> pa.DataType:
    """Return the widest type that a column of the view's source, or of a joined one, has."""
    transform = view.row_transform
    if column.source is None or transform is None:
        return column_type(view.source, files.own, column.name)
    joined = view.joined_source(transform.join(column.source))
    return column_type(joined, files.of(joined), column.name)


def key_type(view: FeatureView, files: ViewFiles, join: RowJoin, pair: ColumnPair) -> pa.DataType:
    """Return the type in which both columns of a join are compared.

    Raises:
        SourceSchemaError: See `column_type`.
        DefinitionError: There is no type that both widen to, or it is none that keys can have.
    """
    own = input_type(view, files, Column(pair.own))
    joined = input_type(view, files, Column(pair.joined, join.name))
    found = next(
        (b for a, b in ((own, joined), (joined, own), (own, pa.int64())) if _fit(a, b)), own
    )
    if _fit(own, found) and _fit(joined, found) and _can_be_key(found):
        return found
    text = f"{pair.own} ({type_name(own)}) = {join.name}.{pair.joined} ({type_name(joined)})"
    raise DefinitionError(
        f"FeatureView {view.name!r}: transform joins {join.name!r} by {text}, which"
        f" {'cannot be compared' if own != joined else 'is no type that keys can have'}.",
        hint="keys are integers, texts, binaries, dates or bools; store both as one type",
    )


def _fit(found: pa.DataType, wide: pa.DataType) -> bool:
    return found == wide or can_widen(found, wide)


def _can_be_key(dtype: pa.DataType) -> bool:
    kinds = (pa.types.is_integer, pa.types.is_string, pa.types.is_binary, pa.types.is_boolean)
    return any(is_kind(dtype) for is_kind in kinds) or dtype == pa.date32()


def _joined_types(
    view: FeatureView, transform: RowTransform, files: ViewFiles
) -> dict[str, dict[str, pa.DataType]]:
    """Return name of a join -> column of the joined source -> type, of all that is used."""
    return {
        join.name: {
            name: file_type(view, files, Column(name, join.name))
            for name in transform.inputs_of(join)
        }
        for join in transform.joins
    }


def _check_bare_names(view: FeatureView, transform: RowTransform, files: ViewFiles) -> None:
    """Refuse a column without a table in front of it that a joined source has, too, or alone."""
    for name in transform.bare:
        for join in transform.joins:
            joined = view.joined_source(join)
            if _has_column(joined, files.of(joined), name):
                is_both = _has_column(view.source, files.own, name)
                problem = (
                    f"is ambiguous, as {view.source.name!r} and {join.name!r} both have it; write"
                    f" its table in front of it, as in {join.name}.{name}"
                    if is_both
                    else f"is no column of {view.source.name!r}; write {join.name}.{name}"
                )
                raise DefinitionError(
                    f"FeatureView {view.name!r}: transform: {shown(name)} {problem}."
                )


def _has_column(source: FileSource, files: tuple[SourceFile, ...], name: str) -> bool:
    in_file = source.column_in_file(name)
    return any(
        in_file in dict(file.partitions) or in_file in read_footer(source.name, file).schema.names
        for file in files
    )


def _check_transform(view: FeatureView, transform: RowTransform, files: ViewFiles) -> None:
    """Refuse a transform whose columns have other types than the view declares."""
    declared = {f.name: f.dtype for f in view.fields} if not view.aggregations else {}
    declared |= {a.column: a.dtype for a in view.aggregations if a.dtype is not None}
    for column in transform.columns:
        if not isinstance(column.tree, Column):
            wanted = declared.get(column.name)
            computed_type(view, files, column.name, column.tree, declared=wanted)
    if transform.where is not None:
        computed_type(view, files, "WHERE", transform.where, declared=pa.bool_())
    for join in transform.joins:
        for pair in join.keys:
            key_type(view, files, join, pair)


def _check_predicate(view: FeatureView, files: ViewFiles, aggregation: Aggregation) -> None:
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

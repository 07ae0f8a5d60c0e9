"""What a view's transform makes of rows as they are read: the evaluator over a scan's columns."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import SourceError, shown
from featurestore.expressions.arrow import to_arrow
from featurestore.expressions.arrow_expression import ArrowExpression
from featurestore.expressions.check import columns_of
from featurestore.expressions.errors import RowError
from featurestore.expressions.tree import Column, Node
from featurestore.expressions.vectors import Vector
from featurestore.offline.ordinals import place_of
from featurestore.offline.row_joins import RowJoins
from featurestore.offline.scan import SourceScan
from featurestore.types import type_name

Ints = npt.NDArray[np.int64]


class RowExpressions:
    """Filters rows of a scan, joins and computes its columns. Safe to use from several threads.

    Args:
        scan: The scan; without a transform nothing is computed.
        joins: What the scan joins; not needed where no joined column is asked for.
    """

    def __init__(self, scan: SourceScan, joins: RowJoins | None = None) -> None:
        self._scan = scan
        self._joins = joins
        known = (*scan.inputs, *scan.joined, *scan.features)
        self._dtypes = {column.alias: column.dtype for column in known}

    def completed(
        self, rows: pa.RecordBatch, aliases: Sequence[str], ordinals: Ints
    ) -> pa.RecordBatch:
        """Return rows with these columns, of which some are computed from others.

        Args:
            rows: The columns `scan.read_for(aliases)` at least.
            aliases: The columns wanted.
            ordinals: The rows' ordinals, for messages.

        Raises:
            SourceError: A column has no value in a row; it names both.
        """
        computed = self._scan.computed(aliases)
        columns = {name: rows.column(name) for name in rows.schema.names}
        if self._scan.joins:
            trees = [column.tree for column in computed if column.tree is not None]
            columns |= self._joined(trees, columns, len(ordinals))
        for column in computed:
            if isinstance(column.tree, Column):
                columns[column.alias] = columns[column.tree.name]
            else:
                columns[column.alias] = self._computed(column.alias, columns, ordinals)
        return pa.record_batch([columns[alias] for alias in aliases], names=list(aliases))

    def passing(self, columns: Mapping[str, pa.Array], ordinals: Ints) -> npt.NDArray[np.bool_]:
        """Return which rows the filter lets through.

        Args:
            columns: Those of `filter_columns`.
            ordinals: The rows' ordinals, for messages.

        Raises:
            SourceError: The filter has no value for a row.
        """
        passing = np.ones(len(ordinals), dtype=bool)
        if self._joins is not None:
            passing = self._joins.matched(columns, len(ordinals))
        if self._filter is None or self._scan.where is None or not passing.any():
            return passing
        if not passing.all():  # a row that is not there need not have a value
            rows = pa.array(np.flatnonzero(passing))
            columns = {alias: column.take(rows) for alias, column in columns.items()}
            ordinals = ordinals[passing]
        columns = {**columns, **self._joined([self._scan.where], columns, len(ordinals))}
        found, valid = self._run(self._scan.where_name, self._filter, columns, ordinals)
        passing[passing] = found if valid is None else found & valid
        return passing

    @cached_property
    def filter_columns(self) -> tuple[str, ...]:
        """Aliases of the columns that decide which rows there are."""
        seen = () if self._filter is None else self._filter.columns
        keys = (name for join in self._scan.joins if join.inner for name in join.needs)
        return tuple(dict.fromkeys((*self._scan.needed_for(seen), *keys)))

    def _joined(
        self, trees: Iterable[Node], columns: Mapping[str, pa.Array], count: int
    ) -> dict[str, pa.Array]:
        """Return the joined columns that some trees are computed from."""
        wanted = {column.name for tree in trees for column in columns_of(tree)}
        if wanted.isdisjoint(column.alias for column in self._scan.joined):
            return {}
        assert self._joins is not None  # noqa: S101 - who asks for joined columns gives them
        return self._joins.values(columns, wanted, count)

    def _computed(self, alias: str, columns: Mapping[str, pa.Array], ordinals: Ints) -> pa.Array:
        name, expression = self._expressions[alias]
        what = f"{shown(name)} of the transform"
        array = to_arrow(self._run(what, expression, columns, ordinals), expression.dtype)
        dtype = self._dtypes[alias]
        return array if array.type == dtype else array.cast(dtype)

    def _run(
        self,
        what: str,
        expression: ArrowExpression,
        columns: Mapping[str, pa.Array],
        ordinals: Ints,
    ) -> Vector:
        def values(alias: str) -> pa.Array:
            column, dtype = columns[alias], self._dtypes[alias]
            return column if column.type == dtype else column.cast(dtype)

        try:
            return expression.run(values, len(ordinals))
        except RowError as error:
            source = self._scan.source.name
            file, row = place_of(self._scan, int(ordinals[error.row]))
            raise SourceError(
                f"Source {source!r}: {what} has no value for row {row} of {file.path}:"
                f" {error.reason}.",
                source=source,
                file=file.path,
                hint="guard it, for instance with nullif(), CASE or TRY_CAST",
            ) from None

    @cached_property
    def _filter(self) -> ArrowExpression | None:
        return None if self._scan.where is None else self._expression(self._scan.where)

    @cached_property
    def _expressions(self) -> dict[str, tuple[str, ArrowExpression]]:
        return {
            column.alias: (column.name, self._expression(column.tree))
            for column in self._scan.features
            if column.tree is not None and not isinstance(column.tree, Column)
        }

    def _expression(self, tree: Node) -> ArrowExpression:
        known = (*self._scan.inputs, *self._scan.joined)
        types = {column.alias: type_name(column.dtype) for column in known}
        return ArrowExpression(tree, types)

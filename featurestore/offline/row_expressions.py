"""What a view's transform makes of rows as they are read: the evaluator over a scan's columns."""

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import SourceError, shown
from featurestore.expressions.arrow import to_arrow
from featurestore.expressions.arrow_expression import ArrowExpression
from featurestore.expressions.errors import RowError
from featurestore.expressions.tree import Node
from featurestore.expressions.vectors import Vector
from featurestore.offline.ordinals import place_of
from featurestore.offline.scan import SourceScan
from featurestore.types import type_name

Ints = npt.NDArray[np.int64]


class RowExpressions:
    """Filters rows of a scan and computes its columns. Safe to use from several threads.

    Args:
        scan: The scan; without a transform nothing is computed.
    """

    def __init__(self, scan: SourceScan) -> None:
        self._scan = scan
        self._dtypes = {column.alias: column.dtype for column in (*scan.inputs, *scan.features)}

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
        computed = {column.alias for column in self._scan.computed(aliases)}
        columns = {name: rows.column(name) for name in rows.schema.names}
        for alias in computed:
            columns[alias] = self._computed(alias, columns, ordinals)
        return pa.record_batch([columns[alias] for alias in aliases], names=list(aliases))

    def passing(self, columns: Mapping[str, pa.Array], ordinals: Ints) -> npt.NDArray[np.bool_]:
        """Return which rows the filter lets through.

        Args:
            columns: Those of `filter_columns`.
            ordinals: The rows' ordinals, for messages.

        Raises:
            SourceError: The filter has no value for a row.
        """
        filter_ = self._filter
        if filter_ is None:
            return np.ones(len(ordinals), dtype=bool)
        found, valid = self._run("WHERE", filter_, columns, ordinals)
        return np.asarray(found if valid is None else found & valid, dtype=bool)

    @property
    def filter_columns(self) -> tuple[str, ...]:
        """Aliases of the columns that the filter looks at."""
        return () if self._filter is None else self._filter.columns

    def _computed(self, alias: str, columns: Mapping[str, pa.Array], ordinals: Ints) -> pa.Array:
        name, expression = self._expressions[alias]
        array = to_arrow(self._run(name, expression, columns, ordinals), expression.dtype)
        dtype = self._dtypes[alias]
        return array if array.type == dtype else array.cast(dtype)

    def _run(
        self,
        name: str,
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
                f"Source {source!r}: {shown(name)} of the transform has no value for row {row} of"
                f" {file.path}: {error.reason}.",
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
            if column.tree is not None
        }

    def _expression(self, tree: Node) -> ArrowExpression:
        types = {column.alias: type_name(column.dtype) for column in self._scan.inputs}
        return ArrowExpression(tree, types)

"""An expression that is ready to run over named Arrow columns."""

from collections.abc import Callable, Mapping

import pyarrow as pa

from featurestore.expressions.arrow import from_arrow
from featurestore.expressions.check import columns_of, typed
from featurestore.expressions.features import bound
from featurestore.expressions.program import Program
from featurestore.expressions.tree import Node
from featurestore.expressions.vectors import Vector

Values = Callable[[str], pa.Array]
"""Column -> its values."""


class ArrowExpression:
    """An expression over columns that have names. Safe to use from several threads.

    Args:
        tree: The expression.
        types: Column -> the name of its type, of all columns that it names.

    Attributes:
        columns: The columns that it is computed from, in the order of the text.
        dtype: The name of its own type.

    Raises:
        InvalidExpressionError: Types do not go together.
    """

    def __init__(self, tree: Node, types: Mapping[str, str]) -> None:
        self.columns = tuple(dict.fromkeys(column.name for column in columns_of(tree)))
        self._types = [types[name] for name in self.columns]
        self._program = Program(
            typed(
                bound(tree, lambda column: self.columns.index(column.name)),
                lambda column: (int(column.name), self._types[int(column.name)]),
            )
        )
        self.dtype = self._program.dtype

    def run(self, values: Values, count: int) -> Vector:
        """Return the values of `count` rows.

        Raises:
            RowError: A row has no value.
        """
        pairs = zip(self.columns, self._types, strict=True)
        vectors = [from_arrow(values(name), dtype) for name, dtype in pairs]
        return self._program.run(vectors, count)

"""Which rows an aggregation counts: its `where`, over the source's columns."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import SourceError
from featurestore.expressions.arrow_expression import ArrowExpression, Values
from featurestore.expressions.check import columns_of
from featurestore.expressions.errors import RowError
from featurestore.expressions.tree import Node
from featurestore.types import type_name


def counted_rows(
    tree: Node, types: Mapping[str, pa.DataType], values: Values, *, source: str
) -> npt.NDArray[np.bool_]:
    """Return for which rows a predicate is true; where it is null it is not.

    Args:
        tree: The predicate.
        types: Column -> type, of all columns that it names.
        values: Returns a column.
        source: The source's name, for messages.

    Raises:
        SourceError: The predicate cannot be computed for a row, such as an overflow.
    """
    named = {column.name: type_name(types[column.name]) for column in columns_of(tree)}
    predicate = ArrowExpression(tree, named)
    columns = {name: values(name) for name in named}
    count = len(next(iter(columns.values()), ()))
    try:
        found, valid = predicate.run(columns.__getitem__, count)
    except RowError as error:
        row = {name: column[error.row].as_py() for name, column in columns.items()}
        raise SourceError(
            f"Source {source!r}: the predicate of an aggregation has no value where {row}:"
            f" {error.reason}.",
            source=source,
            hint="guard it, for instance with nullif() or CASE",
        ) from None
    return np.asarray(found if valid is None else found & valid, dtype=bool)

"""Which rows an aggregation counts: its `where`, over the source's columns."""

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.errors import SourceError
from featurestore.expressions.arrow import from_arrow
from featurestore.expressions.check import columns_of, typed
from featurestore.expressions.errors import RowError
from featurestore.expressions.features import bound
from featurestore.expressions.program import Program
from featurestore.expressions.tree import Node
from featurestore.types import type_name

Values = Callable[[str], pa.Array]
"""Column -> its values."""


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
    names = list(dict.fromkeys(column.name for column in columns_of(tree)))
    inputs = [type_name(types[name]) for name in names]
    program = Program(
        typed(
            bound(tree, lambda column: names.index(column.name)),
            lambda column: (int(column.name), inputs[int(column.name)]),
        )
    )
    columns = [values(name) for name in names]
    vectors = [from_arrow(column, dtype) for column, dtype in zip(columns, inputs, strict=True)]
    try:
        found, valid = program.run(vectors, len(columns[0]) if columns else 0)
    except RowError as error:
        row = {name: column[error.row].as_py() for name, column in zip(names, columns, strict=True)}
        raise SourceError(
            f"Source {source!r}: the predicate of an aggregation has no value where {row}:"
            f" {error.reason}.",
            source=source,
            hint="guard it, for instance with nullif() or CASE",
        ) from None
    return np.asarray(found if valid is None else found & valid, dtype=bool)

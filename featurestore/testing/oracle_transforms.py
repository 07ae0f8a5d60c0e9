"""Row-level transforms in the plainest way: DuckDB runs the text as it was written, row by row.

Nothing here is shared with the evaluator, nor with the SQL that an engine makes of the tree.
"""

from functools import cache
from typing import Final

import duckdb
import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.definitions.transform import RowTransform
from featurestore.errors import SourceError
from featurestore.expressions.tree import Column
from featurestore.testing.plain import PlainTable, Row, from_array
from featurestore.types import Timestamp, base_type

_SPARE: Final = "\x7f"
"""A column that no text can mean: a table has one at least."""


def transformed(transform: RowTransform | None, source: str, row: Row) -> Row | None:
    """Return what a transform makes of a row whose times are instants; None if it leaves it out.

    Raises:
        SourceError: DuckDB refuses to compute it.
    """
    if transform is None:
        return row
    found = _run(transform, source, [row])
    if not found.num_rows:
        return None
    result = dict(row) if transform.star else {}
    for column in transform.columns:
        if isinstance(column.tree, Column):
            result[column.name] = row[column.tree.name]
        else:
            (result[column.name],) = from_array(found[column.name])
    return result


def type_of(view: FeatureView, column: str) -> pa.DataType:
    """Return the type of a column that a view's transform computes."""
    assert view.row_transform is not None
    return _run(view.row_transform, view.source.name, []).schema.field(column).type


def _run(transform: RowTransform, source: str, rows: list[Row]) -> pa.Table:
    """Return what the text selects; columns that come through unchanged are null."""
    passed = [c.tree.name for c in transform.columns if isinstance(c.tree, Column)]
    types = dict.fromkeys([*passed, _SPARE], pa.int8()) | dict(transform.types)
    given = [dict.fromkeys(types) | {name: row[name] for name in transform.types} for row in rows]
    table = _naive(PlainTable(types, given).to_arrow())
    connection = _connection().cursor()
    for name in (source, "source"):
        connection.register(name, table)
    try:
        found = connection.sql(transform.sql).to_arrow_table()
    except duckdb.Error as error:
        raise SourceError(f"Source {source!r}: {error}", source=source) from None
    finally:
        for name in (source, "source"):
            connection.unregister(name)
    found = _listed(found, list(types)) if transform.star else found
    times = [Timestamp if pa.types.is_timestamp(t) else base_type(t) for t in found.schema.types]
    return found.cast(pa.schema(list(zip(found.column_names, times, strict=True))))


def _listed(found: pa.Table, star: list[str]) -> pa.Table:
    """Return the columns beside those of `*`: where both have a name, the listed one counts."""
    names, width = found.column_names, len(star)
    at = next(n for n in range(len(names)) if names[n : n + width] == star)
    return found.select([n for n in range(len(names)) if not at <= n < at + width])


def _naive(table: pa.Table) -> pa.Table:
    naive = [pa.timestamp("us") if pa.types.is_timestamp(t) else t for t in table.schema.types]
    return table.cast(pa.schema(list(zip(table.column_names, naive, strict=True))))


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})

"""Row-level transforms in the plainest way: DuckDB runs the text as it was written, row by row.

Nothing here is shared with the evaluator, nor with the SQL that an engine makes of the tree.
"""

from collections.abc import Mapping
from functools import cache
from typing import Final

import duckdb
import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.definitions.row_join import RowJoin
from featurestore.definitions.transform import RowTransform
from featurestore.errors import SourceError
from featurestore.expressions.tree import Column
from featurestore.testing.plain import PlainTable, RawTime, Row, from_array
from featurestore.types import Timestamp, base_type

_SELECTED: Final[dict[str, pa.Table]] = {}
_MOST_SELECTED: Final = 10_000
_SPARE: Final = "\x7f"
"""A column that no text can mean: a table has one at least."""


def transformed(
    transform: RowTransform | None, source: str, row: Row, partners: Mapping[str, Row | None]
) -> Row | None:
    """Return what a transform makes of a row whose times are instants; None if it leaves it out.

    Args:
        transform: The transform.
        source: The name of the view's source.
        row: The row.
        partners: Name of a join -> the joined row, or None.

    Raises:
        SourceError: DuckDB refuses to compute it.
    """
    if transform is None:
        return row
    found = _selected(transform, source, row, partners)
    if not found.num_rows:
        return None
    result = dict(row) if transform.star else {}
    for column in transform.columns:
        if isinstance(column.tree, Column):
            origin = row if column.tree.source is None else partners[column.tree.source]
            result[column.name] = None if origin is None else origin[column.tree.name]
        else:
            (result[column.name],) = from_array(found[column.name])
    return result


def _selected(
    transform: RowTransform, source: str, row: Row, partners: Mapping[str, Row | None]
) -> pa.Table:
    """Return what the text selects of a row; a row that is read again is not computed again."""
    key = repr((transform.sql, transform.types, transform.joins, row, partners))
    if key not in _SELECTED:
        if len(_SELECTED) >= _MOST_SELECTED:
            _SELECTED.clear()
        _SELECTED[key] = _run(transform, source, [row], partners)
    return _SELECTED[key]


def type_of(view: FeatureView, column: str) -> pa.DataType:
    """Return the type of a column that a view's transform computes."""
    assert view.row_transform is not None
    return _run(view.row_transform, view.source.name, [], {}).schema.field(column).type


def _run(
    transform: RowTransform, source: str, rows: list[Row], partners: Mapping[str, Row | None]
) -> pa.Table:
    """Return what the text selects; columns that come through unchanged are null."""
    passed = [c.tree.name for c in transform.columns if isinstance(c.tree, Column)]
    types = dict.fromkeys([*passed, _SPARE], pa.int8()) | dict(transform.types)
    types |= {join.times.own: Timestamp for join in transform.joins if join.times is not None}
    known = {*transform.types, *(join.times.own for join in transform.joins if join.times)}
    given = [dict.fromkeys(types) | {name: row[name] for name in known} for row in rows]
    own = _naive(PlainTable(types, given).to_arrow())
    tables = {source: own, "source": own}
    for join in transform.joins:
        partner = partners.get(join.name)
        tables[join.table] = _joined(join, partner, rows[0] if rows else {})
    connection = _connection().cursor()
    for name, table in tables.items():
        connection.register(name, table)
    try:
        found = connection.sql(transform.sql).to_arrow_table()
    except duckdb.Error as error:
        raise SourceError(f"Source {source!r}: {error}", source=source) from None
    finally:
        for name in tables:
            connection.unregister(name)
    found = _listed(found, list(types)) if transform.star else found
    times = [Timestamp if pa.types.is_timestamp(t) else base_type(t) for t in found.schema.types]
    return found.cast(pa.schema(list(zip(found.column_names, times, strict=True))))


def _joined(join: RowJoin, partner: Row | None, row: Row) -> pa.Table:
    """Return a table with the partner, which ON finds again.

    Times are compared rounded up and shown rounded down, so that the partner's may look later than
    the row's by a microsecond.
    """
    types = dict(join.types)
    shown = None if partner is None else dict(partner)
    if join.times is not None:
        types |= {join.times.joined: Timestamp}
        if shown is not None:
            own, other = row[join.times.own], shown[join.times.joined]
            assert isinstance(own, RawTime)
            assert isinstance(other, RawTime)
            shown[join.times.joined] = min(own, other, key=lambda time: time.ns)
    rows = [] if shown is None else [{name: shown[name] for name in types}]
    return _naive(PlainTable(types, rows).to_arrow())


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

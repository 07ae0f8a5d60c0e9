"""The evaluator against DuckDB: every expression that is accepted has DuckDB's type and values."""

import duckdb
import pyarrow as pa
from hypothesis import event, given, reject
from hypothesis import strategies as st

from featurestore.expressions import InvalidExpressionError
from featurestore.expressions.arrow import from_arrow, to_arrow
from featurestore.expressions.check import typed
from featurestore.expressions.errors import RowError
from featurestore.expressions.parse import parse_expression
from featurestore.expressions.program import Program
from featurestore.expressions.tree import Column, from_json, to_json
from tests.property import expressions

NAMES = list(expressions.COLUMNS)
TIME = pa.timestamp("us", tz="UTC")


def _program(text: str) -> Program:
    tree = from_json(to_json(parse_expression(text)))

    def inputs(column: Column) -> tuple[int, str]:
        return NAMES.index(column.name), expressions.COLUMNS[column.name]

    return Program(typed(tree, inputs))


def bits(array: pa.Array | pa.ChunkedArray) -> list[object]:
    """Return values that are equal iff they are the same; every NaN is one.

    Days and microseconds are compared as such: Python has no years beyond 1 to 9999.
    """
    number = {pa.date32(): pa.int32(), TIME: pa.int64()}.get(array.type)
    plain = array if number is None else array.cast(number)
    return [repr(value) for value in plain.to_pylist()]


def _evaluated(program: Program, table: pa.Table) -> pa.Array:
    columns = [
        from_arrow(table.column(name).combine_chunks(), expressions.COLUMNS[name]) for name in NAMES
    ]
    return to_arrow(program.run(columns, table.num_rows), program.dtype)


@given(text=expressions.texts(), table=expressions.rows())
def test_an_accepted_expression_has_the_type_and_values_of_duckdb(
    text: str, table: pa.Table
) -> None:
    try:
        program = _program(text)
    except InvalidExpressionError as error:
        event(f"refused: {str(error)[:25]}")
        reject()
    try:
        dtype, expected = expressions.by_duckdb(text, table)
    except duckdb.Error as error:
        event(f"an error: {str(error)[:25]}")
        try:
            found = _evaluated(program, table)
        except RowError:
            return
        raise AssertionError(f"{text}: DuckDB says {error}, and here it is {found}") from None
    assert program.dtype == dtype, text
    assert bits(_evaluated(program, table)) == bits(expected), text


@given(text=expressions.texts(), table=expressions.rows(), data=st.data())
def test_a_row_by_itself_has_the_value_it_has_among_others(
    text: str, table: pa.Table, data: st.DataObject
) -> None:
    try:
        program = _program(text)
        together = _evaluated(program, table)
    except (InvalidExpressionError, RowError):
        reject()
    row = data.draw(st.integers(0, table.num_rows - 1))
    alone = _evaluated(program, table.slice(row, 1))
    assert bits(alone) == bits(together.slice(row, 1)), text

"""Expressions: what is accepted, with which type, and what a refusal says."""

import subprocess
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from featurestore.expressions import InvalidExpressionError
from featurestore.expressions.check import typed
from featurestore.expressions.errors import RowError
from featurestore.expressions.functions import ALIASES, FUNCTIONS, PARTS
from featurestore.expressions.parse import parse_expression
from featurestore.expressions.program import Program
from featurestore.expressions.syntax import RESERVED
from featurestore.expressions.texts import lower, upper
from featurestore.expressions.tree import Column, from_json, to_json
from featurestore.expressions.vectors import Vector, constant

TYPES = {
    "a": "float64",
    "f": "float32",
    "i": "int8",
    "n": "int64",
    "u": "uint8",
    "b": "bool",
    "s": "string",
    "d": "date32",
    "t": "timestamp[us, UTC]",
    "blob": "binary",
}


def program(text: str) -> Program:
    names = list(TYPES)

    def inputs(column: Column) -> tuple[int, str]:
        return names.index(column.name), TYPES[column.name]

    return Program(typed(parse_expression(text), inputs))


def value(text: str, **given: object) -> object:
    """Return the value for one row; what is not given is null."""
    row: list[Vector] = [
        constant(dtype, given.get(name)) if dtype != "binary" else (np.zeros(1), None)
        for name, dtype in TYPES.items()
    ]
    values, valid = program(text).run(row, 1)
    return None if valid is not None and not valid[0] else values.tolist()[0]


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("i + 1", "int8"),
        ("i + 200", "int32"),
        ("i + 5000000000", "int64"),
        ("i / 2", "float64"),
        ("f / 2", "float32"),
        ("f * 0.5", "float32"),
        ("f * 5e-1", "float64"),
        ("u + u", "uint8"),
        ("d - d", "int64"),
        ("coalesce(d, t)", "timestamp[us, UTC]"),
        ("CASE WHEN b THEN i ELSE n END", "int64"),
        ("nullif(1, a)", "int32"),
        ("sign(a)", "int8"),
        ("floor(i)", "float64"),
        ("hour(t)", "int64"),
        ("CAST(NULL AS VARCHAR)", "string"),
        ("'!'", "string"),
    ],
)
def test_an_expression_has_the_type_that_duckdb_gives_it(text: str, dtype: str) -> None:
    assert program(text).dtype == dtype


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a +", "cannot be read"),
        ("a, n", "a feature for each"),
        ("a; n", "one expression"),
        ("SELECT a", "without SELECT"),
        ("a FROM x", "without SELECT"),
        ("a AS x", "name is given beside"),
        ("(SELECT 1)", "a subquery"),
        ("EXISTS (SELECT 1)", "Exists"),
        ("sum(a)", "belong into a feature view"),
        ("sum(a) OVER ()", "belongs into a feature view"),
        ("now()", "clock"),
        ("current_date", "CurrentDate"),
        ("current_timestamp", "CurrentTimestamp"),
        ("random()", "chance"),
        ("rouned(a)", "did you mean 'round'"),
        ("read_csv('x')", "no function 'read_csv'"),
        ("date_part('hours', t)", "did you mean 'hour'?"),
        ("a ** 2", "power(a, b)"),
        ("a = n IS NULL", "parentheses"),
        ("s || n + 1", "parentheses"),
        ("-a::DOUBLE", "parentheses"),
        ("a DIV 2", "no operator of DuckDB's"),
        ("!b", "no operator of DuckDB's"),
        ("n IN (1, NULL)", "none of them NULL"),
        ("n IN (i, 2)", "a list of constants"),
        ("s LIKE s", "a constant pattern"),
        ("n * 0.5", "DECIMAL"),
        ("0.5", "DECIMAL"),
        ("NULL", "no type"),
        ("n + u", "CAST one of them"),
        ("u + 300", "beyond uint8"),
        ("-u", "not uint8"),
        ("b + 1", "bool"),
        ("s = 1", "do not go together"),
        ("blob IS NULL", "binary"),
        ("a // 2", "not float64"),
        ("CAST(a AS HUGEINT)", "cast to"),
        ("CAST(a AS DECIMAL(5, 2))", "cast to"),
        ("CAST(s AS INTEGER)", "string cannot be cast to int32"),
        ("CAST(t AS VARCHAR)", "cannot be cast to string"),
        ("DATE '2024-02-30'", "no date"),
        ("TIMESTAMP '2024-01-01 10:00:00+01:00'", "without an offset"),
        ("substr(s, 0)", "counts from 1"),
        ("left(s, -1)", "no negative number"),
        ("round(a, n)", "a constant"),
        ("round(a, 16)", "0 to 15 digits"),
        ("abs(a, n)", "takes 1 arguments"),
        ("9223372036854775808", "beyond 64 bits"),
        ("x.y.z", "says more"),
        ("order", "reserved word"),
        ("left + 1", "reserved word"),
        ("a[1]", "lists cannot be used"),
        ("{'x': a}", "Struct"),
        ("$1", "Placeholder"),
        ("INTERVAL 1 DAY", "date_diff"),
        ("t AT TIME ZONE 'UTC'", "times are in UTC"),
        ("a\0", "NUL"),
        ("(" * 2_000 + "a" + ")" * 2_000, "levels deep"),
        ("+".join("a" * 1_100), "levels deep"),
        ("concat(" + ",".join("s" * 1_100) + ")", "parts"),
        ("a" * 10_001, "10,001 characters"),
    ],
)
def test_what_is_refused_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(InvalidExpressionError) as caught:
        program(text)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


def _rows(query: str) -> list[tuple[str, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def test_every_function_and_alias_is_one_of_duckdb() -> None:
    rows = _rows("SELECT DISTINCT function_name FROM duckdb_functions()")
    special = {"if", "coalesce", "nullif", "ifnull", "greatest", "least"}  # syntax, not functions
    names = {n for n, f in FUNCTIONS.items() if f.callable} | ALIASES.keys() | PARTS.keys()
    assert names - special - {name for (name,) in rows} == {"doy", "dow"}


def test_the_reserved_words_are_those_of_duckdb() -> None:
    rows = _rows("SELECT keyword_name, keyword_category FROM duckdb_keywords()")
    assert {w for w, kind in rows if kind in ("reserved", "type_function")} == RESERVED


def test_every_name_of_a_type_means_what_it_means_to_duckdb() -> None:
    aliases = (
        "BOOLEAN BOOL LOGICAL TINYINT INT1 SMALLINT INT2 SHORT INTEGER INT INT4 SIGNED BIGINT INT8"
        " LONG UTINYINT USMALLINT UINTEGER UBIGINT FLOAT FLOAT4 REAL DOUBLE FLOAT8"
    )
    of_duckdb = {"HUGEINT": None, "BOOLEAN": "bool", "FLOAT": "float32", "DOUBLE": "float64"}
    of_duckdb |= {"TINYINT": "int8", "SMALLINT": "int16", "INTEGER": "int32", "BIGINT": "int64"}
    of_duckdb |= {"UTINYINT": "uint8", "USMALLINT": "uint16", "UINTEGER": "uint32"}
    of_duckdb |= {"UBIGINT": "uint64"}
    for alias in aliases.split():
        ((said,),) = _rows(f"SELECT typeof(CAST(1 AS {alias}))")
        assert program(f"CAST(n AS {alias})").dtype == of_duckdb[said], alias


def test_letters_change_their_case_as_in_duckdb_one_by_one() -> None:
    letters = [chr(code) for code in range(1, 0x1_1000) if not 0xD800 <= code < 0xE000]
    with duckdb.connect() as connection:
        connection.register("given", pa.table({"letter": letters}))
        query = "SELECT letter, upper(letter), lower(letter) FROM given"
        found = connection.execute(query).fetchall()
    assert [(c, u, w) for c, u, w in found if (upper(c), lower(c)) != (u, w)] == []
    assert len(found) == len(letters)


def test_a_branch_that_is_not_taken_is_not_computed() -> None:
    assert value("CASE WHEN n <> 0 THEN 10 // n END", n=0) is None
    assert value("coalesce(n, 1 // 0)", n=3) == 3
    rows: list[Vector] = [(np.array([2, 0, 5]), None)]
    guarded = typed(
        parse_expression("CASE WHEN n <> 0 THEN 10 // n ELSE -1 END"), lambda _: (0, "int64")
    )
    assert Program(guarded).run(rows, 3)[0].tolist() == [5, -1, 2]


def test_an_error_names_the_row_even_inside_a_branch() -> None:
    node = typed(parse_expression("CASE WHEN n < 9 THEN 1 // n ELSE n END"), lambda _: (0, "int64"))
    with pytest.raises(RowError) as caught:
        Program(node).run([(np.array([9, 9, 1, 0]), None)], 4)
    assert caught.value.row == 3


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("n + 1", {"n": 2**63 - 1}),
        ("n * n", {"n": 2**32}),
        ("n // 0", {"n": 1}),
        ("-n", {"n": -(2**63)}),
    ],
)
def test_what_has_no_value_is_an_error_and_a_null_is_not(text: str, row: dict[str, int]) -> None:
    with pytest.raises(RowError):
        value(text, **row)
    assert value(text) is None


def test_a_tree_survives_json_and_nothing_else_becomes_one() -> None:
    tree = parse_expression("CASE WHEN s LIKE 'a%' THEN x.y + 1.5 ELSE round(a, 2) END")
    assert from_json(to_json(tree)) == tree
    for wrong in (
        None,
        [],
        ["column"],
        ["literal", "int", 1],
        ["literal", "bool", 1],
        ["+", 1, []],
        "+",
    ):
        with pytest.raises(InvalidExpressionError):
            from_json(wrong)
    deep: list[object] = ["column", "a", None]
    for _ in range(60):
        deep = ["not", None, deep]
    with pytest.raises(InvalidExpressionError):
        from_json(deep)


def test_a_tree_that_calls_what_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidExpressionError, match="no 'eval' of 1"):
        typed(from_json(["eval", None, ["literal", "string", "x"]]), lambda _: (0, "int64"))


def test_no_rows_give_no_rows_even_of_what_always_fails() -> None:
    assert program("1 // 0").run([], 0)[0].tolist() == []


def test_whoever_computes_loads_numpy_alone() -> None:
    code = (
        "import sys, featurestore.serving.on_demand, featurestore.expressions.computation\n"
        "heavy = {'duckdb', 'polars', 'pyarrow', 'sqlalchemy', 'sqlglot', 'pydantic'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []

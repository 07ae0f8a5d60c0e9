"""Random expressions over random rows, and DuckDB's answer to them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import Any, Final

import duckdb
import pyarrow as pa
from hypothesis import strategies as st

from featurestore.types import parse_type

NUMBERS: Final = ("int8", "int16", "int32", "int64", "uint8", "uint32", "float32", "float64")
TIME: Final = "timestamp[us, UTC]"
TYPES: Final = (*NUMBERS, "uint64", "bool", "string", "date32", TIME)
COLUMNS: Final[Mapping[str, str]] = {
    f"{side}_{dtype.partition('[')[0]}": dtype for dtype in TYPES for side in ("x", "y")
}
"""Column -> its type: two of each."""

Rows = Mapping[str, Sequence[Any]]
TEXTS: Final = (
    "",
    "a",
    "b",
    " a ",
    "ab%_\\",
    "it's",
    "ÄSS ß",
    "naïve 🛫",
    "Ab\tc\n",
    "aa",
    "ﬁ",
    "İi",
)


def _integers(dtype: str) -> st.SearchStrategy[int]:
    bits = int(dtype.lstrip("uint"))
    low, high = (0, 2**bits - 1) if dtype[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    edges = st.sampled_from([e for e in (low, low + 1, -1, 0, 1, 2, 7, high - 1, high) if e >= low])
    return edges | st.integers(low, high)


_DAYS = st.dates(date(1, 1, 1), date(9999, 12, 31))
_TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)) | st.sampled_from(  # noqa: DTZ001
    [datetime(1969, 12, 31, 23, 59, 59, 999_999), datetime(2024, 2, 29), datetime(2021, 1, 3)]  # noqa: DTZ001
)
_FLOATS = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, 2.675, -7.25, 1e10, 16777217.0, 3.5e38, 1e300]
_VALUES: Final[Mapping[str, st.SearchStrategy[Any]]] = {
    **{dtype: _integers(dtype) for dtype in (*NUMBERS[:6], "uint64")},
    "float32": st.sampled_from(_FLOATS[:10]) | st.floats(width=32),
    "float64": st.sampled_from(_FLOATS) | st.floats(),
    "bool": st.booleans(),
    "string": st.sampled_from(TEXTS) | st.text(st.characters(max_codepoint=0x2FF), max_size=4),
    "date32": _DAYS,
    TIME: _TIMES,
}


@st.composite
def rows(draw: st.DrawFn) -> pa.Table:
    """Return 1 to 6 rows of `COLUMNS`, nulls among them."""
    count = draw(st.integers(1, 6))
    columns = {}
    for name, dtype in COLUMNS.items():
        values = st.none() | _VALUES[dtype] if draw(st.booleans()) else _VALUES[dtype]
        drawn = draw(st.lists(values, min_size=count, max_size=count))
        if dtype == "string":
            drawn = [None if v is None else v.replace("\0", "") for v in drawn]
        if dtype == TIME:
            drawn = [None if v is None else v.replace(tzinfo=UTC) for v in drawn]
        columns[name] = pa.array(drawn, parse_type(dtype))
    return pa.table(columns)


# --- texts ---------------------------------------------------------------------------------------

Make = Callable[[st.DrawFn, int], str]


def _column(dtypes: Sequence[str]) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, dtype in COLUMNS.items() if dtype in dtypes])


def _one(draw: st.DrawFn, *options: str) -> str:
    return draw(st.sampled_from(options))


def _wrapped(draw: st.DrawFn, text: str) -> str:
    """Put parentheses around a text, or now and then leave the order to the reader."""
    return text if draw(st.integers(0, 5)) == 0 else f"({text})"


def expression(draw: st.DrawFn, kind: str, depth: int) -> str:
    """Return an expression of a kind: "number", "float", "integer", "bool", "text" or "time"."""
    if depth == 0:
        return _leaf(draw, kind)
    makers = _MAKERS[kind]
    return makers[draw(st.integers(0, len(makers) - 1))](draw, depth - 1)


def _sub(draw: st.DrawFn, kind: str, depth: int) -> str:
    return _wrapped(draw, expression(draw, kind, depth))


def _leaf(draw: st.DrawFn, kind: str) -> str:
    if kind in ("number", "integer", "float"):
        dtypes = {"integer": NUMBERS[:6], "float": NUMBERS[6:], "number": (*NUMBERS, "uint64")}
        literals = {"integer": ("0", "1", "2", "-1", "7", "127", "128", "70000", "5000000000")}
        others = ("0", "1", "-3", "0.5", "2.5e0", "1e-3", "-0.0", "100")
        if draw(st.booleans()):
            return draw(_column(dtypes[kind]))
        return _one(draw, *literals.get(kind, others))
    if kind == "bool":
        return _one(draw, "x_bool", "y_bool", "true", "false")
    if kind == "text":
        quoted = [f"'{text.replace(chr(39), chr(39) * 2)}'" for text in TEXTS]
        return draw(_column(("string",))) if draw(st.booleans()) else _one(draw, *quoted)
    literals_ = ("DATE '2024-02-29'", "TIMESTAMP '1969-12-31 23:59:59.5'", "date '1900-01-01'")
    return draw(_column(("date32", TIME))) if draw(st.booleans()) else _one(draw, *literals_)


def _binary(*operators: str, kind: str) -> Make:
    def make(draw: st.DrawFn, depth: int) -> str:
        left, right = _sub(draw, kind, depth), _sub(draw, kind, depth)
        return f"{left} {_one(draw, *operators)} {right}"

    return make


def _call(name: str, *kinds: str, extra: str = "") -> Make:
    def make(draw: st.DrawFn, depth: int) -> str:
        return f"{name}({', '.join(expression(draw, k, depth) for k in kinds)}{extra})"

    return make


def _called(*names: str, kinds: Sequence[str]) -> list[Make]:
    return [_call(name, *kinds) for name in names]


def _case(kind: str) -> Make:
    def make(draw: st.DrawFn, depth: int) -> str:
        when, then = expression(draw, "bool", depth), expression(draw, kind, depth)
        other = _one(draw, f" ELSE {expression(draw, kind, depth)}", "")
        return f"CASE WHEN {when} THEN {then}{other} END"

    return make


def _choices(kind: str) -> list[Make]:
    names = ("coalesce", "greatest", "least", "nullif")
    cast = "VARCHAR" if kind == "text" else "TIMESTAMP"
    made = [
        _case(kind),
        *(_call(name, kind, kind) for name in names),
        _call("if", "bool", kind, kind),
    ]
    if kind in ("text", "time"):
        made.append(
            lambda draw, depth: f"coalesce(CAST(NULL AS {cast}), {_sub(draw, kind, depth)})"
        )
    return made


def _cast(kind: str, *types: str) -> Make:
    def make(draw: st.DrawFn, depth: int) -> str:
        how = _one(draw, "CAST", "TRY_CAST")
        return f"{how}({expression(draw, kind, depth)} AS {_one(draw, *types)})"

    return make


def _in(kind: str, *items: str) -> Make:
    def make(draw: st.DrawFn, depth: int) -> str:
        chosen = draw(st.lists(st.sampled_from(items), min_size=1, max_size=6))
        return f"{_sub(draw, kind, depth)} {_one(draw, 'IN', 'NOT IN')} ({', '.join(chosen)})"

    return make


def _tested(template: str, kind: str) -> Make:
    return lambda draw, depth: template.format(_sub(draw, kind, depth))


def _between(kind: str) -> Make:
    return lambda draw, depth: (
        f"{_sub(draw, kind, depth)} BETWEEN {_sub(draw, kind, depth)} AND {_sub(draw, kind, depth)}"
    )


_COMPARE: Final = (
    "=",
    "<>",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "IS DISTINCT FROM",
    "IS NOT DISTINCT FROM",
)
_PARTS: Final = (
    "year",
    "quarter",
    "month",
    "week",
    "day",
    "dayofyear",
    "dayofweek",
    "isodow",
    "hour",
    "minute",
    "second",
)
_SMALL: Final = ("millisecond", "microsecond")
_MATH: Final = ("sqrt", "exp", "ln", "log10", "log2", "floor", "ceil", "sin", "cos")
_MAKERS: Final[Mapping[str, list[Make]]] = {
    "integer": [
        _binary("+", "-", "*", kind="integer"),
        _binary("//", "%", kind="integer"),
        _tested("- {}", "integer"),
        *_called("abs", "sign", kinds=["integer"]),
        *_choices("integer"),
        _cast("number", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "UINTEGER"),
        _cast("bool", "INTEGER"),
        *_called("length", kinds=["text"]),
        _call("strpos", "text", "text"),
        *(_call(part, "time") for part in (*_PARTS, *_SMALL)),
        *(_tested(f"extract({part} FROM {{}})", "time") for part in ("hour", "dow")),
        *(_tested(f"date_part('{part}', {{}})", "time") for part in ("doy", "week")),
        *(
            lambda draw, depth, part=part: (
                f"date_diff('{part}', {_sub(draw, 'time', depth)}, {_sub(draw, 'time', depth)})"
            )
            for part in ("year", "quarter", "month", "day", "hour", "second", *_SMALL)
        ),
        *_called("epoch_ms", "epoch_us", kinds=["time"]),
    ],
    "float": [
        _binary("+", "-", "*", "/", "%", kind="float"),
        _binary("/", kind="number"),
        _tested("-{}", "float"),
        *_called("abs", "round", kinds=["float"]),
        _call("round", "float", extra=", 2"),
        *_called(*_MATH, kinds=["number"]),
        _call("power", "number", "number"),
        *_choices("float"),
        _cast("number", "FLOAT", "DOUBLE"),
        _call("epoch", "time"),
        lambda _draw, _depth: "pi()",
    ],
    "number": [
        lambda draw, depth: expression(draw, "integer", depth + 1),
        lambda draw, depth: expression(draw, "float", depth + 1),
        *_choices("number"),
        _binary("+", "-", "*", kind="number"),
    ],
    "bool": [
        *(_binary(*_COMPARE, kind=kind) for kind in ("number", "float", "text", "time", "bool")),
        _binary("AND", "OR", kind="bool"),
        _tested("NOT {}", "bool"),
        *(
            _tested(f"{{}} IS {how}NULL", kind)
            for how in ("", "NOT ")
            for kind in ("number", "text")
        ),
        *(_between(kind) for kind in ("number", "text", "time")),
        _in("number", "0", "1", "2", "-1", "100"),
        _in("float", "0.5", "1", "2e0", "7"),
        _in("text", "'a'", "'b'", "''", "'it''s'"),
        *_called("isnan", "isinf", "isfinite", kinds=["float"]),
        *_called("starts_with", "ends_with", "contains", kinds=["text", "text"]),
        *(_tested(f"{{}} LIKE '{pattern}'", "text") for pattern in ("a%", "%", "_", "%a_", "ab%")),
        *_choices("bool"),
        _cast("number", "BOOLEAN"),
    ],
    "text": [
        *_called("lower", "upper", "trim", "ltrim", "rtrim", kinds=["text"]),
        _call("trim", "text", extra=", 'a '"),
        _call("concat", "text", "text"),
        _binary("||", kind="text"),
        _call("replace", "text", "text", "text"),
        *(_call(name, "text", extra=", 2") for name in ("left", "right", "substr")),
        _call("substr", "text", extra=", 2, 3"),
        _cast("integer", "VARCHAR"),
        _cast("bool", "VARCHAR"),
        *_choices("text"),
    ],
    "time": [
        *(
            _tested(f"date_trunc('{part}', {{}})", "time")
            for part in ("year", "quarter", "month", "week", "day", "hour", "minute", "second")
        ),
        _cast("time", "DATE", "TIMESTAMP"),
        lambda draw, _depth: f"(x_date32 + {_one(draw, '1', '-400', 'y_int16')})",
        lambda _draw, _depth: "(y_date32 - 3)",
        *_choices("time"),
    ],
}


@st.composite
def texts(draw: st.DrawFn) -> str:
    """Return the text of an expression, up to four levels deep."""
    kind = draw(st.sampled_from(sorted(_MAKERS)))
    return expression(draw, kind, draw(st.integers(0, 4)))


# --- DuckDB --------------------------------------------------------------------------------------

_NAMES: Final = {
    "BOOLEAN": "bool",
    "TINYINT": "int8",
    "SMALLINT": "int16",
    "INTEGER": "int32",
    "BIGINT": "int64",
    "UTINYINT": "uint8",
    "USMALLINT": "uint16",
    "UINTEGER": "uint32",
    "UBIGINT": "uint64",
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "VARCHAR": "string",
    "DATE": "date32",
    "TIMESTAMP": TIME,
}


def by_duckdb(text: str, table: pa.Table) -> tuple[str, pa.Array]:
    """Return the type and the values that DuckDB gives; it raises what DuckDB raises."""
    naive = pa.schema(
        [
            pa.field(f.name, pa.timestamp("us") if pa.types.is_timestamp(f.type) else f.type)
            for f in table.schema
        ]
    )
    connection = _connection().cursor()
    connection.register("input", table.cast(naive))
    try:
        found = connection.sql(f"SELECT {text} AS result FROM input")  # noqa: S608 - that is the test
        name = _NAMES.get(str(found.types[0]), str(found.types[0]))
        column = found.to_arrow_table().column(0).combine_chunks()
    finally:
        connection.unregister("input")
    return name, column.cast(parse_type(name)) if name in _NAMES.values() else column


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1})

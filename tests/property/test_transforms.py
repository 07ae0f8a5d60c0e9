"""Row-level transforms: DuckDB is given what was written, and engines agree with the oracle."""

from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from hypothesis import given, reject
from hypothesis import strategies as st

from featurestore.definitions import Aggregation, Entity, FeatureView, Field, FileSource
from featurestore.expressions import InvalidExpressionError
from featurestore.expressions.parse import parse_expression
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.duckdb_expressions import expression as rendered
from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.offline.polars import PolarsEngine
from featurestore.testing.offline_cases import check_latest_of_each, check_training_sets
from featurestore.testing.plain import PlainTable, RawTime
from featurestore.testing.strategies import FOLDER, History, TrainingCase
from featurestore.testing.window_cases import check_windows_of_each
from featurestore.types import parse_type
from tests.property import expressions
from tests.property.test_expressions import bits

if TYPE_CHECKING:
    from featurestore.testing.oracle_rows import Mode

ENGINES: tuple[OfflineEngine, ...] = (DuckDBEngine(threads=2), PolarsEngine(threads=2))
DTYPES = {name: parse_type(dtype) for name, dtype in expressions.COLUMNS.items()}
NUMBERS = {n: pa.int64() if pa.types.is_timestamp(t) else t for n, t in DTYPES.items()}


@given(text=expressions.texts(), table=expressions.rows())
def test_an_expression_means_in_the_engine_what_was_written(text: str, table: pa.Table) -> None:
    try:
        tree = parse_expression(text)
    except InvalidExpressionError:
        reject()
    inside = pa.table(
        [column.cast(NUMBERS[name]) for name, column in zip(NUMBERS, table.columns, strict=True)],
        names=list(NUMBERS),
    )
    sql = rendered(tree, DTYPES)
    try:
        dtype, expected = expressions.by_duckdb(text, table)
    except duckdb.Error:
        try:
            expressions.by_duckdb(sql, inside)
        except duckdb.Error:
            return
        raise AssertionError(f"{sql} has a value, and {text} has none") from None
    found_dtype, found = expressions.by_duckdb(sql, inside)
    assert (found_dtype, bits(found)) == (dtype, bits(expected)), sql


# --- engines against the oracle -------------------------------------------------------------------

_BASE = 1_709_640_000 * 10**9  # 2024-03-05 12:00 UTC
_SELECTED = {
    "ratio": ("float64", ("a / 4", "a / nullif(b, 0)", "CASE WHEN b > 1 THEN b END / 3")),
    "label": ("string", ("upper(s)", "coalesce(s, '?') || 'x'", "CAST(a AS VARCHAR)")),
    "plain": ("int64", ("a", "a + 1", "length(s)", "hour(t)", "epoch_ms(t)", "CAST(d AS BIGINT)")),
    "moment": ("timestamp[us, UTC]", ("t", "date_trunc('hour', t)", "coalesce(t, happened)")),
    "day": ("date32", ("CAST(t AS DATE)", "DATE '2024-02-29'")),
    "flag": ("bool", ("s LIKE 'a%'", "b > 0.5", "isnan(b)", "t < TIMESTAMP '2024-03-05 12:30:00'")),
}
_FILTERS = (
    *("s <> 'a'", "a > 0", "NOT (b > 1)", "b IS NULL OR s = 'b'", "s IN ('a', 'b')", "true"),
    *("t < TIMESTAMP '2024-03-05 12:00:00'", "s LIKE '%b%' AND a < 2", "isnan(b)", "a // 2 = 0"),
    *("happened >= TIMESTAMP '2024-03-05 11:00:00'", "user_id = 1", "d = 1"),
)
_VALUES = {
    "a": (0, 1, 2, -1, None),
    "b": (0.0, 0.5, 1.5, float("nan"), None),
    "s": ("a", "b", "ab", "", None),
    "d": (1, 2, None),
}
_STEP = 3_600 * 10**9


def _instants(column: str) -> st.SearchStrategy[RawTime | None]:
    whole = st.integers(-2, 2).map(lambda n: RawTime(_BASE + n * _STEP))
    return whole if column == "happened" else st.none() | whole


@st.composite
def _tables(draw: st.DrawFn, small: str) -> PlainTable:
    types = {"user_id": "int64", "happened": "timestamp[us, UTC]", "made": "timestamp[us, UTC]"}
    types |= {"a": small, "b": "float64", "s": "string", "t": "timestamp[us, UTC]", "d": "int8"}
    cells = {name: st.sampled_from(values) for name, values in _VALUES.items()}
    cells |= {name: _instants(name) for name in ("happened", "made", "t")}
    cells["user_id"] = st.sampled_from([1, 1, 1, 2, None])
    rows = draw(st.lists(st.fixed_dictionaries(cells), max_size=8))
    return PlainTable({name: parse_type(dtype) for name, dtype in types.items()}, rows)


@st.composite
def transform_cases(draw: st.DrawFn, *, windows: bool) -> TrainingCase:
    """Return a history behind a transform, and a spine beside it."""
    listed = [f"{draw(st.sampled_from(texts))} AS {name}" for name, (_, texts) in _SELECTED.items()]
    where = draw(st.just("") | st.sampled_from([f" WHERE {text}" for text in _FILTERS]))
    star = draw(st.sampled_from(["", "*, "]))
    sql = f"SELECT {star}{', '.join(listed)} FROM events{where}"  # noqa: S608 - that is the test
    source = FileSource(
        name="events",
        path=f"{FOLDER}/*.parquet",
        timestamp_field="happened",
        created_timestamp_column=draw(st.sampled_from([None, "made"])),
    )
    of: dict[str, Any] = {
        "schema": [Field(name=name, dtype=dtype) for name, (dtype, _) in _SELECTED.items()]
    }
    if windows:
        of = {
            "aggregations": [
                Aggregation("ratio", ["sum", "count"], ["1h", None]),
                Aggregation("label", ["last"], ["3h"]),
                Aggregation("moment", ["min"], [None]),
                Aggregation("plain", ["sum"], [None], where="flag = true", name="flagged"),
            ]
        }
    user = Entity(name="user", join_keys={"user_id": pa.int64()})
    view = FeatureView(name="v", entities=[user], source=source, transform=sql, ttl=None, **of)
    small = st.sampled_from(["int32", "int64"])
    files = {name: draw(_tables(draw(small))) for name in ("1.parquet", "2.parquet")}
    times = [RawTime(_BASE + n * _STEP) for n in range(-2, 4)]
    spine = PlainTable(
        {"user_id": pa.int64(), "event_timestamp": parse_type("timestamp[us, UTC]")},
        [{"user_id": key, "event_timestamp": time} for key in (1, 2, None) for time in times],
    )
    modes: list[Mode] = ["complete"]
    if source.created_timestamp_column is not None:
        modes.append("as_served")
    history = History(view=view, files=files, moments=[_BASE])
    return TrainingCase(
        history=history, spine=spine, timezone="UTC", mode=draw(st.sampled_from(modes))
    )


@given(case=transform_cases(windows=False))
def test_features_of_a_transform_are_the_oracles(case: TrainingCase) -> None:
    check_training_sets(ENGINES, case)


@given(case=transform_cases(windows=True))
def test_windows_over_a_transform_are_the_oracles(case: TrainingCase) -> None:
    check_windows_of_each(ENGINES, case)


@given(case=transform_cases(windows=False), until=st.integers(-2, 3))
def test_newest_rows_behind_a_transform_are_the_oracles(case: TrainingCase, until: int) -> None:
    until_us = (_BASE + until * _STEP) // 1_000
    check_latest_of_each(ENGINES, case.history, RowFilter(until_us=until_us))

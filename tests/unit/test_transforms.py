"""Row-level transforms: what is refused, what plan says, and what they do to rows."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation, FeatureView
from featurestore.definitions.base import Document
from featurestore.errors import DefinitionError, SourceError, SourceSchemaError
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.polars import PolarsEngine
from featurestore.offline.scan import open_scan
from featurestore.registry.render import render_plan
from featurestore.types import Float32, Float64, Int64, String
from tests.unit.projects import everywhere, micros, project, rows, says, spine, train, view, write

ENGINES = ("duckdb", "polars")


def transformed(sql: str, **more: Any) -> FeatureView:
    """Return a view of the feature y behind a transform."""
    return view(transform=sql, **({"features": {"y": Float64}} | more))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT sum(x) AS y FROM source", "sum() is not allowed"),
        ("SELECT x AS y FROM source GROUP BY x", "GROUP BY collects rows"),
        ("SELECT x AS y FROM source HAVING x > 1", "HAVING"),
        ("SELECT sum(x) OVER () AS y FROM source", "Window"),
        ("SELECT x AS y FROM source QUALIFY row_number() OVER () = 1", "QUALIFY"),
        ("SELECT DISTINCT x AS y FROM source", "DISTINCT compares rows"),
        ("SELECT x AS y FROM source LIMIT 1", "LIMIT counts rows"),
        ("SELECT x AS y FROM source OFFSET 1", "OFFSET counts rows"),
        ("SELECT x AS y FROM source ORDER BY x", "ORDER BY has no meaning"),
        ("SELECT (SELECT 1) AS y FROM source", "a subquery reads other rows"),
        ("SELECT x AS y FROM source WHERE x IN (SELECT 1)", "a subquery reads other rows"),
        ("SELECT x AS y FROM (SELECT * FROM source)", "FROM takes the source's name"),
        ("WITH s AS (SELECT 1) SELECT x AS y FROM source", "WITH is a subquery"),
        ("SELECT x AS y FROM source UNION SELECT 1", "one SELECT over its source, not UNION"),
        ("SELECT x AS y FROM source TABLESAMPLE 1%", "chance"),
        ("SELECT x * epoch(now()) AS y FROM source", "cannot depend on the clock"),
        ("SELECT epoch(current_timestamp) AS y FROM source", "cannot depend on the clock"),
        ("SELECT random() AS y FROM source", "cannot depend on chance"),
        ("SELECT frobnicate(x) AS y FROM source", "no function 'frobnicate'"),
        ("SELECT abss(x) AS y FROM source", "did you mean 'abs'"),
        ("SELECT x AS y FROM source JOIN other USING (x)", "USING is not supported"),
        ("SELECT x AS y FROM source, other", "joined without ON"),
        ("SELECT x AS y FROM other", "'other'\", not 'readings'"),
        ("SELECT x AS y FROM '/etc/passwd'", "reads"),
        ("SELECT x AS y FROM read_parquet('a')", "FROM takes the source's name"),
        ("SELECT x AS y", "FROM is missing"),
        ("SELECT x + 1, x AS y FROM source", "has no name; write AS"),
        ("SELECT o.x AS y FROM source AS s", "'x' alone"),
        ("SELECT x AS y, x AS Y FROM source", "case is ignored"),
        ("SELECT x AS z FROM source", "selects no column \"'y'\""),
        ("SELECT x AS yy FROM source", "did you mean 'yy'"),
        ("SELECT x AS y, x AS z FROM source", "which the schema does not have"),
        ("SELECT * EXCLUDE (x) FROM source", "takes the place"),
        ("SELECT x AS y, k + 1 AS k FROM source", "cannot compute \"'k'\""),
        ("SELECT x AS y, CAST('2024-01-01' AS DATE) AS t FROM source", "cannot compute"),
        ("SELECT x AS y FROM source; SELECT 1", "2 statements"),
        ("DROP TABLE source", "not DROP"),
        ("  ", "it is empty"),
        ("SELECT x AS y FROM source WHERE", "cannot be read"),
        ("SELECT x\0 AS y FROM source", "NUL"),
        ("SELECT " + "(" * 200 + "x" + ")" * 200 + " AS y FROM source", "nested"),
    ],
)
def test_what_needs_more_than_one_row_is_refused_by_name(sql: str, words: str) -> None:
    with pytest.raises(DefinitionError) as error:
        transformed(sql)
    assert words.replace("\"'", "'").replace("'\"", "'") in str(error.value)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT upper(s) AS y FROM source", ["'y'", "string", "float64"]),
        ("SELECT x + s AS y FROM source", ["'y'", "float64 and string"]),
        ("SELECT x AS y FROM source WHERE x + 1", ["WHERE", "float64", "bool"]),
        ("SELECT x AS y FROM source WHERE s > 1", ["WHERE", "string"]),
        ("SELECT x + d AS y FROM source", ["'y'", "decimal128(5, 2)", "cannot compute"]),
    ],
)
def test_a_type_that_does_not_fit_is_refused_at_plan(
    sql: str, words: list[str], tmp_path: Path
) -> None:
    decimals = pa.array([Decimal("1.00")], pa.decimal128(5, 2))
    write(tmp_path / "data.parquet", rows(1, s=["a"], d=decimals))
    with pytest.raises(DefinitionError) as error:
        project(tmp_path).plan([transformed(sql)])
    assert all(word in str(error.value) for word in words), error.value


def test_a_column_that_the_files_do_not_have_is_refused_at_plan(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(1, amount=[1.0]))
    for sql in ("SELECT amont * 2 AS y FROM source", "SELECT x AS y FROM source WHERE amont > 1"):
        with pytest.raises(SourceSchemaError) as error:
            project(tmp_path).plan([transformed(sql)])
        assert says(error.value, "'amont'", "did you mean 'amount'")


def document(store: Any) -> Document:
    found: Document = store.state().view("reading").definition.to_document()
    return found


def test_the_registry_keeps_lineage_and_types(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(1, a=pa.array([1], pa.int32()), b=[2.0], s=["ok"]))
    store = project(tmp_path)
    of = view(
        features={"y": Float64, "b": Float64},
        transform="SELECT k, t, a / nullif(b, 0) AS y, b FROM readings WHERE s <> 'test'",
    )
    store.apply([of])
    kept = document(store)["transform"]
    assert kept["lineage"] == {"y": ["a", "b"], "b": ["b"]}
    assert kept["types"] == {"a": "int32", "b": "float64", "s": "string"}
    assert store.plan([of]).is_empty


def test_windows_know_the_columns_behind_a_transform() -> None:
    of = view(
        schema=[],
        transform="SELECT *, a / 100 AS y FROM source WHERE s <> 'test'",
        aggregations=[
            Aggregation("y", ["sum"], ["1h"], where="b > y", name="large"),
            Aggregation("*", ["count"], ["1h"]),
        ],
    )
    assert of.lineage == {"large_sum_1h": ["a", "b"], "count_1h": []}
    assert of.source_columns == ("a", "b", "s")


def test_a_change_of_what_is_computed_is_a_new_generation(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(1, s=["ok"]))
    store = project(tmp_path)
    store.apply([transformed("SELECT x / 2 AS y FROM source")])
    rewritten = store.plan([transformed("select x/2 as y\nfrom readings")]).changes[0]
    assert (rewritten.impact, rewritten.is_new_generation) == ("metadata", False)
    for sql in ("SELECT x / 3 AS y FROM source", "SELECT x / 2 AS y FROM source WHERE s = 'ok'"):
        plan = store.plan([transformed(sql)])
        assert (plan.changes[0].impact, plan.changes[0].is_new_generation) == ("breaking", True)
        assert "transform.sql" in [field.path for field in plan.changes[0].fields]
        assert sql in "\n".join(render_plan(plan))


def test_one_more_computed_feature_adds(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(1))
    store = project(tmp_path)
    store.apply([transformed("SELECT x / 2 AS y FROM source")])
    more = transformed(
        "SELECT x / 2 AS y, x * 2 AS z FROM source", features={"y": Float64, "z": Float64}
    )
    assert store.plan([more]).changes[0].impact == "additive"


def test_a_transform_that_changes_nothing_is_no_new_generation(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(1))
    store = project(tmp_path)
    store.apply([view()])
    change = store.plan([view(transform="SELECT * FROM source")]).changes[0]
    assert (change.impact, change.is_new_generation) == ("metadata", False)


# --- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_served_is_what_is_trained(engine: str, tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(4, s=["a", "test", None, "b"]))
    store = project(tmp_path, offline_store=engine)
    of = transformed("SELECT x * 10 AS y FROM source WHERE s <> 'test'")
    assert everywhere(store, of, spine(1, 2, 3, 4, 5)) == [10.0, None, None, 40.0, None]


@pytest.mark.parametrize("engine", ENGINES)
def test_only_rows_that_answer_need_a_value(engine: str, tmp_path: Path) -> None:
    table = rows(2, k=[1, 1], n=[2**63 - 1, 21], t=micros(10, 20))
    write(tmp_path / "data.parquet", table)
    store = project(tmp_path, offline_store=engine)
    of = transformed("SELECT n * 2 AS y FROM source", features={"y": Int64})
    assert train(store, of, spine(1, at=micros(20))) == [42]
    with pytest.raises(SourceError) as error:
        train(store, of, spine(1, at=micros(19)))
    assert says(error.value, "'y'", "row 0", "data.parquet", "integer overflow in *")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("call", ["train", "materialize"])
def test_a_row_that_the_filter_cannot_decide_is_named(
    engine: str, call: str, tmp_path: Path
) -> None:
    write(tmp_path / "data.parquet", rows(3, n=[1, 2**63 - 1, 3]))
    store = project(tmp_path, offline_store=engine)
    of = transformed("SELECT x AS y FROM source WHERE n * 2 > 3")
    store.apply([of])
    with pytest.raises(SourceError) as error:
        train(store, of, spine(1, 2, 3)) if call == "train" else store.materialize()
    assert says(error.value, "WHERE", "row 1", "data.parquet", "integer overflow in *")


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_of_any_type_come_through_unchanged(engine: str, tmp_path: Path) -> None:
    decimals = pa.array([Decimal("1.25"), None], pa.decimal128(5, 2))
    table = rows(2, d=decimals, l=[[1, 2], None], raw=pa.array([b"\0", b"a"]))
    write(tmp_path / "data.parquet", table)
    features = {"d": pa.decimal128(7, 2), "l": pa.list_(Int64), "blob": pa.binary(), "y": Float64}
    of = view(features=features, transform="SELECT d, l, raw AS blob, x + 1 AS y FROM source")
    store = project(tmp_path, offline_store=engine)
    assert everywhere(store, of, spine(1, 2)) == [Decimal("1.25"), None]
    found = store.get_historical_features(spine(1, 2), [of]).to_arrow().to_pylist()
    assert found[0] | {"event_timestamp": None} == {
        "k": 1,
        "event_timestamp": None,
        "d": Decimal("1.25"),
        "l": [1, 2],
        "blob": b"\0",
        "y": 2.0,
    }


@pytest.mark.parametrize("engine", ENGINES)
def test_columns_from_folder_names_can_be_computed_with(engine: str, tmp_path: Path) -> None:
    write(tmp_path / "data" / "shop=a" / "1.parquet", rows(1))
    write(tmp_path / "data" / "shop=b" / "1.parquet", rows(1, k=[2]))
    of = view(
        "data",
        features={"y": String, "x": Float64},
        transform="SELECT upper(shop) || '!' AS y, x FROM source WHERE shop <> 'a'",
    )
    store = project(tmp_path, offline_store=engine)
    assert everywhere(store, of, spine(1, 2)) == [None, "B!"]


@pytest.mark.parametrize("engine", ENGINES)
def test_names_of_any_kind_are_only_names(engine: str, tmp_path: Path) -> None:
    odd = '"; DROP TABLE x; --'
    write(tmp_path / "data.parquet", rows(1) | {odd: [4.0], "X": [7.0], "select": [2.0]})
    quoted = '"' + odd.replace('"', '""') + '"'
    listed = quoted + ' * 2 AS "y é", "X" + x AS z'
    of = view(
        features={"y é": Float64, "z": Float64},
        transform=f'SELECT {listed} FROM source WHERE "select" > 1',  # noqa: S608 - as users write
    )
    store = project(tmp_path, offline_store=engine)
    assert everywhere(store, of, spine(1)) == [8.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_value_is_widened_to_the_type_declared(engine: str, tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(2, a=pa.array([1.5, None], pa.float32())))
    of = transformed("SELECT a * CAST(2 AS FLOAT) AS y FROM source")
    assert of.field("y").dtype != Float32
    store = project(tmp_path, offline_store=engine)
    assert everywhere(store, of, spine(1, 2)) == [3.0, None]


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_visible_where_the_filter_lets_nothing_through(
    engine: str, tmp_path: Path
) -> None:
    write(tmp_path / "data.parquet", rows(2))
    store = project(tmp_path, offline_store=engine)
    of = transformed("SELECT x AS y FROM source WHERE false AND x > 0")
    store.apply([of])
    assert train(store, of, spine(1, 2)) == [None, None]
    assert store.materialize()[0].rows_read == 0
    windows = view(
        schema=[],
        transform="SELECT * FROM source WHERE x > 100",
        aggregations=[Aggregation("x", ["count"], [None])],
    )
    assert train(store, windows, spine(1, 2)) == [0, 0]


@pytest.mark.parametrize("engine", [DuckDBEngine(), PolarsEngine()], ids=ENGINES)
def test_rows_tie_if_what_is_computed_of_them_differs(
    engine: OfflineEngine, tmp_path: Path
) -> None:
    table = rows(6, k=[1, 1, 2, 2, 3, 3], x=[1.0, -1.0, 1.0, 2.0, 1.0, 9.0])
    write(tmp_path / "data.parquet", table)
    of = transformed("SELECT abs(x) AS y FROM source WHERE x < 5")
    scan = open_scan(of, ["y"], tmp_path)
    assert [key for batch in engine.ties(scan) for key in batch["k0"].to_pylist()] == [2]
    assert sorted(key for batch in engine.keys(scan) for key in batch["k0"].to_pylist()) == [
        1,
        2,
        3,
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_explain_says_what_is_read_first_and_what_of_winners(engine: str, tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(2, s=["a", "b"]))
    of = transformed("SELECT x * 2 AS y FROM source WHERE s <> 'test'")
    store = project(tmp_path, offline_store=engine)
    first, winners = store.get_historical_features(spine(1), [of]).explain().splitlines()[-2:]
    if engine == "polars":
        assert first.startswith("keep rows that pass 'WHERE' of the transform")
        assert winners == "then read x of row groups with winners"
    else:
        assert "WHERE (x0 <> 'test')" in first
        assert 'r."x" AS x1' not in first
        assert 'r."x" AS x1' in winners

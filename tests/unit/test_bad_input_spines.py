"""Spines of every wrong kind: not tables, not keys, not queries; and tables of every odd type."""

import decimal
from collections.abc import Callable, Iterator
from datetime import time
from pathlib import Path
from typing import Any, cast

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.errors import (
    OutputError,
    RequestError,
    SourceError,
    SpineError,
    UnsupportedError,
)
from featurestore.store import FeatureStore
from featurestore.training.spine import sql
from featurestore.types import Binary, Bool, Date, Int8, Int64, String, UInt64
from tests.unit.projects import (
    FILE,
    LATER,
    THEN,
    UTC_US,
    project,
    rows,
    says,
    source,
    spine,
    train,
    view,
    write,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeatureStore]:
    """A store of three rows, with keys 1 to 3; only read."""
    root = tmp_path_factory.mktemp("shared")
    write(root / FILE, rows(3))
    with project(root) as opened:
        opened.apply([view()])
        yield opened


@pytest.fixture
def fresh(root: Path) -> Iterator[FeatureStore]:
    """The same, for tests that change something."""
    write(root / FILE, rows(3))
    with project(root) as opened:
        opened.apply([view()])
        yield opened


# --- what is no spine --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "thing",
    [
        None,
        5,
        [1],
        {"k": [1]},
        np.array([1]),
        pd.Series([1]),
        pd.Index([1]),
        pl.Series([1]),
        pa.array([1]),
        pa.chunked_array([[1]]),
        pa.scalar(1),
        pa.schema([]),
        object(),
        FeatureStore,
        iter([]),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_what_is_no_table_is_refused_with_what_would_be(store: FeatureStore, thing: object) -> None:
    with pytest.raises(SpineError) as caught:
        train(store, view(), thing)
    assert says(caught.value, type(thing).__name__, "pandas, Polars, Arrow")


@pytest.mark.parametrize("text", ["", "spine.parquet", "SELECT 1", "\ud800", "x" * 10_000])
def test_a_bare_string_is_refused_with_what_it_could_have_meant(
    store: FeatureStore, text: str
) -> None:
    with pytest.raises(SpineError) as caught:
        train(store, view(), text)
    assert says(caught.value, "bare string", "Path(", "sql(")


@pytest.mark.parametrize("name", ["nowhere.parquet", ".", "broken.parquet", "a\0b"])
def test_a_spine_file_that_cannot_be_read_is_named(
    store: FeatureStore, root: Path, name: str
) -> None:
    (root / "broken.parquet").write_bytes(b"garbage")
    with pytest.raises(SpineError) as caught:
        train(store, view(), root / name)
    assert says(caught.value, str(root), hint=False)


def test_a_table_without_columns_or_rows_has_no_time(store: FeatureStore) -> None:
    for empty in (pa.table({}), pd.DataFrame(), pl.DataFrame()):
        with pytest.raises(SpineError) as caught:
            train(store, view(), empty)
        assert says(caught.value, "'event_timestamp'", "no columns", "timestamp_field=")


def test_every_kind_of_table_gives_the_same_answer(store: FeatureStore, root: Path) -> None:
    table = spine(3, 9, 1, 1)
    write(root / "spine; --.parquet", table)
    kinds: list[object] = [
        table,
        table.to_batches()[0],
        pa.RecordBatchReader.from_batches(table.schema, table.to_batches()),
        table.to_pandas(),
        table.to_pandas(types_mapper=pd.ArrowDtype),
        pl.DataFrame(table),
        pl.DataFrame(table).lazy(),
        duckdb.from_arrow(table),
        root / "spine; --.parquet",
    ]
    for kind in kinds:
        assert train(store, view(), kind) == [3.0, None, 1.0, 1.0], type(kind)


def test_a_frame_that_changes_after_the_call_changes_nothing(store: FeatureStore) -> None:
    """Arrow looks at the very memory of a pandas frame, where it can."""
    frame = pd.DataFrame({"k": [1, 2, 3], "event_timestamp": spine(1, 2, 3)["event_timestamp"]})
    frame["amount"] = [0.5, 1.5, 2.5]
    asked = store.get_historical_features(frame, [view()])
    expected = asked.to_arrow()
    frame.loc[0, "k"] = 3
    frame.loc[:, "event_timestamp"] -= pd.Timedelta(days=9_000)
    frame.loc[2, "amount"] = 9.5
    assert asked.to_arrow().equals(expected)


def test_a_column_that_arrow_does_not_take_is_named(store: FeatureStore) -> None:
    frame = pd.DataFrame({"k": [1, 2], "event_timestamp": LATER, "mixed": [1, "a"]})
    with pytest.raises(SpineError) as caught:
        train(store, view(), frame)
    assert caught.value.column == "mixed"
    assert says(caught.value, "'mixed'", hint=False)


# --- columns of a spine ------------------------------------------------------------------------


@pytest.mark.parametrize("double", ["k", "event_timestamp"])
def test_a_column_that_is_there_twice_is_refused_if_it_is_needed(
    store: FeatureStore, double: str
) -> None:
    table = spine(1)
    table = table.append_column(double, table[double])
    for kind in (table, table.to_pandas()):
        with pytest.raises(SpineError) as caught:
            train(store, view(), kind)
        assert repr(double) in str(caught.value)


def test_a_column_that_is_there_twice_is_kept_if_it_is_not_needed(store: FeatureStore) -> None:
    table = spine(1).append_column("a", pa.array([1])).append_column("a", pa.array([2]))
    found = store.get_historical_features(table, [view()]).to_arrow()
    assert found.column_names == ["k", "event_timestamp", "a", "a", "x"]
    assert [column.to_pylist() for column in found.columns[2:]] == [[1], [2], [1.0]]


def test_a_missing_key_column_is_named_with_its_view(store: FeatureStore) -> None:
    with pytest.raises(SpineError) as caught:
        train(store, view(), spine(1, name="K"))
    assert caught.value.column == "k"
    assert says(caught.value, "join key 'k' of 'reading'", "did you mean 'K'")
    role = view().with_name("dest").with_join_key_map({"k": "dest_k"})
    with pytest.raises(SpineError) as caught:
        store.get_historical_features(spine(1), [role])
    assert says(caught.value, "'dest_k'", "'dest'")


@pytest.mark.parametrize("name", [None, 5, "", "\0", "x" * 10_000])
def test_a_time_columns_name_that_is_none_is_refused(store: FeatureStore, name: Any) -> None:
    with pytest.raises(SpineError) as caught:
        train(store, view(), spine(1), timestamp_field=name)
    assert says(caught.value)


KEYS: dict[str, tuple[pa.DataType, pa.Array]] = {
    "text for an integer": (Int64, pa.array(["1"])),
    "integer for a text": (String, pa.array([1])),
    "bool for an integer": (Int64, pa.array([True])),
    "integer for a bool": (Bool, pa.array([1])),
    "decimal for an integer": (Int64, pa.array([1], pa.decimal128(5, 0))),
    "time for a date": (Date, pa.array([THEN], UTC_US)),
    "bytes for a text": (String, pa.array([b"a"])),
    "list for an integer": (Int64, pa.array([[1]])),
    "struct for an integer": (Int64, pa.array([{"a": 1}])),
    "float for a text": (String, pa.array([1.0])),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_of_the_wrong_type_is_refused_by_both_types(root: Path, kind: str) -> None:
    dtype, found = KEYS[kind]
    write(root / FILE, rows(k=pa.array([None], dtype)))
    of = view(keys={"k": dtype})
    with project(root) as store:
        store.apply([of])
        table = pa.table({"k": found, "event_timestamp": pa.array([LATER], UTC_US)})
        with pytest.raises(SpineError) as caught:
            train(store, of, table)
    assert caught.value.column == "k"
    assert says(caught.value, "'k'", "join key is", "cast the column")


@pytest.mark.parametrize("value", [1.5, float("inf"), -float("inf")])
def test_a_float_key_that_is_no_whole_number_is_refused_with_its_row(
    store: FeatureStore, value: float
) -> None:
    with pytest.raises(SpineError) as caught:
        train(store, view(), spine(1.0, float("nan"), value))
    assert (caught.value.column, caught.value.row) == ("k", 2)
    assert says(caught.value, str(value), "row 2", "whole numbers")


@pytest.mark.parametrize(
    "keys",
    [
        pa.array([1, None, 2, 99], pa.int8()),
        pa.array([1, None, 2, 2**64 - 1], pa.uint64()),
        pa.array([1.0, float("nan"), 2.0, 1e300]),
        pa.array([1.0, None, 2.0, -1e18], pa.float32()),
        pa.array([1, None, 2, 99]).dictionary_encode(),
        pa.array([1, None, 2, -(2**63)]),
    ],
    ids=lambda keys: str(keys.type),
)
def test_integer_keys_of_every_width_are_compared_by_value(
    store: FeatureStore, keys: pa.Array
) -> None:
    table = pa.table({"k": keys, "event_timestamp": pa.array([LATER] * 4, UTC_US)})
    assert train(store, view(), table) == [1.0, None, 2.0, None]


def test_a_key_that_the_declared_type_cannot_hold_equals_none(root: Path) -> None:
    write(root / FILE, rows(2, k=pa.array([-1, 127], pa.int8())))
    with project(root) as store:
        store.apply([of := view(keys={"k": Int8})])
        assert train(store, of, spine(255, 127, -1, -129)) == [None, 2.0, 1.0, None]
    write(root / FILE, rows(2, k=pa.array([2**63, 2**64 - 1], pa.uint64())))
    with project(root, project="large") as store:
        store.apply([of := view(keys={"k": UInt64})])
        keys = pa.array([2**63, 2**64 - 1, 5], pa.uint64())
        table = pa.table({"k": keys, "event_timestamp": pa.array([LATER] * 3, UTC_US)})
        assert train(store, of, table) == [1.0, 2.0, None]
        assert train(store, of, spine(2.0**63, -1.0)) == [1.0, None]


def test_empty_odd_and_long_keys_are_keys(root: Path) -> None:
    texts = ["", "\0", "é", "e\u0301", "🛫", "x" * 70_000]
    columns = rows(6, k=texts, j=[text.encode() for text in texts])
    write(root / FILE, columns)
    of = view(keys={"k": String, "j": Binary})
    with project(root) as store:
        store.apply([of])
        table = spine(*texts).append_column("j", pa.array(columns["j"]))
        assert train(store, of, table) == columns["x"]
        store.materialize()
        lookup = store.get_online_features([of], {"k": texts, "j": columns["j"]})
        assert lookup.to_dict()["x"] == columns["x"]
        assert store.verify().ok


# --- columns that only pass through ------------------------------------------------------------

UUIDS = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"a" * 16], pa.binary(16)))
EXOTIC: dict[str, pa.Array] = {
    "dictionary": pa.array(["a"]).dictionary_encode(),
    "list": pa.array([[1, None]]),
    "list view": pa.array([[1]], pa.list_view(pa.int64())),
    "struct": pa.array([{"a": 1, "A": "x"}]),
    "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    "decimal": pa.array([decimal.Decimal("1.5")]),
    "wide decimal": pa.array([decimal.Decimal("1.5")], pa.decimal256(50, 2)),
    "duration": pa.array([1], pa.duration("ns")),
    "time of day": pa.array([time(1)]),
    "extension": UUIDS,
    "null": pa.nulls(1),
    "half": pa.array([1.5], pa.float16()),
    "seconds": pa.array([0], pa.timestamp("s")),
    "nanoseconds": pa.array([1], pa.timestamp("ns", "Asia/Kathmandu")),
    "text view": pa.array(["x"], pa.string_view()),
    "large": pa.array(["x"], pa.large_string()),
    "fixed": pa.array([b"ab"], pa.binary(2)),
    "run ends": pa.RunEndEncodedArray.from_arrays([1], [5]),
    "union": pa.UnionArray.from_dense(
        pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
    ),
    "interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
}
NOT_IN_PARQUET = {"run ends", "union", "interval"}
NOT_IN_POLARS = {"list view", "wide decimal", "run ends", "union", "interval"}


def test_columns_of_every_type_come_back_untouched(store: FeatureStore) -> None:
    table = spine(1)
    for name, column in EXOTIC.items():
        table = table.append_column(pa.field(name, column.type, metadata={"a": "b"}), column)
    found = store.get_historical_features(table, [view()]).to_arrow()
    assert found.select(table.column_names).equals(table)
    assert found.schema.field("list").equals(table.schema.field("list"), check_metadata=True)
    assert found["x"].to_pylist() == [1.0]


@pytest.mark.parametrize("name", sorted(NOT_IN_POLARS))
def test_what_a_format_cannot_hold_is_said(store: FeatureStore, root: Path, name: str) -> None:
    job = store.get_historical_features(spine(1).append_column("z", EXOTIC[name]), [view()])
    with pytest.raises(UnsupportedError) as caught:
        job.to_polars()
    assert says(caught.value, "Polars", "to_arrow()")
    if name in NOT_IN_PARQUET:
        with pytest.raises(OutputError) as refused:
            job.write_parquet(root / "out.parquet")
        assert says(refused.value, "out.parquet", "cast or drop")
        assert list(root.iterdir()) == []


def test_what_a_format_can_hold_is_held(store: FeatureStore, root: Path) -> None:
    for refused, read in ((NOT_IN_PARQUET, "write_parquet"), (NOT_IN_POLARS, "to_polars")):
        table = spine(1)
        for name in EXOTIC.keys() - refused:
            table = table.append_column(name, EXOTIC[name])
        job = store.get_historical_features(table, [view()])
        if read == "to_polars":
            assert job.to_polars()["x"].to_list() == [1.0]
        else:
            written = pq.read_table(job.write_parquet(root / "out.parquet"))
            assert written.column_names == job.schema.names
            assert written["x"].to_pylist() == [1.0]


def test_a_result_without_rows_has_its_schema(store: FeatureStore, root: Path) -> None:
    wide = spine(1).append_column("z", EXOTIC["struct"])
    full = store.get_historical_features(wide, [view()])
    none = store.get_historical_features(wide.slice(0, 0), [view()])
    assert none.num_rows == 0
    assert none.schema == full.schema == full.to_arrow().schema
    assert none.to_arrow().schema == none.schema
    assert none.to_arrow().num_rows == 0
    assert none.to_polars().schema == full.to_polars().schema
    assert list(none.to_pandas().columns) == ["k", "event_timestamp", "z", "x"]
    assert pq.read_schema(none.write_parquet(root / "none.parquet")).names == none.schema.names
    assert [batch.num_rows for batch in none.to_batches()] in ([], [0])


# --- SQL ---------------------------------------------------------------------------------------

KEYS_AND_TIMES = "SELECT k, t AS event_timestamp FROM readings"


@pytest.mark.parametrize(
    "query",
    [
        KEYS_AND_TIMES,
        "select k, t as event_timestamp from READINGS",
        f"WITH a AS ({KEYS_AND_TIMES}) FROM a",
        f"{KEYS_AND_TIMES} -- the end",
        f"{KEYS_AND_TIMES};",
    ],
)
def test_a_query_over_the_sources_is_a_spine(store: FeatureStore, query: str) -> None:
    assert train(store, view(), sql(query)) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELEC 1", "syntax error"),
        ("", "1 to 1,000,000 characters"),
        (" \n ", "1 to 1,000,000 characters"),
        (";", "one SELECT"),
        ("-- nothing", "one SELECT"),
        (f"{KEYS_AND_TIMES}; {KEYS_AND_TIMES}", "SELECT, SELECT"),
        ("INSERT INTO readings VALUES (1)", "INSERT"),
        ("DELETE FROM readings", "DELETE"),
        ("DROP VIEW readings", "DROP"),
        ("CREATE TABLE a AS SELECT 1", "CREATE"),
        ("SET threads = 1", "SET"),
        ("PRAGMA database_list", "one SELECT"),
        ("INSTALL httpfs", "one SELECT"),
        ("EXPLAIN SELECT 1", "EXPLAIN"),
        ("SELECT nothing FROM readings", '"nothing"'),
        ("SELECT * FROM nothing", "readings"),
        ("SELECT error('boom')", "boom"),
        ("SELECT $1", "parameters"),
        ("SELECT getenv('HOME')", "getenv"),
        ("SELECT * FROM query('COPY readings TO ''x.csv''')", "SELECT statement"),
        ("SELECT k FROM readings", "'event_timestamp'"),
        ("SELECT k, t AS event_timestamp, 1 AS x FROM readings", "'x'"),
        ("SELECT '\ud800'", "surrogate"),
    ],
)
def test_a_query_that_is_no_spine_is_refused(store: FeatureStore, query: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        train(store, view(), sql(query))
    assert words in str(caught.value)
    assert says(caught.value, hint=bool(caught.value.hint))


def test_a_query_is_text() -> None:
    with pytest.raises(SpineError, match="text"):
        sql(cast("Any", None))
    with pytest.raises(SpineError, match="characters"):
        sql("x" * 1_000_001)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM '{outside}'",
        "SELECT * FROM read_parquet('{outside}')",
        "SELECT * FROM read_parquet('{root}/*.parquet')",
        "SELECT * FROM parquet_metadata('{outside}')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_json('/etc/passwd')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_xlsx('/etc/passwd')",
        "COPY readings TO '{root}/copy.parquet'",
        "ATTACH '{root}/new.db'",
        "SELECT * FROM frame",
        "SELECT * FROM tables",
    ],
)
def test_a_query_reaches_nothing_but_the_registered_sources(
    store: FeatureStore, root: Path, query: str
) -> None:
    frame = spine(1)  # DuckDB finds variables by their names if one lets it
    outside = write(root / "outside.parquet", frame)
    before = sorted(Path(store.config.root).rglob("*"))
    text = query.replace("{outside}", str(outside)).replace("{root}", str(root))
    with pytest.raises(RequestError) as caught:
        train(store, view(), sql(text))
    assert "install" not in str(caught.value)
    assert sorted(Path(store.config.root).rglob("*")) == before
    assert list(root.iterdir()) == [outside]


def test_a_glob_in_a_sources_path_opens_no_other_file(root: Path) -> None:
    write(root / "a*.parquet", rows())
    write(root / "ab.parquet", rows(k=[2]))
    with project(root) as store:
        store.apply([view("a*.parquet")])
        assert train(store, view("a*.parquet"), sql(KEYS_AND_TIMES)) == [1.0]
        with pytest.raises(RequestError, match="Permission"):
            train(store, view("a*.parquet"), sql(f"FROM read_parquet('{root}/a*.parquet')"))


def test_a_broken_source_matters_only_to_queries_that_name_it(
    fresh: FeatureStore, root: Path
) -> None:
    other = source("other.parquet", name="select")
    write(root / "other.parquet", rows())
    fresh.apply([view(name="second", source=other), source("gone.parquet", name="gone")])
    (root / "other.parquet").write_bytes(b"garbage")
    assert train(fresh, view(), sql(KEYS_AND_TIMES)) == [1.0, 2.0, 3.0]
    with pytest.raises(SourceError) as broken:
        train(fresh, view(), sql('SELECT k, t AS event_timestamp FROM "select"'))
    assert (broken.value.source, broken.value.file) == ("select", str(root / "other.parquet"))
    with pytest.raises(RequestError, match="gone") as caught:
        train(fresh, view(), sql("SELECT * FROM gone"))
    assert says(caught.value, "registered sources whose files exist: readings, select")


def test_a_query_sees_renamed_columns_by_their_new_names(root: Path) -> None:
    renamed = source(field_mapping={"old; --": "k"})
    table = rows(2)
    table["old; --"] = table.pop("k")
    write(root / FILE, table)
    with project(root) as store:
        store.apply([of := view(source=renamed)])
        assert train(store, of, sql(KEYS_AND_TIMES)) == [1.0, 2.0]


def test_a_query_is_taken_once(store: FeatureStore) -> None:
    query = KEYS_AND_TIMES.replace("FROM", ", random() AS r FROM") + " ORDER BY r"
    job = store.get_historical_features(sql(query), [view()])
    assert job.to_arrow().equals(job.to_arrow())


def test_no_source_is_read_for_a_wrong_request(fresh: FeatureStore, root: Path) -> None:
    (root / FILE).unlink()
    act: list[Callable[[], object]] = [
        lambda: train(fresh, view(), None),
        lambda: train(fresh, view(), spine("a")),
        lambda: train(fresh, view(), spine(1), mode="as_served"),
        lambda: train(fresh, view(), spine(1), mode="yesterday"),
    ]
    for call in act:
        with pytest.raises(RequestError):
            call()
    with pytest.raises(SourceError):
        train(fresh, view(), spine(1))

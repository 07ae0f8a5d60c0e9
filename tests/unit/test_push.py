"""Rows that applications push are stored as materialization would store them, or refused whole."""

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import errors
from featurestore.definitions import Aggregation, Entity, FeatureView, FileSource, InRange
from featurestore.errors import NotFoundError, RequestError, RowsError
from featurestore.materialize import rows as given_rows
from featurestore.online.codec import is_pushed
from featurestore.online.store import TableId
from featurestore.store import FeatureStore
from featurestore.time import parse_instant
from featurestore.types import (
    Binary,
    Bool,
    Date,
    Float32,
    Float64,
    Int8,
    Int32,
    Int64,
    List,
    String,
    Timestamp,
)
from featurestore.types import Decimal as DecimalType
from tests.unit.projects import (
    FILE,
    NAIVE_US,
    QUICK,
    THEN,
    UTC_US,
    Columns,
    project,
    rows,
    says,
    source,
    view,
    write,
)

MINUTE = timedelta(minutes=1)
CREATED = {"created_timestamp_column": "c"}


def stored(store: FeatureStore) -> dict[bytes, bytes]:
    """Return the rows of the view's table, without what says who wrote them."""
    table = TableId(project="plant", view="reading", generation=1)
    found = dict(pair for batch in store.online_store.scan(table) for pair in batch)
    return {key: value[1:] for key, value in found.items()}


def opened(root: Path, of: FeatureView, columns: Columns | pa.Table) -> FeatureStore:
    """Return a store that has the view, and a file of its source with these rows."""
    path = of.source.path
    file = path.replace("*", "first") if path.endswith(".parquet") else f"{path}/first.parquet"
    write(root / file, columns)
    store = project(root, **QUICK)
    store.apply([of])
    return store


def files(store: FeatureStore) -> list[str]:
    names = (path.name for path in (store.config.root / "data").iterdir())
    return sorted(name for name in names if not name.startswith("registry"))


def looked_up(store: FeatureStore, *keys: int) -> list[Any]:
    found = store.get_online_features(["reading:x"], {"k": list(keys)}).to_dict()["x"]
    return list(found)


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tests begin with."""
    folder = tmp_path_factory.mktemp("applied")
    opened(folder, view("data"), rows(3)).close()
    return folder


@pytest.fixture
def store(tmp_path: Path, applied: Path) -> FeatureStore:
    """A store over a folder of files, in which nothing is online yet."""
    shutil.copytree(applied, tmp_path, dirs_exist_ok=True)
    return project(tmp_path, **QUICK)


# --- a pushed row is what it would be as a row of a file ---------------------------------------


def test_a_pushed_row_is_found(store: FeatureStore) -> None:
    now = store.clock.now()
    report = store.push("reading", [{"k": 7, "t": now, "x": 1.5}])
    assert (report.view, report.rows, report.written, report.kept) == ("reading", 1, 1, 0)
    assert looked_up(store, 7, 8) == [1.5, None]
    assert store.write_to_online_store("reading", {"k": [8], "t": [now], "x": [2.5]}).written == 1
    assert looked_up(store, 7, 8) == [1.5, 2.5]


ZONED = {"timezone": "America/New_York", "ambiguous": "latest", "missing": "forward"}
LOCAL = [datetime(2024, 3, 10, 2, 30), datetime(2023, 11, 5, 1, 30), datetime(2024, 1, 1)]  # noqa: DTZ001
NANOSECONDS = [1_700_000_000_000_000_001, 1_700_000_000_000_000_999, 1_700_000_000_000_000_500]
EVENTS: dict[str, tuple[FeatureView, Columns]] = {
    "plain": (view("data"), rows(3)),
    "corrections": (
        view("data", reads=CREATED),
        rows(4, k=[1, 1, 2, 2], c=pa.array([THEN + MINUTE, THEN, None, THEN], UTC_US)),
    ),
    "a mapped name": (
        view("data", reads={"field_mapping": {"raw": "x"}}),
        {"k": [1, 2], "t": pa.array([THEN] * 2, UTC_US), "raw": [1.0, 2.0]},
    ),
    "a transform": (
        view(
            "data",
            features={"y": Float64, "x": Float64},
            transform="SELECT x * 3 / n AS y, x FROM source WHERE x > 1.5",
        ),
        rows(3, n=pa.array([1, 2, 7], pa.int32())),
    ),
    "local times": (
        view("data", reads=ZONED),
        rows(3, t=pa.array(LOCAL, NAIVE_US)),
    ),
    "times that meet when they are rounded": (
        view("data"),
        rows(3, k=[1, 1, 1], t=pa.array(NANOSECONDS, pa.timestamp("ns", "UTC"))),
    ),
    "created times that meet": (
        view("data", reads=CREATED),
        rows(3, k=[1] * 3, c=pa.array(NANOSECONDS[::-1], pa.timestamp("ns", "UTC"))),
    ),
    "seconds": (view("data"), rows(2, t=pa.array([THEN] * 2, pa.timestamp("s")))),
    "dates as times": (view("data"), rows(2, t=pa.array([THEN.date()] * 2, pa.date32()))),
    "ties": (view("data"), rows(3, k=[1, 1, 1])),
    "expired": (
        view("data", ttl=timedelta(days=1)),
        rows(2, t=pa.array([THEN, datetime(2024, 5, 31, 12, tzinfo=UTC)], UTC_US)),
    ),
    "narrow types": (
        view("data"),
        rows(2, k=pa.array([1, 2], pa.int8()), x=pa.array([1, 2]).cast("float")),
    ),
    "no entity": (view("data", keys={}), rows(3, t=pa.array([THEN, THEN + MINUTE, THEN], UTC_US))),
    "two keys": (
        view("data", keys={"k": Int64, "s": String}),
        rows(2, s=["a", ""]),
    ),
    "every type": (
        view(
            "data",
            features={
                "b": Bool,
                "i": Int8,
                "f": Float32,
                "d": DecimalType(10, 2),
                "s": String,
                "y": Binary,
                "day": Date,
                "at": Timestamp,
                "l": List(Int32),
                "m": List(String),
            },
        ),
        rows(
            2,
            b=[True, None],
            i=pa.array([-128, None], pa.int8()),
            f=pa.array([0.1, float("nan")], pa.float32()),
            d=pa.array([Decimal("1.25"), None], pa.decimal128(10, 2)),
            s=["é", None],
            y=[b"\0", b""],
            day=pa.array([date(9999, 12, 31), None]),
            at=pa.array(NANOSECONDS[:2], pa.timestamp("ns", "UTC")),
            l=pa.array([[1, None], []], pa.list_(pa.int32())),
            m=pa.array([["a"], None], pa.list_(pa.string())),
        ),
    ),
}


@pytest.mark.parametrize("case", EVENTS)
def test_a_pushed_row_is_stored_as_a_materialized_one(case: str, tmp_path: Path) -> None:
    of, columns = EVENTS[case]
    pushed, materialized = tmp_path / "a", tmp_path / "b"
    with opened(pushed, of, columns) as store:
        report = store.push("reading", pa.table(dict(columns)))
        found = stored(store)
    with opened(materialized, of, columns) as store:
        run = store.materialize()
        assert found == stored(store)
    assert len(found) == run[0].entities - run[0].expired > 0
    assert report.rows == len(columns["k"])
    assert report.written + report.kept + report.filtered + report.expired == report.rows
    assert report.expired == run[0].expired


def test_rows_that_the_transform_leaves_out_are_counted(tmp_path: Path) -> None:
    of = view("data", transform="SELECT x FROM source WHERE x > 1.5")
    with opened(tmp_path, of, rows(3)) as store:
        report = store.push("reading", rows(3))
        assert (report.rows, report.written, report.filtered) == (3, 2, 1)
        assert looked_up(store, 1, 2, 3) == [None, 2.0, 3.0]


FORMS: dict[str, Callable[[dict[str, Any]], object]] = {
    "rows": lambda c: [dict(zip(c, row, strict=True)) for row in zip(*c.values(), strict=True)],
    "columns": lambda c: c,
    "arrays": lambda c: {n: v if n == "t" else np.array(v) for n, v in c.items()},
    "arrow": pa.table,
    "batch": pa.RecordBatch.from_pydict,
    "polars": pl.DataFrame,
    "lazy": pl.LazyFrame,
    "pandas": pd.DataFrame,
    "pandas with Arrow": lambda c: pd.DataFrame(c).convert_dtypes(dtype_backend="pyarrow"),
}


@pytest.mark.parametrize("form", FORMS)
def test_rows_may_have_any_form(store: FeatureStore, form: str) -> None:
    columns = {"k": [1, 2], "t": [THEN, THEN], "x": [1.5, -0.25], "else": ["a", "b"]}
    assert store.push("reading", FORMS[form](columns)).written == 2
    assert looked_up(store, 1, 2) == [1.5, -0.25]


def test_rows_may_be_a_parquet_file(store: FeatureStore, tmp_path: Path) -> None:
    file = write(tmp_path / "other.parquet", rows(2))
    assert store.push("reading", file).written == 2
    with pytest.raises(RowsError) as caught:
        store.push("reading", tmp_path / "missing.parquet")
    assert says(caught.value, "missing.parquet", hint=False)


def test_the_files_of_the_source_are_not_looked_at(store: FeatureStore) -> None:
    (store.config.root / "data/first.parquet").unlink()
    assert store.push("reading", rows(1)).written == 1


def test_no_rows_are_no_error(store: FeatureStore) -> None:
    nothings: list[object] = [[], {}, rows(0), pa.table(rows(0))]
    for nothing in nothings:
        report = store.push("reading", nothing)
        assert (report.rows, report.written) == (0, 0)


def test_python_values_have_no_width(tmp_path: Path) -> None:
    of = view(
        "data", features={"i": Int8, "f": Float32, "d": DecimalType(9, 2), "l": List(Float32)}
    )
    typed = {
        "i": pa.array([1], pa.int8()),
        "f": pa.array([0.5], pa.float32()),
        "d": pa.array([Decimal(1)], pa.decimal128(9, 2)),
        "l": pa.array([[0.5]], pa.list_(pa.float32())),
    }
    with opened(tmp_path, of, {n: v for n, v in rows(1, **typed).items() if n != "x"}) as store:
        store.push("reading", [{"k": 1.0, "t": THEN, "i": 7, "f": 0.1, "d": 3, "l": [1, 0.1]}])
        found = store.get_online_features([of], {"k": [1]}).to_arrow().to_pylist()[0]
    rounded = pa.array([0.1], pa.float32())[0].as_py()
    assert found == {"k": 1, "i": 7, "f": rounded, "d": Decimal("3.00"), "l": [1.0, rounded]}


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (Int8, pa.array([1, 127, None]), pa.array([1, 128, None])),
        (Int64, pa.array([1.0, None, -3.0]), pa.array([1.0, 1.5, None])),
        (Float32, pa.array([0.5, float("nan"), float("inf")]), pa.array([0.5, 0.1, None])),
        (
            DecimalType(4, 1),
            pa.array([Decimal("1.20")] * 3),
            pa.array([Decimal("1.2"), Decimal("1.25"), None]),
        ),
    ],
)
def test_a_wider_column_is_taken_if_each_value_fits(
    dtype: pa.DataType, good: pa.Array, bad: pa.Array, tmp_path: Path
) -> None:
    of = view("data", features={"x": dtype})
    with opened(tmp_path, of, rows(1, x=pa.array([None], dtype))) as store:
        assert store.push("reading", rows(3, x=good)).written == 3
        expected = [None if v is None else str(v) for v in good.cast(dtype).to_pylist()]
        found = [None if v is None else str(v) for v in looked_up(store, 1, 2, 3)]
        assert found == expected
        with pytest.raises(RowsError) as caught:
            store.push("reading", rows(3, x=bad))
        assert (caught.value.column, caught.value.row) == ("x", 1)


# --- what wins ---------------------------------------------------------------------------------


def test_the_newest_row_wins_and_the_counts_say_so(store: FeatureStore) -> None:
    store.push("reading", rows(2))
    older, newer = THEN - MINUTE, THEN + MINUTE
    report = store.push("reading", {"k": [1, 2], "t": [older, newer], "x": [9.0, 8.0]})
    assert (report.written, report.kept) == (1, 1)
    assert looked_up(store, 1, 2) == [1.0, 8.0]


def test_rows_without_created_times_were_created_now(tmp_path: Path) -> None:
    with opened(
        tmp_path, view("data", reads=CREATED), rows(1, c=pa.array([THEN], UTC_US))
    ) as store:
        store.materialize()
        store.push("reading", rows(1, x=[2.0]))
        assert looked_up(store, 1) == [2.0]
        before = pa.array([store.clock.now() - MINUTE], UTC_US)
        assert store.push("reading", rows(1, x=[3.0], c=before)).kept == 1
        assert store.push("reading", rows(1, x=[4.0], c=pa.nulls(1))).kept == 1
        assert looked_up(store, 1) == [2.0]


def test_the_last_of_rows_with_equal_times_wins(store: FeatureStore) -> None:
    store.push("reading", rows(3, k=[1, 1, 1]))
    assert looked_up(store, 1) == [3.0]
    store.push("reading", rows(1, x=[7.0]))
    assert looked_up(store, 1) == [7.0]


# --- what is refused ---------------------------------------------------------------------------

NOW = datetime(2024, 6, 1, tzinfo=UTC)
GOOD = {"k": 1, "t": NOW, "x": 1.0}
BAD: dict[str, tuple[object, str | None, int | None, tuple[str, ...]]] = {
    "a null key": ([GOOD, GOOD | {"k": None}], "k", 1, ("Row 1", "join key")),
    "a key that is no number": (
        pd.DataFrame([GOOD, GOOD | {"k": float("nan")}]),
        "k",
        1,
        ("Row 1",),
    ),
    "a null time": ([GOOD, GOOD | {"t": None}], "t", 1, ("Row 1", "event time")),
    "the future": (
        [
            GOOD | {"t": NOW + 5 * MINUTE},
            GOOD | {"t": NOW + 5 * MINUTE + timedelta(microseconds=1)},
        ],
        "t",
        1,
        ("Row 1", "2024-06-01T00:05:00.000001Z", "5 minutes"),
    ),
    "the end of time": (rows(1, t=pa.array([2**63 - 1]).view(UTC_US)), "t", 0, ("Row 0",)),
    "a missing column": ([{"k": 1, "t": NOW, "X": 1.0}], "x", None, ("'x'", "did you mean 'X'")),
    "a text": ([GOOD, GOOD | {"x": "1"}], "x", 1, ("'x'",)),
    "only texts": ([GOOD | {"x": "1"}], "x", 0, ("string", "float64")),
    "a bool": ([GOOD | {"k": True}], "k", 0, ("bool", "int64")),
    "a fraction as key": ([GOOD, GOOD | {"k": 1.5}], "k", 1, ("1.5", "row 1")),
    "a time as text": ([GOOD | {"t": "2024-01-01"}], "t", None, ("string", "times")),
    "times of two kinds": ([GOOD, GOOD | {"t": datetime(2024, 1, 1)}], "t", 1, ("zone",)),  # noqa: DTZ001
    "different columns": ([GOOD, {"k": 1, "t": NOW}], "x", 1, ("Row 1", "'x'")),
    "a row that is none": ([GOOD, 5], None, 1, ("Row 1", "int")),
    "columns of two lengths": (
        {"k": [1], "t": [NOW, NOW], "x": [1.0]},
        None,
        None,
        ("equally long",),
    ),
    "a value as column": ({"k": 1, "t": [NOW], "x": [1.0]}, "k", None, ("'k'",)),
    "a name that is none": ({1: [1], "t": [NOW], "x": [1.0]}, None, None, ("int",)),
    "two columns of a name": (
        pa.table([[1], [1], [NOW], [1.0]], names=["k", "k", "t", "x"]),
        "k",
        None,
        ("two",),
    ),
    "text": ("rows.parquet", None, None, ("str",)),
    "a number": (5, None, None, ("int",)),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("append", [False, True])
def test_bad_rows_are_refused_whole(store: FeatureStore, case: str, append: bool) -> None:  # noqa: FBT001
    bad, column, row, words = BAD[case]
    with pytest.raises(RowsError) as caught:
        store.push("reading", bad, append=append)
    assert (caught.value.column, caught.value.row) == (column, row)
    assert says(caught.value, *words, hint=bool(caught.value.hint))
    assert stored(store) == {}
    assert files(store) == ["first.parquet"]


def test_a_bad_row_among_many_keeps_all_others_out(store: FeatureStore) -> None:
    count = 150_000
    keys = [*range(count - 1), None]
    columns = {"k": pa.array(keys), "t": pa.array([THEN] * count, UTC_US), "x": np.ones(count)}
    with pytest.raises(RowsError, match=f"Row {count - 1} has no 'k'"):
        store.push("reading", columns)
    assert stored(store) == {}


def test_a_row_without_a_value_is_named(tmp_path: Path) -> None:
    of = view("data", features={"y": Int64}, transform="SELECT n // m AS y FROM source")
    with opened(tmp_path, of, rows(1, n=[1], m=[1])) as store:
        with pytest.raises(RowsError) as caught:
            store.push("reading", rows(2, n=[1, 1], m=[1, 0]))
        assert says(caught.value, "'y'", "row 1 of the rows")


def test_a_local_time_that_occurs_twice_is_named(tmp_path: Path) -> None:
    of = view("data", reads={"timezone": "America/New_York"})
    with opened(tmp_path, of, rows(1)) as store:
        with pytest.raises(RowsError) as caught:
            store.push("reading", rows(3, t=pa.array(LOCAL[::-1], NAIVE_US)))
        assert says(caught.value, "2023-11-05T01:30:00 occurs twice", "row 1 of the rows")


def test_too_many_rows_are_refused(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given_rows, "MAX_ROWS", 2)
    assert store.push("reading", rows(2)).written == 2
    with pytest.raises(RowsError, match="3 rows; one call takes 2"):
        store.push("reading", rows(3))
    monkeypatch.setattr(given_rows, "MAX_BYTES", 47)
    with pytest.raises(RowsError, match="48 bytes; one call takes 47"):
        store.push("reading", rows(2))


def test_views_whose_rows_are_no_rows_of_their_source_are_refused(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(1, z=["a"]))
    write(tmp_path / "names.parquet", {"z": ["a"], "name": ["b"]})
    names = FileSource(name="names", path="names.parquet", static=True)
    joined = view(
        name="joined",
        features={"name": String},
        joins=[names],
        transform="SELECT names.name FROM source LEFT JOIN names ON source.z = names.z",
    )
    windows = FeatureView(
        name="windows",
        entities=[Entity(name="sensor", join_keys={"k": Int64})],
        source=source(),
        aggregations=[Aggregation("x", ["sum"], windows=["1h"])],
    )
    with project(tmp_path) as store:
        store.apply([view(name="offline", online=False), view(), joined, windows])
        for name, words in (
            ("offline", "not served online"),
            ("windows", "has windows"),
            ("joined", "joins other sources"),
        ):
            with pytest.raises(RequestError, match=words):
                store.push(name, rows(1))
        with pytest.raises(NotFoundError, match="reading"):
            store.push("readings", rows(1))


# --- appended to the source --------------------------------------------------------------------


def appended(store: FeatureStore) -> list[Path]:
    return sorted(p for p in (store.config.root / "data").iterdir() if "pushed" in p.name)


def test_an_appended_row_is_in_the_source_and_online(store: FeatureStore) -> None:
    store.materialize()
    now = store.clock.now()
    report = store.push(
        "reading", [{"k": 9, "t": now, "x": 2.5}, {"k": 1, "t": now, "x": 7}], append=True
    )
    assert [report.file] == appended(store)
    assert report.file is not None
    assert pq.read_schema(report.file) == pq.read_schema(store.config.root / "data/first.parquet")
    spine = pa.table({"k": [9, 1], "event_timestamp": pa.array([now, now], UTC_US)})
    trained = store.get_historical_features(spine, ["reading:x"]).to_arrow()["x"].to_pylist()
    assert trained == looked_up(store, 9, 1) == [2.5, 7.0]
    before = stored(store)
    (run,) = store.materialize_incremental()
    assert (run.written, stored(store)) == (2, before)
    verified = store.verify()
    assert (verified.ok, dict(verified.views[0].differences)) == (True, {})


def test_files_are_added_where_the_glob_finds_them(tmp_path: Path) -> None:
    for number, path in enumerate(("d", "d/*.parquet", "d/**/*.parquet", "d/part-*", "d/a*z*.pq")):
        folder = tmp_path / str(number)
        of = view(path)
        write(folder / "d/part-a.parquet", rows(1))
        write(folder / "d/a1z.pq", rows(1))
        with project(folder) as store:
            store.apply([of])
            first = store.push("reading", rows(1, k=[5]), append=True).file
            second = store.push("reading", rows(1, k=[6]), append=True).file
            assert first is not None
            assert second is not None
            assert first.name < second.name
            assert len(list((folder / "d").iterdir())) == 4
            spine = pa.table({"k": [5, 6], "event_timestamp": pa.array([NOW] * 2, UTC_US)})
            found = store.get_historical_features(spine, ["reading:x"]).to_arrow()["x"]
            assert found.to_pylist() == [1.0, 1.0]


@pytest.mark.parametrize("path", [FILE, "*/data.parquet", "d/data.parque?", "years"])
def test_sources_without_a_place_for_more_files_are_refused(path: str, tmp_path: Path) -> None:
    for file in (FILE, "d/data.parquet", "years/year=2024/a.parquet"):
        write(tmp_path / file, rows(1))
    with project(tmp_path) as store:
        store.apply([view(path)])
        assert store.push("reading", rows(1)).written == 1
        with pytest.raises(RequestError, match="cannot be appended"):
            store.push("reading", rows(1), append=True)


def test_an_appended_row_has_all_columns_and_no_others(tmp_path: Path) -> None:
    with opened(tmp_path, view("data"), rows(1, other=["a"])) as store:
        assert store.push("reading", rows(1)).written == 1
        with pytest.raises(RowsError) as caught:
            store.push("reading", rows(1), append=True)
        assert caught.value.column == "other"
        with pytest.raises(RowsError) as caught:
            store.push("reading", rows(1, other=["a"], othr=["b"]), append=True)
        assert caught.value.column == "othr"
        assert says(caught.value, "did you mean 'other'")
        assert store.push("reading", rows(1, other=[None]), append=True).written == 1


FILE_TIMES: dict[str, tuple[pa.DataType, object, bool]] = {
    "milliseconds": (pa.timestamp("ms", "UTC"), NOW, True),
    "too many digits": (pa.timestamp("ms", "UTC"), NOW - timedelta(microseconds=1), False),
    "nanoseconds": (pa.timestamp("ns", "UTC"), NOW - timedelta(microseconds=1), True),
    "a zone for none": (NAIVE_US, NOW, True),
    "none for a zone": (UTC_US, datetime(2024, 5, 1), True),  # noqa: DTZ001
    "a date": (pa.date32(), date(2024, 5, 1), True),
    "a date for a time": (NAIVE_US, date(2024, 5, 1), True),
}


@pytest.mark.parametrize("case", FILE_TIMES)
def test_appended_times_are_stored_as_the_files_have_them(case: str, tmp_path: Path) -> None:
    dtype, at, fits = FILE_TIMES[case]
    with opened(
        tmp_path, view("data"), rows(1, t=pa.array([date(2024, 1, 1)]).cast(dtype))
    ) as store:
        new = [{"k": 2, "t": at, "x": 1.0}]
        if not fits:
            with pytest.raises(RowsError) as caught:
                store.push("reading", new, append=True)
            assert (caught.value.column, caught.value.row) == ("t", 0)
            return
        report = store.push("reading", new, append=True)
        assert report.file is not None
        assert pq.read_schema(report.file).field("t").type == dtype
        before = stored(store)
        store.materialize()
        assert stored(store).items() >= before.items()


# Instants around the changes of New York's clocks, and what the clocks showed there.
CLOCK_CHANGES = {
    "2024-03-10T06:59:59Z": datetime(2024, 3, 10, 1, 59, 59),  # noqa: DTZ001
    "2024-03-10T07:00:00Z": datetime(2024, 3, 10, 3),  # noqa: DTZ001
    "2023-11-05T04:59:59.999999Z": datetime(2023, 11, 5, 0, 59, 59, 999_999),  # noqa: DTZ001
    "2023-11-05T07:00:00Z": datetime(2023, 11, 5, 2),  # noqa: DTZ001
    "1883-01-01T00:00:00Z": datetime(1882, 12, 31, 19, 3, 58),  # noqa: DTZ001
}


def test_instants_are_appended_as_the_local_times_of_the_source(tmp_path: Path) -> None:
    of = view("data", reads={"timezone": "America/New_York"})
    with opened(tmp_path, of, rows(1, t=pa.array([THEN]).cast(NAIVE_US))) as store:
        times = pa.array(list(map(parse_instant, CLOCK_CHANGES)), UTC_US)
        report = store.push("reading", rows(len(times), t=times), append=True)
        assert report.file is not None
        assert pq.read_table(report.file)["t"].to_pylist() == list(CLOCK_CHANGES.values())
        naive = {"k": [1], "t": [datetime(2024, 5, 1)], "x": [1.0]}  # noqa: DTZ001
        assert store.push("reading", naive, append=True).written == 1
        before = stored(store)
        store.materialize()
        assert stored(store).items() >= before.items()


@pytest.mark.parametrize("ambiguous", ["error", "earliest", "latest"])
def test_an_instant_that_no_local_time_says_is_not_appended(ambiguous: str, tmp_path: Path) -> None:
    twice = {"earliest": "2023-11-05T05:30:00Z", "latest": "2023-11-05T06:30:00Z"}
    of = view("data", reads={"timezone": "America/New_York", "ambiguous": ambiguous})
    with opened(tmp_path, of, rows(1, t=pa.array([THEN]).cast(NAIVE_US))) as store:
        for which, at in twice.items():
            new = rows(2, t=pa.array([THEN, parse_instant(at)], UTC_US))
            if which == ambiguous:
                assert store.push("reading", new, append=True).written == 2
                continue
            with pytest.raises(RowsError, match="occurs twice") as caught:
                store.push("reading", new, append=True)
            assert (caught.value.column, caught.value.row) == ("t", 1)


def test_created_times_that_are_made_have_the_files_precision(tmp_path: Path) -> None:
    made = pa.array([THEN]).cast(pa.timestamp("s", "UTC"))
    of = view("data", reads=CREATED)
    write(tmp_path / "data/first.parquet", rows(1, c=made.cast(pa.timestamp("ms", "UTC"))))
    with project(tmp_path, clock="2024-06-01T00:00:00.123456Z") as store:
        store.apply([of])
        report = store.push("reading", rows(1), append=True)
        assert report.file is not None
        created = pq.read_table(report.file)["c"].to_pylist()
        assert created == [datetime(2024, 6, 1, 0, 0, 0, 123_000, tzinfo=UTC)]
        before = stored(store)
        store.materialize()
        assert stored(store) == before


def test_a_store_that_fails_leaves_no_file(store: FeatureStore) -> None:
    store.online_store.close()
    with pytest.raises(errors.StoreError):
        store.push("reading", rows(1), append=True)
    assert files(store) == ["first.parquet"]


def test_a_row_says_that_it_was_pushed_until_it_is_materialized(store: FeatureStore) -> None:
    table = TableId(project="plant", view="reading", generation=1)

    def pushed() -> list[bool]:
        return [is_pushed(v) for batch in store.online_store.scan(table) for _, v in batch]

    store.push("reading", rows(1))
    assert pushed() == [True]
    store.materialize()
    assert pushed() == [False] * 3


# --- while a view has several generations ------------------------------------------------------


def test_rows_go_to_all_generations_that_are_alive(store: FeatureStore) -> None:
    store.materialize()
    store.apply([view("data", ttl=timedelta(days=3_000))])
    now = store.clock.now()
    report = store.push("reading", {"k": [1, 9], "t": [now, now], "x": [7.0, 9.0]})
    assert (report.written, dict(report.missed)) == (2, {})
    assert looked_up(store, 1, 9) == [7.0, 9.0]
    store.materialize()
    assert store.status()[0].served == 2
    assert looked_up(store, 1, 9) == [7.0, 9.0]
    store.push("reading", {"k": [9], "t": [now], "x": [10.0]})
    store.rollback("reading")
    assert looked_up(store, 1, 9) == [7.0, 10.0]


def test_a_generation_that_lookups_do_not_read_may_miss_rows(store: FeatureStore) -> None:
    store.materialize()
    write(store.config.root / "data/first.parquet", rows(3, y=[1.0, 2.0, 3.0]))
    store.apply([view("data", features={"x": Float64, "y": Float64})])
    now = store.clock.now()
    report = store.push("reading", {"k": [9], "t": [now], "x": [9.0]})
    assert report.written == 1
    assert ["'y'" in reason for reason in report.missed.values()] == [True]
    assert looked_up(store, 9) == [9.0]
    store.materialize(drop_pushed=True)  # the row is not in the new one, which may hold it back
    with pytest.raises(RowsError, match="'y'"):
        store.push("reading", {"k": [9], "t": [now], "x": [9.0]})
    report = store.push("reading", {"k": [9], "t": [now], "x": [8.0], "y": [9.0]})
    assert dict(report.missed) == {}


# --- rules that were applied since lookups began to read what they do ---------------------------

SMALL = InRange("x", max=9)


def some(store: FeatureStore, *values: float) -> dict[str, Any]:
    """Return rows of now for the keys 11, 12 and so on."""
    keys = list(range(11, 11 + len(values)))
    return {"k": keys, "t": [store.clock.now()] * len(keys), "x": list(values)}


@pytest.mark.parametrize("more", [{}, {"ttl": timedelta(days=3_000)}], ids=["as before", "pending"])
def test_a_rule_to_fail_is_asked_from_the_moment_that_it_is_applied(
    store: FeatureStore, more: dict[str, Any]
) -> None:
    store.materialize()
    store.apply([view("data", contract=[SMALL], **more)])
    assert store.live_state().view("reading").is_pending == bool(more)
    with pytest.raises(RowsError) as raised:
        store.push("reading", some(store, 1.0, 10.0), append=True)
    assert says(raised.value, "x_in_range", "nothing was written")
    assert (raised.value.row, raised.value.column) == (1, "x")
    assert looked_up(store, 11, 12) == [None, None]
    assert files(store) == ["first.parquet"]


@pytest.mark.parametrize("of_source", [False, True])
def test_a_rule_to_quarantine_is_asked_before_lookups_switch_to_it(
    store: FeatureStore, *, of_source: bool
) -> None:
    store.materialize()
    hiding = [SMALL.model_copy(update={"policy": "quarantine"})]
    ruled: dict[str, Any] = {"reads": {"contract": hiding}} if of_source else {"contract": hiding}
    store.apply([view("data", **ruled)])
    report = store.push("reading", some(store, 10.0, 1.0, 11.0))
    assert (report.rows, report.written, report.filtered) == (3, 1, 2)
    assert dict(report.missed) == {}
    assert looked_up(store, 11, 12, 13) == [None, 1.0, None]
    assert store.materialize()[-1].switched
    assert looked_up(store, 11, 12, 13) == [None, 1.0, None]


def test_what_a_pending_transform_leaves_out_is_served_until_then(store: FeatureStore) -> None:
    store.materialize()
    hiding = [SMALL.model_copy(update={"policy": "quarantine"})]
    where = "SELECT k, x FROM readings WHERE x > 0"
    store.apply([view("data", transform=where, contract=hiding)])
    assert store.push("reading", some(store, -1.0, 10.0)).written == 1
    assert looked_up(store, 11, 12) == [-1.0, None]


def test_rules_of_what_was_rolled_back_are_not_asked(store: FeatureStore) -> None:
    store.materialize()
    store.apply([view("data", contract=[SMALL.model_copy(update={"policy": "quarantine"})])])
    store.materialize()
    assert store.push("reading", some(store, 10.0)).filtered == 1
    store.rollback("reading")
    assert store.push("reading", some(store, 10.0)).written == 1
    assert looked_up(store, 11) == [10.0]


def test_what_another_generation_missed_does_not_say_that_nothing_was_written(
    tmp_path: Path,
) -> None:
    columns = rows(1, u=pa.array([THEN], UTC_US))
    store = opened(tmp_path, view("data"), columns)
    store.materialize()
    store.apply([view("data", reads={"timestamp_field": "u"})])
    report = store.push("reading", some(store, 1.0) | {"u": pa.nulls(1, UTC_US)})
    assert report.written == 1
    [reason] = report.missed.values()
    assert "'u'" in reason
    assert "nothing was written" not in reason

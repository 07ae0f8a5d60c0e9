"""Sources whose files are missing, broken, of the wrong shape, hard to name, or change."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.errors import (
    SourceChangedError,
    SourceError,
    SourceSchemaError,
)
from featurestore.offline.as_of import fetch
from featurestore.store import FeatureStore
from featurestore.training import job
from featurestore.types import Binary, Decimal, Float64, Int64, List, String, Timestamp
from tests.unit.projects import (
    FILE,
    THEN,
    UTC_US,
    broken,
    everywhere,
    project,
    rows,
    says,
    spine,
    train,
    view,
    write,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(root: Path) -> Iterator[FeatureStore]:
    with project(root) as opened:
        yield opened


# --- missing -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("nowhere.parquet", "does not exist"),
        ("data/*.parquet", "matches no file"),
        ("data/**/*.parquet", "matches no file"),
        ("empty", "holds no .parquet file"),
        ("a_file/below.parquet", "does not exist"),
        ("x" * 300, "File name too long"),
        ("x/" * 2_040 + "y", "File name too long"),
    ],
)
def test_a_source_without_files_says_where_it_looked(
    store: FeatureStore, root: Path, path: str, problem: str
) -> None:
    (root / "empty").mkdir()
    (root / "a_file").write_text("")
    with pytest.raises(SourceError) as caught:
        store.apply([view(path)])
    assert caught.value.source == "readings"
    assert caught.value.file == str(root / path)
    assert says(caught.value, "readings", problem, str(root))


def test_a_source_that_goes_away_after_apply_is_missed(store: FeatureStore, root: Path) -> None:
    of = view()
    write(root / FILE, rows())
    store.apply([of])
    (root / FILE).unlink()
    with pytest.raises(SourceError, match="does not exist"):
        store.get_historical_features(spine(1), [of])
    with pytest.raises(SourceError, match="does not exist"):
        store.materialize()


def test_what_is_no_regular_file_is_not_read(store: FeatureStore, root: Path) -> None:
    os.mkfifo(root / FILE)
    with pytest.raises(SourceError) as caught:
        store.apply([view()])
    assert says(caught.value, FILE, "no regular file")


def test_a_link_to_nowhere_is_named(store: FeatureStore, root: Path) -> None:
    write(root / "data/a.parquet", rows())
    (root / "data/b.parquet").symlink_to("nowhere")
    with pytest.raises(SourceError) as caught:
        store.apply([view("data")])
    assert says(caught.value, "data/b.parquet", "No such file")


# --- columns -----------------------------------------------------------------------------------


def test_a_missing_column_is_named_with_what_looks_like_it(store: FeatureStore, root: Path) -> None:
    write(root / FILE, {"k": [1], "t": pa.array([THEN], UTC_US), "amount_usd": [1.0]})
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([view(features={"amount_us": Float64})])
    error = caught.value
    assert (error.source, error.file, error.column) == ("readings", str(root / FILE), "amount_us")
    assert (error.expected, error.found) == ("float64", None)
    assert says(error, FILE, "'amount_us'", "did you mean 'amount_usd'")


@pytest.mark.parametrize("column", ["k", "t", "x", "made"])
def test_a_column_that_is_missing_in_one_file_of_many_is_named(
    store: FeatureStore, root: Path, column: str
) -> None:
    of = view("data/*.parquet", reads={"created_timestamp_column": "made"})
    whole = rows(made=pa.array([THEN], UTC_US))
    for number in range(5):
        write(root / f"data/{number}.parquet", whole)
    write(root / "data/3.parquet", {n: c for n, c in whole.items() if n != column})
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([of])
    assert (caught.value.column, caught.value.found) == (column, None)
    assert caught.value.file == str(root / "data/3.parquet")
    assert says(caught.value, "3.parquet", repr(column))


def test_a_renamed_column_that_is_missing_is_named_as_in_the_file(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows())
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([view(features={"y": Float64}, reads={"field_mapping": {"Y": "y"}})])
    assert caught.value.column == "Y"
    assert says(caught.value, "'Y'", "called 'y' here")


@pytest.mark.parametrize(
    ("found", "declared", "name"),
    [
        (pa.array(["1"]), Float64, "string"),
        (pa.array([1]), Float64, "int64"),
        (pa.array([1.5]), Int64, "float64"),
        (pa.array([1], pa.uint64()), Int64, "uint64"),
        (pa.array([-1], pa.int8()), pa.uint8(), "int8"),
        (pa.array([b"a"]), String, "binary"),
        (pa.array([THEN.date()]), Timestamp, "date32"),
        (pa.array([1], pa.decimal128(10, 3)), Decimal(10, 2), "decimal128(10, 3)"),
        (pa.array([1], pa.decimal256(60, 2)), Decimal(38, 2), "decimal256(60, 2)"),
        (pa.array([[1.5]]), List(Int64), "list<float64>"),
        (pa.array([1.0]), List(Float64), "float64"),
        (pa.array([{"a": 1}]), Int64, 'struct<[["a", "int64"]]>'),
        (pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), Int64, "map<string, int64"),
        (pa.array([5], pa.time64("us")), Int64, "time64[us]"),
    ],
)
def test_a_type_that_would_lose_something_is_refused_by_name(
    store: FeatureStore, root: Path, found: pa.Array, declared: pa.DataType, name: str
) -> None:
    write(root / FILE, rows(x=found))
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([view(features={"x": declared})])
    error = caught.value
    assert (error.file, error.column) == (str(root / FILE), "x")
    assert str(error.found).startswith(name)
    assert says(error, "'x'", FILE, name)


def test_one_file_of_another_type_is_found_among_many(store: FeatureStore, root: Path) -> None:
    for number in range(5):
        write(root / f"data/{number}.parquet", rows())
    write(root / "data/2.parquet", rows(x=["1.5"]))
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([view("data")])
    assert str(caught.value.file).endswith("data/2.parquet")
    assert (caught.value.expected, caught.value.found) == ("float64", "string")


@pytest.mark.parametrize("column", [pa.array([1]), pa.array(["2024-01-01"]), pa.array([1.5])])
def test_a_time_column_that_holds_no_times_is_refused(
    store: FeatureStore, root: Path, column: pa.Array
) -> None:
    write(root / FILE, rows(t=column))
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([view()])
    assert caught.value.column == "t"
    assert says(caught.value, "'t'", "a time column holds timestamps or dates")


def test_two_columns_of_one_name_are_refused(store: FeatureStore, root: Path) -> None:
    columns = [pa.array([1]), pa.array([THEN], UTC_US), pa.array([1.0]), pa.array([2.0])]
    write(root / FILE, pa.table(columns, names=["k", "t", "x", "x"]))
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([view()])
    assert says(caught.value, "2 columns called 'x'", "rename")


def test_files_of_one_source_may_have_other_types_that_widen(
    store: FeatureStore, root: Path
) -> None:
    texts = [pa.array(["a"]).dictionary_encode(), pa.array(["b"], pa.large_string())]
    texts += [pa.array(["c"], pa.string_view()), pa.array(["d"]), pa.nulls(1)]
    widths = [pa.int8(), pa.uint32(), pa.int64(), pa.int16(), pa.uint8()]
    for number, (text, width) in enumerate(zip(texts, widths, strict=True)):
        columns = rows(k=pa.array([number], width), x=text)
        write(root / f"data/{number}.parquet", columns)
    wanted = everywhere(store, view("data", features={"x": String}), spine(0, 1, 2, 3, 4, 5))
    assert wanted == ["a", "b", "c", "d", None, None]


# --- names inside files ------------------------------------------------------------------------


def test_columns_that_differ_only_by_case_keep_their_own_values(
    store: FeatureStore, root: Path
) -> None:
    lower = view(features={"x": Float64})
    upper = view(features={"X": Float64}, name="upper")
    columns = rows(K=[9], T=pa.array([THEN.replace(year=1999)], UTC_US), X=[-1.0])
    write(root / FILE, columns)
    assert everywhere(store, lower, spine(1)) == [1.0]
    assert everywhere(store, upper, spine(1)) == [-1.0]
    assert everywhere(store, lower, spine(9)) == [None]


def test_columns_may_have_names_that_readers_use_themselves(
    store: FeatureStore, root: Path
) -> None:
    names = ["filename", "FILE_ROW_NUMBER", "file_index", "rowid", "path", "r", "p", "__ordinal"]
    for number in (1, 2):
        own = {name: [number * 10 + place] for place, name in enumerate(names)}
        write(root / f"data/{number}.parquet", rows(k=[number], **own))
    of = view("data", features=dict.fromkeys(names, Int64))
    assert everywhere(store, of, spine(2, 1)) == [20, 10]
    table = store.get_historical_features(spine(2), [of]).to_arrow()
    assert table.select(names).to_pylist() == [{n: 20 + i for i, n in enumerate(names)}]


def test_plain_columns_may_have_names_of_the_engines_own(store: FeatureStore, root: Path) -> None:
    names = ["rowid", "path", "r", "p", "o", "e", "k0", "f0", "select"]
    for number in (1, 2):
        own = {name: [number * 10 + place] for place, name in enumerate(names)}
        write(root / f"data/j={number}/a.parquet", rows(**own))
    of = view("data", keys={"j": Int64}, features=dict.fromkeys(names, Int64))
    store.apply([of])
    table = store.get_historical_features(spine(2, name="j"), [of]).to_arrow()
    assert table.select(names).to_pylist() == [{n: 20 + i for i, n in enumerate(names)}]


# --- broken files ------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"PAR1", b"garbage" * 1_000, b"PAR1" * 500])
def test_what_is_no_parquet_file_is_named(store: FeatureStore, root: Path, content: bytes) -> None:
    write(root / "data/a.parquet", rows())
    (root / "data/b.parquet").write_bytes(content)
    with pytest.raises(SourceError) as caught:
        store.apply([view("data")])
    assert caught.value.file == str(root / "data/b.parquet")
    assert says(caught.value, "b.parquet", "not a readable Parquet file", "complete")


def test_a_file_that_was_cut_off_is_named_and_the_run_recorded(
    store: FeatureStore, root: Path
) -> None:
    path = write(root / FILE, rows(1_000))
    store.apply([view()])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match=FILE) as caught:
        store.materialize()
    assert caught.value.file == str(path)
    (run,) = store.registry.runs("plant")
    assert (run.status, run.rows_written) == ("failed", 0)
    assert FILE in str(run.error)
    assert store.registry.watermark("plant", "reading", 1) is None


@pytest.mark.parametrize("more", [{}, {"X": [0.0] * 1_000}], ids=["engine", "through Arrow"])
def test_a_damaged_page_behind_a_sound_footer_is_named(
    store: FeatureStore, root: Path, more: dict[str, list[float]]
) -> None:
    path = write(root / FILE, rows(1_000) | more, compression="none", use_dictionary=False)
    of = view()
    store.apply([of])
    content = path.read_bytes()
    page = pq.read_metadata(io.BytesIO(content)).row_group(0).column(2).data_page_offset
    path.write_bytes(broken(content, page, b"\xff" * 40))
    with pytest.raises(SourceError) as caught:
        train(store, of, spine(1))
    assert caught.value.file == str(path)
    assert says(caught.value, "readings", FILE)
    with pytest.raises(SourceError) as caught:
        store.materialize()
    assert caught.value.file == str(path)
    assert [run.status for run in store.registry.runs("plant")] == ["failed"]


# --- files that change -------------------------------------------------------------------------


@pytest.mark.parametrize("vanish", [False, True], ids=["changes", "vanishes"])
def test_a_file_that_changes_during_a_run_fails_it_and_a_second_run_succeeds(
    store: FeatureStore, root: Path, *, vanish: bool
) -> None:
    count = 45
    path = write(root / FILE, rows(count))
    store.apply([view()])
    store.materialize(end="2024-03-01")
    before = store.registry.watermark("plant", "reading", 1)

    def interfere(_view: str, _done: int, _total: int) -> None:
        if vanish:
            path.unlink(missing_ok=True)
        else:
            write(path, rows(count + 1))

    with pytest.raises(SourceChangedError) as caught:
        store.materialize(progress=interfere)
    assert caught.value.retryable
    assert caught.value.file == str(path)
    assert says(caught.value, FILE, "went away" if vanish else "changed", "run it again")
    run = store.registry.runs("plant")[0]
    assert (run.status, run.end_us) == ("failed", store.clock.now_micros())
    assert store.registry.watermark("plant", "reading", 1) == before
    write(path, rows(count + 1))
    assert store.materialize()[0].entities == count + 1
    assert store.verify().ok


def test_a_file_that_changes_before_a_training_set_is_computed_fails_it(
    store: FeatureStore, root: Path
) -> None:
    of = view()
    write(root / FILE, rows())
    store.apply([of])
    job = store.get_historical_features(spine(1), [of])
    write(root / FILE, rows(x=[2.5], y=[1]))
    with pytest.raises(SourceChangedError):
        job.to_arrow()
    assert train(store, of, spine(1)) == [2.5]


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize("replaced", [False, True], ids=["in place", "replaced"])
def test_a_file_that_changes_before_features_are_read_fails_the_training_set(
    root: Path, monkeypatch: pytest.MonkeyPatch, engine: str, *, replaced: bool
) -> None:
    """Keys and times are read first, and what was found there says which rows' features count."""
    of, path = view(), write(root / FILE, rows(3))

    def change(*arguments: Any, **options: Any) -> pa.Table:
        written = write(root / "next.parquet" if replaced else path, rows(3, x=[7.5, 8.5, 9.5]))
        written.replace(path)
        return fetch(*arguments, **options)

    monkeypatch.setattr(job, "fetch", change)
    with project(root, offline_store=engine) as store:
        store.apply([of])
        with pytest.raises(SourceChangedError) as caught:
            train(store, of, spine(1, 2, 3))
        assert caught.value.file == str(path)
        monkeypatch.undo()
        assert train(store, of, spine(1, 2, 3)) == [7.5, 8.5, 9.5]


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
def test_a_file_that_changes_once_all_was_read_changes_nothing(root: Path, engine: str) -> None:
    """Who takes the last rows may take his time over them."""
    of, path = view(), write(root / FILE, rows(3))
    with project(root, offline_store=engine) as store:
        store.apply([of])
        found = []
        for batch in store.get_historical_features(spine(1, 2, 3), [of]).to_batches():
            path.unlink(missing_ok=True)
            found += batch["x"].to_pylist()
        assert len(found) == 3


# --- paths -------------------------------------------------------------------------------------

HOSTILE_PATHS = [
    "it's.parquet",
    'q"uote.parquet',
    "a[b]*?.parquet",
    "d [x]/y*/z?.parquet",
    "{a,b}.parquet",
    "; -- drop.parquet",
    "-- a.parquet",
    "%20.parquet",
    "#frag.parquet",
    "~x.parquet",
    "$HOME.parquet",
    "back\\slash.parquet",
    "tab\there.parquet",
    "é 🛫.parquet",
    "🛫/é {x}/a b.parquet",
    "rtl \u202e.parquet",
    "..x/..y.parquet",
    "s3:x.parquet",
    "x" * 240 + ".parquet",
    "/".join(["d" * 200] * 15) + "/a.parquet",
]


@pytest.mark.parametrize("path", HOSTILE_PATHS[1::2])
def test_a_path_is_taken_literally(store: FeatureStore, root: Path, path: str) -> None:
    of = view(path)
    write(root / path, rows())
    store.apply([of])
    assert train(store, of, spine(1)) == [1.0]


def test_a_folder_may_hold_files_of_any_name(store: FeatureStore, root: Path) -> None:
    paths = [path for path in HOSTILE_PATHS if not path.startswith(".")]  # those are hidden
    for number, path in enumerate(paths):
        write(root / "data" / path, rows(k=[number], x=[float(number)]))
    numbers = range(len(paths))
    assert everywhere(store, view("data"), spine(*numbers)) == [float(n) for n in numbers]


def test_a_file_whose_name_is_a_pattern_stands_for_itself(store: FeatureStore, root: Path) -> None:
    write(root / "a*.parquet", rows())
    write(root / "ab.parquet", rows(x=[2.0]))
    assert everywhere(store, view("a*.parquet"), spine(1)) == [1.0]


@pytest.mark.parametrize("name", ["[x]* it's; --", "k=7"])
@pytest.mark.parametrize("path", [FILE, "*.parquet", "."])
def test_the_repositorys_own_folders_mean_nothing(tmp_path: Path, name: str, path: str) -> None:
    root, of = tmp_path / name, view(path)
    write(root / FILE, rows())
    with project(root) as store:
        store.apply([of])
        assert train(store, of, spine(1, 7)) == [1.0, None]


@pytest.mark.parametrize(
    "path", ["../lake/a.parquet", "../lake/*.parquet", "../lake", "link/../lake", "./../lake/."]
)
def test_a_path_may_lead_out_of_the_repository(tmp_path: Path, path: str) -> None:
    write(tmp_path / "lake/a.parquet", rows())
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository/link").symlink_to(tmp_path / "lake")
    with project(tmp_path / "repository") as store:
        store.apply([view(path)])
        assert train(store, view(path), spine(1)) == [1.0]


@pytest.mark.parametrize("path", ["data", "data/**/*.parquet"])
def test_links_that_lead_round_in_circles_are_followed_once(
    store: FeatureStore, root: Path, path: str
) -> None:
    write(root / "data/a.parquet", rows())
    (root / "data/loop").symlink_to(".")
    (root / "data/again.parquet").symlink_to("a.parquet")
    store.apply([view(path)])
    assert store.materialize()[0].rows_read == 1


# --- folders that carry values -----------------------------------------------------------------


def test_a_folders_value_is_unescaped_text(store: FeatureStore, root: Path) -> None:
    texts = {
        "New%20York": "New York",
        "a%2Fb": "a/b",
        "100%25": "100%",
        "%ZZ": "%ZZ",
        "%FF": "%FF",
        "a+b": "a+b",
        "a=b": "a=b",
        "007": "007",
        "7": "7",
        "": "",
        "it's": "it's",
        'q"x': 'q"x',
        "[x]*": "[x]*",
        "é": "é",
        "__HIVE_DEFAULT_PARTITION__": None,
    }
    for number, folder in enumerate(texts):
        write(root / f"data/c={folder}/a.parquet", rows(k=[number]))
    of = view("data", features={"c": String})
    assert everywhere(store, of, spine(*range(len(texts)))) == list(texts.values())


@pytest.mark.parametrize(
    ("folder", "dtype", "value"),
    [
        ("é", Binary, "é".encode()),
        ("\\x41", Binary, b"\\x41"),
        ("007", Int64, 7),
        ("18446744073709551615", pa.uint64(), 2**64 - 1),
        ("__HIVE_DEFAULT_PARTITION__", Int64, None),
        ("2024-01-02T03:04:05%2B01:00", Timestamp, THEN.replace(day=2, hour=2, minute=4, second=5)),
    ],
)
def test_a_folders_value_is_read_as_the_declared_type(
    store: FeatureStore, root: Path, folder: str, dtype: pa.DataType, value: object
) -> None:
    write(root / f"data/c={folder}/a.parquet", rows())
    of = view("data", features={"c": dtype})
    store.apply([of])
    assert train(store, of, spine(1)) == [value]


@pytest.mark.parametrize(
    ("folder", "dtype"), [("x", Int64), ("300", pa.int8()), ("", Int64), ("2024-01-02", Timestamp)]
)
def test_a_folders_value_of_another_type_is_refused(
    store: FeatureStore, root: Path, folder: str, dtype: pa.DataType
) -> None:
    write(root / f"data/c={folder}/a.parquet", rows())
    with pytest.raises(SourceSchemaError) as caught:
        store.apply([view("data", features={"c": dtype})])
    assert caught.value.column == "c"
    assert says(caught.value, f"c={folder}", "a.parquet")


def test_a_folders_value_stands_for_a_column_of_the_file(store: FeatureStore, root: Path) -> None:
    write(root / "data/k=5/a.parquet", rows(k=[1]))
    assert everywhere(store, view("data"), spine(1, 5)) == [None, 1.0]


def test_folders_may_lie_at_several_depths_and_repeat(store: FeatureStore, root: Path) -> None:
    write(root / "data/x=1/a.parquet", rows(k=[1]))
    write(root / "data/x=1/y=2/b.parquet", rows(k=[2]))
    write(root / "data/x=1/x=3/c.parquet", rows(k=[3]))
    write(root / "data/d.parquet", rows(k=[4], x=[4.0]))
    wanted = everywhere(store, view("data"), spine(1, 2, 3, 4))
    assert wanted == [1.0, 1.0, 3.0, 4.0]


def test_a_folders_column_may_have_any_name(store: FeatureStore, root: Path) -> None:
    write(root / "data/a%20b=5/a.parquet", rows())
    write(root / "data/X=6/a b=7/a.parquet", rows(k=[2]))
    assert everywhere(store, view("data", features={"a b": Int64}), spine(1, 2)) == [5, 7]


# --- types that readers see differently ----------------------------------------------------------


@pytest.mark.parametrize("more", [{}, {"X": [0]}], ids=["engine", "through Arrow"])
@pytest.mark.parametrize("knows_arrow", [True, False])
def test_uuids_are_their_sixteen_bytes(
    store: FeatureStore, root: Path, *, knows_arrow: bool, more: dict[str, list[int]]
) -> None:
    raw = bytes(range(16))
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([raw], pa.binary(16)))
    columns = rows(k=uuids, x=pa.ListArray.from_arrays([0, 1], uuids), y=uuids) | more
    write(root / FILE, columns, store_schema=knows_arrow)
    of = view(keys={"k": Binary}, features={"x": List(Binary), "y": Binary})
    assert everywhere(store, of, spine(raw)) == [[raw]]


def test_structs_keep_their_fields_and_refuse_times_that_need_the_sources_zone(
    store: FeatureStore, root: Path
) -> None:
    good = pa.struct([("a b", pa.int32()), ('"', pa.timestamp("ms", tz="UTC"))])
    wanted = pa.struct([("a b", Int64), ('"', Timestamp)])
    value = {"a b": 1, '"': THEN}
    of = view(features={"x": wanted}, online=False, reads={"timezone": "America/New_York"})
    write(root / FILE, rows(x=pa.array([value], good)))
    store.apply([of])
    assert train(store, of, spine(1)) == [value]
    for unit, zone in (("us", None), ("ns", "UTC")):
        bad = pa.struct([("a b", pa.int32()), ('"', pa.timestamp(unit, tz=zone))])
        write(root / FILE, rows(x=pa.array([None], bad)))
        with pytest.raises(SourceSchemaError) as caught:
            store.apply([of])
        assert says(caught.value, "'x'", "store times with a zone")


# --- nothing to read ---------------------------------------------------------------------------


def test_a_source_without_rows_answers_with_nulls(store: FeatureStore, root: Path) -> None:
    of = view()
    write(root / FILE, pa.table(rows()).slice(0, 0))
    store.apply([of])
    assert train(store, of, spine(1, 2)) == [None, None]
    report = store.materialize()[0]
    assert (report.rows_read, report.entities, report.written) == (0, 0, 0)
    assert store.materialize_incremental()[0].written == 0
    lookup = store.get_online_features([of], {"k": [1]}).to_dict(include_statuses=True)
    assert lookup == {"k": [1], "x": [None], "x__status": ["NOT_FOUND"]}


def test_rows_without_key_or_time_are_counted_and_fail_nothing(
    store: FeatureStore, root: Path
) -> None:
    times = pa.array([THEN, THEN, None, None, THEN], UTC_US)
    write(root / FILE, rows(5, k=[None, 2, 3, None, 5], t=times))
    assert everywhere(store, view(), spine(2, 3, 5)) == [2.0, None, 5.0]
    report = store.materialize()[0]
    assert (report.null_keys, report.null_times) == (2, 1)
    assert (report.rows_read, report.entities) == (2, 2)
    assert store.registry.runs("plant")[0].rows_skipped == 3


def test_a_part_of_a_composite_key_that_is_null_makes_the_key_null(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows(3, j=pa.array([None, "a", "b"])))
    of = view(keys={"k": Int64, "j": String})
    table = spine(1, 2, 3).append_column("j", pa.array([None, "a", None]))
    assert everywhere(store, of, table) == [None, 2.0, None]
    assert store.materialize()[0].null_keys == 1

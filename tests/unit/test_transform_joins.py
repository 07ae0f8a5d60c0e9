"""Joins in row-level transforms: what is refused, what plan says, and what is read."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation, FeatureView, FileSource
from featurestore.errors import (
    DefinitionError,
    RequestError,
    ResourceLimitError,
    SourceChangedError,
    SourceError,
    SourceSchemaError,
)
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.polars import PolarsEngine
from featurestore.offline.scan import open_scan
from featurestore.registry.render import render_plan
from featurestore.types import Float64, Int64, String
from tests.unit.projects import (
    THEN,
    UTC_US,
    everywhere,
    micros,
    project,
    rows,
    says,
    source,
    spine,
    train,
    view,
    write,
)

ENGINES = ("duckdb", "polars")
NAMES = FileSource(name="names", path="names.parquet", static=True)
RATES = FileSource(
    name="rates", path="rates.parquet", timestamp_field="at", created_timestamp_column="made"
)
LOOKUP = "SELECT names.y FROM readings LEFT JOIN names ON readings.x1 = names.id"
AS_OF = "SELECT rates.y FROM readings ASOF LEFT JOIN rates ON readings.t >= rates.at"
MADE = {"created_timestamp_column": "made"}


def joined(sql: str, *joins: FileSource, **more: Any) -> FeatureView:
    """Return a view of the feature y behind a transform."""
    sources = joins or (NAMES, RATES)
    used = [source for source in sources if source.name in sql]
    return view(transform=sql, joins=used, **({"features": {"y": Float64}} | more))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("RIGHT JOIN names ON readings.x = names.id", "RIGHT JOIN makes rows"),
        ("FULL OUTER JOIN names ON readings.x = names.id", "FULL JOIN makes rows"),
        ("CROSS JOIN names", "CROSS JOIN makes several rows"),
        ("NATURAL JOIN names", "NATURAL JOIN depends"),
        ("POSITIONAL JOIN names", "POSITIONAL JOIN depends"),
        ("SEMI JOIN names ON readings.x = names.id", "SEMI JOIN is not supported"),
        ("ANTI JOIN names ON readings.x = names.id", "ANTI JOIN is not supported"),
        ("LEFT JOIN names USING (x)", "USING is not supported"),
        ("LEFT JOIN names", "joined without ON"),
        (", names", "joined without ON"),
        ("LEFT JOIN (SELECT 1) names ON readings.x = names.id", "JOIN takes the source's name"),
        ("LEFT JOIN LATERAL (SELECT 1) names ON true", "JOIN takes the source's name"),
        ("LEFT JOIN names('a') ON readings.x = names.id", "JOIN takes the source's name"),
        ("LEFT JOIN 'names.parquet' ON readings.x = names.id", "of no table in FROM"),
        ("LEFT JOIN names ON x = names.id", "readings.x or names.x"),
        ("LEFT JOIN names ON readings.x > names.id", "columns that are equal"),
        ("LEFT JOIN names ON readings.x = names.id OR true", "columns that are equal"),
        ("LEFT JOIN names ON readings.x = 1", "ON compares columns, not '1'"),
        ("LEFT JOIN names ON readings.x = readings.k", "compares columns of one table"),
        ("LEFT JOIN names ON readings.x = lower(names.id)", "ON compares columns"),
        ("LEFT JOIN names ON readings.t >= names.id", "by equal columns alone"),
        ("ASOF LEFT JOIN names ON readings.t >= names.id", "is static and has no times"),
        ("LEFT JOIN rates ON readings.x = rates.id", "ASOF LEFT JOIN rates ON"),
        ("ASOF LEFT JOIN rates ON readings.x = rates.id", "one >= between the times"),
        ("ASOF LEFT JOIN rates ON readings.t <= rates.at", "looks into the future"),
        ("ASOF LEFT JOIN rates ON rates.at >= readings.t", "looks into the future"),
        ("ASOF LEFT JOIN rates ON readings.t > rates.at", "columns that are equal"),
        ("ASOF LEFT JOIN rates ON readings.u >= rates.at", "the event times of both"),
        ("ASOF LEFT JOIN rates ON readings.t >= rates.made", "readings.t >= rates.at"),
        (
            "LEFT JOIN names ON readings.x = names.id LEFT JOIN names AS n ON names.id = n.id",
            "joined itself",
        ),
        (
            "LEFT JOIN names ON readings.x = names.id LEFT JOIN names ON readings.x = names.id",
            "two tables are called 'names'",
        ),
        ("LEFT JOIN names AS readings ON readings.x = readings.id", "two tables are called"),
        ("LEFT JOIN names ON other.x = names.id", "of no table in FROM"),
    ],
)
def test_a_join_that_may_multiply_rows_or_see_the_future_is_refused(sql: str, words: str) -> None:
    with pytest.raises(DefinitionError) as error:
        joined("SELECT readings.x AS y FROM readings " + sql)  # noqa: S608 - that is the test
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"transform": LOOKUP.replace("names.y", "*")}, "write readings.*"),
        ({"transform": LOOKUP.replace("names.y", "names.*")}, "list the columns"),
        ({"transform": LOOKUP.replace("names.y", "other.y")}, "of no table"),
        ({"joins": []}, "give the view joins=[names]"),
        ({"joins": [NAMES, RATES]}, "joins lists 'rates'"),
        ({"transform": "SELECT x AS y FROM source"}, "joins lists 'names'"),
        ({"transform": None, "joins": [NAMES]}, "there is none"),
        ({"source": NAMES}, "is static: it has no times"),
        ({"transform": f"{AS_OF} WHERE rates.y > 1", "joins": [RATES]}, "set online=False"),
    ],
)
def test_a_view_with_joins_that_do_not_go_together_is_refused(
    change: dict[str, Any], words: str
) -> None:
    fields = {"transform": LOOKUP, "joins": [NAMES], "features": {"y": Float64}}
    with pytest.raises(DefinitionError) as error:
        view(**(fields | change))
    assert words in str(error.value)


@pytest.mark.parametrize(
    "more", [{"timestamp_field": "t"}, {"created_timestamp_column": "t"}, {"lateness": "1h"}]
)
def test_a_static_source_has_no_times(more: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError) as error:
        FileSource(name="names", path="names.parquet", static=True, **more)
    assert f"leave out {next(iter(more))}" in str(error.value)
    with pytest.raises(DefinitionError) as error:
        FileSource(name="names", path="names.parquet")
    assert "timestamp_field is missing" in str(error.value)


def some_files(folder: Path, **names: Any) -> None:
    """Write the files of all three sources."""
    own = rows(2, x1=pa.array([7, 8], pa.int32()), s=["a", "b"], made=pa.array([THEN] * 2, UTC_US))
    write(folder / "data.parquet", own)
    write(folder / "names.parquet", {"id": [7, 8], "y": [0.5, 1.5], "word": ["p", "q"]} | names)
    times = pa.array([THEN] * 2, UTC_US)
    write(folder / "rates.parquet", {"at": times, "made": times, "y": [1.0, 2.0]})


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("names ON readings.s = names.id", ["s (string) = names.id (int64)", "cannot be compared"]),
        ("names ON readings.x = names.y", ["x (float64)", "no type that keys can have"]),
        ("names ON readings.x1 = names.ident", ["'ident'"]),
        ("names ON readings.x9 = names.id", ["no column 'x9'"]),
        ("names ON readings.x1 = names.id WHERE word = 'p'", ["'word'", "write names.word"]),
        ("names ON readings.x1 = names.id WHERE x + names.word > 1", ["float64 and string"]),
        ("names ON readings.x1 = names.id WHERE names.word", ["WHERE", "string", "bool"]),
    ],
)
def test_what_does_not_fit_the_files_is_refused_at_plan(
    sql: str, words: list[str], tmp_path: Path
) -> None:
    some_files(tmp_path)
    with pytest.raises((DefinitionError, SourceSchemaError)) as error:
        project(tmp_path).plan([joined("SELECT x AS y FROM readings LEFT JOIN " + sql)])  # noqa: S608
    assert all(word in str(error.value) for word in words), error.value


def test_a_name_that_both_tables_have_is_ambiguous(tmp_path: Path) -> None:
    some_files(tmp_path, x=[1.0, 2.0])
    with pytest.raises(DefinitionError) as error:
        project(tmp_path).plan([joined(LOOKUP.replace("names.y", "x AS y"))])
    assert says(error.value, "'x'", "ambiguous", "readings", "names.x", hint=False)
    assert project(tmp_path).plan([joined(LOOKUP.replace("names.y", "readings.x AS y"))]).changes


def test_plan_and_registry_tell_of_static_sources_and_of_lineage(tmp_path: Path) -> None:
    some_files(tmp_path)
    store = project(tmp_path)
    of = joined(
        "SELECT x * n.y AS y, n.word FROM readings AS r LEFT JOIN names AS n ON r.x1 = n.id",
        features={"y": Float64, "word": String},
    )
    plan = store.plan([of])
    told = "    static: names - its rows are taken as they are today, for all times"
    assert told in render_plan(plan)
    store.apply([of])
    kept = store.state().view("reading").definition
    document = kept.to_document()
    assert kept.lineage == {"y": ["x", "names.y"], "word": ["names.word"]}
    assert document["joins"] == ["names"]
    assert document["transform"]["joins"][0]["types"] == {
        "id": "int64",
        "y": "float64",
        "word": "string",
    }
    assert store.state().source("names").static
    assert store.plan([of]).is_empty
    users = {ref.name: [str(user) for user in found] for ref, found in store.state().users.items()}
    assert users["names"] == ["feature view reading"]


def test_a_static_source_has_no_events_to_tell_apart() -> None:
    with pytest.raises(DefinitionError, match="a static source has no events: leave out"):
        FileSource(name="names", path="names.parquet", static=True, dedup_keys=["id"])


def test_versions_of_events_do_not_matter_to_who_joins_them() -> None:
    def looking(dedup_keys: list[str] | None) -> FeatureView:
        rates = FileSource(
            name="rates", path="rates.parquet", timestamp_field="at", dedup_keys=dedup_keys
        )
        text = "SELECT r.rate AS y FROM source ASOF LEFT JOIN rates r ON source.k = r.k"
        sql = f"{text} AND source.t >= r.at"
        return view(transform=sql, joins=[rates], features={"y": Float64})

    assert looking(None).meaning() == looking(["k"]).meaning()


def test_only_what_a_join_means_makes_a_generation(tmp_path: Path) -> None:
    some_files(tmp_path)
    store = project(tmp_path)
    store.apply([joined(LOOKUP)])
    renamed = "SELECT m.y FROM source AS r LEFT OUTER JOIN names m ON (m.id = r.x1)"
    change = store.plan([joined(renamed)]).changes[0]
    assert (change.impact, change.is_new_generation) == ("metadata", False)
    for other in (LOOKUP.replace("LEFT ", ""), LOOKUP.replace("x1", "k")):
        change = store.plan([joined(other)]).changes[0]
        assert (change.impact, change.is_new_generation) == ("breaking", True)
    moved = FileSource(name="names", path="./names.parquet", static=True)
    changes = {change.name: change for change in store.plan([moved]).changes}
    assert changes["reading"].is_new_generation
    assert [str(ref) for ref in changes["reading"].through] == ["source names"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_key_with_several_rows_is_an_error_that_names_them(engine: str, tmp_path: Path) -> None:
    some_files(tmp_path, id=[8, 8])
    store = project(tmp_path, offline_store=engine)
    with pytest.raises(SourceError) as error:
        train(store, joined(LOOKUP), spine(1, 2))
    assert says(error.value, "'names'", "id = '8'", "row 0 of", "row 1 of", "names.parquet")


@pytest.mark.parametrize("engine", ENGINES)
def test_offline_and_online_agree_on_joins(engine: str, tmp_path: Path) -> None:
    some_files(tmp_path)
    of = joined(LOOKUP)
    assert everywhere(project(tmp_path, offline_store=engine), of, spine(1, 2, 3)) == [
        0.5,
        1.5,
        None,
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_nanoseconds_decide_between_joined_rows(engine: str, tmp_path: Path) -> None:
    some_files(tmp_path)
    times = micros(1_001, 1_002, 1_000, unit="ns")
    write(tmp_path / "rates.parquet", {"at": times, "made": times, "y": [1.0, 2.0, 3.0]})
    write(tmp_path / "data.parquet", rows(1, t=micros(2)))
    assert train(project(tmp_path, offline_store=engine), joined(AS_OF), spine(1)) == [2.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_nan_of_a_joined_column_is_a_value_to_a_filter(engine: str, tmp_path: Path) -> None:
    some_files(tmp_path, y=[float("nan"), 1.5])
    of = joined(LOOKUP.replace("names.y", "x AS y") + " WHERE names.y > 1.7")
    assert train(project(tmp_path, offline_store=engine), of, spine(1, 2)) == [1.0, None]


@pytest.mark.parametrize("engine", ENGINES)
def test_local_times_of_a_joined_source_are_read_in_its_own_zone(
    engine: str, tmp_path: Path
) -> None:
    some_files(tmp_path)
    local = FileSource(
        name="rates", path="rates.parquet", timestamp_field="at", timezone="Europe/Vienna"
    )
    at = pa.array([THEN, THEN.replace(hour=1, minute=1)], UTC_US).cast(pa.timestamp("us"))
    write(tmp_path / "rates.parquet", {"at": at, "y": [1.0, 2.0]})
    assert train(project(tmp_path, offline_store=engine), joined(AS_OF, local), spine(1)) == [1.0]


@pytest.mark.parametrize("engine", [DuckDBEngine(), PolarsEngine()], ids=ENGINES)
def test_rows_tie_if_what_is_joined_to_them_differs(engine: OfflineEngine, tmp_path: Path) -> None:
    some_files(tmp_path, y=[0.5, 0.5])
    same = rows(4, k=[1, 1, 2, 2], x1=[7, 8, 7, 9])
    write(tmp_path / "data.parquet", same)
    scan = open_scan(joined(LOOKUP), ["y"], tmp_path)
    assert [key for batch in engine.ties(scan) for key in batch["k0"].to_pylist()] == [2]
    inner = open_scan(joined(LOOKUP.replace("LEFT ", "")), ["y"], tmp_path)
    assert [key for batch in engine.ties(inner) for key in batch["k0"].to_pylist()] == []
    assert {key for batch in engine.keys(inner) for key in batch["k0"].to_pylist()} == {1, 2}


@pytest.mark.parametrize("engine", [DuckDBEngine(), PolarsEngine()], ids=ENGINES)
def test_a_joined_file_that_changes_fails_what_reads_it(
    engine: OfflineEngine, tmp_path: Path
) -> None:
    some_files(tmp_path)
    scan = open_scan(joined(LOOKUP), ["y"], tmp_path)
    with pytest.raises(SourceChangedError) as error, engine.reader(scan):
        write(tmp_path / "names.parquet", {"id": [1], "y": [2.0], "word": ["longer"]})
    assert says(error.value, "'names'", "changed")


@pytest.mark.parametrize("kind", [DuckDBEngine, PolarsEngine])
def test_a_joined_source_beyond_the_engines_memory_is_refused(kind: Any, tmp_path: Path) -> None:
    some_files(tmp_path)
    many = pa.array(range(300_000), pa.int64())
    write(tmp_path / "names.parquet", {"id": many, "y": many.cast(pa.float64())})
    scan = open_scan(joined(LOOKUP), ["y"], tmp_path)
    with pytest.raises(ResourceLimitError) as error, kind(memory_limit="30MB").reader(scan) as of:
        list(of.features(pa.array([0, 1]).to_numpy()))
    assert says(error.value, "'names'", "300,000 rows")


def test_joins_that_no_asked_feature_needs_are_not_read(tmp_path: Path) -> None:
    some_files(tmp_path)
    (tmp_path / "names.parquet").write_bytes(b"no parquet")
    of = joined(LOOKUP.replace("names.y", "names.y, x AS z"), features={"y": Float64, "z": Float64})
    known = {"names": {"id": pa.int64(), "y": pa.float64()}}
    scan = open_scan(of.with_input_types({"x1": pa.int32()}, known), ["z"], tmp_path)
    assert scan.joins == ()


@pytest.mark.parametrize("engine", ENGINES)
def test_explain_names_what_is_joined(engine: str, tmp_path: Path) -> None:
    some_files(tmp_path)
    store = project(tmp_path, offline_store=engine)
    lookup = store.get_historical_features(spine(1), [joined(LOOKUP)]).explain()
    assert "joins names (static, as it is today): 1 files, 2 rows" in lookup
    served = joined(AS_OF, reads=MADE)
    as_of = store.get_historical_features(spine(1), [served], mode="as_served").explain()
    assert "joins rates (as of the row's event time, of what was written when the row" in as_of


def test_as_served_needs_to_know_when_joined_rows_were_written(tmp_path: Path) -> None:
    some_files(tmp_path)
    undated = FileSource(name="rates", path="rates.parquet", timestamp_field="at")
    with pytest.raises(RequestError) as error:
        train(project(tmp_path), joined(AS_OF, undated, reads=MADE), spine(1), mode="as_served")
    assert says(error.value, "'rates'", "created_timestamp_column", hint=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_incremental_run_sees_late_rows_of_what_is_joined(engine: str, tmp_path: Path) -> None:
    some_files(tmp_path)
    of = joined(AS_OF)
    store = project(tmp_path, offline_store=engine)
    assert everywhere(store, of, spine(1)) == [2.0]
    times = pa.array([THEN] * 3, UTC_US)
    write(tmp_path / "rates.parquet", {"at": times, "made": times, "y": [1.0, 2.0, 3.0]})
    assert store.verify().views[0].differences == {"source rewritten": 2}
    report = store.materialize_incremental()[0]
    assert (report.kind, report.written) == ("full", 2)
    assert store.get_online_features([of], {"k": [1]}).to_dict()["y"] == [3.0]
    assert store.verify().ok


@pytest.mark.parametrize("engine", ENGINES)
def test_one_source_is_joined_twice_under_two_names(engine: str, tmp_path: Path) -> None:
    some_files(tmp_path)
    write(tmp_path / "data.parquet", rows(2, x1=[7, 8], x2=[8, 7]))
    of = joined(
        "SELECT a.y - b.y AS y FROM source"
        " LEFT JOIN names AS a ON source.x1 = a.id LEFT JOIN names AS b ON source.x2 = b.id"
    )
    assert of.lineage == {"y": ["names.y"]}
    assert everywhere(project(tmp_path, offline_store=engine), of, spine(1, 2)) == [-1.0, 1.0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_source_is_joined_to_itself(engine: str, tmp_path: Path) -> None:
    times = pa.array([THEN, THEN + timedelta(hours=1), THEN], UTC_US)
    write(tmp_path / "data.parquet", rows(3, k=[1, 1, 2], t=times, x=[1.0, 5.0, 2.0]))
    of = view(
        transform="SELECT readings.x - before.x AS x"
        " FROM readings ASOF LEFT JOIN readings AS before"
        " ON readings.k = before.k AND readings.t >= before.t",
        joins=[source()],
    )
    found = everywhere(project(tmp_path, offline_store=engine), of, spine(1, 2))
    assert found == [0.0, 0.0], "a row is the newest of its own time"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_joined_source_has_columns_from_its_folders(engine: str, tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(2, x1=[7, 8]))
    for country, number in (("SE", 7), ("DK", 8)):
        write(tmp_path / "names" / f"land={country}" / "a.parquet", {"id": [number]})
    names = FileSource(name="names", path="names", static=True)
    of = joined(LOOKUP.replace("names.y", "names.land AS y"), names, features={"y": String})
    assert everywhere(project(tmp_path, offline_store=engine), of, spine(1, 2)) == ["SE", "DK"]


def test_windows_over_joined_columns_have_their_types(tmp_path: Path) -> None:
    some_files(tmp_path)
    of = view(
        schema=[],
        joins=[NAMES],
        transform=LOOKUP.replace("names.y", "readings.*, names.id AS number"),
        aggregations=[Aggregation("number", ["last"], [None])],
    )
    store = project(tmp_path)
    store.apply([of])
    assert store.state().view("reading").definition.field("number_last_all").dtype == Int64

"""Datasets: what they hold, what they say of themselves, and that nothing changes them."""

import contextlib
import hashlib
import json
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import FeatureService, FeatureStore, sql
from featurestore.datasets.dataset import Dataset
from featurestore.datasets.files import FilesWriter, row_groups
from featurestore.datasets.steps import Step
from featurestore.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.definitions.contract import InRange, NotNull
from featurestore.errors import (
    ContractError,
    DatasetChangedError,
    DatasetDamagedError,
    DatasetExistsError,
    NotFoundError,
    OutputError,
    RegistryError,
    RequestError,
    SourceOutsideRootsError,
    UnsupportedError,
)
from featurestore.materialize.failpoints import arm
from featurestore.offline.scan import SourceScan, open_scan
from featurestore.registry import ObjectRef, plan_deletion
from featurestore.training.labels import label_names, spine_origin
from featurestore.types import Float64, Int64
from tests.unit.projects import FILE, QUICK, project, rows, says, spine, view, write

FEATURES = ["reading:x"]


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that tests begin with."""
    folder = tmp_path_factory.mktemp("applied")
    write(folder / FILE, rows(5))
    with project(folder, **QUICK) as opened:
        opened.apply([view()])
    return folder


@pytest.fixture
def store(tmp_path: Path, applied: Path) -> Iterator[FeatureStore]:
    shutil.copytree(applied, tmp_path, dirs_exist_ok=True)
    with project(tmp_path, **QUICK) as opened:
        yield opened


def make(store: FeatureStore, name: str = "train", entity_df: object = None) -> Dataset:
    """Create a dataset of three rows, of which the last has no features."""
    given = spine(1, 2, 9) if entity_df is None else entity_df
    return store.create_dataset(name, store.get_historical_features(given, FEATURES))


def edit(file: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file that may only be read."""
    file.chmod(0o644)
    file.write_bytes(change(file.read_bytes()))


def test_a_dataset_holds_what_its_job_returns(store: FeatureStore) -> None:
    job = store.get_historical_features(spine(1, 2, 9), FEATURES)
    made = store.create_dataset("train", job)
    for found in (made, store.get_dataset("train"), store.get_dataset("train", 1)):
        assert found.to_arrow().equals(job.to_arrow())
        assert found.to_polars().equals(job.to_polars())
        assert found.to_pandas()["x"].tolist()[:2] == [1.0, 2.0]
        assert pa.Table.from_batches(found.to_batches(max_rows=2)).equals(job.to_arrow())
        assert [batch.num_rows for batch in found.to_batches(max_rows=2)] == [2, 1]
        assert (found.schema, found.num_rows) == (job.schema, 3)


def test_a_dataset_without_rows_is_one(store: FeatureStore) -> None:
    made = make(store, entity_df=spine(1).slice(0, 0))
    assert (made.to_arrow().num_rows, made.verify(content=True).faults) == (0, ())
    assert made.rebuild().same


def test_versions_count_up_and_the_newest_is_the_default(store: FeatureStore) -> None:
    assert store.list_datasets() == []
    for expected in (1, 2, 3):
        assert make(store).version == expected
    make(store, "other")
    assert store.get_dataset("train").version == 3
    assert store.get_dataset("train", 2).version == 2
    listed = [(r.name, r.version) for r in store.list_datasets()]
    assert listed == [("other", 1), ("train", 1), ("train", 2), ("train", 3)]
    assert [r.version for r in store.list_datasets("train")] == [1, 2, 3]


def test_a_version_whose_folder_is_gone_is_never_made_again(store: FeatureStore) -> None:
    shutil.rmtree(make(store).path)
    assert make(store).version == 2
    (store.get_dataset("train").path.parent / "v7").mkdir()
    assert make(store).version == 8


def test_nobody_writes_to_a_dataset_by_accident(store: FeatureStore) -> None:
    path = make(store).path
    modes = {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()}
    assert modes == {0o444}
    assert sorted(file.name for file in path.iterdir()) == ["manifest.json", "part-00001.parquet"]


def test_the_manifest_says_what_it_was_made_from(store: FeatureStore, tmp_path: Path) -> None:
    job = store.get_historical_features(spine(1, 2, 9), FEATURES, full_feature_names=True)
    made = store.create_dataset("train", job, description="for churn", tags={"team": "risk"})
    manifest = json.loads((made.path / "manifest.json").read_bytes())
    assert manifest == made.manifest
    content = (tmp_path / FILE).read_bytes()
    file = {"path": FILE, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert manifest["sources"] == [{"name": "readings", "files": [file]}]
    kinds = [(d["kind"], d["name"]) for d in manifest["definitions"]]
    assert kinds == [("entity", "sensor"), ("source", "readings"), ("feature view", "reading")]
    assert manifest["request"]["full_feature_names"] is True
    assert manifest["request"]["mode"] == "complete"
    assert (manifest["description"], manifest["tags"]) == ("for churn", {"team": "risk"})
    assert (manifest["project"], manifest["revision"]) == ("plant", 1)
    assert [c["name"] for c in manifest["columns"]] == ["k", "event_timestamp", "reading__x"]
    assert set(manifest["software"]) == {
        "python",
        "featurestore",
        "duckdb",
        "polars",
        "pyarrow",
        "numpy",
    }
    [part] = manifest["files"]
    written = (made.path / part["name"]).read_bytes()
    assert (part["size"], part["rows"]) == (len(written), 3)
    assert part["sha256"] == hashlib.sha256(written).hexdigest()


def test_sources_that_a_transform_joins_are_listed_and_rebuilt(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(3))
    write(tmp_path / "names/a.parquet", {"id": [1, 2], "y": [10.0, 20.0]})
    names = FileSource(name="names", path="names", static=True)
    joined = view(
        features={"y": Float64},
        transform="SELECT names.y FROM readings LEFT JOIN names ON readings.k = names.id",
        joins=[names],
    )
    with project(tmp_path) as store:
        store.apply([joined])
        job = store.get_historical_features(spine(1, 2, 3), ["reading:y"])
        made = store.create_dataset("train", job)
        files = {s["name"]: [f["path"] for f in s["files"]] for s in made.manifest["sources"]}
        assert files == {"readings": [FILE], "names": ["names/a.parquet"]}
        write(tmp_path / "names/b.parquet", {"id": [3], "y": [30.0]})
        assert made.rebuild().same
        [difference] = made.rebuild(current=True).differences
        assert [(e.row, e.before, e.after) for e in difference.examples] == [(2, None, 30.0)]


def test_the_manifest_says_where_the_spine_came_from(store: FeatureStore, tmp_path: Path) -> None:
    def origin(entity_df: object) -> dict[str, Any]:
        found: dict[str, Any] = make(store, entity_df=entity_df).manifest["spine"]["origin"]
        return found

    assert origin(spine(1)) == {"kind": "table", "type": "pyarrow.Table"}
    query = "SELECT k, t AS event_timestamp FROM readings ORDER BY k"
    assert origin(sql(query)) == {"kind": "sql", "sql": query}
    path = tmp_path / "spines" / "s.parquet"
    path.parent.mkdir()
    pq.write_table(spine(1, 2), path)
    found = origin(path)
    assert (found["kind"], found["path"]) == ("file", "spines/s.parquet")
    assert found["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_spine_that_knows_how_it_was_made_says_so(store: FeatureStore, tmp_path: Path) -> None:
    made = store.spines.from_table(spine(1, 2, 3), keys=["k"]).sample(2, seed=7)
    labelled = made.label("soon", "readings", window="1d", aggregation="count")
    for entity_df in (labelled, labelled.write_parquet(tmp_path / "spine.parquet")):
        dataset = make(store, entity_df=entity_df)
        origin = dataset.manifest["spine"]["origin"]
        assert origin["labels"] == ["soon"]
        assert [step["step"] for step in origin["made"]["steps"]][-2:] == ["sample", "label"]
        assert label_names(dataset.to_arrow().schema) == ("soon",)
        assert dataset.rebuild().same


ORIGIN: dict[str, Any] = {"keys": ["k"], "timestamp_field": "event_timestamp", "steps": []}


def nested(depth: int) -> list[Any]:
    """Return lists in one another."""
    found: list[Any] = []
    for _ in range(depth - 1):
        found = [found]
    return found


@pytest.mark.parametrize(
    "origin",
    [
        "5",
        "[]",
        json.dumps(ORIGIN | {"keys": "k"}),
        json.dumps(ORIGIN | {"keys": [1]}),
        json.dumps(ORIGIN | {"timestamp_field": None}),
        json.dumps(ORIGIN | {"steps": 5}),
        json.dumps(ORIGIN | {"steps": ["x"]}),
        json.dumps(ORIGIN | {"x": "\ud800"}),
        json.dumps(ORIGIN | {"steps": [{"\udfff": 1}]}),
        json.dumps(ORIGIN | {"x": float("inf")}),
        json.dumps(ORIGIN | {"x": 0}).replace("0", "1e999"),
        json.dumps(ORIGIN | {"x": nested(20)}),
        json.dumps(ORIGIN | {"x": nested(900)}),
    ],
)
def test_what_a_file_says_of_a_spine_is_checked(store: FeatureStore, origin: str) -> None:
    given = spine(1).replace_schema_metadata({"featurestore.spine": origin})
    made = make(store, entity_df=given)
    assert made.manifest["spine"]["origin"] == {"kind": "table", "type": "pyarrow.Table"}
    sound = json.dumps(ORIGIN | {"x": nested(19)})
    given = spine(1).replace_schema_metadata({"featurestore.spine": sound})
    assert spine_origin(given.schema) == json.loads(sound)


def test_a_dataset_has_the_statistics_of_its_columns(store: FeatureStore) -> None:
    job = store.get_historical_features(spine(1, 2, 9), FEATURES)
    profile = store.create_dataset("train", job).profile
    assert profile is not None
    assert profile.to_document() == job.profile().to_document()
    assert (profile.columns["x"].nulls, profile.columns["x"].max) == (1, 2.0)


def test_contracts_are_checked_before_a_dataset_is_built(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(5))
    rules = [InRange("x", max=4), NotNull("k", policy="warn")]
    with project(tmp_path, validation={"datasets": "declared"}) as store:
        store.apply([view(reads={"contract": rules})])
        with pytest.raises(ContractError, match=r"(?s)x_in_range.*nothing was written"):
            make(store)
        assert store.list_datasets() == []
        made = store.create_dataset(
            "train", store.get_historical_features(spine(1), FEATURES), validate="warn"
        )
        [found] = made.manifest["validation"]
        assert (found["kind"], found["name"], found["status"]) == ("source", "readings", "warned")
        broken = {rule["rule"]: (rule["rows"], rule["failed"]) for rule in found["rules"]}
        assert broken == {"x_in_range": (5, 1), "k_not_null": (5, 0)}
        assert [each.cause for each in store.validations()] == ["dataset", "dataset"]
        unchecked = store.create_dataset(
            "train", store.get_historical_features(spine(1), FEATURES), validate=False
        )
        assert unchecked.manifest["validation"] is None


def test_a_view_may_be_asked_for_by_name_and_as_it_is_written(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(5))
    written = view(
        transform="SELECT k, t, x, x * 2 AS y FROM readings", features={"x": Float64, "y": Float64}
    )
    with project(tmp_path) as store:
        store.apply([written])
        job = store.get_historical_features(spine(1, 2), [written[["x"]], "reading:y"])
        assert store.create_dataset("train", job).rebuild().same


def test_the_digest_is_that_of_equal_rows_in_other_files(store: FeatureStore) -> None:
    first = make(store)
    assert make(store, "again").digest == first.digest
    assert make(store, "less", spine(1, 2)).digest != first.digest


@pytest.mark.parametrize("name", ["../up", "a/b", "", "a__b", ".hidden", "ä", "x" * 64, "con\0"])
def test_a_name_that_cannot_be_one_is_refused(
    store: FeatureStore, tmp_path: Path, name: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RequestError):
        make(store, name)
    with pytest.raises(NotFoundError):
        store.get_dataset(name)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_differs_only_by_case_is_refused(store: FeatureStore) -> None:
    make(store, "train")
    job = store.get_historical_features(spine(1), FEATURES)
    job.cancel()  # so that it fails differently once it is computed
    with pytest.raises(DatasetExistsError) as refused:
        store.create_dataset("Train", job)
    assert says(refused.value, "'train'", "'Train'")
    assert [r.name for r in store.list_datasets()] == ["train"]


def test_a_name_that_nobody_knows_gets_suggestions(store: FeatureStore) -> None:
    make(store)
    with pytest.raises(NotFoundError) as unknown:
        store.get_dataset("trian")
    assert says(unknown.value, "did you mean 'train'")
    with pytest.raises(NotFoundError, match="version"):
        store.get_dataset("train", 2)


def test_projects_do_not_see_each_others_datasets(store: FeatureStore, tmp_path: Path) -> None:
    made = make(store)
    with project(tmp_path, project="other", **QUICK) as other:
        other.apply([view()])
        assert other.list_datasets() == []
        with pytest.raises(NotFoundError):
            other.get_dataset("train")
        with pytest.raises(RequestError, match="project"):
            other.create_dataset("train", store.get_historical_features(spine(1), FEATURES))
        assert make(other).path != made.path


def test_the_folder_can_be_configured(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(5))
    with project(tmp_path, datasets="kept", **QUICK) as store:
        store.apply([view()])
        assert make(store).path == tmp_path / "kept/plant/train/v1"


# --- what is found -------------------------------------------------------------------------------


def faults(store: FeatureStore, *words: str) -> None:
    """Make sure that verification reports one fault of these words, and that reading fails."""
    found = store.verify_dataset("train")
    assert not found.ok
    assert any(all(word in str(fault) for word in words) for fault in found.faults), found
    with pytest.raises(DatasetDamagedError):
        store.get_dataset("train").to_arrow(verify=True)


def test_an_appended_byte_is_found(store: FeatureStore) -> None:
    made = make(store)
    edit(made.files[0], lambda content: content + b"\0")
    faults(store, "part-00001.parquet", "longer than it was")
    with pytest.raises(DatasetDamagedError, match="longer than it was"):
        made.to_arrow()


def test_a_truncated_file_is_found(store: FeatureStore) -> None:
    made = make(store)
    edit(made.files[0], lambda content: content[:-1])
    faults(store, "part-00001.parquet", "truncated")
    with pytest.raises(DatasetDamagedError, match="truncated"):
        made.to_polars()


def test_a_missing_and_a_strange_file_are_found(store: FeatureStore) -> None:
    made = make(store)
    made.files[0].rename(made.path / "part-00002.parquet")
    faults(store, "part-00001.parquet", "missing")
    faults(store, "part-00002.parquet", "no such file")


def test_swapped_files_are_found(store: FeatureStore) -> None:
    one, other = make(store), make(store, "other", spine(2, 1, 9))
    shutil.copy(other.files[0], one.path / "copy")
    (one.path / "copy").replace(one.files[0])
    faults(store, "part-00001.parquet")


def test_an_edited_manifest_is_found(store: FeatureStore) -> None:
    made = make(store)
    edit(made.path / "manifest.json", lambda content: content.replace(b"2024-06", b"2024-07", 1))
    faults(store, "manifest.json", "SHA-256", "registry")


def test_a_removed_manifest_or_folder_is_found(store: FeatureStore) -> None:
    made = make(store)
    (made.path / "manifest.json").unlink()
    faults(store, "manifest.json", "missing")
    shutil.rmtree(made.path)
    faults(store, "no folder")
    assert [r.version for r in store.list_datasets()] == [1]


def test_a_dataset_under_the_name_of_another_is_found(store: FeatureStore) -> None:
    made, other = make(store), make(store, "other")
    shutil.rmtree(made.path)
    shutil.copytree(other.path, made.path)
    faults(store, "manifest.json", "'other'")


def test_files_that_are_links_are_not_followed(store: FeatureStore, tmp_path: Path) -> None:
    made = make(store)
    moved = made.files[0].rename(tmp_path / "elsewhere.parquet")
    made.files[0].symlink_to(moved)
    faults(store, "part-00001.parquet", "symbolic link")
    made.files[0].unlink()
    made.files[0].mkdir()
    faults(store, "part-00001.parquet")


@pytest.mark.parametrize("above", range(3))
def test_folders_that_are_links_are_not_followed(
    store: FeatureStore, tmp_path: Path, above: int
) -> None:
    folder = [make(store).path, *make(store, "other").path.parents][above]
    folder = {0: folder, 1: folder.parent / "train", 2: folder}[above]
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    faults(store, "no folder")


def test_the_configured_folder_itself_may_be_a_link(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data/datasets").symlink_to(tmp_path / "disk")
    assert make(store).verify().ok


HOSTILE: list[Callable[[dict[str, Any]], object]] = [
    lambda m: m["files"][0].update(name="../../../../../secret.parquet"),
    lambda m: m["files"][0].update(name="/etc/passwd"),
    lambda m: m["files"][0].update(name="part-00001.parquet\0"),
    lambda m: m.update(name="../train"),
    lambda m: m.update(version=2),
    lambda m: m.update(project="other"),
    lambda m: m.update(files=[]),
    lambda m: m.update(files=None),
    lambda m: m.update(manifest_version=2),
    lambda m: m.update(rows=-1),
    lambda m: m.update(surprise=1),
]


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_a_hostile_manifest_is_refused_even_if_the_registry_has_its_hash(
    store: FeatureStore, tmp_path: Path, number: int
) -> None:
    made = make(store)
    shutil.copy(made.files[0], tmp_path / "secret.parquet")
    manifest = made.manifest
    HOSTILE[number](manifest)
    content = json.dumps(manifest).encode()
    edit(made.path / "manifest.json", lambda _: content)
    _set(store, manifest_hash=hashlib.sha256(content).hexdigest())
    with pytest.raises(DatasetDamagedError):
        store.get_dataset("train")
    found = store.verify_dataset("train")
    assert [fault.file for fault in found.faults] == ["manifest.json"]


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"[" * 100_000, b"\xff", b'{"a": 1'])
def test_a_manifest_that_is_none_is_refused(store: FeatureStore, content: bytes) -> None:
    made = make(store)
    edit(made.path / "manifest.json", lambda _: content)
    _set(store, manifest_hash=hashlib.sha256(content).hexdigest())
    with pytest.raises(DatasetDamagedError):
        store.get_dataset("train")


@pytest.mark.parametrize(
    "row", [{"name": "../../x"}, {"name": "x\0"}, {"building": "../../../../victim"}]
)
def test_a_hostile_row_reaches_nothing_outside(
    store: FeatureStore, tmp_path: Path, row: dict[str, str]
) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    make(store)
    _set(store, **row)
    name = row.get("name", "train")
    for act in (lambda: store.get_dataset(name), store.tidy_datasets, lambda: make(store, "next")):
        with contextlib.suppress(NotFoundError, RegistryError):
            act()
    assert (tmp_path / "victim" / "file").read_text() == "mine"


def _set(store: FeatureStore, **values: str) -> None:
    """Overwrite what the registry knows of the only dataset."""
    import sqlite3

    store.close()
    with sqlite3.connect(store.config.path(store.settings.registry.path)) as registry:
        for column, value in values.items():
            registry.execute(f"UPDATE featurestore_datasets SET {column} = ?", (value,))  # noqa: S608
    registry.close()


def test_a_flipped_bit_that_plain_readers_do_not_see_is_found(store: FeatureStore) -> None:
    """Why all of this exists: without checksums another number is read, and no error."""
    made = make(store, entity_df=spine(*range(1, 500)))
    [file], expected = made.files, made.to_arrow()
    whole = file.read_bytes()
    times = pq.read_metadata(file).row_group(0).column(1)  # all equal, so that the page is small
    misread = 0
    for at in range(times.data_page_offset, times.data_page_offset + times.total_compressed_size):
        content = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        edit(file, lambda _, content=content: content)  # type: ignore[misc]
        assert not made.verify().ok
        with contextlib.suppress(OSError, pa.ArrowException):
            if not pq.read_table(file).equals(expected):
                misread += 1
                with pytest.raises(DatasetDamagedError, match="cannot be read"):
                    made.to_arrow()
    assert misread > 0
    edit(file, lambda _: whole)
    assert made.verify().ok


# --- writing -------------------------------------------------------------------------------------


def test_a_large_table_is_several_files_of_bounded_size(tmp_path: Path) -> None:
    table = pa.table({"x": [float(n) for n in range(10_000)]})
    writer = FilesWriter(tmp_path, table.schema, file_bytes=10_000)
    for start in range(0, table.num_rows, 1_000):
        writer.write(table.slice(start, 1_000))
    files = writer.finish()
    assert len(files) > 2
    assert sum(file.rows for file in files) == table.num_rows
    assert all(file.size < 20_000 for file in files)
    read = pa.concat_tables(pq.read_table(tmp_path / file.name) for file in files)
    assert read.equals(table)


def test_wide_rows_make_small_row_groups() -> None:
    wide = pa.table({"text": ["x" * 1_000] * 30})
    parts = list(row_groups(wide, group_bytes=10_500))
    assert len(parts) == 3
    assert pa.concat_tables(parts).equals(wide)


def test_what_parquet_cannot_keep_is_refused(store: FeatureStore) -> None:
    def given(column: pa.Array) -> pa.Table:
        return spine(1).append_column("extra", column)

    def refused(column: pa.Array) -> None:
        job = store.get_historical_features(given(column), FEATURES)
        job.cancel()  # so that it fails differently once it is computed
        store.create_dataset("train", job)

    with pytest.raises(OutputError, match="cannot be written"):
        refused(pa.array([pa.MonthDayNano([1, 2, 3])]))
    for seconds in (1, 2**62):
        with pytest.raises(UnsupportedError, match="which Parquet keeps as"):
            refused(pa.array([seconds], pa.timestamp("s")))
    assert store.list_datasets() == []
    assert not (store.config.root / "data/datasets").exists()


def test_a_value_that_parquet_cannot_keep_is_an_error(store: FeatureStore, tmp_path: Path) -> None:
    """Seconds become milliseconds, of which there are too many."""
    column = pa.array([2**62], pa.timestamp("s"))
    job = store.get_historical_features(spine(1).append_column("extra", column), FEATURES)
    with pytest.raises(OutputError, match=r"train\.parquet cannot be written"):
        job.write_parquet(tmp_path / "train.parquet")
    assert not (tmp_path / "train.parquet").exists()
    table = pa.table({"extra": column})
    (tmp_path / "files").mkdir()
    writer = FilesWriter(tmp_path / "files", table.schema)
    with pytest.raises(OutputError, match="The dataset cannot be written"):
        writer.write(table)
    writer.abandon()


def test_spines_of_all_kinds_of_types_are_kept(store: FeatureStore) -> None:
    extra = {
        "dictionary": pa.array(["a", "b", None]).dictionary_encode(),
        "large": pa.array(["a", None, ""], pa.large_string()),
        "view": pa.array(["a", None, ""], pa.string_view()),
        "fixed": pa.array([b"ab", None, b"cd"], pa.binary(2)),
        "decimal": pa.array([Decimal("1.5"), None, Decimal(2)], pa.decimal128(20, 3)),
        "lists": pa.array([[1, None], None, []]),
        "struct": pa.array([{"a": 1}, None, {"a": None}]),
        "nothing": pa.nulls(3),
        "nanoseconds": pa.array([1, None, 3], pa.timestamp("ns")),
        "a.b": pa.array([True, None, False]),
    }
    given = spine(1, 2, 9)
    for name, column in extra.items():
        given = given.append_column(name, column)
    made = make(store, entity_df=given)
    assert made.verify(content=True).faults == ()
    assert made.to_arrow().schema == store.get_historical_features(given, FEATURES).schema
    assert made.to_arrow()["nanoseconds"].equals(given["nanoseconds"])
    assert made.rebuild().same


def test_a_cancelled_job_leaves_nothing(store: FeatureStore) -> None:
    job = store.get_historical_features(spine(1), FEATURES)
    job.cancel()
    with pytest.raises(Exception, match="cancelled"):
        store.create_dataset("train", job)
    assert list((store.config.root / "data/datasets/plant/train").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(store: FeatureStore) -> None:
    (store.config.root / "data").mkdir(exist_ok=True)
    (store.config.root / "data/datasets").write_text("a file")
    with pytest.raises(OutputError):
        make(store)


def test_two_that_create_at_once_make_two_versions(store: FeatureStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: make(store), range(8)))
    assert sorted(dataset.version for dataset in made) == list(range(1, 9))
    assert all(dataset.verify().ok for dataset in made)
    folders = sorted(folder.name for folder in made[0].path.parent.iterdir())
    assert folders == [f"v{n}" for n in range(1, 9)]


def elsewhere(tmp_path: Path) -> FeatureStore:
    """Return a store of the same registry that does not see the same folder of datasets."""
    return project(tmp_path, datasets=str(tmp_path / "not mounted"), **QUICK)


@pytest.mark.parametrize("step", [Step.ANNOUNCED, Step.RENAMED])
def test_a_host_that_does_not_see_the_folder_forgets_nothing(
    store: FeatureStore, tmp_path: Path, step: Step
) -> None:
    done: list[str] = []
    with elsewhere(tmp_path) as other, at(step, lambda: done.extend(other.tidy_datasets())):
        made = make(store)
    assert done == []
    assert store.get_dataset("train").path == made.path


def test_what_was_forgotten_while_it_was_built_is_announced_again(
    store: FeatureStore, tmp_path: Path
) -> None:
    (tmp_path / "not mounted/plant/train").mkdir(parents=True)
    done: list[str] = []
    with (
        elsewhere(tmp_path) as other,
        at(Step.ANNOUNCED, lambda: done.extend(other.tidy_datasets())),
    ):
        made = make(store)
    assert done == ["forgot train, version 1: its folder is gone"]
    assert store.list_datasets() == [made.record]
    assert store.get_dataset("train").verify().ok


def test_a_version_that_became_another_ones_is_an_error(
    store: FeatureStore, tmp_path: Path
) -> None:
    (tmp_path / "not mounted/plant/train").mkdir(parents=True)
    with elsewhere(tmp_path) as other:
        job = other.get_historical_features(spine(1), FEATURES)
        with (
            at(Step.ANNOUNCED, lambda: other.create_dataset("train", job)),
            pytest.raises(RegistryError, match="Version 1 of dataset 'train' became another"),
        ):
            make(store)
        assert [r.rows for r in store.list_datasets()] == [1]
        assert other.get_dataset("train").verify().ok


@contextlib.contextmanager
def at(step: Step, act: Callable[[], object]) -> Iterator[None]:
    """Do something when the next build gets to a step."""

    def reached(point: StrEnum) -> None:
        if point is step:
            arm(None)
            act()

    arm(reached)
    try:
        yield
    finally:
        arm(None)


# --- rebuilding ----------------------------------------------------------------------------------


def test_a_dataset_is_the_same_when_it_is_computed_anew(store: FeatureStore) -> None:
    found = make(store).rebuild()
    assert (found.same, found.changes, found.differences, found.kept) == (True, (), (), None)


def test_a_changed_source_file_is_named_with_what_differs(store: FeatureStore) -> None:
    made = make(store)
    write(store.config.root / FILE, rows(5, x=[1.0, 7.0, 3.0, 4.0, 5.0]))
    found = made.rebuild()
    assert not found.same
    [change] = found.changes
    assert (change.kind, change.name, change.what) == ("source file", FILE, "changed")
    content = (store.config.root / FILE).read_bytes()
    assert change.after == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    [difference] = found.differences
    assert (difference.column, difference.rows) == ("x", 1)
    [example] = difference.examples
    assert (example.row, example.before, example.after) == (1, 2.0, 7.0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[FeatureStore]:
    """Yield a store whose source is a folder of two files."""
    write(tmp_path / "rows/a.parquet", rows(2))
    write(tmp_path / "rows/b.parquet", rows(1, k=[3], x=[3.0]))
    with project(tmp_path, **QUICK) as opened:
        opened.apply([view("rows")])
        yield opened


def test_a_file_that_came_later_changes_nothing(folder: FeatureStore) -> None:
    made = make(folder)
    late = folder.config.root / "rows/c.parquet"
    write(late, rows(2, x=[10.0, 20.0]))
    found = made.rebuild()
    assert found.same
    assert [(c.name, c.what, c.matters) for c in found.changes] == [
        ("rows/c.parquet", "new", False)
    ]
    late.write_bytes(b"not Parquet at all")
    assert made.rebuild().same


def test_it_counts_when_the_files_of_today_are_asked_for(folder: FeatureStore) -> None:
    made = make(folder)
    write(folder.config.root / "rows/c.parquet", rows(2, x=[10.0, 20.0]))
    found = made.rebuild(current=True)
    assert [(d.column, d.rows) for d in found.differences] == [("x", 2)]
    assert [(c.name, c.what, c.matters) for c in found.changes] == [("rows/c.parquet", "new", True)]


def test_a_link_to_a_file_that_came_later_does_not_hide_it(folder: FeatureStore) -> None:
    made = make(folder, entity_df=spine(1, 3))
    (folder.config.root / "rows/0.parquet").symlink_to("b.parquet")
    assert made.rebuild().same


def test_views_of_one_source_see_the_same_files(
    folder: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = folder.config.root / "rows/c.parquet"

    def opening(*args: Any, **options: Any) -> SourceScan:
        scan = open_scan(*args, **options)
        write(late, rows(2, x=[10.0, 20.0]))
        return scan

    monkeypatch.setattr("featurestore.training.retrieve.open_scan", opening)
    views = [view("rows"), view("rows", name="again")]
    job = folder.get_historical_features(spine(1, 2), views, full_feature_names=True)
    made = folder.create_dataset("train", job)
    [source] = made.manifest["sources"]
    assert [file["path"] for file in source["files"]] == ["rows/a.parquet", "rows/b.parquet"]
    assert made.to_arrow()["reading__x"].equals(made.to_arrow()["again__x"])
    assert late.exists()


def test_two_sources_of_one_name_are_refused_before_any_work(folder: FeatureStore) -> None:
    views = [view("rows"), view("rows/a.parquet", name="again")]
    job = folder.get_historical_features(spine(1), views, full_feature_names=True)
    job.cancel()  # so that it fails differently once it is computed
    with pytest.raises(RequestError, match="two different definitions of source 'readings'"):
        folder.create_dataset("train", job)


DOTTED = "beside/../shop"


@pytest.mark.parametrize("path", ["rows", "./rows/../rows", "ABSOLUTE"])
@pytest.mark.parametrize(
    ("first", "second"), [(DOTTED, DOTTED), ("link", "link"), ("shop", "link"), ("link", DOTTED)]
)
def test_a_repository_can_be_reached_by_several_ways(
    tmp_path: Path, path: str, first: str, second: str
) -> None:
    write(tmp_path / "shop/rows/a.parquet", rows(2))
    (tmp_path / "beside").mkdir()
    (tmp_path / "link").symlink_to("shop")
    with project(tmp_path / first, **QUICK) as store:
        store.apply([view(str(tmp_path / "shop/rows") if path == "ABSOLUTE" else path)])
        made = make(store)
        [source] = made.manifest["sources"]
        assert [file["path"] for file in source["files"]] == ["rows/a.parquet"]
    with project(tmp_path / second, **QUICK) as store:
        found = store.get_dataset("train").rebuild()
        assert (found.same, found.changes) == (True, ())


def test_a_file_that_is_missing_is_named(folder: FeatureStore) -> None:
    made = make(folder, entity_df=spine(1, 3))
    (folder.config.root / "rows/b.parquet").unlink()
    found = made.rebuild()
    assert [(c.name, c.what) for c in found.changes] == [("rows/b.parquet", "missing")]
    assert [(d.column, d.rows) for d in found.differences] == [("x", 1)]
    (folder.config.root / "rows/a.parquet").unlink()
    with pytest.raises(DatasetChangedError) as changed:
        made.rebuild()
    assert says(changed.value, "rows/a.parquet: missing", "rows/b.parquet: missing")
    write(folder.config.root / "rows/c.parquet", rows(2))
    with pytest.raises(DatasetChangedError, match="none of its files"):
        made.rebuild()


def test_definitions_that_changed_since_do_not_matter(store: FeatureStore) -> None:
    made = make(store)
    store.apply([view(transform="SELECT x * 2 AS x FROM readings", description="doubled")])
    found = made.rebuild()
    assert found.same
    [change] = found.changes
    assert (change.kind, change.name, change.matters) == (
        "definition",
        "feature view reading",
        False,
    )
    assert any(line.startswith("description:") for line in change.details)
    assert any("x * 2" in line for line in change.details)
    today = made.rebuild(current=True)
    assert [(d.column, d.rows) for d in today.differences] == [("x", 2)]
    assert [change.matters for change in today.changes] == [True]


def test_definitions_that_are_gone_do_not_matter(store: FeatureStore) -> None:
    made = make(store)
    refs = {ObjectRef("feature view", "reading"), ObjectRef("source", "readings")}
    store.apply(plan_deletion(refs, store.state()), allow_destroy=True)
    found = made.rebuild()
    assert found.same
    assert {c.what for c in found.changes} == {"missing"}
    with pytest.raises(DatasetChangedError, match="no feature view 'reading'"):
        made.rebuild(current=True)


def test_a_service_is_rebuilt_as_it_was(store: FeatureStore) -> None:
    of = view(features={"x": Float64, "k2": Float64}, reads={"field_mapping": {}})
    write(store.config.root / FILE, rows(5, k2=[0.5] * 5))
    store.apply([of, FeatureService(name="scoring", features=[of[["x"]]])])
    made = store.create_dataset("train", store.get_historical_features(spine(1), "scoring"))
    assert made.manifest["request"]["service"] == "scoring"
    store.apply([of, FeatureService(name="scoring", features=[of[["x", "k2"]]])])
    assert made.rebuild().same
    found = made.rebuild(current=True)
    assert [(d.column, d.what) for d in found.differences] == [("k2", "new")]
    assert "feature service scoring" in [change.name for change in found.changes]


def test_another_engine_and_another_clock_are_named(store: FeatureStore, tmp_path: Path) -> None:
    made = make(store)
    settings: dict[str, Any] = {"offline_store": "duckdb", "clock": "2024-07-01T00:00:00Z"}
    with project(tmp_path, **settings) as other:
        found = other.get_dataset(made.name).rebuild()
        assert found.same
        named = {(c.kind, c.name): c.matters for c in found.changes}
        assert named["engine", "name"] is True
        assert named["clock", "setting"] is False


def test_other_software_is_named(store: FeatureStore) -> None:
    made = make(store)
    content = json.dumps(made.manifest | {"software": {**made.manifest["software"], "numpy": "1"}})
    edit(made.path / "manifest.json", lambda _: content.encode())
    _set(store, manifest_hash=hashlib.sha256(content.encode()).hexdigest())
    [change] = store.get_dataset("train").rebuild().changes
    assert (change.kind, change.name, change.before) == ("software", "numpy", "1")


def test_a_rebuilt_dataset_can_be_kept(store: FeatureStore) -> None:
    made = make(store)
    write(store.config.root / FILE, rows(5, x=[1.0, 7.0, 3.0, 4.0, 5.0]))
    found = made.rebuild(keep=True)
    assert (found.kept, [d.rows for d in found.differences]) == (2, [1])
    kept = store.get_dataset("train")
    assert (kept.version, kept.digest) == (2, found.found)
    assert kept.manifest["spine"]["origin"]["version"] == 1
    assert kept.to_arrow()["x"].to_pylist() == [1.0, 7.0, None]
    assert kept.rebuild().same
    assert made.to_arrow()["x"].to_pylist() == [1.0, 2.0, None]


def test_a_damaged_dataset_is_not_rebuilt(store: FeatureStore) -> None:
    made = make(store)
    (made.path / "extra").write_text("")  # which nobody would notice who only reads the rows
    assert made.to_arrow().num_rows == 3
    with pytest.raises(DatasetDamagedError, match="extra"):
        made.rebuild()


def test_roles_windows_and_computed_features_are_rebuilt(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(4, k=[1, 1, 2, 2], x=[0.1, 0.2, float("nan"), 1e300]))
    sensor = Entity(name="sensor", join_keys={"k": Int64})
    source = FileSource(name="readings", path=FILE, timestamp_field="t")
    windows = FeatureView(
        name="recent",
        entities=[sensor],
        source=source,
        aggregations=[Aggregation("x", ["sum", "mean", "last_2"], windows=["60d"])],
    )
    latest = view()
    request = RequestSource(name="asked", schema=[Field(name="factor", dtype=Float64)])
    computed = OnDemandFeatureView(
        name="scaled", sources=[latest, request], features={"y": "x * factor"}
    )
    given = spine(1, 2, 3).append_column("factor", pa.array([2.0, None, 3.0]))
    given = given.append_column("other", pa.array([2, 1, None]))
    with project(tmp_path) as store:
        store.apply([windows, latest, computed])
        role = windows.with_name("twin").with_join_key_map({"k": "other"})
        job = store.get_historical_features(
            given,
            FeatureService(
                name="all",
                features=[computed.select(), windows[["x_mean_60d", "x_last_2_60d"]], role],
            ),
            full_feature_names=True,
        )
        made = store.create_dataset("train", job)
        assert made.rebuild().same
        with project(tmp_path, offline_store="polars") as other:
            assert other.get_dataset("train").rebuild().same


def test_a_function_that_changed_is_named(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows(2))
    module = tmp_path / "functions/doubling.py"
    module.parent.mkdir()
    text = """
import pyarrow as pa, pyarrow.compute as pc
def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"y": pc.multiply(batch["x"], 2.0)})
"""
    module.write_text(text)
    doubled = OnDemandFeatureView(
        name="doubled",
        sources=[view()],
        function="doubling:double",
        schema=[Field(name="y", dtype=Float64)],
    )
    with project(tmp_path, functions="functions") as store:
        store.apply([doubled])
        job = store.get_historical_features(spine(1, 2), ["doubled:y"])
        made = store.create_dataset("train", job)
        sha256 = hashlib.sha256(text.encode()).hexdigest()
        assert made.manifest["functions"] == [{"function": "doubling:double", "sha256": sha256}]
        assert made.rebuild().same
        module.write_text(text.replace("2.0", "3.0"))
    with project(tmp_path, functions="functions") as store:
        made = store.get_dataset("train")
        with pytest.raises(DatasetChangedError) as changed:
            made.rebuild()
        assert says(changed.value, "function doubling:double: changed", sha256[:16])
        module.unlink()
    with (
        project(tmp_path, functions="functions") as store,
        pytest.raises(DatasetChangedError, match="function doubling:double: missing"),
    ):
        store.get_dataset("train").rebuild()


def test_sources_have_to_lie_where_this_process_may_read(store: FeatureStore) -> None:
    made = make(store)
    with (
        FeatureStore(
            store.config.root, config=store.config, source_roots=[Path("elsewhere")]
        ) as narrow,
        pytest.raises((SourceOutsideRootsError, DatasetChangedError)),
    ):
        narrow.get_dataset(made.name).rebuild()

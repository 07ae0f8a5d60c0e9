"""Full disks, things in the way, servers that are not there, newer registries, large requests."""

import os
import socket
import sqlite3
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.errors import (
    ConfigError,
    LeaseHeldError,
    OutputError,
    RegistryError,
    RegistryVersionError,
    RequestError,
    SourceError,
    StoreError,
    StoreUnavailableError,
)
from featurestore.store import FeatureStore
from featurestore.types import Float64
from tests.forks import run_python
from tests.unit.projects import (
    FILE,
    THEN,
    UTC_US,
    project,
    rows,
    says,
    spine,
    train,
    view,
    write,
)

MANY = 50_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(root: Path) -> Iterator[FeatureStore]:
    with project(root) as opened:
        yield opened


# --- full disks --------------------------------------------------------------------------------


def on_a_full_disk(root: Path, limit_bytes: int, body: str) -> str:
    """Run Python in a process whose files cannot grow beyond a limit; return what it prints.

    To a program that is what a full disk looks like: a write fails, here with EFBIG.
    """
    start = f"""
        import resource
        from pathlib import Path
        from featurestore.errors import *
        from tests.unit.projects import *
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        root = Path({str(root)!r})
        store = project(root, online_store="lmdb")
        many = spine(*range({MANY}))
        job = store.get_historical_features(many, [view()])
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, resource.RLIM_INFINITY))
    """
    code = textwrap.dedent(start) + textwrap.dedent(body)
    run = run_python(code)
    assert run.returncode == 0, run.stderr[-2_000:]
    return run.stdout


@pytest.fixture
def large(root: Path) -> Path:
    """A repository with a source of many rows; its view is applied."""
    write(root / FILE, rows(MANY))
    with project(root) as opened:
        opened.apply([view()])
    return root


def test_a_full_disk_leaves_no_part_of_a_training_set(large: Path) -> None:
    (large / "out").mkdir()
    (large / "out/old.parquet").write_bytes(b"what was there before")
    said = on_a_full_disk(
        large,
        100_000,
        """
        for name in ("new.parquet", "old.parquet"):
            try:
                job.write_parquet(root / "out" / name)
            except OutputError as error:
                assert says(error, name, "disk is full", "nothing was left"), error
                print("refused")
        """,
    )
    assert said.split() == ["refused", "refused"]
    assert [path.name for path in (large / "out").iterdir()] == ["old.parquet"]
    assert (large / "out/old.parquet").read_bytes() == b"what was there before"


def test_a_full_disk_leaves_nothing_of_a_dataset(large: Path) -> None:
    said = on_a_full_disk(
        large,
        100_000,
        """
        try:
            store.create_dataset("train", job)
        except OutputError as error:
            assert says(error, "train", "disk is full"), error
            print("refused", store.list_datasets(), store.tidy_datasets())
        """,
    )
    assert said.split() == ["refused", "[]", "[]"]
    assert list((large / "data/datasets/plant/train").iterdir()) == []


def test_a_full_disk_fails_a_materialization_that_succeeds_later(large: Path) -> None:
    said = on_a_full_disk(
        large,
        1_000_000,
        """
        try:
            store.materialize()
        except StoreError as error:
            assert says(error, "online", "disk is full", "free space"), error
            print("refused", error.retryable)
        """,
    )
    assert said.split() == ["refused", "False"]
    with project(large, online_store="lmdb") as store:
        (run,) = store.registry.runs("plant")
        assert run.status == "failed"
        assert "disk is full" in str(run.error)
        assert store.registry.watermark("plant", "reading", 1) is None
        assert store.get_online_features(["reading:x"], {"k": [1]}).to_dict()["x"] in (
            [1.0],
            [None],
        )
        report = store.materialize()[0]
        assert report.written + report.kept == MANY
        assert store.verify(sample=None).ok


def test_a_full_disk_applies_nothing(large: Path) -> None:
    said = on_a_full_disk(
        large,
        60_000,
        """
        more = [view(name=f"reading_{number}") for number in range(300)]
        try:
            store.apply(more)
        except RegistryError as error:
            assert says(error, "registry", "disk"), error
            print("refused")
        """,
    )
    assert said.split() == ["refused"]
    with project(large) as store:
        state = store.state()
        assert (state.revision, list(state.views)) == (1, ["reading"])
        store.apply([view(name="another")])
        assert store.state().revision == 2


# --- in the way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("a_folder", "Is a directory"),
        ("nowhere/out.parquet", "No such file"),
        ("a_file/out.parquet", "Not a directory"),
        ("x" * 300, "File name too long"),
        ("a\0b", "null"),
        ("\ud800", "surrogate"),
    ],
)
def test_a_result_that_cannot_be_written_leaves_nothing(
    store: FeatureStore, root: Path, target: str, words: str
) -> None:
    write(root / FILE, rows())
    store.apply([view()])
    (root / "a_folder").mkdir()
    (root / "a_file").write_text("")
    before = sorted(root.rglob("*"))
    with pytest.raises(OutputError) as caught:
        store.get_historical_features(spine(1), [view()]).write_parquet(f"{root}/{target}")
    assert says(caught.value, words, hint=False)
    assert sorted(root.rglob("*")) == before


def test_a_result_may_have_a_name_as_long_as_the_system_takes(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows())
    store.apply([view()])
    target = root / ("🛫" * 60 + ".parquet")  # 248 bytes
    job = store.get_historical_features(spine(1), [view()])
    assert pq.read_table(job.write_parquet(target))["x"].to_pylist() == [1.0]


def test_a_folder_in_place_of_the_registry_is_named(root: Path) -> None:
    write(root / FILE, rows())
    (root / "registry").mkdir()
    with project(root, registry="registry") as store, pytest.raises(RegistryError) as caught:
        store.apply([view()])
    assert says(caught.value, str(root / "registry"), "is a folder", "name a file")


@pytest.mark.parametrize("path", ["a_file", "a_file/online"])
def test_a_file_in_place_of_the_online_store_is_named(root: Path, path: str) -> None:
    write(root / FILE, rows())
    (root / "a_file").write_text("")
    with project(root, online_store={"type": "lmdb", "path": path}) as store:
        store.apply([view()])
        with pytest.raises(StoreError) as caught:
            store.materialize()
        assert says(caught.value, str(root / path), "a file is in the way")
        assert [run.status for run in store.registry.runs("plant")] == ["failed"]


def test_a_temporary_folder_that_cannot_be_made_is_named(root: Path) -> None:
    write(root / FILE, rows())
    (root / "a_file").write_text("")
    with project(root, offline_store={"temp_directory": "a_file/tmp"}) as store:
        store.apply([view()])
        with pytest.raises(ConfigError) as caught:
            train(store, view(), spine(1))
    assert says(caught.value, str(root / "a_file/tmp"), "offline_store.temp_directory")


def test_an_amount_of_memory_that_the_engine_refuses_is_a_setting(root: Path) -> None:
    write(root / FILE, rows())
    with project(root, offline_store={"memory_limit": "400%"}) as store:
        store.apply([view()])
        with pytest.raises(ConfigError, match=r"offline_store\.memory_limit: '400%'"):
            train(store, view(), spine(1))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(store: FeatureStore, root: Path) -> None:
    write(root / "data/a.parquet", rows())
    write(root / "data/b/b.parquet", rows())
    (root / "data/b").chmod(0)
    try:
        with pytest.raises(SourceError) as caught:
            store.apply([view("data")])
    finally:
        (root / "data/b").chmod(0o700)
    assert says(caught.value, "data/b", "Permission denied")


# --- not there, or not ours --------------------------------------------------------------------


def test_a_redis_that_is_not_there_is_a_retryable_error_at_once(root: Path) -> None:
    write(root / FILE, rows())
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"redis://127.0.0.1:{taken.getsockname()[1]}/0"
        with project(root, online_store=address) as store:
            store.apply([view()])
            for call in (
                store.materialize,
                lambda: store.get_online_features(["reading:x"], {"k": [1]}),
            ):
                with pytest.raises(StoreUnavailableError) as caught:
                    call()
                assert caught.value.retryable
                assert says(caught.value, "127.0.0.1", hint=bool(caught.value.hint))
            assert [run.status for run in store.registry.runs("plant")] == ["failed"]
            assert store.registry.watermark("plant", "reading", 1) is None
            assert train(store, view(), spine(1)) == [1.0]


def test_a_registry_of_a_newer_version_is_left_alone(root: Path) -> None:
    write(root / FILE, rows())
    with project(root) as store:
        store.apply([view()])
        path = root / "data/registry.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "UPDATE featurestore_meta SET value = '999' WHERE key = 'schema_version'"
            )
        content = path.read_bytes()
        for call in (store.state, lambda: store.apply([view(name="b")]), store.materialize):
            with pytest.raises(RegistryVersionError) as caught:
                call()
            assert says(caught.value, str(path), "999", "upgrade featurestore")
        assert path.read_bytes() == content


@pytest.mark.parametrize("content", [b"garbage" * 1_000, b"SQLite format 3\0" + b"\xff" * 4_096])
def test_a_registry_that_is_none_is_named(root: Path, content: bytes) -> None:
    write(root / FILE, rows())
    (root / "data").mkdir()
    (root / "data/registry.db").write_bytes(content)
    with project(root) as store:
        for call in (store.state, lambda: store.apply([view()])):
            with pytest.raises(RegistryError) as caught:
                call()
            assert says(caught.value, "registry.db", "restore the registry's backup")
    assert (root / "data/registry.db").read_bytes() == content


def test_a_second_run_of_a_view_is_turned_away_while_the_first_goes_on(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows(2))
    store.apply([view()])
    refused = []

    def run_again(_view: str, _done: int, _total: int) -> None:
        with pytest.raises(LeaseHeldError) as caught:
            store.materialize()
        refused.append(caught.value)

    store.materialize(progress=run_again)
    (error,) = refused
    assert error.retryable
    assert says(error, "'reading'", str(os.getpid()), "try again")
    assert store.materialize()[0].written == 2


def test_a_run_that_lost_its_lease_records_nothing(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows(2))
    store.apply([view()])
    registry = store.registry

    def lose(_view: str, _done: int, _total: int) -> None:
        with closing(sqlite3.connect(root / "data/registry.db")) as connection, connection:
            connection.execute("UPDATE featurestore_leases SET holder = 'somebody else'")

    with pytest.raises(LeaseHeldError, match="somebody else"):
        store.materialize(progress=lose)
    assert registry.watermark("plant", "reading", 1) is None
    assert [run.status for run in registry.runs("plant")] == ["failed"]


def test_bounds_of_a_run_that_cross_are_refused(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows())
    store.apply([view()])
    for start, end in (("2024-02-01", "2024-02-01"), ("2024-03-01", "2024-02-01")):
        with pytest.raises(RequestError) as caught:
            store.materialize(start, end)
        assert says(caught.value, "2024-02-01T00:00:00Z", "(start, end]")
    with pytest.raises(RequestError):
        store.materialize("2024-07-01")  # beyond the clock, which is now
    assert store.registry.runs("plant") == []


def test_a_view_that_is_not_served_is_not_materialized(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows())
    store.apply([view(online=False)])
    assert store.materialize() == []
    with pytest.raises(RequestError, match="not served online"):
        store.materialize(views=["reading"])
    assert not store.verify().ok


# --- large -------------------------------------------------------------------------------------


def test_a_source_may_have_very_many_files_and_folders(store: FeatureStore, root: Path) -> None:
    count = 250
    for number in range(count):
        columns = {"t": pa.array([THEN], UTC_US), "x": [float(number)]}
        write(root / f"data/k={number}/{number}.parquet", columns)
    of = view("data")
    store.apply([of])
    assert train(store, of, spine(0, count - 1, count)) == [0.0, count - 1.0, None]
    assert store.materialize()[0].written == count


def test_a_view_may_have_two_thousand_features(store: FeatureStore, root: Path) -> None:
    columns = {f"f{number}": [float(number)] for number in range(2_000)}
    write(root / FILE, {"k": [1], "t": pa.array([THEN], UTC_US)} | columns)
    of = view(features=dict.fromkeys(columns, Float64))
    store.apply([of])
    table = store.get_historical_features(spine(1), [of]).to_arrow()
    assert table.select(list(columns)).to_pydict() == columns
    store.materialize()
    assert store.get_online_features([of], {"k": [1]}).to_dict() == {"k": [1]} | columns


def test_a_view_may_be_used_in_many_roles_at_once(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows(3))
    of = view()
    store.apply([of])
    store.materialize()
    roles = [
        of.with_name(f"role_{number}").with_join_key_map({"k": f"k{number % 3}"})
        for number in range(9)
    ]
    table = spine(1).rename_columns(["k0", "event_timestamp"])
    table = table.append_column("k1", pa.array([2])).append_column("k2", pa.array([99]))
    found = store.get_historical_features(table, roles, full_feature_names=True).to_arrow()
    expected = [[1.0], [2.0], [None]] * 3
    assert [column.to_pylist() for column in found.columns[4:]] == expected
    keys = {f"k{number}": found[f"k{number}"].to_pylist() for number in range(3)}
    served = store.get_online_features(roles, keys, full_feature_names=True).to_dict()
    assert [served[f"role_{number}__x"] for number in range(9)] == expected

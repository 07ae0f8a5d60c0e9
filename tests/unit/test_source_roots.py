"""Sources are read only below the folders that whoever runs the process names."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from featurestore import NotNull
from featurestore.errors import FeatureStoreError, SourceOutsideRootsError
from featurestore.store import FeatureStore
from featurestore.training.spine import sql
from tests.unit.projects import LATER, UTC_US, rows, view, write

SPINE = pa.table({"k": [1], "event_timestamp": pa.array([LATER], UTC_US)})


def _train(store: FeatureStore) -> object:
    return store.get_historical_features(SPINE, ["reading:x"]).to_arrow()["x"].to_pylist()


def _push(store: FeatureStore) -> object:
    return store.push("reading", rows(1), append=True).written


def _profile(store: FeatureStore) -> object:
    return store.profile("reading").rows, store.profile("readings").rows


def _validate(store: FeatureStore) -> object:
    return store.validate().broken


DOINGS: dict[str, tuple[Callable[[FeatureStore], object], object]] = {
    "a training set": (_train, [1.0]),
    "a push": (_push, 1),
    "a profile": (_profile, (1, 1)),
    "a check": (_validate, ()),
}


def _store(repository: Path, path: str, roots: list[Path] | None) -> FeatureStore:
    settings = {"project": "p", "clock": "2024-06-01T00:00:00Z", "online_store": "memory"}
    store = FeatureStore(repository, config=settings, source_roots=roots)
    store.apply([view(path, contract=[NotNull("x")])])
    return store


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    write(tmp_path / "lake/data/first.parquet", rows(1))
    (tmp_path / "repository").mkdir()
    return tmp_path / "lake"


@pytest.mark.parametrize("doing", DOINGS)
@pytest.mark.parametrize("roots", [None, [".", "../lake"], ["../lake/data"]])
def test_a_source_below_a_root_is_read(doing: str, roots: list[str] | None, lake: Path) -> None:
    act, expected = DOINGS[doing]
    folders = None if roots is None else list(map(Path, roots))
    with _store(lake.parent / "repository", str(lake / "data"), folders) as store:
        assert act(store) == expected


@pytest.mark.parametrize("doing", DOINGS)
@pytest.mark.parametrize("roots", [[], ["."], ["../lake/other"], ["../lake/dat"]])
def test_a_source_elsewhere_is_refused_without_its_path(
    doing: str, roots: list[str], lake: Path
) -> None:
    act, _ = DOINGS[doing]
    with _store(lake.parent / "repository", str(lake / "data"), list(map(Path, roots))) as store:
        with pytest.raises(SourceOutsideRootsError) as caught:
            act(store)
        assert caught.value.source == "readings"
        assert "lake" not in str(caught.value)


@pytest.mark.parametrize("doing", DOINGS)
def test_a_link_does_not_lead_out_of_the_roots(doing: str, lake: Path) -> None:
    act, _ = DOINGS[doing]
    inside = lake.parent / "repository/data"
    inside.mkdir()
    (inside / "linked.parquet").symlink_to(lake / "data/first.parquet")
    with (
        _store(lake.parent / "repository", "data", [Path()]) as store,
        pytest.raises(SourceOutsideRootsError),
    ):
        act(store)


def test_a_spine_in_sql_does_not_find_a_source_elsewhere(lake: Path) -> None:
    spine = sql("SELECT k, t AS event_timestamp FROM readings")
    write(lake.parent / "repository/own.parquet", rows(1))
    with _store(lake.parent / "repository", str(lake / "data"), [Path()]) as store:
        own = view("own.parquet", reads={"name": "own"}, name="own")
        store.apply([own])
        with pytest.raises(FeatureStoreError, match="readings"):
            store.get_historical_features(spine, ["own:x"])

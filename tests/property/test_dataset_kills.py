"""kill -9 at each step of building a dataset: there is a whole one, or none."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurestore.datasets.steps import Step
from featurestore.materialize.failpoints import arm
from featurestore.store import FeatureStore
from tests.forks import in_a_process
from tests.property.dying import Death, arrange
from tests.unit.projects import FILE, project, rows, spine, view, write

FEATURES = ["reading:x"]
IS_WHOLE = (Step.RENAMED, Step.RECORDED)


def build(folder: Path, death: Death | None) -> None:
    """Create a dataset, unless something prevents that."""
    with project(folder) as store:
        if death is not None:
            arrange(death)
        make(store)


def make(store: FeatureStore) -> int:
    """Create the next version, and return which it is."""
    job = store.get_historical_features(spine(1, 2, 9), FEATURES)
    return store.create_dataset("train", job).version


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write(tmp_path / FILE, rows(5))
    with project(tmp_path) as store:
        store.apply([view()])
    return tmp_path


@pytest.mark.parametrize("step", Step)
def test_a_build_that_is_killed_at_a_step_leaves_a_whole_dataset_or_none(
    repository: Path, step: Step
) -> None:
    death = Death(point=step)
    assert in_a_process(build, repository, death) == -signal.SIGKILL, "the step was not taken"
    folder = repository / "data/datasets/plant/train"
    left = [path.name for path in folder.iterdir()]
    assert len(left) == 1, "the test is about what is left"
    with project(repository) as store:
        recorded = [record.version for record in store.list_datasets()]
        assert recorded == ([1] if step is Step.RECORDED else [])
        assert (left == ["v1"]) is (step in IS_WHOLE)
        if step is not Step.RECORDED:
            assert store.tidy_datasets() != []
        assert store.tidy_datasets() == []
        whole = [record.version for record in store.list_datasets()]
        assert whole == ([1] if step in IS_WHOLE else [])
        assert [path.name for path in folder.iterdir()] == [f"v{n}" for n in whole]
        assert all(store.verify_dataset("train", n, content=True).ok for n in whole)


@pytest.mark.parametrize("step", [Step.ROWS_WRITTEN, Step.ANNOUNCED, Step.RENAMED])
def test_the_next_build_tidies_up_by_itself(repository: Path, step: Step) -> None:
    for _ in range(2):
        assert in_a_process(build, repository, Death(point=step)) == -signal.SIGKILL
    with project(repository) as store:
        assert make(store) == (3 if step in IS_WHOLE else 1)
        versions = [record.version for record in store.list_datasets()]
        assert versions == ([1, 2, 3] if step in IS_WHOLE else [1])
        folder = repository / "data/datasets/plant/train"
        assert sorted(path.name for path in folder.iterdir()) == [f"v{n}" for n in versions]
        assert all(store.verify_dataset("train", n).ok for n in versions)


def test_a_folder_that_took_the_name_meanwhile_is_not_adopted(repository: Path) -> None:
    assert in_a_process(build, repository, Death(point=Step.RENAMED)) == -signal.SIGKILL
    manifest = repository / "data/datasets/plant/train/v1/manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(b"plant", b"plane", 1))
    with project(repository) as store:
        assert store.tidy_datasets() != []
        assert store.list_datasets() == []
        assert make(store) == 2


def test_what_is_being_built_is_left_alone(repository: Path) -> None:
    seen: list[list[str]] = []

    with project(repository) as store, project(repository) as other:
        arm(lambda _step: seen.append(other.tidy_datasets()))
        try:
            assert make(store) == 1
        finally:
            arm(None)
        assert [record.version for record in store.list_datasets()] == [1]
    assert len(seen) == len(Step)
    assert seen == [[]] * len(Step)


def test_processes_that_create_at_once_make_a_version_each(repository: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        codes = list(pool.map(lambda _: in_a_process(build, repository, None), range(3)))
    assert codes == [0, 0, 0]
    with project(repository) as store:
        assert [record.version for record in store.list_datasets()] == [1, 2, 3]
        assert all(store.verify_dataset("train", n).ok for n in (1, 2, 3))

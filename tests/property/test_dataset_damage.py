"""Whatever is changed in a dataset's files, verification finds it."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import FeatureStore
from featurestore.datasets.dataset import Dataset
from tests.unit.projects import FILE, project, rows, spine, view, write


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FeatureStore, Dataset, Path]]:
    """Yield a store, a dataset, and a copy of its files."""
    root = tmp_path_factory.mktemp("kept")
    write(root / FILE, rows(50))
    with project(root) as store:
        store.apply([view()])
        job = store.get_historical_features(spine(*range(60)), ["reading:x"])
        made = store.create_dataset("train", job)
        copy = Path(shutil.copytree(made.path, root / "copy"))
        yield store, made, copy


def faults(store: FeatureStore) -> int:
    """Return how many faults are found."""
    return len(store.verify_dataset("train").faults)


@given(st.sampled_from(["manifest.json", "part-00001.parquet"]), st.floats(0, 1), st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found(
    kept: tuple[FeatureStore, Dataset, Path], name: str, where: float, bit: int
) -> None:
    store, made, copy = kept
    content = bytearray((copy / name).read_bytes())
    content[min(int(where * len(content)), len(content) - 1)] ^= 1 << bit
    with changed(made.path / name, bytes(content)):
        assert faults(store) >= 1
    assert faults(store) == 0


@given(st.sampled_from(["manifest.json", "part-00001.parquet"]), st.integers(0, 2**32))
def test_a_file_that_is_cut_or_grew_or_is_mixed_up_is_found(
    kept: tuple[FeatureStore, Dataset, Path], name: str, seed: int
) -> None:
    store, made, copy = kept
    draw = random.Random(seed)  # noqa: S311
    content = (copy / name).read_bytes()
    at, other = sorted(draw.sample(range(len(content)), 2))
    for wrong in (
        content[:at],
        content[at + 1 :],
        content[:at] + content[at + 1 :],
        content + draw.randbytes(draw.randint(1, 9)),
        content[other:] + content[:other],
        b"",
    ):
        with changed(made.path / name, wrong):
            assert faults(store) >= 1, wrong
    assert faults(store) == 0


class changed:  # noqa: N801 - reads as a statement
    """Has other content in a file while the block lasts."""

    def __init__(self, file: Path, content: bytes) -> None:
        self._file, self._content = file, content

    def __enter__(self) -> None:
        self._before = self._file.read_bytes()
        self._file.chmod(0o644)
        self._file.write_bytes(self._content)

    def __exit__(self, *_error: object) -> None:
        self._file.write_bytes(self._before)

"""Training sets beside those of Feast's DuckDB engine, row by row, on random repositories.

Feast runs in an environment of its own, made from pinned requirements when it is first needed. It
is not part of `make test`: run `make differential`. DIFFERENTIAL_CASES and DIFFERENTIAL_SEED choose
other repositories.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow.parquet as pq
import pytest

from benchmarks.peers.environment import python_of
from featurestore import FeatureStore
from tests.differential.differences import DIFFERENCES, MODES, REFUSALS, compared, refusal
from tests.differential.repositories import Case, draw

if TYPE_CHECKING:
    import pyarrow as pa

    from featurestore.offline.engine import Mode

pytestmark = pytest.mark.differential

CASES: Final = int(os.environ.get("DIFFERENTIAL_CASES", "150"))
SEED: Final = int(os.environ.get("DIFFERENTIAL_SEED", "0"))
WORKER: Final = Path(__file__).parent / "feast_worker.py"


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    """How often each known difference was seen."""
    return Counter()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases with Feast's answers, which one process gives."""
    root = tmp_path_factory.mktemp("differential") / "cases"
    root.mkdir()
    for number in range(CASES):
        draw(SEED + number).write(root / f"{number:05}")
    command = [str(python_of("feast")), "-W", "ignore", str(WORKER), str(root)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-5_000:]
    return root


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize("number", range(CASES))
def test_feast_answers_as_we_do_or_for_a_known_reason(
    number: int, engine: str, folder: Path, seen: Counter[str]
) -> None:
    case, lies_in = draw(SEED + number), folder / f"{number:05}"
    for mode in MODES:
        if (error := lies_in / f"feast-{mode}.txt").exists():
            reason = refusal(case, error.read_text())
            assert reason is not None, error.read_text()
            seen[reason] += 1
        elif (answer := lies_in / f"feast-{mode}.parquet").exists():
            found = list(
                compared(case, mode, _ours(case, lies_in, engine, mode), pq.read_table(answer))
            )
            unknown = [difference for difference in found if difference not in DIFFERENCES]
            assert unknown == []
            seen.update(found)


def _ours(case: Case, folder: Path, engine: str, mode: Mode) -> pa.Table:
    config = {"project": "differential", "offline_store": engine, "online_store": "memory"}
    with FeatureStore(folder, config=config) as store:
        views = case.definitions()
        store.apply(views)
        job = store.get_historical_features(
            case.spine, list(views), full_feature_names=True, mode=mode
        )
        return job.to_arrow()


@pytest.mark.skipif(CASES < 100, reason="few repositories need not show every difference")
def test_every_known_difference_was_seen(seen: Counter[str]) -> None:
    """A reason that never occurs hides what it was not meant for."""
    assert {*DIFFERENCES, *REFUSALS} <= seen.keys()

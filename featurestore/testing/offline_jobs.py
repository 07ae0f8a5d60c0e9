"""What every offline engine promises about long jobs: they tell how far they are, and can end."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from featurestore.errors import JobCancelledError
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.scan import open_scan
from featurestore.registry.state import RegistryState
from featurestore.testing.offline_cases import crowded_history, crowded_spine
from featurestore.training.job import RetrievalJob
from featurestore.training.retrieve import retrieve
from featurestore.training.watch import Progress

ROWS = 2_000
USERS = 300


class JobConformance:
    """Progress and interruption."""

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        crowded_history(rows=ROWS, users=USERS).write(tmp_path, row_group_rows=200)
        return tmp_path

    def test_a_job_tells_of_all_rows_read_and_joined(
        self, engine: OfflineEngine, root: Path
    ) -> None:
        told: list[tuple[str, int, int]] = []
        self._job(engine, root, lambda *step: told.append(step)).to_arrow()
        whole = {what for what, done, total in told if done == total > 0}
        assert whole == {"profile: reading", "joining"}
        assert all(0 <= done <= total for _, done, total in told)

    def test_a_job_that_is_cancelled_has_no_result(self, engine: OfflineEngine, root: Path) -> None:
        job = self._job(engine, root, lambda *_: job.cancel())
        with pytest.raises(JobCancelledError):
            job.to_arrow()
        with pytest.raises(JobCancelledError):
            next(job.to_batches())

    def test_a_reader_that_does_nothing_can_be_interrupted_without_harm(
        self, engine: OfflineEngine, root: Path
    ) -> None:
        of = crowded_history(rows=ROWS, users=USERS)
        keys = _wanted([1])
        with engine.reader(open_scan(of.view, of.view.feature_names, root)) as reader:
            assert reader.progress() is None
            reader.interrupt()
            batches = list(reader.rows(keys, from_us=None, until_us=2**60))
            ordinals = np.sort(np.concatenate([batch["o"].to_numpy() for batch in batches]))
            assert reader.progress() is None
            reader.interrupt()
            found = [batch.num_rows for batch in reader.features(ordinals)]
            assert sum(found) == len(ordinals) > 0
        reader.interrupt()
        assert reader.progress() is None

    def test_a_reader_that_is_interrupted_ends(self, engine: OfflineEngine, root: Path) -> None:
        """Whoever interrupts does so again and again; rows that are on their way may still come."""
        of = crowded_history(rows=ROWS, users=USERS)
        keys = _wanted(range(USERS))
        count = 0
        with engine.reader(open_scan(of.view, of.view.feature_names, root)) as reader:
            try:
                for batch in reader.rows(keys, from_us=None, until_us=2**60):
                    count += batch.num_rows
                    reader.interrupt()
            except JobCancelledError:
                assert count <= ROWS
            else:
                assert count == ROWS

    @staticmethod
    def _job(engine: OfflineEngine, root: Path, progress: Progress) -> RetrievalJob:
        return retrieve(
            entity_df=crowded_spine(rows=500, users=USERS).to_arrow(),
            features=[crowded_history(rows=2, users=1).view],
            state=RegistryState(project="conformance"),
            engine=engine,
            root=root,
            full_feature_names=False,
            timestamp_field="event_timestamp",
            timezone="UTC",
            mode="complete",
            progress=progress,
        )


def _wanted(users: Sequence[int]) -> pa.Table:
    """Return users as the keys of a reader, each at any time."""
    groups = pa.array(range(len(users)), pa.int32())
    until = pa.array([2**60] * len(users), pa.int64())
    return pa.table({"g": groups, "k0": pa.array(users, pa.int64()), "until": until})

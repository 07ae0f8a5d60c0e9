"""A source that is read in parts of time, from the newest, has the oracle's answers."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import SourceError
from featurestore.offline import row_spans
from featurestore.offline.as_of import explain, winners
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine, RowFilter, ScanReader
from featurestore.offline.polars import PolarsEngine
from featurestore.offline.row_spans import newest_first
from featurestore.offline.scan import open_scan
from featurestore.offline.spine_keys import number_keys
from featurestore.testing.offline_cases import DAY, check_training_sets, history, training_set
from featurestore.testing.strategies import TrainingCase, training_cases
from featurestore.testing.text_tables import read_table

ENGINES = [DuckDBEngine(threads=2), PolarsEngine(threads=2)]


@pytest.fixture(autouse=True)
def every_row_is_a_part() -> Iterator[None]:
    with patch.object(row_spans, "SLICE_ROWS", 1):
        yield


@settings(max_examples=max(40, settings().max_examples))
@given(case=training_cases(), engine=st.sampled_from(ENGINES))
def test_a_training_set_is_the_oracles_in_parts_of_time(
    case: TrainingCase, engine: OfflineEngine
) -> None:
    check_training_sets([engine], case, row_group_rows=1)


ROWS = """
user_id: int64 | at: time | score: float64
1              | 10:00    | 1.0
2              | 10:01    | 2.0
1              | 10:02    | 3.0
3              | 10:03    | 4.0
2              | 10:04    | 5.0
1              | 10:05    | 6.0
"""
SPINE = """
user_id: int64 | event_timestamp: time
1              | 10:04
1              | 10:05
2              | 10:03
"""


class _Recording:
    """A reader that remembers how many keys it was asked for."""

    def __init__(self, reader: ScanReader) -> None:
        self._reader = reader
        self.asked: list[int] = []

    def rows(self, keys: pa.Table, **span: Any) -> Iterator[pa.RecordBatch]:
        self.asked.append(keys.num_rows)
        return self._reader.rows(keys, **span)


@pytest.mark.parametrize(
    ("spine", "asked"),
    [(SPINE, [1, 1, 2, 2, 1]), (f"{SPINE}4 | 10:05\n", [2, 2, 3, 3, 2, 1])],
    ids=["all are answered", "a key is nowhere"],
)
@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_a_part_is_read_for_keys_that_newer_rows_did_not_answer(
    engine: OfflineEngine, spine: str, asked: list[int], tmp_path: Path
) -> None:
    of = history(ROWS)
    of.write(tmp_path, row_group_rows=1)
    scan = open_scan(of.view, of.view.feature_names, tmp_path)
    rows = read_table(spine, day=DAY).to_arrow()
    keyed = pa.table({"q": rows["event_timestamp"].cast(pa.int64()), "k0": rows["user_id"]})
    keys = number_keys(keyed)
    with engine.reader(scan) as reader:
        recording: Any = _Recording(reader)
        found = winners(engine, recording, scan, keys, ttl_us=None, mode="complete")
    assert found.tolist() == [2, 5, 1, -1][: rows.num_rows]
    assert recording.asked == asked
    assert "in 6 parts of time, the newest first" in explain(engine, scan, keys, ttl_us=None)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_progress_counts_the_rows_of_each_part_once(engine: OfflineEngine, tmp_path: Path) -> None:
    of = history(ROWS)
    of.write(tmp_path, row_group_rows=1)
    spine = read_table(f"{SPINE}4 | 10:05\n", day=DAY)
    case = TrainingCase(history=of, spine=spine, timezone="UTC", mode="complete")
    told: list[tuple[str, int, int]] = []
    training_set(engine, case, root=tmp_path, progress=lambda *step: told.append(step))
    read = [(done, total) for what, done, total in told if what == "profile: reading"]
    assert {total for _, total in read} == {6}
    assert [done for done, _ in read] == sorted(done for done, _ in read)
    assert {done for done, _ in read} >= {1, 2, 3, 4, 5, 6}


def test_rows_that_are_all_looked_at_are_read_in_one_part(tmp_path: Path) -> None:
    """A filter is decided for every row, which no statistics can spare."""
    of = history(ROWS, transform="SELECT score FROM source WHERE score > 0")
    of.write(tmp_path, row_group_rows=1)
    scan = open_scan(of.view, of.view.feature_names, tmp_path)
    assert list(newest_first(scan.spans, None, 2**60)) == [(None, 2**60)]


def test_a_time_that_only_old_rows_could_answer_keeps_no_other_from_its_own() -> None:
    spine = read_table(
        "user_id: int64 | event_timestamp: time\n2 | 10:01\n2 | 12:00\n1 | 10:03", day=DAY
    )
    of = history(ROWS, ttl="1m")
    case = TrainingCase(history=of, spine=spine, timezone="UTC", mode="complete")
    check_training_sets(ENGINES, case, row_group_rows=1)


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_row_groups_outside_of_the_span_are_not_read(engine: OfflineEngine, tmp_path: Path) -> None:
    """What is broken there is noticed by nobody who does not need it."""
    rows = 5_000
    seconds = np.arange(4 * rows, dtype=np.int64) * 1_000_000
    table = pa.table(
        {
            "user_id": np.arange(4 * rows) % 7,
            "at": pa.array(seconds, pa.timestamp("us", "UTC")),
            "score": np.random.default_rng(7).random(4 * rows),
        }
    )
    of = history(ROWS)
    path = tmp_path / "data" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(table, path, row_group_size=rows, compression="none", use_dictionary=False)
    column = pq.read_metadata(path).row_group(1).column(0)
    content = bytearray(path.read_bytes())
    first = column.data_page_offset
    content[first : first + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    scan = open_scan(of.view, of.view.feature_names, tmp_path)
    keys = pa.table(
        {"g": pa.array([0], pa.int32()), "k0": [3], "until": [int(seconds[-1])]},
    )

    def read(first_us: int, last_us: int) -> int:
        with engine.reader(scan) as reader:
            batches = reader.rows(keys, from_us=first_us, until_us=last_us)
            return sum(batch.num_rows for batch in batches)

    def newest(first_us: int, last_us: int) -> int:
        wanted = RowFilter(after_us=first_us - 1, until_us=last_us)
        with closing(engine.latest(scan, wanted)) as latest:
            return sum(batch.num_rows for batch in latest.batches(100))

    assert read(int(seconds[2 * rows]), int(seconds[-1])) == 2 * rows // 7
    assert read(0, int(seconds[rows - 1])) > 0
    with pytest.raises(SourceError):
        read(0, int(seconds[rows]))
    assert newest(int(seconds[2 * rows]), int(seconds[-1])) == 7
    assert newest(0, int(seconds[rows - 1]) - 1) == 7
    with pytest.raises(SourceError):
        newest(0, int(seconds[rows]))


def test_duckdb_opens_only_files_that_reach_into_the_span(tmp_path: Path) -> None:
    header, *rows = ROWS.strip().splitlines()
    halves = {"a.parquet": rows[:3], "b.parquet": rows[3:]}
    of = history({path: "\n".join([header, *half]) for path, half in halves.items()})
    of.write(tmp_path)
    scan = open_scan(of.view, of.view.feature_names, tmp_path)
    start = int(
        read_table(SPINE, day=DAY).to_arrow()["event_timestamp"].cast(pa.int64())[0].as_py()
    )
    minute = 60_000_000
    keys = pa.table({"g": pa.array([0], pa.int32()), "k0": [1], "until": [start + 99 * minute]})

    def opened(first: int, last: int) -> tuple[set[str], list[int]]:
        with ENGINES[0].reader(scan) as reader:
            span: Any = {"from_us": start + first * minute, "until_us": start + last * minute}
            text = reader.explain(keys, **span).split(";")[0]
            found = [o for batch in reader.rows(keys, **span) for o in batch["o"].to_pylist()]
        files = text[text.index("read_parquet") :]
        return {name for name in halves if name in files}, [o & 0xFF for o in found]

    assert opened(1, 60) == ({"b.parquet"}, [2])
    assert opened(-60, -2) == ({"a.parquet"}, [0, 2])
    assert sorted(opened(-60, 60)[0]) == ["a.parquet", "b.parquet"]
    files, found = opened(60, 90)
    assert (len(files), found) == (1, [])

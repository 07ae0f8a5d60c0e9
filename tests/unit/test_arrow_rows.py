"""Sources read by Arrow: row groups, batches, ordinals, chosen rows."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore.definitions import Entity, FeatureView, Field, FileSource
from featurestore.offline.arrow_rows import BATCH_ROWS, ArrowRows
from featurestore.offline.duckdb import DuckDBEngine
from featurestore.offline.engine import OfflineEngine, RowFilter
from featurestore.offline.polars import PolarsEngine
from featurestore.offline.scan import SourceScan, open_scan
from featurestore.types import Int64

ROWS = 2 * BATCH_ROWS + 7
"""More than two batches of one row group."""


@pytest.fixture
def scan(tmp_path: Path) -> SourceScan:
    """Two files: one of a single row group of several batches, and one of small row groups.

    The key of a row is its number over both files, and so is its feature.
    """
    files = [("a", 0, ROWS, ROWS), ("b", ROWS, 1_000, 300), ("empty", 0, 0, 1)]
    for name, first, count, group in files:
        numbers = pa.array(np.arange(first, first + count))
        times = numbers.cast(pa.timestamp("us", tz="UTC"))
        table = pa.table({"k": numbers, "t": times, "x": numbers})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=group)
    view = FeatureView(
        name="numbers",
        entities=[Entity(name="one", join_keys={"k": Int64})],
        source=FileSource(name="files", path="*.parquet", timestamp_field="t"),
        schema=[Field(name="x", dtype=Int64)],
    )
    return open_scan(view, ["x"], tmp_path)


def test_rows_come_in_batches_with_their_ordinals(scan: SourceScan) -> None:
    rows = ArrowRows(scan)
    batches = [b for piece in rows.pieces for b in rows.read(piece, ["o", "k0"])]
    sizes = [batch.num_rows for batch in batches]
    assert sizes == [BATCH_ROWS, BATCH_ROWS, 7, 300, 300, 300, 100]
    table = pa.Table.from_batches(batches)
    ordinals = table["o"].to_numpy()
    assert (np.diff(ordinals) > 0).all()
    assert table["k0"].to_pylist() == list(range(ROWS + 1_000))
    assert ordinals[ROWS] - ordinals[ROWS - 1] > 2**39  # another file


def test_chosen_rows_are_found_wherever_batches_end(scan: SourceScan) -> None:
    rows = ArrowRows(scan)
    everything = pa.Table.from_batches(
        b for piece in rows.pieces for b in rows.read(piece, ["o", "f0"])
    )
    numbers = [0, BATCH_ROWS - 1, BATCH_ROWS, 2 * BATCH_ROWS + 6, ROWS, ROWS + 299, ROWS + 999]
    chosen = everything["o"].to_numpy()[numbers]
    engine = PolarsEngine(threads=2)
    with engine.reader(scan) as reader:
        found = pa.Table.from_batches(reader.features(chosen))
        assert not list(reader.features(chosen[:0]))
    assert sorted(found["n"].to_pylist()) == list(range(len(numbers)))
    assert found.sort_by("n")["f0"].to_pylist() == numbers


def test_newest_rows_keep_their_features_over_all_batches(scan: SourceScan) -> None:
    latest = PolarsEngine(threads=2).latest(scan, RowFilter(until_us=2**60))
    batches = list(latest.batches(10_000))
    latest.close()
    assert max(batch.num_rows for batch in batches) == 10_000
    table = pa.Table.from_batches(batches).sort_by("k0")
    assert table.num_rows == latest.summary.entities == ROWS + 1_000
    for name in ("k0", "e", "f0"):
        assert table[name].to_pylist() == list(range(ROWS + 1_000))


def test_reading_may_stop_early(scan: SourceScan) -> None:
    engine = PolarsEngine(threads=2)
    numbers = np.arange(ROWS)
    groups = pa.array(numbers, pa.int32())
    keys = pa.table({"g": groups, "k0": numbers, "until": np.full(ROWS, 2**60)})
    with engine.reader(scan) as reader:
        rows = reader.rows(keys, from_us=None, until_us=2**60)
        first = next(rows)
        rows.close()  # type: ignore[attr-defined]
        assert first.num_rows > 0
        again = pa.Table.from_batches(reader.rows(keys, ["f0"], from_us=5, until_us=9))
    assert sorted(again["f0"].to_pylist()) == [5, 6, 7, 8, 9]


@pytest.mark.parametrize("engine", [DuckDBEngine(threads=2), PolarsEngine(threads=2)])
def test_rows_outside_the_times_of_their_own_key_are_left_out(
    engine: OfflineEngine, scan: SourceScan
) -> None:
    """The key of a row is its time, so that each key's bounds let its row through or do not."""
    keys = pa.table(
        {
            "g": pa.array([0, 1, 2, 3], pa.int32()),
            "k0": [10, 20, 30, 40],
            "until": [10, 19, 2**63 - 1, 2**63 - 1],
            "since": [-(2**63), -(2**63), 30, 41],
        }
    )
    with engine.reader(scan) as reader:

        def times(*dropped: str, from_us: int | None = None, until_us: int = 2**60) -> list[int]:
            rows = reader.rows(keys.drop([*dropped]), from_us=from_us, until_us=until_us)
            return sorted(e for batch in rows for e in batch["e"].to_pylist())

        assert times() == [10, 30]
        assert times("since") == [10, 30, 40]
        assert times("until") == [10, 20, 30]
        assert times("until", "since") == [10, 20, 30, 40]
        assert times("until", "since", from_us=20, until_us=30) == [20, 30]
        assert times("until", "since", from_us=21, until_us=29) == []


LAST = 2**63 - 1


@pytest.mark.parametrize("engine", [DuckDBEngine(threads=2), PolarsEngine(threads=2)])
@pytest.mark.parametrize(
    ("written", "zone"),
    [
        (pa.timestamp("us", "UTC"), "UTC"),
        (pa.timestamp("us", "UTC"), "Asia/Tokyo"),
        (pa.timestamp("us"), "UTC"),
        (pa.timestamp("us"), "Asia/Tokyo"),
        (pa.timestamp("ms", "UTC"), "UTC"),
        (pa.timestamp("ns", "UTC"), "UTC"),
        (pa.timestamp("ns"), "UTC"),
    ],
    ids=str,
)
def test_a_span_of_time_ends_to_the_microsecond(
    engine: OfflineEngine, tmp_path: Path, written: pa.DataType, zone: str
) -> None:
    """However times are written: exactly the rows inside come, also of times "for ever"."""
    per = {"ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}[written.unit]
    hours = 9 if zone == "Asia/Tokyo" and written.tz is None else 0
    middle = 1_700_000_000_000_000 * per[1] // per[0]
    raw = [middle + by for by in (-1_001, -1_000, -999, -1, 0, 1, 999, 1_000, 1_001)]
    raw += [-LAST, LAST] if written.unit == "us" and not hours else []
    instants = [-(-number * per[0] // per[1]) - hours * 3_600_000_000 for number in raw]
    times = pa.array(raw, pa.int64()).cast(written)
    table = pa.table({"k": range(len(raw)), "t": times, "x": range(len(raw))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3)
    source = FileSource(name="files", path="*.parquet", timestamp_field="t", timezone=zone)
    view = FeatureView(
        name="numbers",
        entities=[Entity(name="one", join_keys={"k": Int64})],
        source=source,
        schema=[Field(name="x", dtype=Int64)],
    )
    keys = pa.table({"g": pa.array(range(len(raw)), pa.int32()), "k0": range(len(raw))})
    at = 1_700_000_000_000_000 - hours * 3_600_000_000
    ends = [at + by for by in (-1_000_000, -1, 0, 1, 1_000)]
    # Every end by itself, each span of one microsecond, and those from one end to the next.
    spans: list[tuple[int | None, int]] = [(None, end) for end in (*ends, 2**62)]
    spans += [(end, 2**62) for end in ends]
    spans += [*zip(ends, ends, strict=True), *itertools.pairwise(ends)]
    with engine.reader(open_scan(view, ["x"], tmp_path)) as reader:
        for first, last in spans:
            rows = reader.rows(keys, from_us=first, until_us=last)
            found = sorted(e for batch in rows for e in batch["e"].to_pylist())
            since = -LAST if first is None else first
            assert found == sorted(us for us in instants if since <= us <= last)

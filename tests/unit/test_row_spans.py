"""Where in time row groups lie, and the parts of time that a source is read in."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.offline import row_spans
from featurestore.offline.row_spans import (
    RowSpan,
    margin_us,
    newest_first,
    reaches,
    rows_within,
    time_spans,
)

SECOND = 1_000_000


def _spans(path: Path, table: pa.Table, **options: Any) -> dict[str, tuple[RowSpan, ...]]:
    pq.write_table(table, path / "t.parquet", row_group_size=2, **options)
    metadata = pq.read_metadata(path / "t.parquet")
    return time_spans(metadata, metadata.schema.to_arrow_schema())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_spans_are_microseconds_whatever_a_file_counts_in(
    tmp_path: Path, unit: str, zone: str | None
) -> None:
    per_second = {"s": 1, "ms": 1_000, "us": SECOND, "ns": 1_000 * SECOND}[unit]
    times = pa.array([5, -3, None, 7, None, None], pa.int64())
    scaled = pa.compute.multiply(times, per_second).cast(pa.timestamp(unit, zone))
    table = pa.table({"at": scaled, "number": times})
    assert _spans(tmp_path, table.slice(0, 4)) == {
        "at": (RowSpan(2, -3 * SECOND, 5 * SECOND), RowSpan(2, 7 * SECOND, 7 * SECOND))
    }
    assert _spans(tmp_path, table) == {}, "of the last row group nothing is known"


def test_a_column_without_statistics_has_no_spans(tmp_path: Path) -> None:
    table = pa.table({"at": pa.array([1, 2, 3], pa.timestamp("us"))})
    assert _spans(tmp_path, table, write_statistics=False) == {}
    assert _spans(tmp_path, table, use_deprecated_int96_timestamps=True) == {}


def test_a_column_inside_another_is_not_taken_for_one_of_its_name(tmp_path: Path) -> None:
    inner = pa.array([{"at": 1}, {"at": 2}], pa.struct([("at", pa.timestamp("us"))]))
    outer = pa.array([8, 9], pa.timestamp("us"))
    assert _spans(tmp_path, pa.table({"a": inner})) == {}
    assert _spans(tmp_path, pa.table({"a": inner, "a.at": outer})) == {}
    assert _spans(tmp_path, pa.table({"a.at": outer, "a": inner})) == {}
    assert _spans(tmp_path, pa.table({"a.at": outer})) == {"a.at": (RowSpan(2, 8, 9),)}


def test_a_row_group_reaches_into_a_span_up_to_its_very_ends() -> None:
    span = RowSpan(1, 10, 20)
    assert reaches(span, 20, 30)
    assert not reaches(span, 21, 30)
    assert reaches(span, 0, 10)
    assert not reaches(span, 0, 9)
    assert reaches(span, 21, 30, margin=1)
    assert reaches(span, 0, 9, margin=1)
    assert reaches(span, None, None)
    assert rows_within([span, RowSpan(5, 15, 40)], 21, None) == 5


def test_local_times_may_be_days_from_their_instants() -> None:
    assert margin_us(pa.timestamp("ns"), "UTC") == 1
    assert margin_us(pa.timestamp("ns", "Asia/Tokyo"), "Asia/Tokyo") == 1
    assert margin_us(pa.timestamp("us", "Asia/Tokyo"), "Asia/Tokyo") == 0
    assert margin_us(pa.timestamp("ms"), "UTC") == 0
    assert margin_us(pa.timestamp("us"), "Pacific/Kiritimati") >= 26 * 3_600 * SECOND


def _in_order(count: int, rows: int) -> list[RowSpan]:
    return [RowSpan(rows, 100 * n, 100 * n + 99) for n in range(count)]


def test_a_history_in_order_is_read_in_parts_from_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(row_spans, "SLICE_ROWS", 20)
    spans = _in_order(6, 10)
    assert list(newest_first(spans, None, 1_000)) == [(400, 1_000), (200, 399), (None, 199)]
    assert list(newest_first(spans[::-1], None, 1_000)) == list(newest_first(spans, None, 1_000))
    assert list(newest_first(spans, 250, 450)) == [(400, 450), (250, 399)]
    assert list(newest_first(spans, 400, 450)) == [(400, 450)]
    assert list(newest_first(spans, None, 100)) == [(None, 100)]


def test_there_are_a_few_parts_however_long_a_history_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_spans, "SLICE_ROWS", 10)
    assert len(list(newest_first(_in_order(1_000, 10), None, 10**6))) == row_spans.SLICES


@pytest.mark.parametrize(
    "spans",
    [
        None,
        [],
        [RowSpan(10**7, 0, 1_000)] * 4,
        [*_in_order(6, 10**6), *_in_order(6, 10**6), RowSpan(10**7, 0, 600)],
        _in_order(3, 100),
    ],
    ids=["unknown", "no rows", "not in order", "partly in order", "few rows"],
)
def test_else_there_is_one_part(spans: list[RowSpan] | None) -> None:
    assert list(newest_first(spans, None, 700)) == [(None, 700)]
    assert list(newest_first(spans, 3, 700)) == [(3, 700)]


@settings(max_examples=max(200, settings().max_examples))
@given(
    spans=st.lists(
        st.builds(
            lambda rows, first, length: RowSpan(rows, first, first + length),
            st.integers(1, 9),
            st.integers(-50, 50),
            st.integers(0, 20),
        )
    ),
    since=st.none() | st.integers(-60, 60),
    length=st.integers(0, 80),
)
def test_parts_are_the_whole_and_read_little_twice(
    spans: list[RowSpan], since: int | None, length: int
) -> None:
    until = (0 if since is None else since) + length
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_spans, "SLICE_ROWS", 3)
        parts = list(newest_first(spans, since, until))
    assert parts[0][1] == until
    assert parts[-1][0] == since
    for (newer, _), (_, older) in pairwise(parts):
        assert newer == older + 1
    assert all(first is None or first <= last for first, last in parts)
    read = sum(rows_within(spans, first, last) for first, last in parts)
    assert read <= max(1.25 * sum(span.rows for span in spans), rows_within(spans, since, until))

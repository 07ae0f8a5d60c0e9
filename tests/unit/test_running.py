"""Winners found while rows come by are those of looking at all rows at once."""

import mmap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import SourceError
from featurestore.offline import filled as filled_columns
from featurestore.offline.as_of import fetch, key_ranges
from featurestore.offline.filled import FilledColumns, WantedRows
from featurestore.offline.history import LOWEST
from featurestore.offline.running import RunningWinners
from featurestore.offline.scan_columns import ScanColumn
from featurestore.offline.spine_keys import number_keys
from featurestore.offline.timeline import NOBODY

GREATEST = 2**63 - 1
CLEAR_PEAK = Path("/proc/self/clear_refs")
times = st.sampled_from([LOWEST, LOWEST + 1, GREATEST]) | st.integers(-3, 3)
spines = st.lists(st.tuples(st.integers(0, 2), times), min_size=1, max_size=20)
# Of a row its key, its event time, its created time, and the batch that it comes with.
histories = st.lists(
    st.tuples(st.integers(0, 3), times, st.integers(-1, 1), st.integers(0, 3)), max_size=40
)


def _winner(question: tuple[int, int], history: list[tuple[Any, ...]], ttl_us: int | None) -> int:
    """Return the number of the row that answers, -1 for none."""
    key, time = question
    visible = [
        (event, created, number)
        for number, (own, event, created, _) in enumerate(history)
        if own == key and event <= time
    ]
    if not visible:
        return -1
    event, _, number = max(visible)
    return -1 if ttl_us is not None and event < time - ttl_us else number


@settings(max_examples=max(500, settings().max_examples))  # each takes a millisecond
@given(
    spine=spines,
    history=histories,
    ttl_us=st.none() | st.integers(0, 3),
    parts=st.integers(1, 3),
    shuffled=st.randoms(),
)
def test_winners_are_the_greatest_visible_rows_in_whatever_batches_they_come(
    spine: list[tuple[int, int]],
    history: list[tuple[int, int, int, int]],
    ttl_us: int | None,
    parts: int,
    shuffled: Any,
) -> None:
    if ttl_us is not None:  # a time less a ttl is a time
        spine = [(key, max(time, LOWEST + ttl_us)) for key, time in spine]
    columns = {"q": [time for _, time in spine], "k0": [key for key, _ in spine]}
    keys = number_keys(pa.table({n: pa.array(v, pa.int64()) for n, v in columns.items()}))
    group_of = {key: group for group, key in enumerate(keys.table["k0"].to_pylist())}
    last_of = {key: keys.places(range(g, g + 1)).stop - 1 for key, g in group_of.items()}
    running = RunningWinners(keys, versions=2)
    for batch in range(4):
        rows = [
            (last_of[key], event, created, number)
            for number, (key, event, created, of) in enumerate(history)
            if of == batch and key in last_of
        ]
        shuffled.shuffle(rows)
        table = np.array(rows, dtype=np.int64).reshape(len(rows), 4)
        lasts, *numbers = table.T
        running.add(lasts.astype(np.int32), [np.ascontiguousarray(each) for each in numbers])
    found = np.full(len(spine), -1)
    for some in key_ranges(range(keys.table.num_rows), parts):
        found[keys.rows[keys.places(some)]] = running.ordinals(some, ttl_us)
    assert found.tolist() == [_winner(question, history, ttl_us) for question in spine]


def test_what_asks_still_is_what_comes_before_the_first_time_with_a_row() -> None:
    asked = {"q": [10, 20, 30, 10, 20, 10], "k0": [1, 1, 1, 2, 2, 3]}
    keys = number_keys(pa.table({n: pa.array(v, pa.int64()) for n, v in asked.items()}))
    running = RunningWinners(keys, versions=1)
    assert running.unanswered().tolist() == keys.last_places.tolist() == [2, 4, 5]
    # Of key 1 between its first two times, of key 2 after both, of key 3 at its only one.
    running.add(np.array([2, 4, 5], dtype=np.int32), [np.array([15, 25, 10]), np.arange(3)])
    assert running.unanswered().tolist() == [0, 4]
    running.add(np.array([2], dtype=np.int32), [np.array([25]), np.array([3])])
    assert running.unanswered().tolist() == [0, 4]
    running.add(np.array([2, 4], dtype=np.int32), [np.array([5, 5]), np.array([4, 5])])
    assert running.unanswered().tolist() == []


def test_many_rows_at_one_place_in_falling_order_leave_the_greatest() -> None:
    keys = number_keys(pa.table({"q": pa.array([50], pa.int64()), "k0": pa.array([7], pa.int64())}))
    running = RunningWinners(keys, versions=1)
    events = np.arange(40, -40, -1)
    running.add(np.zeros(80, dtype=np.int32), [events, np.arange(80)])
    assert running.ordinals(range(1), None).tolist() == [0]


VALUES: dict[pa.DataType, list[Any]] = {
    pa.int8(): [1, None, -3],
    pa.uint64(): [2**64 - 1, None, 0],
    pa.float32(): [0.5, float("inf"), None],
    pa.bool_(): [True, None, False],
    pa.date32(): [1, None, 3],
    pa.timestamp("us", tz="UTC"): [-1, None, 2**50],
    pa.string(): ["a", None, ""],
    pa.list_(pa.int64()): [[1], None, []],
    pa.decimal128(5, 2): ["1.50", None, "-2.25"],
}


@pytest.mark.parametrize("dtype", VALUES, ids=str)
@pytest.mark.parametrize("asked", [[0, 1, 2], [2, 0], [1, 1, 0, 0, 2, 1], []], ids=str)
def test_values_go_to_their_places_whatever_their_type(
    dtype: pa.DataType, asked: list[int]
) -> None:
    raw = VALUES[dtype]
    values = pa.array(raw).cast(dtype) if pa.types.is_decimal(dtype) else pa.array(raw, dtype)
    places = [2 * number + 1 for number in range(len(asked))]
    ordinals = np.full(2 * len(asked) + 1, NOBODY)
    ordinals[places] = asked
    wanted = WantedRows(ordinals)
    assert wanted.ordinals.tolist() == sorted(set(asked))
    filled = FilledColumns([ScanColumn("f0", "f", "f", dtype)], ordinals == NOBODY)
    for number in reversed(range(len(wanted.ordinals))):  # in any order
        row = int(wanted.ordinals[number])
        batch = pa.record_batch([values.slice(row, 1)], names=["f0"])
        wanted.put(filled, batch, np.array([number]))
    table = filled.table(threads=2)
    table.validate(full=True)
    expected: list[Any] = [None] * table.num_rows
    for place, row in zip(places, asked, strict=True):
        expected[place] = values[row].as_py()
    assert table["f0"].type == dtype
    assert table["f0"].to_pylist() == expected


def test_many_columns_of_all_types_are_filled_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More columns than are held row by row together, and more rows than become columns at once."""
    monkeypatch.setattr(filled_columns, "_PIECE", mmap.PAGESIZE)  # else so few are not let go
    rng = np.random.default_rng(5)
    count, rows = 12_000, 30_000
    dtypes = [*VALUES, *VALUES, pa.int8(), pa.uint64(), pa.float32()]
    columns = [ScanColumn(f"f{n}", "f", "f", dtype) for n, dtype in enumerate(dtypes)]

    def drawn(dtype: pa.DataType) -> pa.Array:
        raw = VALUES.get(dtype, [1, None, 3])
        values = pa.array(raw).cast(dtype) if pa.types.is_decimal(dtype) else pa.array(raw, dtype)
        return values.take(pa.array(rng.integers(0, 3, count)))

    source = pa.table({column.alias: drawn(column.dtype) for column in columns})
    asked = rng.integers(0, count, 25_000)
    places = rng.permutation(rows)[: len(asked)]
    indices = np.full(rows, NOBODY)
    indices[places] = asked
    wanted = WantedRows(indices)
    filled = FilledColumns(columns, indices == NOBODY)
    numbers = rng.permutation(len(wanted.ordinals))
    for some in np.array_split(numbers, 7):
        batch = source.take(pa.array(wanted.ordinals[some])).combine_chunks().to_batches()[0]
        wanted.put(filled, batch, some)
    expected = source.take(pa.array(indices, mask=indices < 0))
    found = filled.table(threads=2)
    found.validate(full=True)
    assert found.schema == expected.schema
    assert found.equals(expected)


@pytest.mark.skipif(not CLEAR_PEAK.exists(), reason="the system does not tell peaks of memory")
def test_rows_are_let_go_while_columns_are_made_of_them() -> None:
    """How many rows are computed at once counts on it: else they would be there twice."""
    rows = 1_000_000
    columns = [ScanColumn(f"f{n}", "f", "f", pa.float64()) for n in range(8)]
    values = pa.array(np.random.default_rng(3).random(rows))
    filled = FilledColumns(columns, np.zeros(rows, dtype=bool))
    filled.put(pa.record_batch([values] * 8, [c.alias for c in columns]), np.arange(rows))
    CLEAR_PEAK.write_text("5")
    before = _memory_kb("VmRSS")
    found = filled.table(threads=1)
    assert all(column.chunk(0).equals(values) for column in found.columns)
    assert (_memory_kb("VmHWM") - before) * 1024 < found.nbytes / 2


def _memory_kb(what: str) -> int:
    lines = CLEAR_PEAK.with_name("status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def test_what_is_null_has_nothing_of_other_memory_beneath() -> None:
    filled = FilledColumns([ScanColumn("f0", "f", "f", pa.float64())], np.ones(1_000, dtype=bool))
    found = filled.table(threads=1)["f0"].combine_chunks()
    assert found.null_count == 1_000
    assert not any(found.buffers()[1].to_pybytes())


class _Forgetful:
    """A reader that has lost a row since it was asked for keys and times."""

    def features(self, ordinals: Any) -> Any:
        numbers = pa.array(range(len(ordinals) - 1), pa.int64())
        yield pa.record_batch([numbers, numbers], names=["n", "f0"])


def test_a_row_that_is_gone_is_no_null() -> None:
    scan: Any = SimpleNamespace(
        source=SimpleNamespace(name="payments"),
        features=[ScanColumn("f0", "f", "f", pa.int64())],
    )
    reader: Any = _Forgetful()
    assert fetch(reader, scan, np.array([-1, -1]), threads=1)["f0"].null_count == 2
    with pytest.raises(SourceError, match="'payments': 1 of the rows"):
        fetch(reader, scan, np.array([4, -1, 7, 4]), threads=1)

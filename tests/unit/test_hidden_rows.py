"""Windows with rows that had not been written yet: found by blocks, computed around the gaps."""

import math
from collections.abc import Callable, Sequence
from statistics import median, variance

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation
from featurestore.offline.windows import hidden, order_statistics
from featurestore.offline.windows.column import WindowColumn
from featurestore.offline.windows.hidden import Written
from featurestore.offline.windows.runs import Runs

Ints = npt.NDArray[np.int64]
Lateness = Callable[[np.random.Generator, int], Ints]
LATENESS: dict[str, Lateness] = {
    "never": lambda _r, n: np.zeros(n, dtype=np.int64),
    "the same for all": lambda _r, n: np.full(n, 40),
    "any": lambda r, n: r.integers(0, 2 * n, n),
    "few very late": lambda r, n: np.where(r.random(n) < 0.02, 10 * n, r.integers(0, 5, n)),
    "never written": lambda r, n: np.where(r.random(n) < 0.1, 2**62, 3),
}


def windows(random: np.random.Generator, size: int, count: int) -> tuple[Ints, Ints, Ints]:
    """Ranges that end about where their time stands, as windows do, and some that do not."""
    times = np.sort(random.integers(0, size + 1, count))
    high = np.where(random.random(count) < 0.9, times, random.integers(0, size + 1, count))
    low = np.maximum(0, high - random.choice([0, 1, 30, 70, 1_500], count))
    return low, high, times


def found(written: Written, low: Ints, high: Ints, times: Ints) -> list[list[int]]:
    """The places that each window may see, by the code under test."""
    lists: list[list[int]] = []
    for some, pieces in written.hidden(low, high, times):
        runs = pieces.rest(low[some], high[some])
        places, ends = runs.flat()
        lists += [part.tolist() for part in np.split(places, ends[:-1])]
    return lists


def expected(written: Ints, low: Ints, high: Ints, times: Ints) -> list[list[int]]:
    return [
        [int(n) for n in range(a, b) if written[n] <= t]
        for a, b, t in zip(low, high, times, strict=True)
    ]


@pytest.mark.parametrize("size", [1, 31, 32, 33, 1_024, 1_025, 3_000])
@pytest.mark.parametrize("lateness", LATENESS)
def test_what_was_written_by_then_is_found(lateness: str, size: int) -> None:
    random = np.random.default_rng(size)
    written = np.arange(size) + LATENESS[lateness](random, size)
    low, high, times = windows(random, size, 80)
    assert found(Written(written), low, high, times) == expected(written, low, high, times)


@pytest.mark.parametrize("size", [1, 32, 33, 1_025, 3_000])
@pytest.mark.parametrize("lateness", LATENESS)
def test_what_was_superseded_by_then_is_not_found(lateness: str, size: int) -> None:
    random = np.random.default_rng(size)
    written = np.arange(size) + LATENESS[lateness](random, size)
    never = 2**63 - 1
    until = np.where(random.random(size) < 0.3, written + random.integers(0, size, size), never)
    low, high, times = windows(random, size, 80)
    places = expected(written, low, high, times)
    counting = [[n for n in some if until[n] > t] for some, t in zip(places, times, strict=True)]
    assert found(Written(written, until), low, high, times) == counting


@pytest.mark.parametrize("most", [1, 40, 1_000])
def test_few_blocks_at_a_time_find_the_same(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(hidden, "BLOCKS_AT_ONCE", most)
    monkeypatch.setattr(hidden, "WINDOWS_AT_ONCE", 17)
    random = np.random.default_rng(most)
    written = np.arange(2_000) + LATENESS["any"](random, 2_000)
    low, high, times = windows(random, 2_000, 60)
    assert found(Written(written), low, high, times) == expected(written, low, high, times)


def test_rows_hidden_together_are_one_piece() -> None:
    written = Written(np.arange(100_000) + 700)
    low, high = np.array([0, 50_000]), np.array([99_000, 99_001])
    ((_, pieces),) = written.hidden(low, high, high)
    assert pieces.low.tolist() == [99_000 - 699, 99_001 - 699]
    assert pieces.high.tolist() == high.tolist()


FUNCTIONS: dict[str, Callable[[Sequence[float]], object]] = {
    "count": len,
    "sum": lambda values: sum(values) if values else None,
    "mean": lambda values: math.fsum(values) / len(values) if values else None,
    "min": lambda values: min(values, default=None),
    "max": lambda values: max(values, default=None),
    "var": lambda values: float(variance(values)) if len(values) > 1 else None,
    "first": lambda values: values[0] if values else None,
    "last": lambda values: values[-1] if values else None,
    "count_distinct": lambda values: len(set(values)),
    "median": lambda values: float(median(values)) if values else None,
    "p90": lambda values: float(np.quantile(values, 0.9)) if values else None,
    "last_3": lambda values: list(values[:-4:-1]) or None,
    "first_70": lambda values: list(values[:70]) or None,
}


def is_same(result: object, reference: object) -> bool:
    if isinstance(reference, float):
        return isinstance(result, float) and math.isclose(result, reference, rel_tol=1e-12)
    return result == reference


@pytest.mark.parametrize("share", [0, 10**9], ids=["wavelet matrix", "laid out"])
@pytest.mark.parametrize("dtype", [pa.float64(), pa.int64(), pa.decimal128(20, 1)], ids=str)
@pytest.mark.parametrize("lateness", LATENESS)
def test_functions_see_what_was_written_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, lateness: str, dtype: pa.DataType, share: int
) -> None:
    monkeypatch.setattr(order_statistics, "DIRECT_SHARE", share)
    random = np.random.default_rng(7)
    size = 2_500
    numbers = random.integers(-40, 40, size)
    values = pa.array(numbers, mask=random.random(size) < 0.1).cast(dtype)
    counted = random.random(size) < 0.8
    column = WindowColumn(np.zeros(size, np.int64), values, counted)
    written = np.arange(size) + LATENESS[lateness](random, size)
    low, high, times = windows(random, size, 60)
    plain = [
        [int(numbers[n]) for n in places if counted[n] and values[n].is_valid]
        for places in expected(written, low, high, times)
    ]
    for function, reference in FUNCTIONS.items():
        (feature,) = Aggregation("x", [function], ["1h"], dtype=dtype).features
        results: list[object] = []
        for some, pieces in Written(written).hidden(low, high, times):
            results += column(feature, pieces.rest(low[some], high[some])).to_pylist()
        for result, seen in zip(results, plain, strict=True):
            assert is_same(result, reference(seen)), (function, seen)


def test_integers_that_fit_beside_a_gap_do_not_overflow() -> None:
    column = WindowColumn(np.zeros(4, np.int64), pa.array([2**62, 2**62, 2**62, -(2**62)]), None)
    (feature,) = Aggregation("x", ["sum"], ["1h"], dtype=pa.int64()).features
    runs = Runs(np.array([0, 1, 3]), np.array([1, 2, 4]), np.array([0]))
    assert column(feature, runs).to_pylist() == [2**62]


def test_a_value_beside_a_gap_is_that_of_the_rows_alone() -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=300) * 10.0 ** random.integers(-3, 16, 300)
    visible = np.flatnonzero(random.random(300) < 0.6)
    starts = np.flatnonzero(np.diff(visible, prepend=-2) > 1)
    runs = Runs(
        visible[starts], visible[np.append(starts[1:], len(visible)) - 1] + 1, np.array([0])
    )
    among = WindowColumn(np.zeros(300, np.int64), pa.array(values), None)
    alone = WindowColumn(np.zeros(len(visible), np.int64), pa.array(values[visible]), None)
    for function in ("sum", "mean", "var", "median"):
        (feature,) = Aggregation("x", [function], ["1h"], dtype=pa.float64()).features
        one = Runs(np.array([0]), np.array([len(visible)]))
        assert among(feature, runs).equals(alone(feature, one)), function

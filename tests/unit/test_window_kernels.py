"""Kernels over ranges: right at every length, and the same whatever stands around a range."""

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.definitions import Aggregation
from featurestore.offline.windows import order_statistics
from featurestore.offline.windows.column import WindowColumn
from featurestore.offline.windows.floats import FloatRanges
from featurestore.offline.windows.integers import RangeSums
from featurestore.offline.windows.order_statistics import (
    count_below,
    dense_ranks,
    kth_smallest,
    order_number,
)
from featurestore.offline.windows.ranges import RangeReducer, Repeating, flatten, in_parts
from featurestore.offline.windows.runs import Runs

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def ranges(random: np.random.Generator, size: int, count: int) -> tuple[Ints, Ints]:
    """Ranges of all lengths, empty ones among them."""
    low = random.integers(0, size + 1, count)
    length = np.where(random.random(count) < 0.5, random.integers(0, 9, count), size)
    return low, np.minimum(size, low + (random.random(count) * (length + 1)).astype(np.int64))


Series = Callable[[np.random.Generator, int], Floats]
GREATEST = Decimal("9" * 36 + ".99")
SERIES: dict[str, Series] = {
    "plain": lambda r, n: r.normal(size=n),
    "great beside small": lambda r, n: r.normal(size=n) * 10.0 ** r.integers(-3, 16, n),
    "far from zero": lambda r, n: r.normal(size=n) + 1e5,
    "drifting": lambda r, n: r.normal(size=n) + np.arange(n) * 10.0,
    "every power": lambda r, n: r.normal(size=n) * 2.0 ** r.integers(-1_060, 900, n),
    "zeros": lambda _r, n: np.zeros(n),
}


@pytest.mark.parametrize("size", [0, 1, 64, 65, 3_000])
@pytest.mark.parametrize("series", SERIES)
def test_sums_are_exact_to_the_last_rounding(series: str, size: int) -> None:
    random = np.random.default_rng(size)
    values: Floats = SERIES[series](random, size)
    low, high = ranges(random, size, 200)
    found = FloatRanges(values).sums(Runs(low, high))
    for a, b, total in zip(low, high, found, strict=True):
        exact = math.fsum(values[a:b])
        assert abs(total - exact) <= 1e-14 * math.fsum(np.abs(values[a:b]))
        assert b - a <= 64 or total == exact


@pytest.mark.parametrize("size", [2, 64, 65, 700])
@pytest.mark.parametrize("series", ["plain", "far from zero", "drifting", "zeros"])
def test_squares_hold_nine_digits(series: str, size: int) -> None:
    random = np.random.default_rng(size)
    values: Floats = SERIES[series](random, size)
    low, high = ranges(random, size, 60)
    found = FloatRanges(values).squares(Runs(low, high))
    for a, b, squares in zip(low, high, found, strict=True):
        mean = sum(map(Fraction, values[a:b])) / max(b - a, 1)
        exact = float(sum((Fraction(v) - mean) ** 2 for v in values[a:b]))
        assert squares >= 0
        assert abs(squares - exact) <= 1e-9 * exact + 1e-300


@given(before=st.lists(st.floats(), max_size=80), after=st.lists(st.floats(), max_size=5))
def test_a_result_does_not_depend_on_what_stands_around(
    before: list[float], after: list[float]
) -> None:
    random = np.random.default_rng(3)
    values = SERIES["great beside small"](random, 200)
    low, high = ranges(random, 200, 50)
    alone, among = FloatRanges(values), FloatRanges(np.array([*before, *values, *after]))
    shift = len(before)
    for one, other in (
        (alone.sums(Runs(low, high)), among.sums(Runs(low + shift, high + shift))),
        (alone.squares(Runs(low, high)), among.squares(Runs(low + shift, high + shift))),
    ):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("length", [3, 200])
def test_nan_and_infinities_stay_in_their_ranges(length: int) -> None:
    values = np.ones(3 * length)
    values[length] = np.nan
    values[2 * length] = np.inf
    values[2 * length + 1] = -np.inf
    places = np.arange(3) * length
    sums = FloatRanges(values).sums(Runs(places, places + length))
    assert sums[0] == length
    assert np.isnan(sums[1:]).all()
    one_sided = FloatRanges(np.append(np.ones(length), np.inf))
    assert one_sided.sums(Runs(np.array([0]), np.array([length + 1]))) == np.inf


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 5_000])
def test_extremes_are_those_of_the_range(size: int) -> None:
    random = np.random.default_rng(size)
    values = random.integers(-50, 50, size)
    low, high = ranges(random, size, 200)
    least, greatest = (
        RangeReducer(ufunc, values, identity)(low, high)
        for ufunc, identity in ((np.minimum, 99), (np.maximum, -99))
    )
    for a, b, small, great in zip(low, high, least, greatest, strict=True):
        assert small == min(values[a:b], default=99)
        assert great == max(values[a:b], default=-99)


@given(
    shifts=st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), min_size=1, max_size=6),
    count=st.integers(0, 12),
)
def test_ranges_as_they_were_before_are_reduced_alike(shifts: list[list[int]], count: int) -> None:
    """Some ranges grow from one question to the next, all, or none; then there are fewer."""
    values = np.random.default_rng(0).normal(size=60)
    asked = []

    def reduce(low: Ints, high: Ints) -> Floats:
        asked.append(len(low))
        return np.array([values[a:b].sum() for a, b in zip(low, high, strict=True)])

    repeating = Repeating(reduce)
    low, high = np.full(12, 30), np.arange(30, 42)
    found, wanted = [], []
    for shift in shifts:
        low = low - np.array(shift)
        found.append(repeating(low, high))
        wanted.append([values[a:b].sum() for a, b in zip(low, high, strict=True)])
    assert [sums.tolist() for sums in found] == wanted, "later questions change no earlier answer"
    assert repeating(low, high).tolist() == reduce(low, high).tolist()
    assert asked[-2] == 0, "what is asked again is not reduced again"
    low, high = low[:count], high[:count] + 1
    assert repeating(low, high).tolist() == reduce(low, high).tolist()


@pytest.mark.parametrize(
    ("dtype", "edges"),
    [
        (pa.int8(), (-128, 127)),
        (pa.int64(), (-(2**63), 2**63 - 1)),
        (pa.uint64(), (0, 2**64 - 1)),
        (pa.decimal128(38, 2), (GREATEST, GREATEST.copy_negate())),
        (pa.int64(), (-(2**57), 2**57)),  # forty of these fit, as the next ones
        (pa.uint64(), (0, 2**57)),
        (pa.decimal128(38, 2), (-Decimal(2**50), Decimal("0.01"))),
    ],
    ids=str,
)
def test_sums_of_integers_are_exact_and_overflow_is_seen(
    dtype: pa.DataType, edges: tuple[int | Decimal, ...]
) -> None:
    random = np.random.default_rng(1)
    plain = [Decimal(int(n)) if pa.types.is_decimal(dtype) else int(n) for n in range(3)]
    values = [(*edges, *plain)[n] for n in random.integers(0, 2 + len(plain), 40)]
    low, high = ranges(random, len(values), 200)
    sums, bad = RangeSums(pa.array(values, dtype))(Runs(low, high))
    limits: dict[str, tuple[int | Decimal, int | Decimal]] = {
        "uint64": (0, 2**64 - 1),
        "decimal128(38, 2)": (GREATEST.copy_negate(), GREATEST),
    }
    least, greatest = map(Fraction, limits.get(str(dtype), (-(2**63), 2**63 - 1)))
    for a, b, found, is_bad in zip(low, high, sums.to_pylist(), bad, strict=True):
        exact = sum(map(Fraction, values[a:b]), Fraction(0))
        assert is_bad == (not least <= exact <= greatest)
        assert is_bad or Fraction(found) == exact


@pytest.mark.parametrize("share", [0, 10**9], ids=["wavelet matrix", "laid out"])
@pytest.mark.parametrize("size", [1, 2, 100, 3_000])
def test_order_statistics_are_those_of_sorting(
    monkeypatch: pytest.MonkeyPatch, share: int, size: int
) -> None:
    monkeypatch.setattr(order_statistics, "DIRECT_SHARE", share)
    random = np.random.default_rng(size)
    numbers = random.integers(0, max(1, size // 3), size)
    low, high = ranges(random, size, 100)
    bounds = random.integers(0, size + 3, 100)
    expected = [(numbers[a:b] < c).sum() for a, b, c in zip(low, high, bounds, strict=True)]
    assert count_below(numbers, low, high, bounds).tolist() == expected
    some = high > low
    low, high = low[some], high[some]
    k = (random.random(len(low)) * (high - low)).astype(np.int64)
    ranks, rows = dense_ranks(numbers)
    found = numbers[rows[kth_smallest(ranks, Runs(low, high), k)]]
    assert found.tolist() == [sorted(numbers[a:b])[n] for a, b, n in zip(low, high, k, strict=True)]


@given(values=st.lists(st.floats(allow_nan=False), min_size=2, max_size=40))
def test_numbers_are_in_the_order_of_their_floats(values: list[float]) -> None:
    array = np.array(values)
    numbers = order_number(array)
    assert ((numbers[1:] > numbers[:-1]) == (array[1:] > array[:-1])).all()
    assert (numbers[0] == numbers).tolist() == (array[0] == array).tolist()


def test_flat_places_are_those_of_the_ranges_one_after_the_other() -> None:
    places, ends = flatten(np.array([5, 2, 7]), np.array([7, 2, 10]))
    assert places.tolist() == [5, 6, 7, 8, 9]
    assert ends.tolist() == [2, 2, 5]


@given(lengths=st.lists(st.integers(0, 9), max_size=30), most=st.integers(1, 12))
def test_parts_cover_all_rows_and_are_small(lengths: list[int], most: int) -> None:
    parts = list(in_parts(np.array(lengths, dtype=np.int64), most))
    rows = [row for part in parts for row in range(len(lengths))[part]]
    assert rows == list(range(len(lengths)))
    for part in parts:
        assert sum(lengths[part]) <= most or part.stop - part.start == 1


def test_strings_have_extremes_in_byte_order_and_lists_the_newest_first() -> None:
    column = WindowColumn(np.zeros(5, np.int64), pa.array(["b", None, "é", "a", "Z"]), None)
    low, high = np.array([0, 1, 1]), np.array([5, 2, 4])
    for function, expected in {
        "min": ["Z", None, "a"],
        "max": ["é", None, "é"],
        "first": ["b", None, "é"],
        "last": ["Z", None, "a"],
        "last_2": [["Z", "a"], None, ["a", "é"]],
        "first_3": [["b", "é", "a"], None, ["é", "a"]],
        "count": [4, 0, 2],
        "count_distinct": [4, 0, 2],
    }.items():
        (feature,) = Aggregation("x", [function], ["1h"], dtype=pa.string()).features
        assert column(feature, Runs(low, high)).to_pylist() == expected, function

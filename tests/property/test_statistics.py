"""Statistics of any values in any parts: exact where they say so, else within their bounds."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.statistics import Profile, Profiler, profile
from featurestore.statistics.distinct import DistinctSummary, mixed
from featurestore.statistics.frequent import FrequentValues
from featurestore.statistics.grid import MAX_BINS, FloatLadder, Grid, IntegerLadder, Ladder
from featurestore.statistics.moments import Moments
from featurestore.statistics.numbers import SHARES
from featurestore.statistics.quantiles import QuantileSummary

LOW, HIGH = -(2**63), 2**63 - 1
INTEGERS = st.one_of(st.integers(-5, 5), st.integers(-(10**6), 10**6), st.integers(LOW, HIGH))
FLOATS = st.one_of(
    st.integers(-5, 5).map(lambda n: n / 10),
    st.floats(-1e6, 1e6),
    st.floats(allow_nan=False, allow_infinity=False),
)


def parts_of(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.lists(numbers, max_size=40), min_size=1, max_size=6)


def sorted_array(part: Sequence[Any]) -> npt.NDArray[Any]:
    dtype = np.int64 if all(isinstance(value, int) for value in part) else np.float64
    return np.sort(np.array(part, dtype=dtype))


# --- summaries, with small limits ----------------------------------------------------------------


@given(parts=parts_of(st.integers(-1_000, 1_000)), merged=st.booleans())
def test_a_quantiles_rank_is_within_the_bound(parts: list[list[int]], *, merged: bool) -> None:
    whole = QuantileSummary(exact_values=16, buffer_values=16)
    for part in parts * 5:
        if merged:
            other = QuantileSummary(exact_values=16, buffer_values=16)
            other.add(sorted_array(part))
            whole.merge(other)
        else:
            whole.add(sorted_array(part))
    numbers = np.sort(np.array([n for part in parts for n in part] * 5, dtype=np.int64))
    for share, value in zip(SHARES, whole.at(SHARES), strict=bool(len(numbers))):
        rank = max(1, math.ceil(share * len(numbers)))
        assert np.count_nonzero(numbers < value) < rank + whole.error
        assert np.count_nonzero(numbers <= value) >= rank - whole.error
    if len(numbers) <= 16:
        assert whole.exact
        if len(numbers):
            assert whole.at(SHARES) == list(np.quantile(numbers, SHARES, method="inverted_cdf"))


@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
def test_the_bound_of_a_million_quantiles_is_small_and_kept(order: str) -> None:
    numbers = np.random.default_rng(1).permutation(1_000_000)
    numbers = {
        "random": numbers,
        "rising": np.sort(numbers),
        "falling": np.sort(numbers)[::-1],
        "equal": np.zeros_like(numbers),
    }[order]
    summary = QuantileSummary()
    for start in range(0, len(numbers), 65_536):
        summary.add(np.sort(numbers[start : start + 65_536]))
    assert 0 < summary.error <= 0.001 * len(numbers)
    for share, value in zip(SHARES, summary.at(SHARES), strict=True):
        rank = math.ceil(share * len(numbers))
        assert np.count_nonzero(numbers < value) < rank + summary.error
        assert np.count_nonzero(numbers <= value) >= rank - summary.error


@given(parts=parts_of(st.integers(0, 60)))
def test_distinct_values_do_not_depend_on_parts(parts: list[list[int]]) -> None:
    def summary(part: Sequence[int]) -> DistinctSummary:
        found = DistinctSummary(limit=32)
        found.add(mixed(np.array(part, dtype=np.int64)))
        return found

    numbers = [n for part in parts for n in part]
    whole, merged = summary(numbers), summary([])
    for part in parts:
        merged.merge(summary(part))
    assert (merged.count, merged.error) == (whole.count, whole.error)
    assert whole.exact == (len(set(numbers)) <= 32)
    if whole.exact:
        assert whole.count == len(set(numbers))


@pytest.mark.parametrize("count", [16_384, 16_385, 100_000, 1_000_000])
def test_an_estimate_of_distinct_values_is_within_five_standard_errors(count: int) -> None:
    summary = DistinctSummary()
    for start in range(0, 3 * count, 65_536):  # each value three times
        summary.add(mixed(np.arange(start, min(start + 65_536, 3 * count)) % count))
    assert abs(summary.count - count) <= 5 * summary.error * count
    assert summary.exact == (count == 16_384)


@given(parts=parts_of(st.integers(0, 12)))
def test_a_count_is_too_small_by_no_more_than_it_says(parts: list[list[int]]) -> None:
    def summary(part: Sequence[int]) -> FrequentValues:
        found, counts = FrequentValues(limit=4), Counter(part)
        values = pa.array([b"%d" % n for n in counts], pa.large_binary())
        hashes = mixed(np.array(list(counts), dtype=np.int64))
        found.add(values, hashes, np.array(list(counts.values()), dtype=np.int64))
        return found

    merged = FrequentValues(limit=4)
    for part in parts:
        merged.merge(summary(part))
    truth = Counter(b"%d" % n for part in parts for n in part)
    found = dict(merged.top(100))
    assert len(found) <= 4
    assert merged.error <= truth.total() / 5
    for value, count in truth.items():
        assert count - merged.error <= found.get(value, 0) <= count
    if len(truth) <= 4:
        assert found == truth


@pytest.mark.parametrize("ladder", [IntegerLadder(), IntegerLadder.of_ticks(1_000_000)])
@given(parts=parts_of(INTEGERS))
def test_bins_of_integers_are_exact(ladder: Ladder, parts: list[list[int]]) -> None:
    check_bins(ladder, parts)


@given(parts=parts_of(FLOATS))
def test_bins_of_floats_are_exact(parts: list[list[float]]) -> None:
    check_bins(FloatLadder(), [[float(n) for n in part] for part in parts])


def check_bins(ladder: Ladder, parts: Sequence[Sequence[Any]]) -> None:
    numbers = [n for part in parts for n in part]
    whole, merged = Grid(ladder), Grid(ladder)
    whole.add(sorted_array(numbers))
    for part in reversed(parts):
        other = Grid(ladder)
        other.add(sorted_array(part))
        merged.merge(other)
    edges, counts = whole.bins()
    assert merged.bins() == (edges, counts)
    assert len(counts) <= MAX_BINS
    assert sum(counts) == len(numbers)
    assert all(low < high for low, high in pairwise(edges)) or len(edges) == 2
    for n, count in enumerate(counts):
        is_last = n == len(counts) - 1
        within = (edges[n] <= x and (x < edges[n + 1] or is_last) for x in numbers)
        assert count == sum(within)
    if numbers:
        assert edges[0] <= min(numbers)
        assert max(numbers) <= edges[-1]


@given(parts=parts_of(INTEGERS))
def test_moments_of_integers_are_exact(parts: list[list[int]]) -> None:
    check_moments(parts, 1e-12)


@given(parts=parts_of(FLOATS))
def test_moments_of_floats_do_not_cancel(parts: list[list[float]]) -> None:
    check_moments([[float(n) for n in part] for part in parts], 1e-9)


def check_moments(parts: Sequence[Sequence[Any]], tolerance: float) -> None:
    merged = Moments()
    for part in parts:
        merged.merge(Moments.of(sorted_array(part)))
    numbers = [Fraction(n) for part in parts for n in part]
    assert merged.count == len(numbers)
    if not numbers:
        assert merged.mean is None
        return
    assert merged.mean is not None
    mean: Fraction = sum(numbers, Fraction(0)) / len(numbers)
    size: Fraction = sum(map(abs, numbers), Fraction(0)) / len(numbers)
    apart: Fraction = abs(merged.mean - mean)
    assert apart <= Fraction(1e-15) * size
    if len(numbers) > 1 and merged.stddev is not None:
        squares = sum(((n - mean) ** 2 for n in numbers), Fraction(0)) / (len(numbers) - 1)
        if math.isinf(merged.stddev):
            # Their sum's root is at the end of what a float can say.
            assert squares * (len(numbers) - 1) > Fraction(1.7e308) ** 2
            return
        # Beyond these bounds no float can say the square.
        shift = -550 if squares > 2**1000 else 550 if 0 < squares < Fraction(1, 2**900) else 0
        root = math.sqrt(squares * Fraction(2) ** (2 * shift))
        found = merged.stddev * 2.0**shift
        nearly = 0.0 if shift else float(size) * 1e-15
        assert found == pytest.approx(root, rel=tolerance, abs=nearly)


def test_moments_of_the_smallest_floats_are_told() -> None:
    check_moments([[0.0, 4.973032116725897e-258]], 1e-9)
    check_moments([[1e308, -1e308]], 1e-9)


# --- whole profiles -------------------------------------------------------------------------------

TEXTS = st.one_of(st.text(max_size=6), st.sampled_from(["", "a", "<b>", "\x1b[31m", "é" * 400]))
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "i\x1b[0m": (pa.int64(), INTEGERS),
    "<u>": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f": (pa.float64(), st.one_of(FLOATS, st.sampled_from([math.nan, math.inf, -math.inf, -0.0]))),
    "s": (pa.string(), TEXTS),
    "b": (pa.bool_(), st.booleans()),
    "y": (pa.binary(), st.binary(max_size=3)),
    "t": (pa.timestamp("us", "UTC"), st.integers(LOW, HIGH)),
    "d": (pa.date32(), st.integers(-(2**31), 2**31 - 1)),
    "m": (pa.decimal128(20, 2), st.decimals(-(10**17), 10**17, places=2)),
    "n": (pa.decimal128(9, 3), st.decimals(-(10**5), 10**5, places=3)),
    "l": (pa.list_(pa.int8()), st.lists(st.integers(0, 1), max_size=3)),
}
SCHEMA = pa.schema([(name, dtype) for name, (dtype, _) in COLUMNS.items()])


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    count = draw(st.integers(0, 30))
    arrays = []
    for dtype, values in COLUMNS.values():
        found = draw(st.lists(st.none() | values, min_size=count, max_size=count))
        raw = {"t": pa.int64(), "d": pa.int32()}.get(str(dtype)[0])
        is_time = pa.types.is_timestamp(dtype) or pa.types.is_date(dtype)
        arrays.append(pa.array(found, raw).view(dtype) if is_time else pa.array(found, dtype))
    return pa.table(arrays, schema=SCHEMA)


@given(table=tables(), other=tables(), rows=st.integers(1, 9))
def test_parts_merge_to_the_whole(table: pa.Table, other: pa.Table, rows: int) -> None:
    whole = pa.concat_tables([table, other])
    expected = profile([whole], SCHEMA)
    assert profile(whole.to_batches(rows), SCHEMA) == expected
    merged = Profiler(SCHEMA)
    for part in (table, other):
        profiler = Profiler(SCHEMA)
        for _ in profiler.over(part.to_batches(rows)):
            pass
        merged.merge(profiler)
    found = merged.finish()
    for name, column in found.columns.items():
        told = expected.columns[name]
        assert (column.distinct, column.top, column.quantiles, column.histogram) == (
            (told.distinct, told.top, told.quantiles, told.histogram)
        )
        assert (column.min, column.max, column.nulls, column.nan) == (
            (told.min, told.max, told.nulls, told.nan)
        )
        assert (column.stddev or 0.0) == pytest.approx(told.stddev or 0.0, rel=1e-9)


@given(table=tables())
def test_a_profile_survives_its_document(table: pa.Table) -> None:
    found = profile([table], SCHEMA)
    document = json.loads(json.dumps(found.to_document(), allow_nan=False))
    assert Profile.from_document(document) == found


@given(table=tables())
def test_exact_parts_are_those_of_polars(table: pa.Table) -> None:
    found = profile([table], SCHEMA)
    for name in ("i\x1b[0m", "<u>", "f", "s", "b", "y", "n"):
        column, series = found.columns[name], pl.Series(table[name])
        values = series.drop_nulls()
        assert (column.rows, column.nulls) == (len(series), series.null_count())
        assert column.distinct is not None
        assert column.distinct.exact
        assert column.distinct.count == values.n_unique()
        if name == "f":
            assert column.nan == values.is_nan().sum()
            values = values.drop_nans()
        if name != "s" and len(values):
            assert (column.min, column.max) == (values.min(), values.max())
        if column.top is not None and name != "s":
            assert dict(column.top.counts).items() <= Counter(values.to_list()).items()


@given(table=tables())
def test_hostile_names_and_values_break_no_output(table: pa.Table) -> None:
    found = profile([table], SCHEMA)
    assert "\x1b" not in str(found)
    assert len(str(found).splitlines()) == 2 + len(COLUMNS)
    for markup in (found.to_svg(), f"<div>{found._repr_html_()}</div>"):
        assert "\x1b" not in markup
        root = ET.fromstring(markup)  # noqa: S314
        assert not [
            element for element in root.iter() if element.tag.endswith(("}u", "}b", "}script"))
        ]

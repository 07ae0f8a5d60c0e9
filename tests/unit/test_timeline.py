"""Orders and searches of (group, time) are those of plain sorting, at every edge of int64."""

from bisect import bisect_left, bisect_right

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurestore.offline.timeline import (
    ByTime,
    Timeline,
    arrival_order,
    distinct,
    search,
    sorted_rows,
)

LOWEST, GREATEST = -(2**63), 2**63 - 1
# Edges, neighbours that differ in bits that do not fit beside a row's number, and plain times.
times = st.sampled_from(
    [LOWEST, LOWEST + 1, -1, 0, 1, 2, 2**40, 2**40 + 1, GREATEST]
) | st.integers(-50, 50)
rows = st.lists(st.tuples(st.integers(0, 3), times), max_size=60)


def columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    groups = np.array([group for group, _ in pairs], dtype=np.int32)
    return groups, np.array([time for _, time in pairs], dtype=np.int64)


@given(pairs=rows)
def test_rows_are_in_order_of_group_then_time_then_as_given(pairs: list[tuple[int, int]]) -> None:
    order = Timeline(*columns(pairs)).order.tolist()
    assert order == sorted(range(len(pairs)), key=lambda row: (*pairs[row], row))


@given(pairs=rows)
def test_rows_in_order_come_with_their_groups_and_times(pairs: list[tuple[int, int]]) -> None:
    groups, times = columns(pairs)
    order, groups, ordered = ByTime(times).within(groups)
    assert order.tolist() == sorted(range(len(pairs)), key=lambda row: (*pairs[row], row))
    assert list(zip(groups.tolist(), ordered.tolist(), strict=True)) == sorted(pairs)


@given(values=st.lists(times, max_size=60))
def test_sorted_values_come_with_their_rows(values: list[int]) -> None:
    found, order = sorted_rows(np.array(values, dtype=np.int64))
    assert found.tolist() == sorted(values)
    assert order.tolist() == sorted(range(len(values)), key=lambda row: (values[row], row))


@given(pairs=rows, needles=rows)
def test_bounds_are_those_of_bisection(
    pairs: list[tuple[int, int]], needles: list[tuple[int, int]]
) -> None:
    timeline, placed = Timeline(*columns(pairs)), sorted(pairs)
    asked = columns(needles)
    assert timeline.bound(*asked, "left").tolist() == [bisect_left(placed, n) for n in needles]
    assert timeline.bound(*asked, "right").tolist() == [bisect_right(placed, n) for n in needles]


@given(pairs=rows, needles=rows)
def test_the_last_row_not_after_a_time_is_of_the_same_group(
    pairs: list[tuple[int, int]], needles: list[tuple[int, int]]
) -> None:
    placed = sorted(pairs)
    expected = []
    for needle in needles:
        place = bisect_right(placed, needle) - 1
        expected.append(place if place >= 0 and placed[place][0] == needle[0] else -1)
    assert Timeline(*columns(pairs)).last(*columns(needles)).tolist() == expected


@given(
    tied=st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
        max_size=60,
    )
)
def test_ties_are_broken_by_versions_in_their_order(tied: list[tuple[int, int, int, int]]) -> None:
    group, time, first, second = (
        np.array([row[n] for row in tied], dtype=np.int64) for n in range(4)
    )
    timeline = Timeline(group, time)
    timeline.break_ties(first, second)
    assert timeline.order.tolist() == sorted(range(len(tied)), key=lambda row: (*tied[row], row))


def test_a_hundred_thousand_times_that_share_their_high_bits_are_sorted() -> None:
    random = np.random.default_rng(1)
    spread = random.integers(0, 3, 100_000) + np.where(random.random(100_000) < 0.5, LOWEST, 2**62)
    ordered, order = sorted_rows(spread)
    assert np.array_equal(ordered, np.sort(spread))
    assert np.array_equal(order, np.argsort(spread, kind="stable"))


def test_many_needles_are_found_as_few_are() -> None:
    random = np.random.default_rng(2)
    values = np.sort(random.integers(LOWEST, GREATEST, 20_000))
    needles = random.choice(values, 50_000) + random.integers(-1, 2, 50_000)
    for side in ("left", "right"):
        assert np.array_equal(search(values, needles, side), np.searchsorted(values, needles, side))


@given(values=st.lists(st.integers(LOWEST, GREATEST), max_size=30))
def test_distinct_and_arrival_order_are_those_of_plain_sorting(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    assert distinct(array).tolist() == sorted(set(values))
    order = arrival_order(array)
    assert sorted(values) == (values if order is None else array[order].tolist())

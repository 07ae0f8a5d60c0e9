"""Windows begin and end where plain counting says, in few rows and in many."""

from bisect import bisect_left, bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.offline.timeline import Side, Timeline
from featurestore.offline.windows.lookback import Lookback

pairs = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=40)
lengths = st.sets(st.integers(1, 40), max_size=4)


def checked(rows: list[tuple[int, int]], moments: list[tuple[int, int]], wanted: set[int]) -> None:
    rows, moments = sorted(rows), sorted(moments)
    lookback = Lookback(Timeline(*columns(rows)), *columns(moments))
    sides: list[Side] = ["left", "right"]
    for side in sides:
        bisect = bisect_left if side == "left" else bisect_right
        assert lookback.end(side).tolist() == [bisect(rows, moment) for moment in moments]
        for length, places in lookback.begins(wanted, side).items():
            assert places.tolist() == [bisect(rows, (g, t - length)) for g, t in moments]
    assert lookback.start.tolist() == [bisect_left(rows, (group, -(2**63))) for group, _ in moments]


def columns(found: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    groups = np.array([group for group, _ in found], dtype=np.int32)
    return groups, np.array([time for _, time in found], dtype=np.int64)


@given(rows=pairs, moments=pairs, wanted=lengths)
def test_places_are_those_of_bisection(
    rows: list[tuple[int, int]], moments: list[tuple[int, int]], wanted: set[int]
) -> None:
    checked(rows, moments, wanted)


@pytest.mark.parametrize("keys", [1, 40, 4_000])
def test_steps_and_searches_meet(keys: int) -> None:
    """With few keys nearly all windows hold more rows than are stepped over; with many, few do."""
    random = np.random.default_rng(keys)

    def drawn(count: int) -> list[tuple[int, int]]:
        groups, times = random.integers(0, keys, count), random.integers(0, 2_000, count)
        return list(zip(groups.tolist(), times.tolist(), strict=True))

    checked(drawn(5_000), drawn(2_000), {1, 7, 100, 800, 3_000})


def test_ages_of_times_that_are_farther_apart_than_int64_reaches() -> None:
    far = 2**62 + 5
    checked([(0, -far), (0, far - 3), (1, -far)], [(0, far), (1, -far), (1, far)], {2, 3, 40})

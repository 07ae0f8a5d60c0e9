"""Percentiles of any numbers, in any parts, are numpy's."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.monitoring import ranks
from featurestore.monitoring.ranks import GREATEST, Tally

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-10_000_000, 10_000_000),
    st.integers(86_400_000_000 - 50, 86_400_000_000 + 50),
    st.integers(-GREATEST, GREATEST),
)


@pytest.mark.parametrize("cells", [ranks.CELLS, 3])
@given(parts=st.lists(st.lists(NUMBERS, max_size=20), min_size=1, max_size=4), data=st.data())
def test_ranks_are_those_of_the_sorted_numbers(
    parts: list[list[int]], data: st.DataObject, cells: int
) -> None:
    numbers = sorted(number for part in parts for number in part)
    if not numbers:
        return
    chosen = data.draw(st.lists(st.integers(1, len(numbers)), min_size=1, max_size=5))
    arrays = [np.array(part, dtype=np.int64) for part in parts]

    def read() -> Iterator[npt.NDArray[np.int64]]:
        return iter(arrays)

    tally = Tally(cells=cells)
    for array in arrays:
        tally.add(array)
    assert tally.at_ranks(chosen, read) == [numbers[rank - 1] for rank in chosen]

"""Keys are divided so that each part has about as many rows, whichever key has most."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurestore.offline.as_of import even_ranges


@given(
    first=st.integers(0, 5),
    counts=st.lists(st.sampled_from([0, 1, 2, 50]), min_size=1, max_size=12),
    parts=st.integers(1, 5),
)
def test_parts_hold_all_keys_once_and_about_as_many_rows(
    first: int, counts: list[int], parts: int
) -> None:
    keys = range(first, first + len(counts))
    groups = np.repeat(np.arange(keys.start, keys.stop, dtype=np.int32), counts)
    found = list(even_ranges(keys, np.random.default_rng(0).permutation(groups), parts))
    assert [key for some in found for key in some] == list(keys)
    assert len(found) <= parts
    assert all(found)
    rows = Counter(groups.tolist())
    # A part ends with the key that brings it to its share, so that it has less than that key more.
    most = len(groups) / parts + max(counts)
    assert all(sum(rows[key] for key in some) <= most for some in found)

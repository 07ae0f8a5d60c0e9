"""Exact sums of integers and decimals over ranges, in limbs of 32 bits, with overflow seen."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.offline.timeline import Ints
from featurestore.offline.windows.runs import Runs

LIMB = np.int64(0xFFFFFFFF)
MAX_DECIMAL = 10**38 - 1
LARGEST = 2**63 - 1


class RangeSums:
    """Sums over ranges of int64, uint64 or decimal128 values.

    Where all values together fit int64 they are added as they are. Others are cut into limbs of 32
    bits, the highest signed, whose prefix sums cannot overflow below 2**31 values. Sums of integers
    are exact, so here prefix sums may be subtracted.

    Args:
        values: n values without nulls; integers of any width, bool or decimal128.
    """

    def __init__(self, values: pa.Array) -> None:
        self._dtype = values.type
        small = _small(values)
        limbs = _limbs(values) if small is None else [small]
        self._prefixes = [_prefix(limb) for limb in limbs]

    def __call__(self, windows: Runs) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        """Return the sum of each window, and where it does not fit its type.

        The type is int64, uint64 or decimal128(38, s); what does not fit is any value.
        """
        limbs = _carried([windows.between(prefix) for prefix in self._prefixes])
        is_small = len(limbs) == 1
        if pa.types.is_decimal(self._dtype):
            if is_small:
                limbs = [(limbs[0] >> shift) & LIMB for shift in (0, 32, 63)] + [limbs[0] >> 63]
            return _decimals(limbs, self._dtype.scale)
        unsigned = pa.types.is_unsigned_integer(self._dtype)
        if is_small:
            sums, bad = limbs[0], np.zeros(len(windows), dtype=np.bool_)
        else:
            lowest, beyond = (0, 2**32) if unsigned else (-(2**31), 2**31)
            bad = (limbs[1] < lowest) | (limbs[1] >= beyond)
            sums = (limbs[1] << np.int64(32)) | limbs[0]
        return pa.array(sums.view(np.uint64) if unsigned else sums), bad


def _prefix(limb: Ints) -> Ints:
    sums = np.zeros(len(limb) + 1, dtype=np.int64)
    np.cumsum(limb, out=sums[1:])
    return sums


def _small(values: pa.Array) -> Ints | None:
    """Return values as int64, decimals without their point; None if their sums may not fit."""
    numbers = _numbers(values)
    if numbers is None:
        return None
    largest = max(-int(numbers.min(initial=0)), int(numbers.max(initial=0)))
    return numbers if largest * len(numbers) < LARGEST else None


def _numbers(values: pa.Array) -> Ints | None:
    """Return values as int64, decimals without their point; None if one does not fit."""
    if pa.types.is_decimal(values.type):
        low, high = _words(values)
        return low if ((low >> 63) == high).all() else None
    if pa.types.is_uint64(values.type):
        numbers = values.to_numpy().view(np.int64)
        return numbers if (numbers >= 0).all() else None
    return np.asarray(values.cast(pa.int64()).to_numpy())


def _words(values: pa.Array) -> tuple[Ints, Ints]:
    """Return the lower and the upper half of decimals."""
    words = np.frombuffer(values.buffers()[1], dtype=np.int64)
    words = words[2 * values.offset : 2 * (values.offset + len(values))].reshape(-1, 2)
    return words[:, 0], words[:, 1]


def _limbs(values: pa.Array) -> list[Ints]:
    """Return the limbs of values, the lowest first; all but the last are 0 to 2**32 - 1."""
    if pa.types.is_decimal(values.type):
        low, high = _words(values)
        return [low & LIMB, (low >> 32) & LIMB, high & LIMB, high >> 32]
    if pa.types.is_uint64(values.type):
        whole = values.to_numpy()
        return [(whole & np.uint64(LIMB)).view(np.int64), (whole >> np.uint64(32)).view(np.int64)]
    numbers = values.cast(pa.int64()).to_numpy()
    return [numbers & LIMB, numbers >> 32]


def _carried(sums: Sequence[Ints]) -> list[Ints]:
    """Return limbs in which all but the last are 0 to 2**32 - 1."""
    limbs: list[Ints] = []
    carry: Ints = np.zeros(len(sums[0]), dtype=np.int64)
    for limb in sums[:-1]:
        total = limb + carry
        limbs.append(total & LIMB)
        carry = total >> 32
    return [*limbs, sums[-1] + carry]


def _decimals(limbs: Sequence[Ints], scale: int) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    bad = (limbs[3] < -(2**31)) | (limbs[3] >= 2**31)
    near = np.flatnonzero(~bad & (np.abs(limbs[3]) >= MAX_DECIMAL >> 96))
    for row in near:
        number = sum(int(limb[row]) << (32 * place) for place, limb in enumerate(limbs))
        bad[row] = abs(number) > MAX_DECIMAL
    words = np.empty((len(bad), 2), dtype=np.int64)
    words[:, 0] = limbs[0] | (limbs[1] << np.int64(32))
    words[:, 1] = limbs[2] | (limbs[3] << np.int64(32))
    buffer = pa.py_buffer(np.where(bad[:, None], 0, words).tobytes())
    return pa.Array.from_buffers(pa.decimal128(38, scale), len(bad), [None, buffer]), bad

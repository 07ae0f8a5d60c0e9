"""Rows of a view, as engines and applications deliver them, as bytes of the online store."""

import numpy as np
import pyarrow as pa

from featurestore.definitions import FeatureView
from featurestore.materialize.plan import remaining_us
from featurestore.online.codec import encode_keys, row_codec
from featurestore.online.encode import number_values, valid_mask
from featurestore.online.store import EncodedRows
from featurestore.types import type_name


class RowEncoder:
    """Encodes batches of one view.

    Args:
        view: The view.
        now_us: What a row's age is counted up to.
        is_pushed: Whether an application writes the rows.
    """

    def __init__(self, view: FeatureView, *, now_us: int, is_pushed: bool = False) -> None:
        self._view = view
        self._key_types = [type_name(dtype) for dtype in view.join_keys.values()]
        self._codec = row_codec(tuple(type_name(f.dtype) for f in view.fields))
        self._lifetime_us = remaining_us(view)
        self._now_us = now_us
        self._is_pushed = is_pushed

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Return the rows of a batch that a store may not drop at once, in order.

        Args:
            batch: `k0..` and `f0..` with their declared types, keys without nulls; `e` and `c`,
                int64 microseconds, of which `c` may be null.

        Raises:
            StoreDataError: A row is too large.
        """
        remaining_ms = None
        if self._lifetime_us is not None:
            event = number_values(batch.column("e"))
            dead_us = self._now_us - self._lifetime_us
            left = (np.maximum(event, dead_us) - dead_us) // 1000  # far times would overflow
            alive = left > 0
            if not alive.all():
                batch, left = batch.filter(_mask(alive)), left[alive]
            remaining_ms = left.tolist()
        return EncodedRows(
            keys=self._keys(batch), values=self._values(batch), remaining_ms=remaining_ms
        )

    def _keys(self, batch: pa.RecordBatch) -> list[bytes]:
        columns = [batch.column(f"k{i}") for i in range(len(self._key_types))]
        keys = encode_keys(self._key_types, columns)
        if not self._key_types:
            keys = keys * batch.num_rows
        return [key for key in keys if key is not None]

    def _values(self, batch: pa.RecordBatch) -> list[bytes]:
        created = batch.column("c")
        return self._codec.encode(
            number_values(batch.column("e")),
            number_values(created),
            [batch.column(f"f{i}") for i in range(len(self._view.fields))],
            created_valid=valid_mask(created),
            is_pushed=self._is_pushed,
        )


def _mask(selected: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> pa.Array:
    """Return a numpy mask for Arrow; `pa.array` would import pandas first, half a second."""
    bits = pa.py_buffer(np.packbits(selected, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(selected), [None, bits])

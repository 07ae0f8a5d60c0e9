"""The bytes of entities and rows: the same in every store, versioned, and pure.

Keys: `featurestore.online.keys`. Rows: `featurestore.online.layout` says where everything lies;
encoding starts from Arrow columns, decoding needs numpy alone and imports nothing else.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from featurestore.errors import StoreDataError
from featurestore.online.decode import DecodedRows, decode_rows
from featurestore.online.key_values import KeyColumn, key_column
from featurestore.online.keys import NO_ENTITY, decode_key, encode_key_columns, encode_keys
from featurestore.online.layout import PUSHED, SIGN_BIT, TOMBSTONE, Array, RowLayout
from featurestore.online.store import VERSION_END, VERSION_START

__all__ = [
    "NO_ENTITY",
    "DecodedRows",
    "KeyColumn",
    "RowCodec",
    "decode_key",
    "encode_key_columns",
    "encode_keys",
    "is_pushed",
    "is_tombstone",
    "key_column",
    "read_version",
    "row_codec",
    "tombstone",
    "version_bytes",
]

_VERSION: Final = struct.Struct(">QQ")


class RowCodec:
    """Row bytes of one view, both ways.

    Args:
        dtypes: The types of all of the view's columns, in schema order, as
            `featurestore.types.type_name` writes them.

    Raises:
        ValueError: A type cannot be served online.
    """

    def __init__(self, dtypes: Sequence[str]) -> None:
        self.dtypes = tuple(dtypes)
        self._layout = RowLayout(self.dtypes)

    @property
    def schema_id(self) -> int:
        """16 bits that a row of another schema hardly shares."""
        return self._layout.schema_id

    @property
    def row_bytes(self) -> int | None:
        """The length of every row; None where it varies."""
        return None if self._layout.variable else self._layout.head_bytes

    def encode(
        self,
        event_us: Array,
        created_us: Array | None,
        columns: Sequence[object],
        *,
        created_valid: Array | None = None,
        is_pushed: bool = False,
    ) -> list[bytes]:
        """Return the bytes of each row.

        Args:
            event_us: int64 microseconds; no nulls.
            created_us: int64 microseconds; None when the source has none.
            columns: Arrow arrays or chunked arrays of the declared types (or types that cast to
                them without loss), in schema order.
            created_valid: bool; where `created_us` is not null. None means everywhere.
            is_pushed: Whether an application writes these rows, and not a materialization.

        Raises:
            StoreDataError: A column has another type or length, or a row is too large.
        """
        from featurestore.online.encode import encode_rows  # pyarrow: not needed to decode

        return encode_rows(
            self._layout, event_us, created_us, created_valid, columns, is_pushed=is_pushed
        )

    def decode(
        self, values: Sequence[bytes | None], wanted: Sequence[int], *, view: str = ""
    ) -> DecodedRows:
        """Return the columns at the positions `wanted`, in that order.

        Args:
            values: What a store returned: row bytes, a tombstone, or None.
            wanted: Positions in `dtypes`.
            view: The view's name, for messages.

        Raises:
            StoreDataError: A row has another format or schema, or is damaged. Nothing of the batch
                is returned.
        """
        return decode_rows(self._layout, values, wanted, view)


@lru_cache(maxsize=1_024)
def row_codec(dtypes: tuple[str, ...]) -> RowCodec:
    """Return the codec of these types; made once."""
    return RowCodec(dtypes)


def tombstone(now_us: int) -> bytes:
    """Return the value that stands for a deleted row, with (event, created) = (now, now)."""
    return bytes([TOMBSTONE, 0, 0]) + version_bytes(now_us, now_us)


def version_bytes(event_us: int, created_us: int | None) -> bytes:
    """Return the 16 bytes that order rows as (event time, created time) does, null lowest."""
    created = 0 if created_us is None else created_us + SIGN_BIT
    return _VERSION.pack(event_us + SIGN_BIT, created)


def is_tombstone(value: bytes) -> bool:
    """Whether a stored value stands for a deleted row."""
    return value[:1] == bytes([TOMBSTONE])


def is_pushed(value: bytes) -> bool:
    """Whether a stored value is a row that an application wrote."""
    return value[:1] == bytes([PUSHED])


def read_version(value: bytes) -> tuple[int, int | None]:
    """Return the event time and the created time of a stored row or tombstone, in microseconds.

    Raises:
        StoreDataError: The value is too short to have them.
    """
    if len(value) < VERSION_END:
        raise StoreDataError(f"A stored row of {len(value)} bytes is no row.")
    event, created = _VERSION.unpack(value[VERSION_START:VERSION_END])
    return event - SIGN_BIT, created - SIGN_BIT if created else None

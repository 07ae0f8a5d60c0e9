"""Just enough of protobuf's wire format to lay a column's memory between the bytes around it.

Building a message per column costs five times as much as what is done here: a column of a given
shape has the same bytes around it every time, and they are remembered.
"""

from functools import lru_cache
from typing import Final

from featurestore_protos.internal.v1.reply_pb2 import Reply, ReplyColumn, ReplyValues
from google.protobuf.message import Message

_LENGTH_DELIMITED: Final = 2
_MORE: Final = 0x80


def varint(number: int) -> bytes:
    """Return a number of 0 or more, seven bits a byte, lowest first."""
    encoded = bytearray()
    while number >= _MORE:
        encoded.append(number % _MORE | _MORE)
        number //= _MORE
    encoded.append(number)
    return bytes(encoded)


def opening(message: type[Message], field: str, length: int) -> bytes:
    """Return what stands before the `length` bytes of a field of bytes, text or messages."""
    number: int = message.DESCRIPTOR.fields_by_name[field].number
    return varint(number << 3 | _LENGTH_DELIMITED) + varint(length)


@lru_cache(maxsize=8_192)
def frame(prefix: int, field: str, size: int, rows: int, has_nulls: bool) -> tuple[bytes, ...]:  # noqa: FBT001 - a cache's key
    """Return what stands around the parts of a feature's column of numbers.

    Args:
        prefix: Length of the fields that come first.
        field: The field of `ReplyValues` that holds the numbers.
        size: Length of the numbers.
        rows: How many there are: the length of the statuses, and of the null marks.
        has_nulls: Whether there are null marks.

    Returns:
        What stands before the prefix, the numbers, the null marks (nothing without them) and the
        statuses.
    """
    numbers = opening(ReplyValues, field, size)
    nulls = opening(ReplyValues, "nulls", rows) if has_nulls else b""
    values_length = len(numbers) + size + len(nulls) + (rows if has_nulls else 0)
    values = opening(ReplyColumn, "values", values_length)
    statuses = opening(ReplyColumn, "statuses", rows)
    length = prefix + len(values) + values_length + len(statuses) + rows
    return opening(Reply, "features", length), values + numbers, nulls, statuses

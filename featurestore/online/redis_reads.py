"""Reads as bytes of the Redis protocol: a batch of keys costs one `join`, not a call per key."""

from collections.abc import Iterator, Sequence
from typing import Final

from featurestore.online.redis_commands import row_prefix
from featurestore.online.store import ReadRequest

_CLOSING: Final = b"}\r\n"


def pack_reads(requests: Sequence[ReadRequest], *, most_keys: int) -> tuple[bytes, int]:
    """Return MGET commands for the keys of all requests in order, and how many commands they are.

    Args:
        requests: What to read.
        most_keys: Most keys of one command.
    """
    commands: list[bytes] = []
    arguments: list[bytes] = []
    room = most_keys
    for request in requests:
        for entities in _portions(request.keys, room, most_keys):
            if len(entities) > room:
                commands.append(_mget(arguments, most_keys - room))
                arguments, room = [], most_keys
            arguments.append(_key_arguments(row_prefix(request.table), entities))
            room -= len(entities)
    if arguments:
        commands.append(_mget(arguments, most_keys - room))
    return b"".join(commands), len(commands)


def _portions(keys: Sequence[bytes], room: int, most: int) -> Iterator[Sequence[bytes]]:
    """Yield keys in parts that fit into commands: the first into the `room` of one begun."""
    if len(keys) <= room:
        if keys:
            yield keys
        return
    for start in range(0, len(keys), most):
        yield keys[start : start + most]


def _mget(arguments: list[bytes], count: int) -> bytes:
    return b"*%d\r\n$4\r\nMGET\r\n%b" % (count + 1, b"".join(arguments))


def _key_arguments(prefix: bytes, entities: Sequence[bytes]) -> bytes:
    """Return the keys `prefix entity }` as bulk strings, length first."""
    around = len(prefix) + 1
    sizes = set(map(len, entities))
    if len(sizes) > 1:
        return b"".join([b"$%d\r\n%b%b}\r\n" % (around + len(e), prefix, e) for e in entities])
    opening = b"$%d\r\n%b" % (around + sizes.pop(), prefix)
    return opening + (_CLOSING + opening).join(entities) + _CLOSING

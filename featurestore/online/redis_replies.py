"""Replies to reads that are not taken apart: rows of one length lie at equal distances in them.

A reply to MGET is `*COUNT`, then each value as `$LENGTH`, the value, and a line's end. Where every
row is there and has the length that the caller expects, the reply's shape is known beforehand, and
it is read straight into one piece of memory. Everything else goes to the client's parser.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from featurestore.online.store import FixedRows, ReadRequest

_END: Final = b"\r\n"


class _Run(NamedTuple):
    """Values of one length, one after another.

    Attributes:
        start: Where the first one's head begins.
        head: What stands before each value.
        stride: The distance from head to head.
        row_bytes: The length of each value.
        length: How many there are.
    """

    start: int
    head: bytes
    stride: int
    row_bytes: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length * self.stride


class ReplyShape:
    """What the reply to one MGET looks like if no row is missing.

    Attributes:
        size: Its length in bytes.
    """

    def __init__(self, opening: bytes, runs: Sequence[_Run]) -> None:
        self._opening = opening
        self._runs = runs
        self.size = runs[-1].end

    def fits(self, reply: bytearray, since: int, size: int) -> bool:
        """Whether the first `size` bytes of a reply are so; those before `since` are known to be.

        A row that is missing, or of another length, shows in the first bytes that come of it.
        """
        come = min(size, len(self._opening))
        if reply[:come] != self._opening[:come]:
            return False
        return all(_fits(run, reply, since, size) for run in self._runs if run.start < size)

    def rows(self, reply: bytearray) -> list[FixedRows]:
        """Return the rows of each request."""
        return [
            FixedRows(
                reply,
                start=run.start + len(run.head),
                stride=run.stride,
                row_bytes=run.row_bytes,
                length=run.length,
            )
            for run in self._runs
        ]


def expected_reply(requests: Sequence[ReadRequest]) -> ReplyShape | None:
    """Return the shape of the reply to one MGET for all requests; None where it is not known."""
    if not all(request.row_bytes and request.keys for request in requests):
        return None
    opening = b"*%d\r\n" % sum(len(request.keys) for request in requests)
    runs, start = [], len(opening)
    for request in requests:
        head = b"$%d\r\n" % (request.row_bytes or 0)
        stride = len(head) + (request.row_bytes or 0) + len(_END)
        runs.append(_Run(start, head, stride, request.row_bytes or 0, len(request.keys)))
        start = runs[-1].end
    return ReplyShape(opening, runs) if runs else None


def _fits(run: _Run, reply: bytearray, since: int, size: int) -> bool:
    first = max(0, since - run.start) // run.stride
    last = min(run.length, (size - run.start) // run.stride)
    if last < run.length:  # the value that has begun to come
        at = run.start + last * run.stride
        come = reply[at : min(size, at + len(run.head))]
        if come != run.head[: len(come)]:
            return False
    if last - first < 1:
        return True
    block: Any = np.frombuffer(
        reply, np.uint8, (last - first) * run.stride, run.start + first * run.stride
    ).reshape(-1, run.stride)
    heads = np.ascontiguousarray(block[:, : len(run.head)]).tobytes()
    return heads == run.head * (last - first)

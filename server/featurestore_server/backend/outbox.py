"""What one thread computes and another sends: pieces of a table, and how far the job has got."""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from featurestore.errors import JobCancelledError

PIECE_BYTES: Final = 1 << 20
MOST_PIECES: Final = 4
"""Pieces that wait to be sent; whoever computes more waits, too."""
PROGRESS_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Step:
    """How far a job has got: rows of a phase that are done, and in all."""

    phase: str
    done: int
    total: int


class Outbox:
    """Hands bytes over in order, no more than `MOST_PIECES` of `PIECE_BYTES` at a time.

    It is a file that can be written, for the thread that computes; for the one that sends it is
    an iterable, which ends when the writer says so, or raises what it failed with.
    """

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._begun = bytearray()
        self._pieces: deque[bytes] = deque()
        self._step: Step | None = None
        self._error: Exception | None = None
        self._finished = False
        self._closed = False

    # --- in the thread that computes ---------------------------------------------------------

    closed = False
    """Always, as pyarrow asks files."""

    def writable(self) -> bool:
        """Whether this is a file to write to."""
        return True

    def write(self, data: bytes) -> int:
        """Add bytes; wait while too many have not been taken.

        Raises:
            JobCancelledError: Nobody takes any more.
        """
        self._begun += data
        while len(self._begun) >= PIECE_BYTES:
            self._put(bytes(self._begun[:PIECE_BYTES]))
            del self._begun[:PIECE_BYTES]
        return len(data)

    def flush(self) -> None:
        """Do nothing: a piece goes out when it is full, or the last one."""

    def report(self, what: str, done: int, total: int) -> None:
        """Say how far the job has got; only the latest is sent, now and then."""
        with self._lock:
            self._step = Step(what, done, total)

    def finish(self, error: Exception | None = None) -> None:
        """Say that this was all, or that there will be no more because of an error."""
        if error is None and self._begun:
            self._put(bytes(self._begun))
        with self._lock:
            self._error = None if self._closed else error
            self._finished = True
            self._lock.notify_all()

    def _put(self, piece: bytes) -> None:
        with self._lock:
            while len(self._pieces) >= MOST_PIECES and not self._closed:
                self._lock.wait()
            if self._closed:
                raise JobCancelledError
            self._pieces.append(piece)
            self._lock.notify_all()

    # --- in the thread that sends ------------------------------------------------------------

    def close(self) -> None:
        """Take no more: whoever still writes, or takes, gets an error.

        An error's frames know what wrote here, and Arrow's writers know this file in a way that the
        garbage collector does not see: an error that was kept would keep all of a job for ever.
        """
        with self._lock:
            self._closed = True
            self._error = None
            self._lock.notify_all()

    def __iter__(self) -> Iterator[bytes | Step]:
        told: Step | None = None
        told_at = -PROGRESS_EVERY_S
        while True:
            with self._lock:
                if not self._pieces and not self._finished:
                    self._lock.wait(PROGRESS_EVERY_S)
                piece = self._pieces.popleft() if self._pieces else None
                self._lock.notify_all()
                step, is_last = self._step, piece is None and self._finished
            now = time.monotonic()
            if step is not None and step != told and now >= told_at + PROGRESS_EVERY_S:
                told, told_at = step, now
                yield step
            if piece is not None:
                yield piece
            if is_last:
                with self._lock:
                    if self._closed:
                        raise JobCancelledError
                    if self._error is not None:
                        raise self._error
                return

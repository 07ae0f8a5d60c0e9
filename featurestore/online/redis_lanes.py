"""Commands to several servers at once: sent to all of them before the first has to answer."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from redis import exceptions

from featurestore.online.redis_connection import Connections, received_all
from featurestore.online.redis_errors import TooFewReplicasError

if TYPE_CHECKING:
    from redis.connection import Connection

PIECES_UNDER_WAY: Final = 16
"""Pieces sent to a server before the first of them is answered."""


class Piece(NamedTuple):
    """Commands that go to one server in one go.

    Attributes:
        packed: The commands.
        replies: How many of their replies are wanted.
        skipped: How many replies come before those. If one of them is an error, it takes the place
            of all that are wanted.
    """

    packed: bytes
    replies: int
    skipped: int = 0


class Lane:
    """A connection to one server, and the pieces that go to it.

    Args:
        server: The server.
        pieces: What to send, in order.
        wait: Replicas to wait for after the last piece, and the longest wait in milliseconds.

    Attributes:
        answers: For each piece its replies, an error as an exception; none is raised.
    """

    def __init__(
        self, server: Connections, pieces: Sequence[Piece], wait: tuple[int, int] = (0, 0)
    ) -> None:
        self._server = server
        self._pieces = pieces
        self._wait = wait
        self._sent = 0
        self._connection: Connection | None = None
        self.answers: list[list[Any]] = []

    @property
    def is_done(self) -> bool:
        """Whether all pieces are answered."""
        return len(self.answers) == len(self._pieces)

    def advance(self, until: float | None) -> None:
        """Send the next piece; or receive one, if enough are under way or none is left to send."""
        try:
            if self._connection is None:
                self._connection = self._server.take(until)
            under_way = self._sent - len(self.answers)
            if self._sent < len(self._pieces) and under_way < PIECES_UNDER_WAY:
                packed = self._pieces[self._sent].packed
                self._connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
                self._sent += 1
            else:
                self._receive(until)
        except (exceptions.RedisError, OSError) as error:
            self.fail(error)
        except BaseException:
            self.end(is_clean=False)
            raise

    def _receive(self, until: float | None) -> None:
        piece = self._pieces[len(self.answers)]
        found = received_all(self._connection, piece.skipped + piece.replies, until)
        before, replies = found[: piece.skipped], found[piece.skipped :]
        if refusal := next((reply for reply in before if isinstance(reply, Exception)), None):
            replies = [refusal] * piece.replies
        self.answers.append(replies)
        if self.is_done:
            self._finish()

    def _finish(self) -> None:
        replicas, timeout_ms = self._wait
        if replicas and self._connection is not None:
            self._connection.send_command("WAIT", replicas, timeout_ms)  # type: ignore[no-untyped-call]
            found = self._connection.read_response()
            if found < replicas:
                few = TooFewReplicasError(found, replicas)
                self.answers = [[few] * piece.replies for piece in self._pieces]
        self.end(is_clean=True)

    def fail(self, error: Exception) -> None:
        """Make an error the answer to all that is unanswered.

        Where replicas are waited for, that is everything: nobody knows whether any has it.
        """
        if self._wait[0]:
            self.answers = []
        missing = self._pieces[len(self.answers) :]
        self.answers += [[error] * piece.replies for piece in missing]
        self.end(is_clean=False)

    def end(self, *, is_clean: bool) -> None:
        """Give the connection back; twice is fine."""
        if self._connection is not None:
            self._server.give_back(self._connection, is_clean=is_clean)
            self._connection = None


def exchange(lanes: Iterable[Lane], *, until: float | None = None) -> None:
    """Send all pieces of all lanes and receive their answers.

    Args:
        lanes: One per server.
        until: When to stop waiting, by the monotonic clock; without it, each reply has the time
            that its server's connections have.
    """
    busy = [lane for lane in lanes if not lane.is_done]
    try:
        while busy:
            for lane in busy:
                if until is not None and time.monotonic() > until:
                    lane.fail(exceptions.TimeoutError("no time left"))
                else:
                    lane.advance(until)
            busy = [lane for lane in busy if not lane.is_done]
    finally:
        for lane in busy:
            lane.end(is_clean=False)

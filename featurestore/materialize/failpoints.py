"""The places where a materialization may die: for tests that make it die there.

Nothing happens at any of them unless a test has armed one, in a process of its own.
"""

from collections.abc import Callable
from enum import StrEnum


class Failpoint(StrEnum):
    """A step between two things that are durable each by itself, in the order of a run."""

    LEASED = "leased"
    """The view is leased, and that is all."""
    BEGUN = "begun"
    """The task is in the ledger; of a resumed one its next attempt."""
    READ = "read"
    """The newest row of every entity is known."""
    DIVIDED = "divided"
    """The chunks are in the ledger."""
    BATCH_READ = "batch read"
    """A batch is about to be handed to the writer."""
    BATCH_WRITTEN = "batch written"
    """The online store has acknowledged a batch."""
    CHUNK_WRITTEN = "chunk written"
    """It has acknowledged all of a chunk; the ledger does not know yet."""
    CHUNK_RECORDED = "chunk recorded"
    """The ledger knows that a chunk is done."""
    WRITTEN = "written"
    """All chunks are done; the watermark is where it was."""
    CARRIED = "carried"
    """What no source has was taken over from the generation before, if there was any."""
    SWITCHED = "switched"
    """The watermark has moved and the task is gone; the lease is held still."""


Action = Callable[[StrEnum], None]

_action: Action | None = None


def arm(action: Action | None) -> None:
    """Call `action` at every failpoint of this process, or nothing any more; for tests alone."""
    global _action  # noqa: PLW0603 - a process has one fate
    _action = action


def hit(point: StrEnum) -> None:
    """Say that a run is at a point; a few times for each 50,000 rows."""
    if _action is not None:
        _action(point)

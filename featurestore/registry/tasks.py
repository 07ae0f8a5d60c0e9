"""Tasks: materializations that are under way or were interrupted, chunk by chunk.

A view has one task at most. It is written before anything is read, and goes when its run succeeds
or the next one begins; what it was is then in the runs. So the ledger stays as small as the number
of views, times `MAX_CHUNKS`.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from featurestore.registry.runs import ReadFile, RunKind

TaskState = Literal["running", "failed"]
ChunkState = Literal["pending", "done"]

MAX_CHUNKS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """The entities whose newest row has an ordinal in a range; a task's chunks share none.

    Attributes:
        number: Its place among the chunks, from 0.
        first: The smallest ordinal.
        stop: The first ordinal behind it.
        state: "done" when the online store has acknowledged every row.
        written: Rows that the store took.
        kept: Rows that lost to a newer stored one.
        expired: Rows so old that they were not offered.
    """

    number: int
    first: int
    stop: int
    state: ChunkState = "pending"
    written: int = 0
    kept: int = 0
    expired: int = 0

    @property
    def ordinals(self) -> range:
        """The range of ordinals."""
        return range(self.first, self.stop)

    @property
    def entities(self) -> int:
        """How many entities were looked at; 0 until it is done."""
        return self.written + self.kept + self.expired


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRecord:
    """A run that has not ended, with all that it takes to go on with it.

    Attributes:
        kind: As of a `RunRecord`, like `start_us` and `end_us`.
        after_us: Rows with `event_ts` up to here are not read, or None.
        created_after_us: Rows created up to here are not read, or None.
        or_event_after_us: Unless their `event_ts` is beyond this, or None.
        overwrite: Whether stored rows are replaced even if they are newer.
        clock_us: The project's time when it began: the created time of windows.
        began_at: When it began, in UTC by the wall clock.
        holder: Of the lease of the attempt that is under way, or was the last.
        source_files: The files that were fixed at its start.
        chunks: What it is divided into, in order; empty while nothing was read.
        attempt: 1, and one more with every time it was resumed.
        attempted_at: When the last attempt began.
        seen_at: When the last attempt gave the last sign of life.
        state: "failed" with an error; "running" also after a death that nobody could report.
        error: Why the last attempt failed, or None.
    """

    project: str
    view: str
    generation: int
    kind: RunKind
    start_us: int | None
    end_us: int
    after_us: int | None
    created_after_us: int | None
    or_event_after_us: int | None
    overwrite: bool
    clock_us: int
    began_at: datetime
    holder: str
    source_files: tuple[ReadFile, ...]
    chunks: tuple[Chunk, ...] = ()
    attempt: int = 1
    attempted_at: datetime
    seen_at: datetime
    state: TaskState = "running"
    error: str | None = None

    @property
    def done_chunks(self) -> tuple[Chunk, ...]:
        """The chunks that need not be offered again."""
        return tuple(chunk for chunk in self.chunks if chunk.state == "done")

"""Materializations: which there were, how far they got, and who runs now."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, NamedTuple

RunKind = Literal["full", "window", "incremental"]
RunStatus = Literal["succeeded", "failed"]

MAX_HOLDER: Final = 255
MAX_ERROR: Final = 4_096
KEPT_RUNS: Final = 1_000
"""So many of a view's runs are kept, the newest."""


class ReadFile(NamedTuple):
    """A file as a run found it: enough to see later that it was rewritten."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One materialization of one generation of a view, when it is over.

    Attributes:
        kind: "full" reads everything up to the end, "window" event times in (start, end],
            "incremental" what is new by the watermark.
        start_us: Exclusive start of a window in microseconds since the epoch, else None.
        end_us: Inclusive end in microseconds since the epoch.
        rows_read: Rows read from the source.
        rows_written: Rows that replaced or joined what the online store had.
        rows_kept: Rows that lost to a newer one in the store.
        rows_skipped: Rows that were not offered: expired, without a key or without a time.
        seconds: How long it took.
        error: Why it failed, cut to 4,096 characters; None when it succeeded.
        source_files: The files that were fixed at its start. A registry keeps them with the
            watermark and not with every run, so what `runs()` returns has none here.
        file_count: How many there were; counted from `source_files` where those are given.
    """

    project: str
    view: str
    generation: int
    kind: RunKind
    start_us: int | None
    end_us: int
    status: RunStatus
    started_at: datetime
    finished_at: datetime
    rows_read: int = 0
    rows_written: int = 0
    rows_kept: int = 0
    rows_skipped: int = 0
    seconds: float = 0.0
    error: str | None = None
    source_files: tuple[ReadFile | tuple[str, int, int], ...] = ()
    file_count: int = 0

    def __post_init__(self) -> None:
        if self.source_files:
            object.__setattr__(self, "file_count", len(self.source_files))


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """How far one generation of a view has been materialized: where the next run has to look.

    Attributes:
        end_us: The greatest end of a run.
        event_us: The greatest event time read; None while no row was.
        created_us: The greatest created time read; None without rows, or without such a column.
        source_files: The files of the run that moved it last. The registry fills this in.
        updated_at: When that run ended, in UTC. The registry fills this in.
    """

    end_us: int
    event_us: int | None
    created_us: int | None
    source_files: tuple[ReadFile, ...] = ()
    updated_at: datetime | None = None


class Recorded(NamedTuple):
    """What recording a run changed: the watermark now, if any, and whether lookups switched."""

    watermark: Watermark | None
    switched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to materialize a view until `expires_at`.

    Attributes:
        holder: Who holds it: unique to the run, and telling in a message (host and process).
        expires_at: In UTC, by the wall clock.
        acquired_at: Since when; None where an older version took it.
    """

    project: str
    view: str
    holder: str
    expires_at: datetime
    acquired_at: datetime | None = None


def advanced(
    current: Watermark | None, run: RunRecord, reached: Watermark | None
) -> Watermark | None:
    """Return the watermark after a run that read everything up to where it `reached`.

    The end never moves back, and a run that ended before the watermark moves nothing at all: it may
    have seen rows created later than the watermark's, but not those of them between the two ends,
    and an incremental run that started from there would never read these. A full run replaces the
    times, because it read all there is; an incremental one read only what was new to it.
    """
    if run.status != "succeeded" or reached is None:
        return current
    if current is None and run.kind == "incremental":
        return None  # what it went on from was forgotten since it was planned
    if current is not None and reached.end_us < current.end_us:
        return current
    files = tuple(ReadFile(*file) for file in run.source_files)
    moved = replace(reached, source_files=files, updated_at=run.finished_at)
    if current is None or run.kind == "full":
        return moved
    return replace(
        moved,
        event_us=_greater(current.event_us, reached.event_us),
        created_us=_greater(current.created_us, reached.created_us),
    )


def _greater(a: int | None, b: int | None) -> int | None:
    return b if a is None else a if b is None else max(a, b)

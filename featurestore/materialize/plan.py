"""What a run has to read: watermarks and bounds in, a task out. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from featurestore.definitions import FeatureView
from featurestore.definitions.base import duration_micros
from featurestore.errors import RequestError
from featurestore.offline.engine import RowFilter
from featurestore.registry.runs import RunKind, Watermark
from featurestore.registry.state import RegisteredView
from featurestore.registry.tasks import MAX_CHUNKS, TaskRecord
from featurestore.time import format_instant, from_micros

CHUNK_ENTITIES = 250_000
"""Entities of one chunk: about a second's writing, which a resumed run has to do again."""
WINDOW_CHUNK_ENTITIES = 1_000_000
"""The same of a view with windows, which reads the whole source once for each chunk."""
MIN_GRACE_US = duration_micros(timedelta(days=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One run for one view.

    Attributes:
        view: The view and its generation.
        kind: "full" reads everything up to the end, "window" what lies after a start, "incremental"
            what is new since the watermark. A window leaves the watermark where it is, because it
            says nothing about what came before its start.
        rows: What to read.
        start_us: Exclusive start of a window, or None.
        end_us: Inclusive end.
        clipped: Whether the end asked for lay in the future and was moved to now.
    """

    view: RegisteredView
    kind: RunKind
    rows: RowFilter
    start_us: int | None
    end_us: int
    clipped: bool

    @property
    def advances_watermark(self) -> bool:
        """Whether a later incremental run may rely on this one."""
        return self.kind != "window"


def plan_run(
    view: RegisteredView, *, start_us: int | None, end_us: int | None, now_us: int
) -> Task:
    """Return the task of `materialize(start, end)`: event times in (start, end].

    Raises:
        RequestError: The start is not before the end, or the view has windows and takes none.
    """
    end, clipped = _clip(end_us, now_us)
    if start_us is not None and view.definition.aggregations:
        raise RequestError(
            f"materialize: view {view.definition.name!r} has windows, which are computed at the end"
            " of a run from all that came before it; there is no start.",
            hint="leave the start out, or name the other views",
        )
    if start_us is not None and start_us >= end:
        raise RequestError(
            f"materialize: the start {_shown(start_us)} is not before the end {_shown(end)}.",
            hint="the interval is (start, end]",
        )
    return Task(
        view=view,
        kind="full" if start_us is None else "window",
        rows=RowFilter(until_us=end, after_us=start_us),
        start_us=start_us,
        end_us=end,
        clipped=clipped,
    )


def plan_incremental(
    view: RegisteredView, watermark: Watermark | None, *, end_us: int | None, now_us: int
) -> Task:
    """Return the task of `materialize_incremental(end)`; without a watermark it reads all.

    Windows move with the end, also where nothing is new: of a view with aggregations all is read.
    So it is where something is joined, a late row of which changes rows that are not new.
    """
    end, clipped = _clip(end_us, now_us)
    if view.definition.aggregations or view.definition.joins:
        watermark = None
    return Task(
        view=view,
        kind="full" if watermark is None else "incremental",
        rows=_new_rows(view.definition, watermark, end),
        start_us=None,
        end_us=end,
        clipped=clipped,
    )


def resumed_task(record: TaskRecord, view: RegisteredView) -> Task:
    """Return what an interrupted run was about: it reads the same rows again."""
    return Task(
        view=view,
        kind=record.kind,
        rows=RowFilter(
            until_us=record.end_us,
            after_us=record.after_us,
            created_after_us=record.created_after_us,
            or_event_after_us=record.or_event_after_us,
        ),
        start_us=record.start_us,
        end_us=record.end_us,
        clipped=False,
    )


def chunk_entities(view: FeatureView) -> int:
    """Return how many entities of a view a chunk has, about."""
    return WINDOW_CHUNK_ENTITIES if view.aggregations else CHUNK_ENTITIES


def chunk_count(entities: int, size: int) -> int:
    """Return into how many chunks of a size to divide a run: at least one, a bounded number."""
    return min(max(-(-entities // size), 1), MAX_CHUNKS)


def _new_rows(view: FeatureView, watermark: Watermark | None, end: int) -> RowFilter:
    if watermark is None or watermark.event_us is None:
        return RowFilter(until_us=end)
    lateness = duration_micros(view.source.lateness)
    if view.source.created_timestamp_column is None:
        return RowFilter(until_us=end, after_us=watermark.event_us - lateness)
    if watermark.created_us is None:
        return RowFilter(until_us=end)
    return RowFilter(
        until_us=end,
        created_after_us=watermark.created_us - lateness,
        or_event_after_us=watermark.event_us,
    )


def remaining_us(view: FeatureView) -> int | None:
    """Return how long after its event time a row is kept: ttl + grace, None for ever."""
    if view.ttl_us is None:
        return None
    return view.ttl_us + max(view.ttl_us, MIN_GRACE_US)


def _clip(end_us: int | None, now_us: int) -> tuple[int, bool]:
    if end_us is None:
        return now_us, False
    return (now_us, True) if end_us > now_us else (end_us, False)


def _shown(micros: int) -> str:
    return format_instant(from_micros(micros))

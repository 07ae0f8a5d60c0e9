"""Tasks and their chunks in SQL: functions over an open transaction."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, insert, select, update

from featurestore.registry.runs import MAX_ERROR, ReadFile, RunRecord
from featurestore.registry.sql.objects import plain, to_json
from featurestore.registry.sql.tables import CHUNKS, TASKS
from featurestore.registry.tasks import Chunk, TaskRecord
from featurestore.time import from_micros, to_micros

_COPIED = (
    "project",
    "view",
    "generation",
    "kind",
    "start_us",
    "end_us",
    "after_us",
    "created_after_us",
    "or_event_after_us",
    "overwrite",
    "clock_us",
    "attempt",
    "state",
    "holder",
    "error",
)
_SILENT = "It ended without a word, killed perhaps; its last sign of life was at {}."


def put_task(connection: Connection, task: TaskRecord) -> None:
    """Write a task that begins; there is none of its view."""
    row = {name: getattr(task, name) for name in _COPIED}
    row["began_us"] = to_micros(task.began_at)
    row["attempted_us"] = to_micros(task.attempted_at)
    row["seen_us"] = to_micros(task.seen_at)
    row["source_files"] = to_json(task.source_files)
    connection.execute(insert(TASKS).values(row))


def read_tasks(
    connection: Connection, project: str, views: Sequence[str] | None = None
) -> list[TaskRecord]:
    """Return the tasks of a project, or of some views of it, by view, with their chunks."""
    query = select(TASKS).where(TASKS.c.project == project).order_by(TASKS.c.view)
    if views is not None:
        query = query.where(TASKS.c.view.in_(views))
    return [_task(row, _chunks(connection, row)) for row in connection.execute(query)]


def read_task(connection: Connection, project: str, view: str) -> TaskRecord | None:
    """Return the task of a view, or None."""
    found = read_tasks(connection, project, [view])
    return found[0] if found else None


def _chunks(connection: Connection, task: Row[Any]) -> tuple[Chunk, ...]:
    query = select(CHUNKS).where(_of(CHUNKS, task.project, task.view)).order_by(CHUNKS.c.chunk)
    return tuple(
        Chunk(
            number=row.chunk,
            first=row.first_ordinal,
            stop=row.stop_ordinal,
            state=row.state,
            written=row.rows_written,
            kept=row.rows_kept,
            expired=row.rows_expired,
        )
        for row in connection.execute(query)
    )


def _task(row: Row[Any], chunks: tuple[Chunk, ...]) -> TaskRecord:
    return TaskRecord(
        **{name: getattr(row, name) for name in _COPIED},
        began_at=from_micros(row.began_us),
        attempted_at=from_micros(row.attempted_us),
        seen_at=from_micros(row.seen_us),
        source_files=tuple(ReadFile(*file) for file in json.loads(row.source_files)),
        chunks=chunks,
    )


def take_over(
    connection: Connection, task: TaskRecord, holder: str, *, now: datetime
) -> TaskRecord:
    """Begin another attempt at a task and return it as it is now."""
    again = replace(
        task,
        attempt=task.attempt + 1,
        attempted_at=now,
        seen_at=now,
        state="running",
        holder=holder,
        error=None,
    )
    values = {
        "attempt": again.attempt,
        "attempted_us": to_micros(now),
        "seen_us": to_micros(now),
        "state": "running",
        "holder": holder,
        "error": None,
    }
    _update(connection, task, values)
    return again


def put_chunks(connection: Connection, task: TaskRecord, chunks: Iterable[Chunk]) -> None:
    """Divide a task into chunks, instead of what it was divided into before."""
    connection.execute(delete(CHUNKS).where(_of(CHUNKS, task.project, task.view)))
    rows = [
        {
            "project": task.project,
            "view": task.view,
            "chunk": chunk.number,
            "first_ordinal": chunk.first,
            "stop_ordinal": chunk.stop,
            "state": chunk.state,
            "rows_written": chunk.written,
            "rows_kept": chunk.kept,
            "rows_expired": chunk.expired,
        }
        for chunk in chunks
    ]
    if rows:
        connection.execute(insert(CHUNKS), rows)


def end_chunk(connection: Connection, task: TaskRecord, chunk: Chunk, *, now: datetime) -> None:
    """Note that all rows of a chunk are in the online store."""
    mine = and_(_of(CHUNKS, task.project, task.view), CHUNKS.c.chunk == chunk.number)
    values = {
        "state": "done",
        "rows_written": chunk.written,
        "rows_kept": chunk.kept,
        "rows_expired": chunk.expired,
        "finished_us": to_micros(now),
    }
    connection.execute(update(CHUNKS).where(mine).values(values))
    _update(connection, task, {"seen_us": to_micros(now)})


def note_alive(
    connection: Connection, project: str, view: str, holder: str, *, now: datetime
) -> None:
    """Note that the attempt of this holder lives."""
    mine = and_(_of(TASKS, project, view), TASKS.c.holder == holder)
    connection.execute(update(TASKS).where(mine).values(seen_us=to_micros(now)))


def fail_task(connection: Connection, run: RunRecord, holder: str) -> None:
    """Note why the attempt of this holder failed; a task that another run has is left alone."""
    mine = and_(_of(TASKS, run.project, run.view), TASKS.c.holder == holder)
    error = None if run.error is None else plain(run.error, MAX_ERROR)
    values = {"state": "failed", "error": error, "seen_us": to_micros(run.finished_at)}
    connection.execute(update(TASKS).where(mine).values(values))


def drop_task(connection: Connection, project: str, view: str) -> None:
    """Forget the task of a view, and its chunks."""
    for table in (CHUNKS, TASKS):
        connection.execute(delete(table).where(_of(table, project, view)))


def silent_end(task: TaskRecord) -> RunRecord | None:
    """Return the run that an attempt was which could not say how it ended; None if it could."""
    if task.state != "running":
        return None
    done = task.done_chunks
    return RunRecord(
        project=task.project,
        view=task.view,
        generation=task.generation,
        kind=task.kind,
        start_us=task.start_us,
        end_us=task.end_us,
        status="failed",
        started_at=task.attempted_at,
        finished_at=task.seen_at,
        rows_written=sum(chunk.written for chunk in done),
        rows_kept=sum(chunk.kept for chunk in done),
        seconds=(task.seen_at - task.attempted_at).total_seconds(),
        error=_SILENT.format(task.seen_at.isoformat(timespec="seconds")),
        source_files=task.source_files,
    )


def _update(connection: Connection, task: TaskRecord, values: dict[str, Any]) -> None:
    mine = _of(TASKS, task.project, task.view)
    connection.execute(update(TASKS).where(mine).values(values))


def _of(table: Table, project: str, view: str) -> ColumnElement[bool]:
    return and_(table.c.project == project, table.c.view == view)

"""Runs, watermarks and leases in SQL: functions over an open transaction."""

import json
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, and_, delete, insert, select, update

from featurestore.errors import LeaseHeldError
from featurestore.registry.runs import (
    KEPT_RUNS,
    MAX_ERROR,
    Lease,
    ReadFile,
    RunRecord,
    Watermark,
    advanced,
)
from featurestore.registry.sql.objects import plain, to_json
from featurestore.registry.sql.tables import LEASES, RUNS, WATERMARKS
from featurestore.time import from_micros, to_micros

_COPIED = (
    "project",
    "view",
    "generation",
    "kind",
    "start_us",
    "end_us",
    "status",
    "rows_read",
    "rows_written",
    "rows_kept",
    "rows_skipped",
    "seconds",
    "file_count",
)


def write_run(
    connection: Connection, run: RunRecord, reached: Watermark | None
) -> Watermark | None:
    """Append `run` and move the watermark of its generation; return where that is now.

    Of a view's runs the oldest go when there are more than `KEPT_RUNS`.
    """
    row = {name: getattr(run, name) for name in _COPIED}
    row["started_us"], row["finished_us"] = to_micros(run.started_at), to_micros(run.finished_at)
    row["error"] = None if run.error is None else plain(run.error, MAX_ERROR)
    connection.execute(insert(RUNS).values(row))
    _drop_old_runs(connection, run)
    current = read_watermark(connection, run.project, run.view, run.generation, lock=True)
    moved = advanced(current, run, reached)
    if moved is not None and moved is not current:
        _put(connection, WATERMARKS, _watermark_key(run), _watermark_row(moved, run))
    return moved


def _drop_old_runs(connection: Connection, run: RunRecord) -> None:
    mine = _is(RUNS, {"project": run.project, "view": run.view})
    newest = select(RUNS.c.id).where(mine).order_by(RUNS.c.id.desc())
    oldest_kept = connection.execute(newest.offset(KEPT_RUNS - 1).limit(1)).scalar_one_or_none()
    if oldest_kept is not None:
        connection.execute(delete(RUNS).where(mine, RUNS.c.id < oldest_kept))


def _watermark_key(run: RunRecord) -> dict[str, Any]:
    return {"project": run.project, "view": run.view, "generation": run.generation}


def _watermark_row(watermark: Watermark, run: RunRecord) -> dict[str, Any]:
    return {
        "end_us": watermark.end_us,
        "event_us": watermark.event_us,
        "created_us": watermark.created_us,
        "source_files": to_json(watermark.source_files),
        "updated_us": to_micros(run.finished_at),
    }


def read_watermark(
    connection: Connection, project: str, view: str, generation: int, *, lock: bool = False
) -> Watermark | None:
    """Return how far a generation got, or None if no run of it succeeded."""
    key = {"project": project, "view": view, "generation": generation}
    query = select(WATERMARKS).where(_is(WATERMARKS, key))
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        return None
    return Watermark(
        end_us=row.end_us,
        event_us=row.event_us,
        created_us=row.created_us,
        source_files=tuple(ReadFile(*file) for file in json.loads(row.source_files)),
        updated_at=from_micros(row.updated_us),
    )


def read_runs(
    connection: Connection, project: str, view: str | None, limit: int
) -> list[RunRecord]:
    """Return the newest `limit` runs, newest first."""
    query = select(RUNS).where(RUNS.c.project == project).order_by(RUNS.c.id.desc()).limit(limit)
    if view is not None:
        query = query.where(RUNS.c.view == view)
    return [_run(row) for row in connection.execute(query)]


def _run(row: Row[Any]) -> RunRecord:
    return RunRecord(
        **{name: getattr(row, name) for name in _COPIED},
        error=row.error,
        started_at=from_micros(row.started_us),
        finished_at=from_micros(row.finished_us),
    )


def take_lease(connection: Connection, lease: Lease, *, now: datetime) -> None:
    """Write `lease`; raise LeaseHeldError if there is one that was not given back or expired."""
    row = _lease_row(connection, lease.project, lease.view)
    if row is not None and row.holder is not None and row.expires_us > to_micros(now):
        raise _held(lease.view, row, now)
    key = {"project": lease.project, "view": lease.view}
    values = {
        "holder": lease.holder,
        "expires_us": to_micros(lease.expires_at),
        "acquired_us": to_micros(now),
    }
    _put(connection, LEASES, key, values)


def read_leases(connection: Connection, project: str, *, now: datetime) -> dict[str, Lease]:
    """Return the leases that are held and have not expired, by view."""
    held = and_(LEASES.c.project == project, LEASES.c.holder.is_not(None))
    query = select(LEASES).where(held, LEASES.c.expires_us > to_micros(now))
    return {row.view: _lease(row) for row in connection.execute(query)}


def _lease(row: Row[Any]) -> Lease:
    return Lease(
        project=row.project,
        view=row.view,
        holder=row.holder,
        expires_at=from_micros(row.expires_us),
        acquired_at=None if row.acquired_us is None else from_micros(row.acquired_us),
    )


def extend_lease(connection: Connection, lease: Lease, *, now: datetime) -> None:
    """Move the end of a lease, also of one that has expired if nobody took it since."""
    require_lease(connection, lease.project, lease.view, lease.holder, now=now)
    values = {"expires_us": to_micros(lease.expires_at)}
    connection.execute(update(LEASES).where(_of_holder(lease)).values(values))


def give_back_lease(connection: Connection, project: str, view: str, holder: str) -> None:
    """End a lease; one that somebody else took since is left to them."""
    mine = _is(LEASES, {"project": project, "view": view, "holder": holder})
    connection.execute(update(LEASES).where(mine).values(holder=None))


def require_lease(
    connection: Connection, project: str, view: str, holder: str, *, now: datetime
) -> None:
    """Raise LeaseHeldError if the lease was given back, or taken by somebody else."""
    row = _lease_row(connection, project, view)
    if row is None or row.holder != holder:
        raise _held(view, row, now)


def _held(view: str, row: Row[Any] | None, now: datetime) -> LeaseHeldError:
    if row is None or row.holder is None:
        return LeaseHeldError(view=view, holder="another run, or was until now", expires_in_s=0)
    at_us = to_micros(now)
    age_us = None if row.acquired_us is None else max(at_us - row.acquired_us, 0)
    return LeaseHeldError(
        view=view,
        holder=row.holder,
        expires_in_s=max(row.expires_us - at_us, 0) / 1e6,
        held_for_s=None if age_us is None else age_us / 1e6,
    )


def _lease_row(connection: Connection, project: str, view: str) -> Row[Any] | None:
    query = select(LEASES).where(_is(LEASES, {"project": project, "view": view}))
    return connection.execute(query.with_for_update()).one_or_none()


def _of_holder(lease: Lease) -> ColumnElement[bool]:
    return _is(LEASES, {"project": lease.project, "view": lease.view, "holder": lease.holder})


def _is(table: Table, key: dict[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in key.items()))


def _put(connection: Connection, table: Table, key: dict[str, Any], values: dict[str, Any]) -> None:
    """Update the row of that key, or insert it; the transaction keeps others out meanwhile."""
    changed = connection.execute(update(table).where(_is(table, key)).values(values))
    if changed.rowcount == 0:
        connection.execute(insert(table).values(key | values))

"""Definitions and their history in SQL: functions over an open transaction."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, insert, select, update

from featurestore.definitions.base import Document, fingerprint
from featurestore.errors import (
    DefinitionError,
    NotFoundError,
    RegistryConflictError,
    RegistryError,
    shown,
)
from featurestore.naming import check_object_name
from featurestore.registry.log import MAX_ACTOR, LogEntry
from featurestore.registry.plan import Change, FieldChange, Plan
from featurestore.registry.sql.tables import LOG, OBJECTS, PROJECTS
from featurestore.registry.state import ObjectRecord, RegistryState, build_state
from featurestore.time import from_micros, to_micros

Version = tuple[tuple[str, str, int, str], ...]
"""(kind, name, version, hash) of every object."""


def read_projects(connection: Connection) -> tuple[str, ...]:
    """Return the names of all projects, in order."""
    query = select(PROJECTS.c.project).order_by(PROJECTS.c.project)
    return tuple(connection.execute(query).scalars())


def require_project(connection: Connection, project: str) -> None:
    """Raise NotFoundError unless something was applied to `project`."""
    known = read_projects(connection)
    if project not in known:
        raise NotFoundError("project", project, known=known, where=" in the registry")


def read_version(connection: Connection, project: str) -> Version:
    """Return which version of each object is the newest, with its content's hash."""
    columns = (OBJECTS.c.kind, OBJECTS.c.name, OBJECTS.c.version, OBJECTS.c.hash)
    rows = connection.execute(_newest(project, columns))
    return tuple((kind, name, version, content) for kind, name, version, content in rows)


def read_state(connection: Connection, project: str, *, until: int | None = None) -> RegistryState:
    """Return what is registered; of a project that is not there, the empty state.

    Args:
        connection: Open.
        project: The project.
        until: The revision to go back to; None for the newest.
    """
    query = select(PROJECTS.c.revision).where(PROJECTS.c.project == project)
    revision = connection.execute(query).scalar_one_or_none()
    if revision is None:
        return RegistryState(project=project)
    records = [_record(row) for row in connection.execute(_newest(project, [OBJECTS], until=until))]
    return build_state(project, revision if until is None else until, records)


def _newest(project: str, columns: Sequence[Any], *, until: int | None = None) -> Select[Any]:
    """Select the newest version of each object, deletions included."""
    key = (OBJECTS.c.kind, OBJECTS.c.name)
    known = (
        OBJECTS.c.project == project,
        *(() if until is None else (OBJECTS.c.revision <= until,)),
    )
    newest = (
        select(*key, func.max(OBJECTS.c.version).label("version"))
        .where(*known)
        .group_by(*key)
        .subquery()
    )
    same = and_(
        OBJECTS.c.kind == newest.c.kind,
        OBJECTS.c.name == newest.c.name,
        OBJECTS.c.version == newest.c.version,
    )
    query = select(*columns).join(newest, same).where(OBJECTS.c.project == project)
    return query.order_by(*key)


def _record(row: Row[Any]) -> ObjectRecord:
    try:
        document = json.loads(row.document)
    except (ValueError, RecursionError) as error:
        raise _damaged(row, f"it is not JSON ({type(error).__name__})") from None
    if fingerprint(document) != row.hash:
        raise _damaged(row, "it is not what was applied: its hash differs")
    return ObjectRecord(
        kind=row.kind,
        name=row.name,
        version=row.version,
        generation=row.generation,
        deleted=row.deleted,
        document=document,
    )


def _damaged(row: Row[Any], reason: str) -> RegistryError:
    return RegistryError(
        f"The registry's {row.kind} {shown(row.name)} (version {row.version}) is damaged:"
        f" {reason}.",
        hint="restore the registry's backup",
    )


def swap_revision(connection: Connection, plan: Plan, now: datetime) -> int:
    """Raise the project's revision by one if it is the plan's, and return the new one.

    Raises:
        RegistryConflictError: It is another one.
        DefinitionError: The project is new and cannot have this name.
    """
    if plan.project not in (known := read_projects(connection)):
        _check_project_name(plan.project, known)
        created = {"project": plan.project, "revision": 0, "created_us": to_micros(now)}
        connection.execute(insert(PROJECTS).values(created))
    this = PROJECTS.c.project == plan.project
    swapped = connection.execute(
        update(PROJECTS)
        .where(this, PROJECTS.c.revision == plan.base_revision)
        .values(revision=plan.base_revision + 1)
    )
    if swapped.rowcount != 1:
        found = connection.execute(select(PROJECTS.c.revision).where(this)).scalar_one()
        raise RegistryConflictError(project=plan.project, expected=plan.base_revision, found=found)
    return plan.base_revision + 1


def _check_project_name(project: str, known: tuple[str, ...]) -> None:
    try:
        check_object_name(project)
    except ValueError as error:
        raise DefinitionError(f"project: {error}") from None
    for other in known:
        if other.casefold() == project.casefold():
            raise DefinitionError(
                f"project: {project!r} and the project {other!r}, which is there, differ only by"
                " case."
            )


def write_changes(
    connection: Connection, plan: Plan, *, revision: int, actor: str, now: datetime
) -> None:
    """Append a version of every object that changes, and a line to the log for each."""
    key = (OBJECTS.c.kind, OBJECTS.c.name)
    query = (
        select(*key, func.max(OBJECTS.c.version))
        .where(OBJECTS.c.project == plan.project)
        .group_by(*key)
    )
    versions = {(kind, name): version for kind, name, version in connection.execute(query)}
    shared = {"project": plan.project, "revision": revision}
    rows = [
        shared | _version(change, versions.get((change.kind, change.name), 0) + 1)
        for change in plan.changes
    ]
    who = {"actor": plain(actor, MAX_ACTOR), "at_us": to_micros(now)}
    connection.execute(insert(OBJECTS), rows)
    connection.execute(insert(LOG), [shared | who | _log_line(c) for c in plan.changes])


def _version(change: Change, version: int) -> dict[str, Any]:
    is_deletion = change.action == "delete"
    document: Document = (change.before if is_deletion else change.after) or {}
    return {
        "kind": change.kind,
        "name": change.name,
        "version": version,
        "generation": change.generation_before if is_deletion else change.generation_after,
        "deleted": is_deletion,
        "document": to_json(document),
        "hash": fingerprint(document),
    }


def _log_line(change: Change) -> dict[str, Any]:
    return {
        "action": change.action,
        "kind": change.kind,
        "name": change.name,
        "impact": change.impact,
        "fields": to_json([field.to_document() for field in change.fields]),
        "generation_before": change.generation_before,
        "generation_after": change.generation_after,
    }


def read_history(
    connection: Connection, project: str, limit: int, *, view: str | None = None
) -> list[LogEntry]:
    """Return the newest `limit` log entries of a project, or of a view of it, newest first."""
    query = select(LOG).where(LOG.c.project == project).order_by(LOG.c.id.desc()).limit(limit)
    if view is not None:
        query = query.where(LOG.c.kind == "feature view", LOG.c.name == view)
    return [_entry(row._mapping) for row in connection.execute(query)]  # noqa: SLF001 - public API


def _entry(row: Mapping[Any, Any]) -> LogEntry:
    copied = ("project", "revision", "actor", "action", "kind", "name", "impact")
    return LogEntry(
        **{name: row[name] for name in copied},
        at=from_micros(row["at_us"]),
        fields=tuple(FieldChange(**field) for field in json.loads(row["fields"])),
        generation_before=row["generation_before"],
        generation_after=row["generation_after"],
    )


def to_json(value: object) -> str:
    """Return `value` as ASCII: surrogates in file names survive, and no database refuses them."""
    return json.dumps(value, separators=(",", ":"))


def plain(text: str, limit: int) -> str:
    """Return `text` as a database takes it: cut to `limit`, NUL and surrogates escaped."""
    escaped = text[:limit].encode("utf-8", "backslashreplace").decode()
    return escaped.replace("\0", "\\x00")[:limit]

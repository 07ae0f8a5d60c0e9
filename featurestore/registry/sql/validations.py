"""The table of validations: functions over an open transaction."""

import json
from typing import Any, Final

from sqlalchemy import Connection, Row, and_, delete, insert, select

from featurestore.errors import RegistryError
from featurestore.registry.log import MAX_ACTOR
from featurestore.registry.sql.objects import plain
from featurestore.registry.sql.tables import PROJECTS, VALIDATIONS
from featurestore.registry.validations import KEPT_VALIDATIONS, ValidationRecord

MAX_DOCUMENT: Final = 4 << 20
"""Characters of one result; a longer one is kept without examples."""
_COLUMNS: Final = [column for column in VALIDATIONS.c if column.name != "id"]


def write_validation(connection: Connection, found: ValidationRecord) -> None:
    """Append a result; of one object's the oldest go beyond `KEPT_VALIDATIONS`."""
    revision = select(PROJECTS.c.revision).where(PROJECTS.c.project == found.project)
    values = {column.name: getattr(found, column.name) for column in _COLUMNS}
    values |= {
        "actor": plain(found.actor, MAX_ACTOR),
        "document": _text(found),
        "revision": connection.execute(revision).scalar_one(),
    }
    connection.execute(insert(VALIDATIONS).values(values))
    mine = and_(
        VALIDATIONS.c.project == found.project,
        VALIDATIONS.c.kind == found.kind,
        VALIDATIONS.c.name == found.name,
    )
    newest = select(VALIDATIONS.c.id).where(mine).order_by(VALIDATIONS.c.id.desc())
    kept = newest.offset(KEPT_VALIDATIONS - 1).limit(1)
    oldest_kept = connection.execute(kept).scalar_one_or_none()
    if oldest_kept is not None:
        connection.execute(delete(VALIDATIONS).where(mine, VALIDATIONS.c.id < oldest_kept))


def read_validations(
    connection: Connection, project: str, *, kind: str | None, name: str | None, limit: int
) -> list[ValidationRecord]:
    """Return the newest results, of one object or of all, newest first."""
    query = select(*_COLUMNS).where(VALIDATIONS.c.project == project)
    if kind is not None:
        query = query.where(VALIDATIONS.c.kind == kind)
    if name is not None:
        query = query.where(VALIDATIONS.c.name == name)
    rows = connection.execute(query.order_by(VALIDATIONS.c.id.desc()).limit(limit))
    return [_record(row) for row in rows]


def _text(found: ValidationRecord) -> str:
    text = json.dumps(found.document, allow_nan=False)
    if len(text) <= MAX_DOCUMENT:
        return text
    rules = [{**rule, "examples": []} for rule in found.document["rules"]]
    return json.dumps({**found.document, "rules": rules}, allow_nan=False)


def _record(row: Row[Any]) -> ValidationRecord:
    values = dict(row._mapping)  # noqa: SLF001 - its documented name
    try:
        values["document"] = json.loads(values["document"])
    except (ValueError, RecursionError):
        raise RegistryError(
            f"A validation of {values['name']!r} in the registry is damaged.",
            hint="restore the registry's backup",
        ) from None
    return ValidationRecord(**values)

"""The table of keys. Rows are never deleted: who could do what, and when, stays known."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from featurestore.access import HASH_BYTES, KeyRecord, grants_document, read_grants
from featurestore.errors import NotFoundError, RegistryError, RequestError, shown
from featurestore.registry.log import MAX_ACTOR
from featurestore.registry.sql.objects import plain
from featurestore.registry.sql.tables import KEYS
from featurestore.time import to_micros

MAX_KEYS: Final = 10_000
"""Keys of a project that were not revoked: servers hold them in memory."""

_COLUMNS: Final = [column for column in KEYS.c if column.name != "project"]


def read_keys(connection: Connection, project: str) -> list[KeyRecord]:
    """Return all keys of a project, oldest first."""
    query = select(*_COLUMNS).where(KEYS.c.project == project)
    rows = connection.execute(query.order_by(KEYS.c.created_us, KEYS.c.id))
    return [_record(row) for row in rows]


def put_key(connection: Connection, project: str, key: KeyRecord) -> None:
    """Write a new key."""
    in_force = [known for known in read_keys(connection, project) if known.revoked_us is None]
    _check_new(key, in_force)
    values = {column.name: getattr(key, column.name) for column in _COLUMNS}
    values |= {
        "grants": json.dumps(grants_document(key.grants)),
        "created_by": plain(key.created_by, MAX_ACTOR),
    }
    connection.execute(insert(KEYS).values(project=project, **values))


def _check_new(key: KeyRecord, in_force: Sequence[KeyRecord]) -> None:
    if len(in_force) >= MAX_KEYS:
        raise RequestError(
            f"There are {len(in_force):,} keys, and there can be no more.",
            hint="revoke those that are not used: featurestore keys list",
        )
    for known in in_force:
        if known.name == key.name:
            raise RequestError(
                f"There is a key {shown(key.name)} already, with the id {known.id}.",
                hint="choose another name, or revoke that one",
            )
        if key.certificate is not None and known.certificate == key.certificate:
            raise RequestError(
                f"The key {shown(known.name)} is for the certificate of {shown(key.certificate)}"
                " already.",
                hint="revoke that one first",
            )


def revoke(
    connection: Connection, project: str, name_or_id: str, *, now: datetime, actor: str
) -> KeyRecord:
    """Put the key in force that has this id, or else this name, out of force."""
    in_force = [known for known in read_keys(connection, project) if known.revoked_us is None]
    found = next((k for k in in_force if k.id == name_or_id), None) or next(
        (k for k in in_force if k.name == name_or_id), None
    )
    if found is None:
        raise NotFoundError("key in force", name_or_id, known=[k.name for k in in_force])
    revoked = replace(found, revoked_us=to_micros(now), revoked_by=plain(actor, MAX_ACTOR))
    connection.execute(
        update(KEYS)
        .where(KEYS.c.project == project, KEYS.c.id == found.id)
        .values(revoked_us=revoked.revoked_us, revoked_by=revoked.revoked_by)
    )
    return revoked


def _record(row: Row[Any]) -> KeyRecord:
    values = dict(row._mapping)  # noqa: SLF001 - its documented name
    try:
        grants = read_grants(json.loads(values["grants"]))
        hashes = [bytes.fromhex(text) for text in (values["hash"],) if text is not None]
    except (ValueError, TypeError):
        raise _damaged(values["id"]) from None
    if any(len(known) != HASH_BYTES for known in hashes):
        raise _damaged(values["id"])
    return KeyRecord(**{**values, "grants": grants})


def _damaged(key_id: object) -> RegistryError:
    return RegistryError(
        f"The key {shown(str(key_id))} in the registry is damaged.",
        hint="restore the registry's backup",
    )

"""Tables that an older version of this package made, brought up to this one's in place.

Only a write upgrades: who reads an older registry finds in it what was there then, and a registry
on a file system that cannot be written stays readable. Steps only add, so that none can lose what
was registered, and all of them are one transaction.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sqlalchemy import Connection, update

from featurestore.registry.sql.sqlite import has_table
from featurestore.registry.sql.tables import (
    CHUNKS,
    DATASETS,
    KEYS,
    META,
    METADATA,
    SCHEMA_VERSION,
    SERVING,
    TASKS,
    VALIDATIONS,
)


def upgrade(connection: Connection, found: int) -> None:
    """Take the steps from the version that the tables have to `SCHEMA_VERSION`."""
    if found == SCHEMA_VERSION:
        return
    for version in range(found, SCHEMA_VERSION):
        _STEPS[version](connection)
    is_version = META.c.key == "schema_version"
    connection.execute(update(META).where(is_version).values(value=str(SCHEMA_VERSION)))


def has_tasks(connection: Connection) -> bool:
    """Whether the registry keeps tasks: one of version 1 that was only read since does not."""
    return has_table(connection, TASKS.name)


def has_keys(connection: Connection) -> bool:
    """Whether the registry keeps keys: one before version 3 that was only read since does not."""
    return has_table(connection, KEYS.name)


def has_datasets(connection: Connection) -> bool:
    """Whether the registry keeps datasets: one before version 4 that was only read does not."""
    return has_table(connection, DATASETS.name)


def has_validations(connection: Connection) -> bool:
    """Whether the registry keeps validations: one before version 4 that was only read does not."""
    return has_table(connection, VALIDATIONS.name)


def _keep_datasets(connection: Connection) -> None:
    """Version 4: datasets, and what validations found."""
    METADATA.create_all(connection, tables=[DATASETS, VALIDATIONS])


def _keep_keys(connection: Connection) -> None:
    """Version 3: keys of callers."""
    METADATA.create_all(connection, tables=[KEYS])


def _keep_tasks(connection: Connection) -> None:
    """Version 2: tasks with their chunks, since when a lease has been held, live generations."""
    METADATA.create_all(connection, tables=[TASKS, CHUNKS, SERVING])
    connection.exec_driver_sql("ALTER TABLE featurestore_leases ADD COLUMN acquired_us BIGINT")
    connection.exec_driver_sql(
        "ALTER TABLE featurestore_projects ADD COLUMN switches BIGINT NOT NULL DEFAULT 0"
    )


_STEPS: Final[Mapping[int, Callable[[Connection], None]]] = {
    1: _keep_tasks,
    2: _keep_keys,
    3: _keep_datasets,
}

"""Forgetting what was materialized, in SQL; definitions and logs stay."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, tuple_, update

from featurestore.registry.sql.tables import CHUNKS, PROJECTS, SERVING, TASKS, WATERMARKS


def forget_runs(connection: Connection, project: str) -> None:
    """Forget how far a project is online, its interrupted runs, and what lookups read."""
    for table in (CHUNKS, TASKS, WATERMARKS, SERVING):
        connection.execute(delete(table).where(table.c.project == project))
    counted = update(PROJECTS).where(PROJECTS.c.project == project)
    connection.execute(counted.values(switches=PROJECTS.c.switches + 1))


def forget_watermarks(
    connection: Connection, project: str, generations: Collection[tuple[str, int]]
) -> None:
    """Forget how far some (view, generation) are online."""
    which = tuple_(WATERMARKS.c.view, WATERMARKS.c.generation).in_(list(generations))
    connection.execute(delete(WATERMARKS).where(WATERMARKS.c.project == project, which))

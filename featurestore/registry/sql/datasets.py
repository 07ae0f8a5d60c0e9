"""The table of datasets: functions over an open transaction."""

from dataclasses import replace
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from featurestore.errors import RegistryError, shown
from featurestore.naming import check_object_name
from featurestore.registry.datasets import DatasetRecord, check_new_name
from featurestore.registry.log import MAX_ACTOR
from featurestore.registry.sql.objects import plain
from featurestore.registry.sql.tables import DATASETS

_COLUMNS: Final = [column for column in DATASETS.c if column.name != "project"]


def read_datasets(connection: Connection, project: str) -> list[DatasetRecord]:
    """Return all datasets of a project, by name and version; unfinished ones, too."""
    query = select(*_COLUMNS).where(DATASETS.c.project == project)
    rows = connection.execute(query.order_by(DATASETS.c.name, DATASETS.c.version))
    return [_record(DatasetRecord(**row._mapping)) for row in rows]  # noqa: SLF001 - public API


def _record(record: DatasetRecord) -> DatasetRecord:
    """Return a record whose name can be that of a folder."""
    try:
        check_object_name(record.name)
    except (ValueError, TypeError):
        raise RegistryError(
            f"The registry's dataset {shown(str(record.name))} is damaged: no dataset can have this"
            " name.",
            hint="restore the registry's backup",
        ) from None
    return record


def announce(connection: Connection, project: str, record: DatasetRecord) -> bool:
    """Write a dataset that is about to be there; return whether its version was free.

    Raises:
        DatasetExistsError: Another one's name differs only by case.
    """
    known = read_datasets(connection, project)
    check_new_name(record.name, known)
    if (record.name, record.version) in {(other.name, other.version) for other in known}:
        return False
    values = {column.name: getattr(record, column.name) for column in _COLUMNS}
    values["created_by"] = plain(record.created_by, MAX_ACTOR)
    connection.execute(insert(DATASETS).values(project=project, **values))
    return True


def complete(connection: Connection, project: str, record: DatasetRecord) -> DatasetRecord:
    """Note that a dataset that was announced is there, even if somebody forgot it meanwhile.

    Raises:
        RegistryError: Its version has become another one's.
    """
    done = replace(record, building=None)
    query = update(DATASETS).where(*_this(project, record)).values(building=None)
    if connection.execute(query).rowcount == 1 or announce(connection, project, done):
        return done
    for other in read_datasets(connection, project):
        if (other.name, other.version) == (done.name, done.version):
            if other.building is None and other.manifest_hash == done.manifest_hash:
                return done  # somebody took its builder for dead, and did this already
            break
    raise RegistryError(
        f"Version {done.version} of dataset {done.name!r} became another one's while it was built.",
        hint="do all that create datasets in this project see the same folder of datasets?",
    )


def withdraw(connection: Connection, project: str, record: DatasetRecord) -> None:
    """Forget a dataset that was announced and is not there."""
    connection.execute(delete(DATASETS).where(*_this(project, record)))


def _this(project: str, record: DatasetRecord) -> tuple[ColumnElement[bool], ...]:
    return (
        DATASETS.c.project == project,
        DATASETS.c.name == record.name,
        DATASETS.c.version == record.version,
        DATASETS.c.building == record.building,
    )

"""Building a dataset: files, then the manifest, then the registry, then its name.

Whatever step a process dies at, no dataset is there, or a whole one. Until the folder has its name
it cannot be taken for a dataset; from then on the registry has the hash of its manifest, and knows
it as one whose build is not over: whoever builds next finishes it (`settle`).
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurestore.datasets.digest import TableDigest, digest_of, logical_type
from featurestore.datasets.files import FilesWriter, kept_schema, row_groups, write_manifest
from featurestore.datasets.manifest import (
    MAX_BYTES,
    NAME,
    DataFile,
    Manifest,
    column_facts,
    hash_of,
)
from featurestore.datasets.places import (
    Building,
    Places,
    abandoned,
    building,
    is_folder,
    read_regular,
    remove,
)
from featurestore.datasets.steps import Step
from featurestore.errors import UnsupportedError, shown
from featurestore.materialize.failpoints import hit
from featurestore.offline.atomic import output_error, sync, umask
from featurestore.registry.datasets import DatasetRecord
from featurestore.registry.sql import SqlRegistry
from featurestore.statistics import Profile, profile
from featurestore.time import parse_instant, to_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What was written of a table.

    Attributes:
        digest: The table's digest, by columns.
        files: The files.
        profile: Statistics of the columns.
    """

    digest: TableDigest
    files: tuple[DataFile, ...]
    profile: Profile


Describe = Callable[[Content], Manifest]
"""Makes the manifest, of version 1, of what was written."""


def build(
    places: Places,
    registry: SqlRegistry,
    name: str,
    *,
    tables: Callable[[], Iterable[pa.Table]],
    schema: pa.Schema,
    describe: Describe,
    check: Callable[[], None],
) -> DatasetRecord:
    """Write the next version of a dataset, and return what the registry knows of it.

    Args:
        places: Where.
        registry: The registry.
        name: The dataset's name, checked.
        tables: Computes the rows, in order; called once.
        schema: Theirs.
        describe: Makes the manifest.
        check: Called now and then; it may raise.

    Raises:
        DatasetExistsError: Another dataset's name differs only by case.
        UnsupportedError: A column cannot be kept in Parquet as it is.
        OutputError: Something cannot be written. Nothing is left of it.
        RegistryError: Somebody who does not see this folder took the version meanwhile.
    """
    target = places.of(name)
    _check_kept(schema)
    try:
        settle(places, registry, name)
        with building(places.make(name)) as folder:
            hit(Step.STAGED)
            content = _write(folder.path, tables, schema, check=check)
            sync(folder.path)
            hit(Step.DATA_WRITTEN)
            return _publish(places, registry, folder, describe(content))
    except OSError as error:
        raise output_error(target, error) from None


def settle(places: Places, registry: SqlRegistry, name: str) -> list[str]:
    """Finish or remove what builds of a dataset have left whose processes are dead.

    Returns:
        What was done, each in a line.
    """
    done: list[str] = []
    for record in registry.datasets(places.project):
        if record.name == name and record.building is not None:
            done += _settle(places, registry, record)
    for folder in places.unfinished(name):
        with abandoned(folder) as is_abandoned:
            if is_abandoned:
                remove(folder)
                done.append(f"removed what was left of a build of {name}")
    return done


def _settle(places: Places, registry: SqlRegistry, record: DatasetRecord) -> Iterator[str]:
    """Complete a dataset that has its name already, or forget one that never got it."""
    folder = places.version(record.name, record.version)
    was_in = places.building(record.name, record.building or "")
    what = f"{record.name}, version {record.version}"
    # This first: once a folder has got its name it is not where it was built.
    if was_in is not None and is_folder(was_in):
        with abandoned(was_in) as is_dead:
            if is_dead:
                registry.withdraw_dataset(places.project, record)
                yield f"forgot {what}: its build was not over"
        return
    if not places.is_there(folder.parent):
        return  # its builder made that: its disk is not here, so that nothing can be said of it
    if not places.is_there(folder):
        registry.withdraw_dataset(places.project, record)
        yield f"forgot {what}: its folder is gone"
        return
    with abandoned(folder) as is_dead:
        if not is_dead:
            return
        if _hash(folder / NAME) == record.manifest_hash:
            registry.complete_dataset(places.project, record)
            yield f"completed {what}: all of it was written"
        else:
            registry.withdraw_dataset(places.project, record)
            yield f"forgot {what}: another folder has its name"


def _hash(file: Path) -> str | None:
    try:
        return hash_of(read_regular(file, MAX_BYTES))
    except (OSError, ValueError):
        return None


def _write(
    folder: Path,
    tables: Callable[[], Iterable[pa.Table]],
    schema: pa.Schema,
    *,
    check: Callable[[], None],
) -> Content:
    """Write, digest and describe the rows as they are computed."""
    digest, writer = TableDigest(schema), FilesWriter(folder, schema)

    def passing(pool: ThreadPoolExecutor) -> Iterator[pa.Table]:
        for table in tables():
            for part in row_groups(table):
                check()
                digested = pool.submit(digest.update, part)
                writer.write(part)
                digested.result()
                yield part

    try:
        with ThreadPoolExecutor(1) as pool:
            found = profile(passing(pool), schema)
            return Content(digest=digest, files=writer.finish(), profile=found)
    finally:
        writer.abandon()


def _check_kept(schema: pa.Schema) -> None:
    """Refuse a column of which Parquet would make another type, or for which it has none."""
    for before, after in zip(schema, kept_schema(schema), strict=True):
        if logical_type(before.type) != logical_type(after.type):
            raise UnsupportedError(
                f"Column {shown(before.name)} is {str(before.type)[:80]}, which Parquet keeps as"
                f" {str(after.type)[:80]}.",
                hint=f"cast the spine's column to {str(after.type)[:80]}",
            )


def _publish(
    places: Places, registry: SqlRegistry, folder: Building, manifest: Manifest
) -> DatasetRecord:
    """Give a folder the next version's name, with its manifest, and let the registry know."""
    name = manifest.name
    while True:
        known = [r.version for r in registry.datasets(places.project) if r.name == name]
        version = max([*known, *places.versions(name)], default=0) + 1
        content = manifest.model_copy(update={"version": version}).to_bytes()
        write_manifest(folder.path / NAME, content)
        folder.path.chmod(0o777 & ~umask())
        sync(folder.path)
        hit(Step.MANIFEST_WRITTEN)
        record = _record(manifest, version, folder.path.name, hash_of(content))
        if not registry.announce_dataset(places.project, record):
            continue  # somebody else was faster
        hit(Step.ANNOUNCED)
        if folder.become(places.version(name, version)):
            hit(Step.RENAMED)
            completed = registry.complete_dataset(places.project, record)
            hit(Step.RECORDED)
            return completed
        registry.withdraw_dataset(places.project, record)


def _record(manifest: Manifest, version: int, folder: str, manifest_hash: str) -> DatasetRecord:
    return DatasetRecord(
        name=manifest.name,
        version=version,
        building=folder,
        manifest_hash=manifest_hash,
        digest=manifest.digest,
        rows=manifest.rows,
        size=manifest.size,
        revision=manifest.revision,
        created_us=to_micros(parse_instant(manifest.created_at)),
        created_by=manifest.created_by,
    )


def content_facts(content: Content, spine_columns: int) -> dict[str, Any]:
    """Return the fields of a manifest that say what was written, the spine's digest among them."""
    columns, rows = content.digest.columns(), content.digest.rows
    return {
        "rows": rows,
        "columns": column_facts(columns),
        "digest": digest_of(columns, rows=rows),
        "files": content.files,
        "statistics": content.profile.to_document(),
        "spine_digest": digest_of(columns[:spine_columns], rows=rows),
    }

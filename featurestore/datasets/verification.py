"""Are a dataset's files what its manifest says, and is that the one that was written?"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.datasets.digest import TableDigest
from featurestore.datasets.manifest import (
    MAX_BYTES,
    NAME,
    DataFile,
    Manifest,
    hash_of,
    read_manifest,
)
from featurestore.datasets.places import Places, open_regular, read_regular
from featurestore.errors import shown
from featurestore.registry.datasets import DatasetRecord

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, bytes done, bytes in all)."""
BLOCK_BYTES: Final = 1 << 22
BATCH_ROWS: Final = 100_000
MAX_FAULTS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: The file's name in the dataset's folder; empty for the folder as a whole.
        what: What is wrong with it.
    """

    file: str
    what: str

    def __str__(self) -> str:
        name = self.file if self.file.isprintable() else ascii(self.file)
        return f"{name}: {self.what}" if name else self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVerification:
    """What was found.

    Attributes:
        name: The dataset.
        version: Its version.
        files: Files looked at, the manifest among them.
        size: Bytes that were read.
        content: Whether the values' digest was computed, too.
        faults: All that is wrong, the manifest first.
    """

    name: str
    version: int
    files: int
    size: int
    content: bool
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify(
    places: Places,
    record: DatasetRecord,
    *,
    content: bool = False,
    progress: Progress | None = None,
) -> DatasetVerification:
    """Read all files of a dataset and compare them with its manifest, and that with the registry.

    Args:
        places: Where datasets are.
        record: What the registry knows of it.
        content: Compute the digest of the values, too, as they are read.
        progress: See `Progress`.
    """
    folder = places.version(record.name, record.version)
    manifest, faults = examine(places, record)
    read = _Reading(progress or (lambda *_: None), 0 if manifest is None else manifest.size)
    if manifest is not None:
        faults += _folder_faults(folder, manifest)
        for file in manifest.files:
            faults += _file_faults(folder / file.name, file, read)
        if content and not faults:
            faults += _content_faults(folder, manifest)
    return DatasetVerification(
        name=record.name,
        version=record.version,
        files=0 if manifest is None else len(manifest.files) + 1,
        size=read.done,
        content=content and manifest is not None,
        faults=tuple(faults[:MAX_FAULTS]),
    )


def examine(places: Places, record: DatasetRecord) -> tuple[Manifest | None, list[Fault]]:
    """Return the manifest of a dataset, if it can be read, and what is wrong with it."""
    folder = places.version(record.name, record.version)
    if not places.is_there(folder):
        return None, [Fault(file="", what=f"there is no folder {folder}")]
    try:
        content = read_regular(folder / NAME, MAX_BYTES)
    except (OSError, ValueError) as error:
        return None, [Fault(file=NAME, what=_unreadable(error))]
    faults = []
    if (found := hash_of(content)) != record.manifest_hash:
        what = f"its SHA-256 is {found}, and the registry has {record.manifest_hash}"
        faults.append(Fault(file=NAME, what=what))
    try:
        manifest = read_manifest(content)
    except ValueError as error:
        return None, [*faults, Fault(file=NAME, what=str(error))]
    identity = (manifest.project, manifest.name, manifest.version)
    if identity != (places.project, record.name, record.version):
        what = f"it is that of {shown(manifest.name)}, version {manifest.version}"
        return None, [*faults, Fault(file=NAME, what=what)]
    return manifest, faults


def size_faults(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    """Yield what the sizes of the files say: a look at the folder, and nothing is read."""
    for file in manifest.files:
        try:
            size = (folder / file.name).lstat().st_size
        except OSError as error:
            yield Fault(file=file.name, what=_unreadable(error))
            continue
        if size != file.size:
            yield Fault(file=file.name, what=_wrong_size(size, file.size))


class _Reading:
    """How much of the files was read so far."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self.done = 0

    def sha256(self, path: Path) -> tuple[str, int]:
        """Return the SHA-256 of a file, and how many bytes it has."""
        found, size = hashlib.sha256(), 0
        with open_regular(path) as file:
            while block := file.read(BLOCK_BYTES):
                found.update(block)
                size += len(block)
                self.done += len(block)
                self._progress("reading", min(self.done, self._total), self._total)
        return found.hexdigest(), size


def _folder_faults(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    expected = {NAME, *(file.name for file in manifest.files)}
    try:
        found = sorted(os.listdir(folder))  # noqa: PTH208 - names are all that is wanted
    except OSError as error:
        yield Fault(file="", what=f"the folder cannot be listed: {error.strerror}")
        return
    for name in found:
        if name not in expected:
            yield Fault(file=name, what="the dataset has no such file")


def _file_faults(path: Path, file: DataFile, read: _Reading) -> Iterator[Fault]:
    try:
        sha256, size = read.sha256(path)
    except (OSError, ValueError) as error:
        yield Fault(file=file.name, what=_unreadable(error))
        return
    if size != file.size:
        yield Fault(file=file.name, what=_wrong_size(size, file.size))
    elif sha256 != file.sha256:
        what = f"its SHA-256 is {sha256}, and the manifest has {file.sha256}"
        yield Fault(file=file.name, what=what)
    elif (rows := _rows(path)) != file.rows:
        yield Fault(file=file.name, what=f"it has {rows} rows, and the manifest has {file.rows:,}")


def _rows(path: Path) -> int | None:
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return None


def _content_faults(folder: Path, manifest: Manifest) -> Iterator[Fault]:
    """Compare values with the digest, after the files have been found to be what was written."""
    digest: TableDigest | None = None
    for file in manifest.files:
        parquet = pq.ParquetFile(folder / file.name, page_checksum_verification=True)
        digest = digest or TableDigest(parquet.schema_arrow)
        for batch in parquet.iter_batches(BATCH_ROWS):
            digest.update(batch)
    if digest is None or digest.hexdigest() != manifest.digest:
        found = None if digest is None else digest.hexdigest()
        what = f"the digest of the values is {found}, and the manifest has {manifest.digest}"
        yield Fault(file="", what=what)


def _wrong_size(found: int, expected: int) -> str:
    how = "truncated" if found < expected else "longer than it was"
    return f"it is {how}: {found:,} bytes, and the manifest has {expected:,}"


def _unreadable(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "it is missing"
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "it is a symbolic link"
    return f"it cannot be read: {getattr(error, 'strerror', None) or error}"

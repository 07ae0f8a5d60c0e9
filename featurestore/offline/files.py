"""Which files a source consists of, in the order that decides ties."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from featurestore.definitions import FileSource
from featurestore.errors import SourceChangedError, SourceError

MAX_FILES = 1_000_000
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file as it was when a run began.

    Attributes:
        path: Absolute path.
        size: Bytes.
        mtime_ns: Time of the last change, nanoseconds since the epoch.
        partitions: Columns that the folder names carry, as (name, text or None for null).
    """

    path: str
    size: int
    mtime_ns: int
    partitions: tuple[tuple[str, str | None], ...] = ()


def list_files(source: FileSource, root: Path) -> tuple[SourceFile, ...]:
    """Return the files of `source` in byte order of their full paths.

    Args:
        source: A file, a glob or a folder.
        root: Folder that relative paths start at.

    Raises:
        SourceError: There is no such file or folder, or the glob matches nothing.
    """
    pattern = str((root / source.path).absolute())
    path = Path(pattern)
    if path.is_dir():
        found, missing = _parquet_below(path), "holds no .parquet file"
    elif path.exists() or not glob.has_magic(pattern):
        found, missing = iter([pattern] if path.exists() else []), "does not exist"
    else:
        found, missing = _matches(pattern), "matches no file"
    base = _fixed_part(pattern)
    paths = sorted({os.path.normpath(p) for p in found}, key=os.fsencode)
    if not paths:
        raise SourceError(
            f"Source {source.name!r}: {source.path!r} {missing} (looked at {pattern}).",
            source=source.name,
            file=pattern,
            hint="check the path; relative paths start at the folder of feature_store.yaml",
        )
    if len(paths) > MAX_FILES:
        raise SourceError(
            f"Source {source.name!r} has {len(paths):,} files; {MAX_FILES:,} are allowed.",
            source=source.name,
        )
    return tuple(_describe(source, p, base) for p in paths)


def check_unchanged(source: str, files: Iterable[SourceFile]) -> None:
    """Make sure that files are still what they were when they were listed.

    Raises:
        SourceChangedError: It names the first that is not.
    """
    for file in files:
        try:
            stat = Path(file.path).stat()
        except OSError:
            stat = None
        if stat is None or (stat.st_size, stat.st_mtime_ns) != (file.size, file.mtime_ns):
            raise SourceChangedError(
                f"Source {source!r}: {file.path} {'changed' if stat else 'went away'} while it"
                " was being read.",
                source=source,
                file=file.path,
                hint="run it again; add new data as new files rather than rewriting old ones",
            )


def changed_files(files: Iterable[tuple[str, int, int]]) -> bool:
    """Whether any of these (path, size, mtime_ns) has changed or is gone."""
    for path, size, mtime_ns in files:
        try:
            stat = Path(path).stat()
        except OSError:
            return True
        if (stat.st_size, stat.st_mtime_ns) != (size, mtime_ns):
            return True
    return False


def _parquet_below(folder: Path) -> Iterator[str]:
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [f for f in folders if not f.startswith((".", "_"))]
        for name in names:
            if name.endswith(".parquet") and not name.startswith((".", "_")):
                yield f"{parent}/{name}"


def _matches(pattern: str) -> Iterator[str]:
    # Path.glob cannot take an absolute pattern.
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207
    return (p for p in found if Path(p).is_file())


def _fixed_part(pattern: str) -> str:
    """Return the folders before the first one that may carry partition values."""
    parts = Path(pattern).parts
    fixed = 0
    while fixed < len(parts) and not glob.has_magic(parts[fixed]) and "=" not in parts[fixed]:
        fixed += 1
    return str(Path(*parts[:fixed])) if fixed else ""


def _describe(source: FileSource, path: str, base: str) -> SourceFile:
    try:
        path.encode()
        stat = Path(path).stat()
    except (OSError, UnicodeEncodeError) as error:
        raise SourceError(
            f"Source {source.name!r}: {path!r} cannot be read ({type(error).__name__}).",
            source=source.name,
            file=path,
        ) from None
    return SourceFile(
        path=path,
        size=stat.st_size,
        mtime_ns=stat.st_mtime_ns,
        partitions=tuple(_partitions(path, base)),
    )


def _partitions(path: str, base: str) -> Iterator[tuple[str, str | None]]:
    for part in Path(path).relative_to(base or "/").parts[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            yield unquote(name), None if value == HIVE_NULL else unquote(value)

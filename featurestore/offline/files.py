"""Which files a source consists of, in the order that decides ties."""

import glob
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from featurestore.definitions import FileSource
from featurestore.errors import SourceChangedError, SourceError, shown

MAX_FILES = 1_000_000
MAX_SHOWN_PATH = 1_000
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


def list_files(
    source: FileSource, root: Path, *, only: Collection[str] | None = None
) -> tuple[SourceFile, ...]:
    """Return the files of `source` in byte order of their full paths.

    A file that links lead to more than once counts once, under the first of its paths.

    Args:
        source: A file, a glob or a folder.
        root: Folder that relative paths start at.
        only: The paths that count of all that are found, of which there may be none; None for all.
            What else is there is not looked at, were it a link to one of these files.

    Raises:
        SourceError: There is no such file or folder, the glob matches nothing, or something is in
            the way: no permission, a path that is too long.
    """
    place = _place(source.path, root)
    try:
        found, missing = _find(place)
        paths = sorted(set(found), key=os.fsencode)
    except (OSError, ValueError) as error:
        raise _unreadable(source, place.path, error) from None
    if not paths:
        raise SourceError(
            f"Source {source.name!r}: {shown(source.path)} {missing}"
            f" (looked at {_cut(place.path)}).",
            source=source.name,
            file=place.path,
            hint="check the path; relative paths start at the folder of feature_store.yaml",
        )
    if only is not None:
        paths = [path for path in paths if path in only]
    if len(paths) > MAX_FILES:
        raise SourceError(
            f"Source {source.name!r} has {len(paths):,} files; {MAX_FILES:,} are allowed.",
            source=source.name,
        )
    return tuple(_described(source, paths, place.base))


@dataclass(frozen=True, slots=True)
class NewFiles:
    """Where a source would find a file that is added to it.

    Attributes:
        folder: The folder.
        prefix: What the file's name has to begin with.
        suffix: What it has to end with.
    """

    folder: Path
    prefix: str
    suffix: str


def new_files(source: FileSource, root: Path) -> NewFiles | None:
    """Return where `source` would find another file; None for a single file.

    A glob with patterns in its folders' names, other than `**`, does not say it either.
    """
    place = _place(source.path, root)
    if Path(place.path).is_dir():
        return NewFiles(Path(place.path), "", ".parquet")
    if Path(place.path).exists() or not place.is_glob:
        return None
    *folders, name = place.below.parts
    folders = [part for part in folders if part != "**"]
    prefix, star, suffix = name.partition("*")
    suffix = suffix.replace("*", "")
    if not star or any(map(glob.has_magic, (*folders, prefix, suffix))):
        return None
    return NewFiles(place.start.joinpath(*folders), prefix, suffix or ".parquet")


def check_unchanged(source: str, files: Iterable[SourceFile]) -> None:
    """Make sure that files are still what they were when they were listed.

    Raises:
        SourceChangedError: It names the first that is not.
    """
    for file in files:
        found = _stamp(file.path)
        if found != (file.size, file.mtime_ns):
            raise SourceChangedError(
                f"Source {source!r}: {_cut(file.path)} {'changed' if found else 'went away'} while"
                " it was being read.",
                source=source,
                file=file.path,
                hint="run it again; add new data as new files rather than rewriting old ones",
            )


def changed_files(files: Iterable[tuple[str, int, int]]) -> bool:
    """Whether any of these (path, size, mtime_ns) has changed or is gone."""
    return any(_stamp(path) != (size, mtime_ns) for path, size, mtime_ns in files)


def _stamp(path: str) -> tuple[int, int] | None:
    """Return size and time of the last change, or None if there is no such file."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def absolute(path: Path) -> Path:
    """Return an absolute path without "..", as the paths of listed files begin."""
    path = path.absolute()
    # It follows links as the operating system does, so that it cannot just be cut out.
    return Path(os.path.realpath(path)) if ".." in path.parts else path


@dataclass(frozen=True, slots=True)
class _Place:
    """A source's path from where it starts.

    Attributes:
        start: An absolute folder without "..", to be taken literally: of a relative path the
            repository, whose own folders never carry partition values.
        below: The rest, which may be a glob.
    """

    start: Path
    below: Path

    @property
    def path(self) -> str:
        """The whole path."""
        return str(self.start / self.below)

    @property
    def is_glob(self) -> bool:
        """Whether the path may stand for several files."""
        return glob.has_magic(str(self.below))

    @property
    def base(self) -> Path:
        """The folders in front of the first one that may carry partition values."""
        fixed = self.start
        for part in self.below.parts:
            if glob.has_magic(part) or "=" in part:
                break
            fixed /= part
        return fixed


def _place(path: str, root: Path) -> _Place:
    below = Path(path)
    start = absolute(root)
    if below.is_absolute():
        start = Path(below.anchor)
        below = below.relative_to(start)
    if ".." in below.parts:
        up = len(below.parts) - below.parts[::-1].index("..")
        start, below = absolute(start.joinpath(*below.parts[:up])), Path(*below.parts[up:])
    return _Place(start, below)


def _find(place: _Place) -> tuple[Iterable[str], str]:
    """Return the paths of a place, and what to say if there are none."""
    path = Path(place.path)
    if path.is_dir():
        return _parquet_below(place.path), "holds no .parquet file"
    if path.exists() or not place.is_glob:
        return [place.path] if path.exists() else [], "does not exist"
    pattern = f"{glob.escape(str(place.start)).rstrip('/')}/{place.below}"
    found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 - pathlib takes no absolute pattern
    return (p for p in found if Path(p).is_file()), "matches no file"


def _parquet_below(folder: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise error  # a folder that cannot be listed must not go missing silently

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        folders[:] = [f for f in folders if not f.startswith((".", "_")) and _is_new(parent, f)]
        for name in names:
            if name.endswith(".parquet") and not name.startswith((".", "_")):
                yield f"{parent}/{name}"


def _is_new(parent: str, folder: str) -> bool:
    """Whether a folder is no link back to one of those it lies in."""
    path = Path(parent, folder)
    return not (path.is_symlink() and Path(parent).resolve().is_relative_to(path.resolve()))


def _described(source: FileSource, paths: Iterable[str], base: Path) -> Iterator[SourceFile]:
    """Yield the files behind `paths`; one that links lead to twice only once."""
    seen: dict[tuple[int, int], str] = {}
    for path in paths:
        try:
            path.encode()
            found = Path(path).stat()
        except (OSError, UnicodeEncodeError) as error:
            raise _unreadable(source, path, error) from None
        if not stat.S_ISREG(found.st_mode):
            raise _unreadable(source, path, OSError("it is no regular file"))
        first = seen.setdefault((found.st_dev, found.st_ino), path)
        if first != path and os.path.realpath(first) == os.path.realpath(path):
            continue
        yield SourceFile(
            path=path,
            size=found.st_size,
            mtime_ns=found.st_mtime_ns,
            partitions=tuple(_partitions(path, base)),
        )


def _unreadable(source: FileSource, path: str, error: Exception) -> SourceError:
    reason = getattr(error, "strerror", None) or str(error)
    return SourceError(
        f"Source {source.name!r}: {_cut(path)} cannot be read: {reason}.",
        source=source.name,
        file=path,
        hint="check the path, and the permissions of the file and its folders",
    )


def _cut(path: str) -> str:
    """Return a path for a message: escaped if it is no plain text, without its middle if long."""
    text = path if path.isprintable() else repr(path)[1:-1]
    return text if len(text) <= MAX_SHOWN_PATH else f"{text[:200]}...{text[-100:]}"


def _partitions(path: str, base: Path) -> Iterator[tuple[str, str | None]]:
    for part in Path(path).relative_to(base).parts[:-1]:
        name, equals, value = part.partition("=")
        if equals and name:
            yield _unescaped(name), None if value == HIVE_NULL else _unescaped(value)


def _unescaped(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text

"""Where datasets are, and how one appears there whole or not at all.

A dataset is the folder `PROJECT/NAME/vVERSION` below the configured one. It is built beside it, in
a folder whose name begins with a dot; that folder itself is locked (`flock`) until the dataset is
complete. The kernel lets go of a dead process's locks, so that what nobody has locked is left over.
Paths are made of checked names and numbers alone, and no symbolic link below the configured folder
is followed.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from featurestore.naming import check_object_name
from featurestore.offline.atomic import sync

BUILDING: Final = ".building-"
_BUILDING: Final = re.compile(re.escape(BUILDING) + r"[0-9a-f]{16}")
_VERSION: Final = re.compile(r"v([1-9][0-9]{0,8})")
_TAKEN: Final = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
TRIES: Final = 100


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one project's datasets.

    Attributes:
        base: The configured folder, which may itself be a link.
        project: The project.
    """

    base: Path
    project: str

    def of(self, name: str) -> Path:
        """Return the folder of all versions of a dataset.

        Raises:
            ValueError: No dataset can have this name.
        """
        return self.base / check_object_name(self.project) / check_object_name(name)

    def version(self, name: str, version: int) -> Path:
        """Return the folder of one version; raises like `of`."""
        return self.of(name) / f"v{version:d}"

    def building(self, name: str, folder: str) -> Path | None:
        """Return the folder that a dataset is built in; None if nothing is built in such a one."""
        return self.of(name) / folder if _BUILDING.fullmatch(folder) else None

    def is_there(self, folder: Path) -> bool:
        """Whether a folder of these is one, without a link on the way from the configured one."""
        parts = folder.relative_to(self.base).parts
        steps = (self.base.joinpath(*parts[: n + 1]) for n in range(len(parts)))
        return all(is_folder(step) for step in steps)

    def names(self) -> Iterator[str]:
        """Yield the names that have a folder."""
        with contextlib.suppress(OSError), os.scandir(self.base / self.project) as entries:
            for entry in entries:
                with contextlib.suppress(ValueError):
                    yield check_object_name(entry.name)

    def versions(self, name: str) -> Iterator[int]:
        """Yield the versions of which there is anything."""
        with contextlib.suppress(OSError), os.scandir(self.of(name)) as entries:
            for entry in entries:
                if match := _VERSION.fullmatch(entry.name):
                    yield int(match[1])

    def unfinished(self, name: str) -> Iterator[Path]:
        """Yield the folders in which this dataset is being built, or was when somebody died."""
        folder = self.of(name)
        if not self.is_there(folder):
            return
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            yield from (Path(e.path) for e in entries if _BUILDING.fullmatch(e.name))

    def make(self, name: str) -> Path:
        """Make the folder of a dataset's versions, and return it.

        Raises:
            OSError: It cannot be made, or a link is in the way.
        """
        folder = self.of(name)
        for parent in reversed([p for p in (folder, *folder.parents) if not p.exists()]):
            with contextlib.suppress(FileExistsError):
                parent.mkdir()
                sync(parent.parent)
        if not self.is_there(folder):
            raise NotADirectoryError(errno.ENOTDIR, "it is not a folder, or a link is in the way")
        return folder


@dataclass(slots=True)
class Building:
    """A folder of one's own that is to become a dataset.

    Attributes:
        path: Where it is now.
    """

    path: Path

    def become(self, target: Path) -> bool:
        """Take another name beside, for good; return False if that is taken."""
        try:
            self.path.rename(target)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        self.path = target
        sync(target.parent)
        return True


@contextlib.contextmanager
def building(parent: Path) -> Iterator[Building]:
    """Yield a new locked folder in `parent`; it is removed at the end unless it became another.

    Raises:
        OSError: It cannot be made.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(TRIES):
            folder = parent / f"{BUILDING}{secrets.token_hex(8)}"
            stack.callback(remove, folder)  # first: Ctrl-C may come any time
            if _claimed(folder, stack):
                yield Building(folder)
                return
    raise OSError(errno.EAGAIN, "new folders are removed at once")


def _claimed(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Make and lock a folder; return whether nobody took it for left over meanwhile."""
    folder.mkdir(0o700)
    try:
        descriptor = stack.enter_context(_opened(folder))
    except FileNotFoundError:
        return False
    return _lock(descriptor) and _is_still(folder, descriptor)


@contextlib.contextmanager
def abandoned(folder: Path) -> Iterator[bool]:
    """Yield whether a folder's builder has died; nobody else finds out so while the block lasts."""
    with contextlib.ExitStack() as stack:
        yield _is_abandoned(folder, stack)


def _is_abandoned(folder: Path, stack: contextlib.ExitStack) -> bool:
    try:
        descriptor = stack.enter_context(_opened(folder))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is locked, or is not such a folder, or there are no locks here
        return False
    return os.fstat(descriptor).st_uid == os.geteuid() and _is_still(folder, descriptor)


def remove(folder: Path) -> None:
    """Remove a folder and all that is in it; what cannot be removed is left."""
    shutil.rmtree(folder, ignore_errors=True)


def is_folder(path: Path) -> bool:
    """Whether there is a folder, and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


@contextlib.contextmanager
def open_regular(file: Path) -> Iterator[BinaryIO]:
    """Open a file for reading that is one, and no link to one.

    Raises:
        OSError: It cannot be opened.
        ValueError: It is no regular file.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise ValueError("it is no regular file")
        yield opened


def read_regular(file: Path, limit: int) -> bytes:
    """Return what is in a file of at most `limit` bytes; raises like `open_regular`."""
    with open_regular(file) as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes")
    return content


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(folder, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock a new folder; return whether nobody else has."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # there are no locks here, so that nobody else has one, either
    return True


def _is_still(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(folder.lstat(), os.fstat(descriptor))
    except OSError:
        return False

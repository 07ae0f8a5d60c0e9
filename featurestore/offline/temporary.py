"""Temporary files and folders that a killed process does not leave for good.

Whoever makes one holds a lock on it (`flock`) while it is needed. The kernel lets go of the locks
of a process however it ends, so that what nobody has locked is left over, and is removed by whoever
next makes one in the same place. Only what this module made is ever removed: of this user, with its
names, and never through a symbolic link. Where a file system has no such locks nothing is removed.
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
from pathlib import Path
from typing import Final

SPILL_PREFIX: Final = "featurestore-spill-"
UNFINISHED_PREFIX: Final = ".featurestore-unfinished-"
LOCK: Final = "lock"
TRIES: Final = 100
"""How often another process may take a new file for one that is left over."""
_SPILL: Final = re.compile(re.escape(SPILL_PREFIX) + r"[0-9a-f]{16}")
_UNFINISHED: Final = re.compile(re.escape(UNFINISHED_PREFIX) + r"[0-9a-f]{16}")
_PRIVATE: Final = 0o700


@contextlib.contextmanager
def spill_folder(parent: Path) -> Iterator[Path]:
    """Yield a new folder below `parent` that is removed at the end; remove what is left over there.

    Raises:
        OSError: It cannot be made.
    """
    remove_left_over(parent)
    with contextlib.ExitStack() as stack:
        for _ in range(TRIES):
            folder = parent / f"{SPILL_PREFIX}{_random_name()}"
            stack.callback(_remove_folder, folder)  # first: Ctrl-C may come any time
            folder.mkdir(_PRIVATE)
            if stack.enter_context(_new_locked(folder / LOCK)):
                yield folder
                return
    raise OSError(errno.EAGAIN, "new folders are removed at once")


@contextlib.contextmanager
def unfinished_file(parent: Path) -> Iterator[Path]:
    """Yield a new file in `parent`, which is removed at the end unless it was moved elsewhere.

    Files that were left over there are removed first.

    Raises:
        OSError: It cannot be made.
    """
    remove_left_over(parent)
    with contextlib.ExitStack() as stack:
        for _ in range(TRIES):
            file = parent / f"{UNFINISHED_PREFIX}{_random_name()}"
            stack.callback(file.unlink, missing_ok=True)  # first, as above
            if stack.enter_context(_new_locked(file)):
                yield file
                return
    raise OSError(errno.EAGAIN, "new files are removed at once")


def remove_left_over(parent: Path) -> None:
    """Remove the files and folders of this module whose process has ended; errors are no matter."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if _SPILL.fullmatch(entry.name):
                    _remove_if_left_over(Path(entry.path))
                elif _UNFINISHED.fullmatch(entry.name):
                    _unlink_if_left_over(Path(entry.path))


def _random_name() -> str:
    """Return a name that nobody else has: what has it is removed without another look."""
    return secrets.token_hex(8)


@contextlib.contextmanager
def _new_locked(file: Path) -> Iterator[bool]:
    """Make a file and lock it; yield whether it is still there.

    It is not if somebody took it, or the new folder it was to be in, for left over.

    Raises:
        OSError: It cannot be made; a folder that is no new one is missing, perhaps.
    """
    try:
        lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        if not _SPILL.fullmatch(file.parent.name):
            raise
        yield False
        return
    try:
        yield _lock(lock)
    finally:
        os.close(lock)


def _lock(descriptor: int) -> bool:
    """Lock a new file; return whether it is still there: somebody may have been faster."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # there are no locks here, so that nobody else has one
    return os.fstat(descriptor).st_nlink > 0


def _remove_if_left_over(folder: Path) -> None:
    found = folder.lstat()
    mine = found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) == _PRIVATE
    if not (mine and stat.S_ISDIR(found.st_mode)):
        return
    try:
        with _locked(folder / LOCK):
            _remove_folder(folder)
    except FileNotFoundError:
        folder.rmdir()  # its process was killed before it had a lock; it is empty then


def _unlink_if_left_over(file: Path) -> None:
    with _locked(file) as opened:
        if os.path.samestat(file.lstat(), opened):
            file.unlink()


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[os.stat_result]:
    """Lock a file of this user's that no living process has locked.

    Raises:
        OSError: It is locked, or is not such a file.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not (stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()):
            raise PermissionError(errno.EPERM, "it is no file of ours")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield found
    finally:
        os.close(descriptor)


def _remove_folder(folder: Path) -> None:
    """Remove a folder and what is in it, its lock last: if that is interrupted, it is left over."""
    with contextlib.suppress(OSError):
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != LOCK:
                entry.unlink(missing_ok=True)
        (folder / LOCK).unlink(missing_ok=True)
        folder.rmdir()

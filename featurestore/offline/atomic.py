"""Files that appear whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featurestore.errors import OutputError
from featurestore.offline.temporary import unfinished_file


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` that takes its place, synced, if all goes well.

    Raises:
        OutputError: The file cannot be written; nothing is left at `target`.
    """
    _check_path(target)
    try:
        with unfinished_file(target.parent) as temporary:
            yield temporary
            sync(temporary)
            temporary.chmod(0o666 & ~umask())
            temporary.replace(target)
            sync(target.parent)
    except OSError as error:
        raise output_error(target, error) from None


def _check_path(target: Path) -> None:
    try:
        with contextlib.suppress(OSError):
            target.lstat()
    except ValueError as error:
        raise OutputError(f"{str(target)!r} is no path: {error}.") from None


def sync(path: Path) -> None:
    """Make sure that a file, or what a folder lists, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def umask() -> int:
    """Return which permissions new files do not get."""
    current = os.umask(0o077)
    os.umask(current)
    return current


def output_error(target: Path, error: OSError) -> OutputError:
    """Return what to raise when `target` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OutputError(
            f"{target} cannot be written: the disk is full.",
            hint="free some space or choose another disk; nothing was left at that name",
        )
    reason: Any = error.strerror or error
    return OutputError(f"{target} cannot be written: {reason}.")

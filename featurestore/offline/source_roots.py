"""Where sources may lie for a process that reads them on behalf of others."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from featurestore.definitions import FileSource
from featurestore.errors import SourceError, SourceOutsideRootsError
from featurestore.offline.files import list_files, new_files


def check_sources_within(
    roots: Sequence[Path] | None, sources: Iterable[FileSource], *, root: Path
) -> None:
    """Return if all files of these sources lie below one of the `roots`, links followed.

    Whoever may apply definitions chooses the paths; whoever runs a server chooses what it reads.

    Args:
        roots: The folders; None allows every place.
        sources: The sources.
        root: Folder that relative paths start at.

    Raises:
        SourceOutsideRootsError: A file, or the folder that another one would be added to, lies
            elsewhere. It names the source and no path: it may be told to somebody who knows none.
    """
    if roots is None:
        return
    allowed = [Path(os.path.realpath(folder)) for folder in roots]
    for source in sources:
        for place in _places(source, root):
            real = Path(os.path.realpath(place))
            if not any(real.is_relative_to(folder) for folder in allowed):
                raise SourceOutsideRootsError(source=source.name)


def _places(source: FileSource, root: Path) -> Iterator[str]:
    """Yield a source's files, and the folder that another one would be added to."""
    with contextlib.suppress(SourceError):  # what cannot be listed cannot be read either
        yield from (file.path for file in list_files(source, root))
    added = new_files(source, root)
    if added is not None:
        yield str(added.folder)

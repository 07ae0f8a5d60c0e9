"""The files that a view's rows are made of: its source's, and those of what its transform joins."""

from functools import cached_property
from pathlib import Path

from featurestore.definitions import FeatureView, FileSource
from featurestore.offline.files import SourceFile, list_files


class ViewFiles:
    """Lists the files of each source once, when they are first asked for.

    Args:
        view: The view.
        root: Folder that relative paths start at.
    """

    def __init__(self, view: FeatureView, root: Path) -> None:
        self._source = view.source
        self._root = root
        self._joined: dict[str, tuple[SourceFile, ...]] = {}

    @cached_property
    def own(self) -> tuple[SourceFile, ...]:
        """The files of the view's source.

        Raises:
            SourceError: See `list_files`.
        """
        return list_files(self._source, self._root)

    def of(self, joined: FileSource) -> tuple[SourceFile, ...]:
        """Return the files of a source that the view joins; raises like `own`."""
        if joined.name not in self._joined:
            self._joined[joined.name] = list_files(joined, self._root)
        return self._joined[joined.name]

"""The files that a view's rows are made of: its source's, and those of what its transform joins."""

from collections.abc import Collection
from functools import cached_property
from pathlib import Path

from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import SourceError
from featurestore.offline.files import SourceFile, list_files


class ViewFiles:
    """Lists the files of each source once, when they are first asked for.

    Args:
        view: The view.
        root: Folder that relative paths start at.
        only: The paths that count of all files found; None for all of them.
    """

    def __init__(
        self, view: FeatureView, root: Path, *, only: Collection[str] | None = None
    ) -> None:
        self._source = view.source
        self._root = root
        self._only = only
        self._joined: dict[str, tuple[SourceFile, ...]] = {}

    @cached_property
    def own(self) -> tuple[SourceFile, ...]:
        """The files of the view's source.

        Raises:
            SourceError: See `list_files`.
        """
        return self._listed(self._source)

    def of(self, joined: FileSource) -> tuple[SourceFile, ...]:
        """Return the files of a source that the view joins; raises like `own`."""
        if joined.name not in self._joined:
            self._joined[joined.name] = self._listed(joined)
        return self._joined[joined.name]

    def _listed(self, source: FileSource) -> tuple[SourceFile, ...]:
        files = list_files(source, self._root)
        if self._only is None:
            return files
        files = tuple(file for file in files if file.path in self._only)
        if not files:
            raise SourceError(
                f"Source {source.name!r} has none of its files any more.",
                source=source.name,
                hint="put them back where they were",
            )
        return files

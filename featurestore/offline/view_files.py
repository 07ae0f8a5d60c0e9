"""The files that a view's rows are made of: its source's, and those of what its transform joins."""

from collections.abc import Collection
from pathlib import Path

from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import SourceError
from featurestore.offline.files import SourceFile, list_files


class Listings:
    """Lists the files of each source once, when they are first asked for.

    Views that are read together share one: a file that arrives meanwhile is there for all of them,
    or for none.

    Args:
        root: Folder that relative paths start at.
        only: The paths that count of all files found; None for all of them.
    """

    def __init__(self, root: Path, *, only: Collection[str] | None = None) -> None:
        self._root = root
        self._only = only
        self._found: dict[str, tuple[SourceFile, ...]] = {}

    def of(self, source: FileSource) -> tuple[SourceFile, ...]:
        """Return the files of a source.

        Raises:
            SourceError: See `list_files`; or none of its files is among those that count.
        """
        if source.path not in self._found:
            self._found[source.path] = self._listed(source)
        return self._found[source.path]

    def _listed(self, source: FileSource) -> tuple[SourceFile, ...]:
        files = list_files(source, self._root, only=self._only)
        if not files:
            raise SourceError(
                f"Source {source.name!r} has none of its files any more.",
                source=source.name,
                hint="put them back where they were",
            )
        return files


class ViewFiles:
    """The files of one view's sources.

    Args:
        view: The view.
        root: Folder that relative paths start at.
        listings: What lists them, if they are listed for others, too.
    """

    def __init__(self, view: FeatureView, root: Path, *, listings: Listings | None = None) -> None:
        self._source = view.source
        self._listings = Listings(root) if listings is None else listings

    @property
    def own(self) -> tuple[SourceFile, ...]:
        """The files of the view's source; raises like `Listings.of`."""
        return self._listings.of(self._source)

    def of(self, joined: FileSource) -> tuple[SourceFile, ...]:
        """Return the files of a source that the view joins; raises like `Listings.of`."""
        return self._listings.of(joined)

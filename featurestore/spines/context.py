"""Where a spine's rows come from: a project as it is registered, and what reads its sources."""

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from featurestore.definitions import Aggregation, Entity, FeatureView, FileSource
from featurestore.errors import NotFoundError, RequestError, shown
from featurestore.offline.column_types import column_type
from featurestore.offline.engine import OfflineEngine
from featurestore.offline.files import list_files
from featurestore.offline.scan import SourceScan
from featurestore.offline.source_roots import check_sources_within
from featurestore.registry.state import RegistryState
from featurestore.spines.event_view import event_view
from featurestore.time import Clock
from featurestore.training.watch import Progress, Watch

Events = FeatureView | FileSource
"""What has events."""
T = TypeVar("T")

MAX_FILES_NAMED: Final = 1_000
"""Of a source with more files, only so many are named in an `origin`."""
_KINDS: Final = {"view": FeatureView.kind, "source": FileSource.kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What spines are made of.

    Attributes:
        state: What is registered.
        engine: Reads the files.
        root: Folder that relative paths start at.
        source_roots: Folders below which sources have to lie; None allows every place.
        clock: Says what is now.
    """

    state: RegistryState
    engine: OfflineEngine
    root: Path
    source_roots: Sequence[Path] | None
    clock: Clock

    def find(self, of: str | Events) -> Events:
        """Return the view or source that is meant.

        Args:
            of: It, or its name; `view/x` or `source/x` where both have one name.

        Raises:
            NotFoundError: There is neither.
            RequestError: There are both.
        """
        if isinstance(of, FeatureView | FileSource):
            return of
        if not isinstance(of, str):
            raise RequestError(
                f"A {type(of).__name__} has no events.", hint="name a view or a source"
            )
        kind, slash, rest = of.partition("/")
        if slash and kind in _KINDS:
            return self.state.view(rest).definition if kind == "view" else self.state.source(rest)
        is_view, is_source = of in self.state.views, of in self.state.sources
        if is_view and is_source:
            raise RequestError(
                f"There are a view and a source {shown(of)}.",
                hint=f"write 'view/{of}' or 'source/{of}'",
            )
        if not is_view and not is_source:
            known = (*self.state.views, *self.state.sources)
            where = f" in project {self.state.project!r}"
            raise NotFoundError("view or source", of, known=known, where=where)
        return self.state.view(of).definition if is_view else self.state.source(of)

    def event_view(
        self, of: Events, *, keys: Sequence[str] | None, aggregations: Sequence[Aggregation]
    ) -> FeatureView:
        """Return a view of one's own over the events of a view, behind its transform, or a source.

        Rows that the contract of the view or of its source leaves out are no events.

        Args:
            of: What has the events.
            keys: The join keys of a source, perhaps none at all; those of a view are its own.
            aggregations: What is wanted of the events.

        Raises:
            SourceOutsideRootsError: Its files lie where this process reads nothing.
            SourceError: There are no files, or they have no such columns.
        """
        if isinstance(of, FeatureView):
            if keys is not None and list(keys) != list(of.join_keys):
                raise RequestError(
                    f"View {of.name!r} has keys of its own: {', '.join(of.join_keys) or 'none'}.",
                    hint="leave keys out, or name its source",
                )
            self.check_roots(of.source, *of.joins)
            return event_view(of, aggregations)
        if keys is None:
            raise RequestError(
                f"Source {of.name!r} does not say which of its columns are keys.",
                hint="name them with keys=[...] (--key), or take one of its views",
            )
        self.check_roots(of)
        entities = []
        if keys:
            files = list_files(of, self.root)
            types = {name: column_type(of, files, name) for name in keys}
            entities = [Entity(name="key", join_keys=types)]
        return FeatureView(
            name=of.name, entities=entities, source=of, aggregations=aggregations, online=False
        )

    def check_roots(self, *sources: FileSource) -> None:
        """Refuse sources that lie where this process reads nothing."""
        check_sources_within(self.source_roots, sources, root=self.root)

    def files_of(self, *scans: SourceScan) -> dict[str, Any]:
        """Return which files were read, for an `origin`."""
        paths = sorted({file.path for scan in scans for file in scan.all_files})
        names = [self._short(path) for path in paths[:MAX_FILES_NAMED]]
        return {"files": names, "file_count": len(paths)}

    def _short(self, path: str) -> str:
        """Return a path as it is below the repository, if it lies there."""
        root = self.root.resolve()
        whole = Path(path)
        return str(whole.relative_to(root)) if whole.is_relative_to(root) else path


def watched(work: Callable[[Watch], T], progress: Progress | None) -> T:
    """Return what some work returns; it tells how far it is, and Ctrl-C ends it soon."""
    watch = Watch(progress, threading.Event())

    def steps() -> Generator[T, None, None]:
        yield work(watch)

    (result,) = watch.over(steps())
    return result

"""What makes results trustworthy: datasets, explanations, checks; a part of `FeatureStore`."""

from abc import abstractmethod
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.config import RepoConfig
from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import NotFoundError, RequestError
from featurestore.registered import RegisteredObjects
from featurestore.settings import Settings
from featurestore.time import Clock, as_utc, parse_instant, to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from featurestore.functions import FunctionLoader
    from featurestore.offline.engine import OfflineEngine
    from featurestore.online.store import OnlineStore
    from featurestore.spines import Spines
    from featurestore.statistics import Profile


class Trust(RegisteredObjects):
    """Datasets that rebuild, values that explain themselves, pipelines that prove they do not leak.

    Attributes:
        config: Settings, and where relative paths start.
        clock: Says what is now.
        source_roots: Folders below which sources have to lie; None allows every place.
    """

    source_roots: tuple[Path, ...] | None = None
    config: RepoConfig
    clock: Clock

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings in force."""

    @property
    @abstractmethod
    def engine(self) -> "OfflineEngine":
        """The engine that the configuration names."""

    @property
    @abstractmethod
    def functions(self) -> "FunctionLoader":
        """What loads Python functions."""

    @property
    @abstractmethod
    def online_store(self) -> "OnlineStore":
        """The online store that the configuration names."""

    # --- datasets ----------------------------------------------------------------------------

    # --- explanations ------------------------------------------------------------------------

    # --- leaks -------------------------------------------------------------------------------

    # --- spines ------------------------------------------------------------------------------

    @property
    def spines(self) -> "Spines":
        """What makes spines of this project: of events, of a grid, of a table; with labels."""
        from featurestore.spines import Spines
        from featurestore.spines.context import Context

        return Spines(
            Context(
                state=self.state(),
                engine=self.engine,
                root=self.config.root,
                source_roots=self.source_roots,
                clock=self.clock,
            )
        )

    # --- statistics --------------------------------------------------------------------------

    def profile(
        self,
        of: str | FeatureView | FileSource,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        edges: "Mapping[str, Sequence[Any]] | None" = None,
        progress: "Callable[[str, int, int], None] | None" = None,
    ) -> "Profile":
        """Return statistics of a view's rows or a source's, which are read once.

        Of a view they are over its keys, times and features (or, of one with aggregations, the
        columns that these are computed from), as its transform yields them; of a source over all of
        its columns. `RetrievalJob.profile` has those of a training set.

        Args:
            of: A feature view or a source, or its name; a view, if there are both.
            start: Only rows with `event_ts > start`; None for all before the end.
            end: Only rows with `event_ts <= end`; None for all after the start.
            edges: Column -> edges of its histogram, as `Profile.edges` has them, for two profiles
                that are to be compared.
            progress: Called with (name, rows done, rows in all).

        Raises:
            NotFoundError: There is no such view or source.
            RequestError: The bounds cross, or edges do not fit the columns.
            SourceError: The source's files cannot be read.
        """
        from featurestore.monitoring.profiles import profile_source, profile_view

        found = self._view_or_source(of) if isinstance(of, str) else of
        opened = (
            partial(profile_view, found)
            if isinstance(found, FeatureView)
            else partial(profile_source, found)
        )
        return opened(
            root=self.config.root,
            engine=self.engine,
            after_us=_micros(start),
            until_us=_micros(end),
            edges=edges,
            progress=progress,
        )

    def _view_or_source(self, name: str) -> FeatureView | FileSource:
        state = self.state()
        if name in state.views:
            return state.view(name).definition
        if name not in state.sources:
            raise NotFoundError("view or source", name, known=[*state.views, *state.sources])
        return state.source(name)

    # --- contracts ---------------------------------------------------------------------------


def _micros(instant: datetime | str | None) -> int | None:
    if instant is None:
        return None
    try:
        return to_micros(parse_instant(instant) if isinstance(instant, str) else as_utc(instant))
    except ValueError as error:
        raise RequestError(f"{error}.") from None
    except (AttributeError, TypeError, OverflowError):
        raise RequestError(f"{instant!r} is not an instant.") from None

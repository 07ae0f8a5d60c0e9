"""What makes results trustworthy: datasets, explanations, checks; a part of `FeatureStore`."""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.config import RepoConfig
from featurestore.registered import RegisteredObjects
from featurestore.settings import Settings
from featurestore.time import Clock

if TYPE_CHECKING:
    from featurestore.functions import FunctionLoader
    from featurestore.offline.engine import OfflineEngine
    from featurestore.online.store import OnlineStore
    from featurestore.spines import Spines


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

    # --- contracts ---------------------------------------------------------------------------

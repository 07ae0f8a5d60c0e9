"""What makes results trustworthy: datasets, explanations, checks; a part of `FeatureStore`."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.config import RepoConfig
from featurestore.registered import RegisteredObjects
from featurestore.settings import Settings
from featurestore.time import Clock

if TYPE_CHECKING:
    from featurestore.datasets.catalog import Datasets
    from featurestore.datasets.dataset import Dataset
    from featurestore.datasets.verification import DatasetVerification
    from featurestore.datasets.verification import Progress as BytesProgress
    from featurestore.functions import FunctionLoader
    from featurestore.offline.engine import OfflineEngine
    from featurestore.online.store import OnlineStore
    from featurestore.registry.datasets import DatasetRecord
    from featurestore.training.job import RetrievalJob


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

    def create_dataset(
        self,
        name: str,
        job: "RetrievalJob",
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> "Dataset":
        """Keep what a job computes as the next version of a dataset, which never changes.

        It is computed once, and written as it is computed: Parquet files, and a manifest that says
        what it was made from. See `docs/datasets.md`.

        Args:
            name: The dataset's name, as names of objects are.
            job: Of this project.
            description: For people.
            tags: Free labels.

        Raises:
            RequestError: The name, the description or the tags cannot be kept.
            DatasetExistsError: Another dataset's name differs only by case.
            SourceChangedError: A source's file changed while it was read (retryable).
            UnsupportedError: Parquet cannot keep one of the spine's columns as it is.
            OutputError: It cannot be written; nothing is left of it.
        """
        return self._datasets.create(name, job, description=description, tags=tags)

    def list_datasets(self, name: str | None = None) -> "list[DatasetRecord]":
        """Return all datasets, or all versions of one, by name and version.

        Raises:
            NotFoundError: There is no dataset of this name.
        """
        return self._datasets.list(name)

    def get_dataset(self, name: str, version: int | None = None) -> "Dataset":
        """Return a version of a dataset, the newest by default.

        Raises:
            NotFoundError: There is no such dataset, or no such version.
            DatasetDamagedError: Its manifest is missing, or is not the one that was written.
        """
        return self._datasets.get(name, version)

    def verify_dataset(
        self,
        name: str,
        version: int | None = None,
        *,
        content: bool = False,
        progress: "BytesProgress | None" = None,
    ) -> "DatasetVerification":
        """Read all files of a dataset, and report all that is not as it was written.

        It is `get_dataset(name, version).verify()` that also reports what is wrong with a manifest.

        Args:
            name: The dataset.
            version: Its version; None for the newest.
            content: Compute the digest of the values, too.
            progress: Called with (what is being done, bytes done, bytes in all).

        Raises:
            NotFoundError: There is no such dataset, or no such version.
        """
        from featurestore.datasets.verification import verify

        datasets = self._datasets
        record = datasets.record(name, version)
        return verify(datasets.places, record, content=content, progress=progress)

    def tidy_datasets(self) -> list[str]:
        """Finish or remove what was left of datasets whose builds were killed.

        What is being built is left alone. Whoever creates a dataset does it for that name, too.

        Returns:
            What was done, each in a line.
        """
        return list(self._datasets.tidy())

    @property
    def _datasets(self) -> "Datasets":
        from featurestore.datasets.catalog import Datasets
        from featurestore.datasets.places import Places
        from featurestore.registry.log import current_actor

        return Datasets(
            places=Places(self.config.path(self.settings.datasets.path), self.project),
            registry=self.registry,
            root=self.config.root,
            engine=lambda: self.engine,
            functions=lambda: self.functions,
            clock=self.clock,
            clock_setting=self.settings.clock,
            state=self.state,
            actor=current_actor(),
            source_roots=self.source_roots,
        )

    # --- explanations ------------------------------------------------------------------------

    # --- leaks -------------------------------------------------------------------------------

    # --- spines ------------------------------------------------------------------------------

    # --- statistics --------------------------------------------------------------------------

    # --- contracts ---------------------------------------------------------------------------

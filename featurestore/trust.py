"""What makes results trustworthy: datasets, explanations, checks; a part of `FeatureStore`."""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.config import RepoConfig
from featurestore.errors import RequestError
from featurestore.registered import RegisteredObjects
from featurestore.settings import Settings
from featurestore.time import Clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from featurestore.functions import FunctionLoader
    from featurestore.leakage.findings import Finding
    from featurestore.leakage.report import LeakageReport
    from featurestore.offline.engine import Mode, OfflineEngine
    from featurestore.online.store import OnlineStore
    from featurestore.training.query import FeatureRequest


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

    def verify_leakage(
        self,
        features: "FeatureRequest | None" = None,
        spine: object | None = None,
        *,
        points: int = 60,
        rounds: int = 9,
        seed: int = 0,
        mode: "Mode" = "complete",
        timestamp_field: str = "event_timestamp",
        timezone: str = "UTC",
        change_directory: bool = False,
        progress: "Callable[[str, int, int], None] | None" = None,
    ) -> "LeakageReport":
        """Change what spine rows must not see, at random, and check that no feature moves.

        Rows after a spine row's time, of other entities, expired, beside a window, beaten by the
        one that answers, or with `as_served` written later, are changed, removed and added in a
        temporary copy of the rows that matter; sources are only read. In the same run rows that do
        count are changed, which has to move something: else the test would be blind. Rows of static
        sources hold for all times by declaration and are left alone.

        Args:
            features: As for `get_historical_features`; None for all registered views and on-demand
                views.
            spine: As for `get_historical_features`, but for SQL; at most `points` rows of it are
                looked at. None draws keys and times from the sources.
            points: How many spine rows.
            rounds: How often sources are mutated, each time with up to 60 rows of each.
            seed: Draws everything: the same seed makes the same test.
            mode: "complete" or "as_served".
            timestamp_field: The spine's time column.
            timezone: Zone in which naive times of the spine are read.
            change_directory: Whether to compute with the mutated copy as working directory, for
                functions that read files by relative paths. It holds for the whole process.
            progress: Called with (what is being done, steps done, steps in all).

        Raises:
            RequestError: The spine or the features cannot be used, or one entity has too many rows.
            SourceError: A source's files cannot be read.
        """
        from featurestore.leakage.check import Settings, check_leakage
        from featurestore.leakage.subject import all_features

        state = self.state()
        return check_leakage(
            all_features(state) if features is None else features,
            spine=spine,
            settings=Settings(
                points=points,
                rounds=rounds,
                seed=seed,
                mode=mode,
                timestamp_field=timestamp_field,
                timezone=timezone,
                moves=change_directory,
            ),
            state=state,
            engine=self.engine,
            functions=self.functions,
            root=self.config.root,
            source_roots=self.source_roots,
            progress=progress,
        )

    def lint(
        self,
        spine: object | None = None,
        *,
        label: str | None = None,
        features: "FeatureRequest | None" = None,
        timestamp_field: str = "event_timestamp",
        timezone: str = "UTC",
        seed: int = 0,
    ) -> "list[Finding]":
        """Look for what leaks by construction: wrong stamps, labels among features, and the like.

        It reads definitions, footers, modules of functions, and the times of up to about 100,000
        rows of each source. `docs/leakage.md` has the rules. A rule is silenced by a tag of the
        object that it is about: `tags={"lint-ignore": "window-start: stamps are window ends"}`.

        Args:
            spine: As for `get_historical_features`, but for SQL, with a label: its features are
                compared with that, at up to 20,000 rows.
            label: The label's column; needed with a spine.
            features: What to compare with the label; None for all views whose join keys are columns
                of the spine.
            timestamp_field: The spine's time column.
            timezone: Zone in which naive times of the spine are read.
            seed: Chooses the rows that are looked at.

        Returns:
            Findings, the worst first.

        Raises:
            RequestError: A spine comes without a label, or the other way round.
            SourceError: A source's files cannot be read.
        """
        from featurestore.leakage.lint import Labels, Repository, lint

        if (spine is None) != (label is None):
            raise RequestError("A label needs a spine that has it, and a spine its label.")
        repository = Repository(
            state=self.state(),
            engine=self.engine,
            functions=self.functions,
            root=self.config.root,
            source_roots=self.source_roots,
            now_us=self.clock.now_micros(),
        )
        labels = None
        if label is not None:
            labels = Labels(
                spine=spine,
                label=label,
                features=features,
                timestamp_field=timestamp_field,
                timezone=timezone,
            )
        return lint(repository, labels, seed=seed)

    # --- spines ------------------------------------------------------------------------------

    # --- statistics --------------------------------------------------------------------------

    # --- contracts ---------------------------------------------------------------------------

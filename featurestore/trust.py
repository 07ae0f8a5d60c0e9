"""What makes results trustworthy: datasets, explanations, checks; a part of `FeatureStore`."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from featurestore.contracted import Contracted
from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import NotFoundError, RequestError
from featurestore.settings import Check
from featurestore.time import given_micros

if TYPE_CHECKING:
    from featurestore.datasets.catalog import Datasets
    from featurestore.datasets.dataset import Dataset
    from featurestore.datasets.verification import DatasetVerification
    from featurestore.datasets.verification import Progress as BytesProgress
    from featurestore.explanation.explain import Explainable, Explainer, Online
    from featurestore.explanation.model import Explanation
    from featurestore.leakage.findings import Finding
    from featurestore.leakage.report import LeakageReport
    from featurestore.offline.engine import Mode
    from featurestore.registry.datasets import DatasetRecord
    from featurestore.serving.response import OnlineResponse
    from featurestore.spines import Spines
    from featurestore.statistics import Profile
    from featurestore.training.job import RetrievalJob
    from featurestore.training.query import FeatureRequest, Selection


class Trust(Contracted):
    """Datasets that rebuild, values that explain themselves, pipelines that do not leak."""

    # --- datasets ----------------------------------------------------------------------------

    def create_dataset(
        self,
        name: str,
        job: "RetrievalJob",
        *,
        description: str | None = None,
        tags: Mapping[str, str] | None = None,
        validate: bool | Check | None = None,
    ) -> "Dataset":
        """Keep what a job computes as the next version of a dataset, which never changes.

        It is computed once, and written as it is computed: Parquet files, and a manifest that says
        what it was made from. See `docs/datasets.md`.

        Args:
            name: The dataset's name, as names of objects are.
            job: Of this project.
            description: For people.
            tags: Free labels.
            validate: Whether the contracts of the rows that it is made from are checked before
                anything is written: as for `materialize`; None for `validation.datasets`.

        Raises:
            RequestError: The name, the description or the tags cannot be kept.
            ContractError: A rule is broken whose policy is to fail; nothing was written.
            DatasetExistsError: Another dataset's name differs only by case.
            SourceChangedError: A source's file changed while it was read (retryable).
            UnsupportedError: Parquet cannot keep one of the spine's columns as it is.
            OutputError: It cannot be written; nothing is left of it.
        """
        configured = self.settings.validation.datasets
        gate = self._gate("dataset", wanted=validate, configured=configured)
        return self._datasets.create(name, job, description=description, tags=tags, gate=gate)

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

    def explain(
        self,
        feature: "Explainable",
        entity: Mapping[str, Any] | None = None,
        *,
        at: datetime | str | None = None,
        mode: "Mode" = "complete",
        request: Mapping[str, Any] | None = None,
        online: bool = False,
        max_rows: int = 10,
    ) -> "Explanation":
        """Return why a feature has its value: the rows that answer, the rule, what was passed over.

        The value is that of `get_historical_features` for this one row. The rows behind it are
        found apart, by the rules alone; where the two differ, `Explanation.defects` says so.

        Args:
            feature: "view:feature", a service or its name, a view, a selection such as
                `view.with_name("dest")[["a"]]`, or a list of such.
            entity: Join key -> value, as the features' views or roles call them; nothing for views
                without an entity.
            at: The moment: an aware datetime (a naive one is UTC) or RFC 3339 text; now by the
                store's clock when left out.
            mode: "complete", or "as_served" for what had been written by then.
            request: The request fields of on-demand features.
            online: Set beside it what the online store has now, and say why it differs.
            max_rows: So many rows of each window are listed, the newest; all are counted.

        Returns:
            Frozen data: `str()` lays it out for a terminal of 100 columns, a notebook shows it as a
            table, `to_document()` is JSON-ready. Rows of files are counted from 0.

        Raises:
            NotFoundError: An unknown service, view or feature; it suggests names that look alike.
            EntityValueError: A join key or request field is missing, unknown or of the wrong type.
            RequestError: `at` is not an instant, `max_rows` is below 0, or `mode` is not possible.
            SourceError: A source's files cannot be read.
            StoreUnavailableError: With `online`, the online store cannot be reached (retryable).
        """
        from featurestore.explanation.explain import as_request

        asked = as_request(feature)
        explainer = self._explainer(online=online, max_rows=max_rows)
        return explainer.explain(asked, entity or {}, request or {}, at=at, mode=mode)

    def _explainer(self, *, online: bool, max_rows: int) -> "Explainer":
        from featurestore.explanation.explain import Explainer

        return Explainer(
            project=self.project,
            state=self.state(),
            engine=self.engine,
            functions=self.functions,
            clock=self.clock,
            root=self.config.root,
            source_roots=self.source_roots,
            online=self._online_half() if online else None,
            max_rows=max_rows,
        )

    def _online_half(self) -> "Online":
        from featurestore.explanation.explain import Online
        from featurestore.explanation.online import OnlineSide

        return Online(
            live=self.live_state(),
            side=lambda at_us, mode: OnlineSide(
                project=self.project,
                store=self.online_store,
                registry=self.registry,
                engine=self.engine,
                clock=self.clock,
                root=self.config.root,
                at_us=at_us,
                mode=mode,
            ),
            look_up=self._look_up,
        )

    def _look_up(
        self, features: "Sequence[Selection]", entity: Mapping[str, Any]
    ) -> "OnlineResponse":
        """Return features of an entity, of which more may be known than these need."""
        from featurestore.serving.local import LocalLookups

        prepared = LocalLookups(self).prepare(features, full_feature_names=True)
        return prepared.get([{n: entity[n] for n in prepared.request_columns}])

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
            label: The label's column; None for all columns of the spine that are marked as labels,
                as those of `Spine.label` are.
            features: What to compare with the label; None for all views whose join keys are columns
                of the spine.
            timestamp_field: The spine's time column.
            timezone: Zone in which naive times of the spine are read.
            seed: Chooses the rows that are looked at.

        Returns:
            Findings, the worst first.

        Raises:
            RequestError: A label comes without a spine.
            SpineError: The spine does not have the label, or none.
            SourceError: A source's files cannot be read.
        """
        from featurestore.leakage.lint import Labels, Repository, lint

        if label is not None and spine is None:
            raise RequestError("A label needs a spine that has it.")
        repository = Repository(
            state=self.state(),
            engine=self.engine,
            functions=self.functions,
            root=self.config.root,
            source_roots=self.source_roots,
            now_us=self.clock.now_micros(),
        )
        labels = None
        if spine is not None:
            labels = Labels(
                spine=spine,
                label=label,
                features=features,
                timestamp_field=timestamp_field,
                timezone=timezone,
            )
        return lint(repository, labels, seed=seed)

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
            SourceOutsideRootsError: Its files lie where this process reads nothing.
            SourceError: The source's files cannot be read.
        """
        from featurestore.monitoring.profiles import profile_source, profile_view

        found = self._view_or_source(of) if isinstance(of, str) else of
        self._check_roots(found)
        opened = (
            partial(profile_view, found)
            if isinstance(found, FeatureView)
            else partial(profile_source, found)
        )
        return opened(
            root=self.config.root,
            engine=self.engine,
            after_us=given_micros(start),
            until_us=given_micros(end),
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

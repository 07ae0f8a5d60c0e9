"""`FeatureStore`: the one object that most users need. Wiring and delegation only."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from featurestore.config import RepoConfig, load_config, make_config
from featurestore.definitions import Definition
from featurestore.errors import DestructiveChangeError
from featurestore.online_writes import OnlineWrites
from featurestore.registry.diff import make_plan
from featurestore.registry.log import current_actor
from featurestore.registry.plan import Plan
from featurestore.settings import Check, Settings
from featurestore.time import Clock, given_instant, given_micros
from featurestore.trust import Trust

if TYPE_CHECKING:
    from featurestore.api_keys import ApiKeys
    from featurestore.functions import FunctionLoader
    from featurestore.materialize.estimate import RunEstimate
    from featurestore.materialize.run import RunReport
    from featurestore.materialize.views import ViewRuns
    from featurestore.materialize.write import Progress
    from featurestore.monitoring.lateness import LatenessReport
    from featurestore.monitoring.status import ViewStatus
    from featurestore.monitoring.verify import VerificationReport
    from featurestore.offline.engine import Mode, OfflineEngine
    from featurestore.online.store import OnlineStore
    from featurestore.registry.generations import Serving
    from featurestore.registry.sql import SqlRegistry
    from featurestore.serving.local import EntityRows, Features, LocalLookups, PreparedLookup
    from featurestore.serving.plan import ServingCatalog
    from featurestore.serving.response import OnlineResponse
    from featurestore.training.job import RetrievalJob
    from featurestore.training.query import FeatureRequest
    from featurestore.training.watch import Progress as JobProgress

Instant = datetime | str
"""An aware datetime (a naive one is UTC) or RFC 3339 text."""


class FeatureStore(OnlineWrites, Trust):
    """One project: its definitions, training sets and online features.

    Args:
        repo_path: Folder of `feature_store.yaml`, or that file. Defaults to the working directory.
        config: Settings instead of a file, as the YAML would say them; `repo_path` is then where
            relative paths start.
        clock: The time to live in instead of the configured one: "system", an instant, a `Clock`.
        source_roots: Folders below which the files of sources have to lie for training sets,
            pushes, spines, statistics and checks of contracts; relative ones start at the
            repository. None allows every place.

    It may be used from several threads. Used in a `with` block, or closed, it lets go of files and
    connections.
    """

    def __init__(
        self,
        repo_path: str | Path | None = None,
        *,
        config: Mapping[str, Any] | RepoConfig | None = None,
        clock: Clock | Instant | None = None,
        source_roots: Sequence[Path] | None = None,
    ) -> None:
        root = Path(repo_path) if repo_path is not None else Path.cwd()
        self.config = _config(config, root)
        self.clock = _clock(clock) if clock is not None else self.config.clock
        if source_roots is not None:
            self.source_roots = tuple(map(self.config.path, source_roots))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of files and connections; a store that is used again opens them again."""
        for name in ("_lookups", "online_store", "registry"):
            if (opened := self.__dict__.pop(name, None)) is not None:
                opened.close()
        self.__dict__.pop("engine", None)

    @property
    def project(self) -> str:
        """The project's name."""
        return self.settings.project

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.config.settings

    # --- definitions -------------------------------------------------------------------------

    def plan(self, objects: Sequence[Definition] | None = None) -> Plan:
        """Return what `apply` would change, after checking definitions and source files.

        Args:
            objects: Definitions to add or change; nothing is deleted. None means those of the
                repository's files, and what is no longer there is deleted.

        Raises:
            DefinitionError: Definitions contradict each other or break a rule.
            SourceError: A source's files are missing or do not have the columns declared.
            FunctionLoadError: A Python function is not below a configured root, or fails to load.
        """
        from featurestore.monitoring.sources import check_sources
        from featurestore.offline.column_types import with_file_types
        from featurestore.registry.pinned import pinned
        from featurestore.repository import load_definitions

        desired = load_definitions(self.config) if objects is None else list(objects)
        root = self.config.root
        plan = make_plan(
            desired,
            self.state(),
            full=objects is None,
            resolve=lambda view: with_file_types(view, root),
            pin=lambda view: pinned(view, self.functions),
        )
        check_sources(plan.target_views, root=root)
        return plan

    def apply(
        self, objects: Sequence[Definition] | Plan | None = None, *, allow_destroy: bool = False
    ) -> Plan:
        """Make the registry agree with the definitions, all at once, and return what changed.

        Args:
            objects: As for `plan`, or a plan that was made before.
            allow_destroy: Delete what is no longer defined in the repository.

        Raises:
            DestructiveChangeError: The plan deletes objects and `allow_destroy` is not set.
            RegistryConflictError: Somebody else applied meanwhile; nothing was changed (retryable).
        """
        plan = objects if isinstance(objects, Plan) else self.plan(objects)
        if plan.deletions and not allow_destroy:
            raise DestructiveChangeError([str(change.ref) for change in plan.deletions])
        if not plan.is_empty:
            pushed = self._views_online(plan.new_generations)
            self.registry.commit(plan, actor=current_actor(), now=self.clock.now(), pushed=pushed)
        return plan

    # --- training ----------------------------------------------------------------------------

    def get_historical_features(
        self,
        entity_df: object,
        features: "FeatureRequest",
        *,
        full_feature_names: bool = False,
        timestamp_field: str = "event_timestamp",
        timezone: str = "UTC",
        mode: "Mode" = "complete",
        progress: "JobProgress | None" = None,
    ) -> "RetrievalJob":
        """Return a job for a point-in-time correct training set: the spine with features beside it.

        Args:
            entity_df: The spine, n rows: pandas, Polars, Arrow, a DuckDB relation, anything with
                the Arrow PyCapsule interface, a `Path` to a Parquet file, or `sql("SELECT ...")`
                over the registered sources. With on-demand features it has a column for every
                request field.
            features: A feature service or its name, or a list of "view:feature", views and
                selections such as `view[["a", "b"]]`.
            full_feature_names: Call columns `view__feature` instead of `feature`.
            timestamp_field: The spine's time column.
            timezone: Zone in which naive times of the spine are read.
            mode: "complete" uses all that is known today about the past; "as_served" only rows that
                had been written by the spine's time, which needs a created_timestamp_column.
            progress: Called while the job computes, in the thread that waits for it, with (what is
                being done, rows done, rows in all), several times a second: of each view the rows
                of the source that were read, then the rows of the result.

        Returns:
            A job of exactly n rows in the spine's order. A row with a null or unknown key, a null
            time, or without a visible feature row stays, with null features.

        Raises:
            RequestError: The spine or the features asked for cannot be used; nothing was read.
            NotFoundError: An unknown service, view or feature.
            SourceError: A source's files are missing or do not have the columns declared.
        """
        from featurestore.training.retrieve import retrieve

        return retrieve(
            entity_df=entity_df,
            features=features,
            state=self.state(),
            engine=self.engine,
            functions=self.functions,
            root=self.config.root,
            source_roots=self.source_roots,
            full_feature_names=full_feature_names,
            timestamp_field=timestamp_field,
            timezone=timezone,
            mode=mode,
            progress=progress,
        )

    def lateness(
        self,
        source: str,
        *,
        start: Instant | None = None,
        end: Instant | None = None,
        progress: "JobProgress | None" = None,
    ) -> "LatenessReport":
        """Measure how long after their event a source's rows were written; suggest a `lateness`.

        Args:
            source: Name of a source with a created_timestamp_column.
            start: Only rows with `event_ts > start`; None for all before the end.
            end: Only rows with `event_ts <= end`; None for all after the start. Of the newest
                events the latest rows are still to come: leave them out for a fair figure.
            progress: Called with (source, rows done, rows in all) of a reading.

        Raises:
            RequestError: The source has no created_timestamp_column, or the bounds cross.
            SourceError: Its files cannot be read.
        """
        from featurestore.monitoring.lateness import measure_lateness

        return measure_lateness(
            self.get_source(source),
            engine=self.engine,
            root=self.config.root,
            after_us=given_micros(start),
            until_us=given_micros(end),
            progress=progress,
        )

    # --- materialization ---------------------------------------------------------------------

    def materialize(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        views: Sequence[str] | None = None,
        overwrite: bool = False,
        resume: bool = False,
        drop_pushed: bool = False,
        validate: bool | Check | None = None,
        progress: "Progress | None" = None,
    ) -> "list[RunReport]":
        """Write the newest row of every entity into the online store.

        Args:
            start: Only rows with `event_ts > start`. None means all up to the end.
            end: Only rows with `event_ts <= end`; now when left out, and never later than now.
            views: Names of views; None for all that are served online.
            overwrite: Replace stored rows even if they are newer.
            resume: Go on with the runs that were interrupted instead, incremental ones too: the
                same interval of the same files, without the chunks that are done. Views without
                such a run are left out of what is returned.
            drop_pushed: Let lookups switch to a new generation of a view even if rows that were
                pushed to the one before are not in it.
            validate: Whether the contracts of the rows to be read are checked before any is
                written: "off", "declared" (True: each rule by its own policy), "warn" or "fail";
                None for what `validation.materialize` says. A resumed run was checked before.
            progress: Called with (view, rows done, rows in all).

        Raises:
            ContractError: Rows break a rule whose policy is to fail; nothing of that view was
                written.
            RequestError: The start is not before the end; or `resume` with an interval.
            LeaseHeldError: Another run of a view is under way (retryable).
            ResumeError: A view or a file changed since its run was interrupted.
        """
        runs = self._runs(views, progress, drop_pushed=drop_pushed, validate=validate)
        act = runs.resume if resume else runs.run
        return act(given_micros(start), given_micros(end), overwrite=overwrite)

    def materialize_incremental(
        self,
        end: Instant | None = None,
        *,
        views: Sequence[str] | None = None,
        drop_pushed: bool = False,
        validate: bool | Check | None = None,
        progress: "Progress | None" = None,
    ) -> "list[RunReport]":
        """Write what is new since the last full or incremental run, late rows included.

        New is what was created since, or, for a source without created_timestamp_column, what took
        place since; both look back by the source's `lateness`. Nothing new is success.

        Args and errors are those of `materialize`.
        """
        runs = self._runs(views, progress, drop_pushed=drop_pushed, validate=validate)
        return runs.run_incremental(given_micros(end))

    def estimate_materialization(
        self,
        start: Instant | None = None,
        end: Instant | None = None,
        *,
        views: Sequence[str] | None = None,
        incremental: bool = False,
    ) -> "list[RunEstimate]":
        """Estimate what `materialize` or `materialize_incremental` would do; nothing is written.

        It reads footers and a sample of keys. Args and errors are those of these methods.
        """
        runs = self._runs(views)
        act = runs.estimate_incremental if incremental else runs.estimate
        return act(given_micros(start), given_micros(end))

    def rollback(self, view: str) -> "Serving":
        """Let lookups of a view read the generation that they read before, at once.

        That is possible until `materialization.generation_grace_ms` after they switched to a newer
        one: so long every run writes both. The newest generation is held back then: runs write it
        still, but lookups read it only after another `rollback`, or when the view has got another
        meaning once more.

        Returns:
            What lookups read now, and until when the other generation is kept.

        Raises:
            NotFoundError: There is no such view.
            RequestError: No older generation is kept.
        """
        return self.registry.roll_back(
            self.project, view, actor=current_actor(), grace_s=self._grace_s
        )

    @property
    def api_keys(self) -> "ApiKeys":
        """The keys of those who call a server of this project."""
        from featurestore.api_keys import ApiKeys

        return ApiKeys(self.registry, self.project, actor=current_actor())

    def status(self, *, views: Sequence[str] | None = None) -> "list[ViewStatus]":
        """Return how far views are online, and what became of their last runs.

        Args:
            views: Names of views; None for all that are served online.
        """
        from featurestore.monitoring.status import view_statuses

        found, now_us = self.live_state().online_views(views), self.clock.now_micros()
        return view_statuses(found, self.registry, project=self.project, now_us=now_us)

    # --- serving -----------------------------------------------------------------------------

    def get_online_features(
        self, features: "Features", entity_rows: "EntityRows", *, full_feature_names: bool = False
    ) -> "OnlineResponse":
        """Return the newest features of some entities from the online store.

        Args:
            features: As for `get_historical_features`.
            entity_rows: A list of rows (`[{"user_id": 42}]`) or a dict of columns
                (`{"user_id": [42]}`), n entities: join keys, and the request fields of on-demand
                features.
            full_feature_names: Call columns `view__feature` instead of `feature`.

        Returns:
            n entities in the order asked, duplicates kept, with a status for every value. An entity
            that is not there, or whose row is older than the view's ttl, has null values.

        Raises:
            EntityValueError: A join key or request field is missing, unknown or of the wrong type.
            ComputationError: An on-demand feature has no value for an entity.
            FunctionError: A Python function cannot be loaded, or failed.
            StoreUnavailableError: The online store cannot be reached (retryable).
        """
        return self._lookups.get(features, entity_rows, full_feature_names=full_feature_names)

    async def get_online_features_async(
        self, features: "Features", entity_rows: "EntityRows", *, full_feature_names: bool = False
    ) -> "OnlineResponse":
        """Return the newest features of some entities without holding up the event loop.

        A few entities from a store in this process (LMDB, memory) are looked up at once, which
        takes about a millisecond; everything else is done by a few threads. Arguments, result
        and errors are those of `get_online_features`.
        """
        return await self._lookups.get_async(
            features, entity_rows, full_feature_names=full_feature_names
        )

    def prepare_online(
        self, features: "Features", *, full_feature_names: bool = False
    ) -> "PreparedLookup":
        """Return a lookup of these features to be called many times, from any thread.

        `store.prepare_online("fraud_v1").get(rows)` is `get_online_features("fraud_v1", rows)`
        without what depends on the features alone; `get_async` is its twin for event loops.

        Args and errors are those of `get_online_features`; what is wrong with the features is said
        here, what is wrong with entities at the call.
        """
        return self._lookups.prepare(features, full_feature_names=full_feature_names)

    def serving_catalog(self) -> "ServingCatalog":
        """Return all that a server needs to know of this project, as plain data."""
        from featurestore.serving.catalog import catalog_from_live

        return catalog_from_live(self.live_state(), clock=self.clock)

    def verify(
        self,
        *,
        views: Sequence[str] | None = None,
        sample: int | None = 10_000,
        seed: int = 0,
        progress: "Progress | None" = None,
    ) -> "VerificationReport":
        """Compare the online store with what training would see, value by value.

        Each view is compared at the end of its own last run: features of every entity from the
        sources as of then, beside what a lookup returned then. See SEMANTICS, section 6.

        Args:
            views: Names of views; None for all that were materialized.
            sample: At most so many entities of a view, chosen by `seed`; None for all.
            seed: Chooses the sample.
            progress: Called with (view, entities done, entities in all).
        """
        from featurestore.monitoring.verify import verify

        return verify(
            [view.served for view in self.live_state().online_views(views)],
            project=self.project,
            engine=self.engine,
            store=self.online_store,
            registry=self.registry,
            root=self.config.root,
            now_us=self.clock.now_micros(),
            sample=sample,
            seed=seed,
            progress=progress,
        )

    # --- parts -------------------------------------------------------------------------------

    @cached_property
    def registry(self) -> "SqlRegistry":
        """The registry that the configuration names."""
        from featurestore.registry.sql import SqlRegistry

        return SqlRegistry(self.config.path(self.settings.registry.path))

    @cached_property
    def engine(self) -> "OfflineEngine":
        """The engine that the configuration names."""
        from featurestore.offline.factory import open_engine

        return open_engine(self.settings.offline_store, root=self.config.root)

    @cached_property
    def functions(self) -> "FunctionLoader":
        """What loads Python functions, from the folders that the configuration names."""
        from featurestore.functions import FunctionLoader

        return FunctionLoader([self.config.path(root) for root in self.settings.functions.roots])

    @cached_property
    def online_store(self) -> "OnlineStore":
        """The online store that the configuration names."""
        from featurestore.online.factory import open_store

        arguments = self.config.online_store_arguments()
        return open_store(arguments.pop("type"), path=Path(arguments.pop("path")), **arguments)

    @cached_property
    def _lookups(self) -> "LocalLookups":
        from featurestore.serving.local import LocalLookups

        return LocalLookups(self)

    def _runs(
        self,
        views: Sequence[str] | None,
        report: "Progress | None" = None,
        *,
        drop_pushed: bool = False,
        validate: bool | Check | None = None,
    ) -> "ViewRuns":
        from featurestore.materialize.views import ViewRuns
        from featurestore.offline.factory import open_engine

        chosen, root = self.settings.offline_store, self.config.root
        return ViewRuns(
            project=self.project,
            views=self.live_state().online_views(views),
            engine=lambda shares: (
                self.engine if shares == 1 else open_engine(chosen, root=root, shares=shares)
            ),
            store=lambda: self.online_store,
            registry=self.registry,
            clock=self.clock,
            root=self.config.root,
            grace_s=self._grace_s,
            retention_us=self._retention_us,
            drop_pushed=drop_pushed,
            at_once=self.settings.materialization.views_at_once,
            gate=self._gate(
                "materialize", wanted=validate, configured=self.settings.validation.materialize
            ),
            progress=report,
        )

    @property
    def _grace_s(self) -> float:
        return self.settings.materialization.generation_grace_ms / 1e3


def _config(config: Mapping[str, Any] | RepoConfig | None, root: Path) -> RepoConfig:
    if isinstance(config, RepoConfig):
        return config
    return load_config(root) if config is None else make_config(config, root=root)


def _clock(clock: Clock | Instant) -> Clock:
    if isinstance(clock, Clock):
        return clock
    return Clock() if clock == "system" else Clock(given_instant(clock))

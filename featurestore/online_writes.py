"""What applications write into the online store: the writing half of `FeatureStore`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from featurestore.config import RepoConfig
from featurestore.errors import FeatureStoreError
from featurestore.registered import RegisteredObjects
from featurestore.settings import Settings
from featurestore.time import MICROSECOND, Clock

if TYPE_CHECKING:
    from featurestore.materialize.delete import DeletionReport
    from featurestore.materialize.garbage import DroppedTable
    from featurestore.materialize.push import Pusher, PushReport
    from featurestore.materialize.write import Progress
    from featurestore.online.store import OnlineStore
    from featurestore.registry.generations import LiveState


ROWS_PER_SECOND: Final = 20_000
"""How fast rows that nobody needs are deleted, unless asked otherwise."""
FOREVER: Final = datetime.max.replace(tzinfo=UTC)


class _KnownState(NamedTuple):
    """What writes go to, as it was read when the registry had a stamp, and until when it holds."""

    stamp: object
    live: "LiveState"
    until: datetime


class OnlineWrites(RegisteredObjects):
    """Pushes, deletes, and the end of what nobody reads.

    Attributes:
        config: Settings, and where relative paths start.
        clock: Says what is the future, and when rows that do not say it were created.
        source_roots: Folders below which sources have to lie; None allows every place.
    """

    source_roots: tuple[Path, ...] | None = None
    config: RepoConfig
    clock: Clock
    _known_state: "_KnownState | None" = None

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings in force."""

    @property
    @abstractmethod
    def online_store(self) -> "OnlineStore":
        """The online store that the configuration names."""

    def push(self, view: str, rows: object, *, append: bool = False) -> "PushReport":
        """Write rows of a view's source into the online store, as materialization would.

        The newest row of an entity wins, by event time, then by created time; all rows are checked
        before the first is written. They go to all generations of the view that are alive.

        Args:
            view: Name of a view with a schema, without joins, that is served online.
            rows: n rows with the columns of the source's files: a list of dicts, a dict of columns,
                pandas, Polars, Arrow, anything with the Arrow PyCapsule interface, or a `Path` to a
                Parquet file. Created times may be left out: the rows were created now.
            append: Add the rows to the source, too, as a new file that appears whole or not at all;
                they then have all columns of its files. The source is a folder or a glob.

        Raises:
            NotFoundError: There is no such view.
            RequestError: Rows cannot be pushed to this view, or not appended to its source.
            RowsError: A column is missing or of the wrong type; a join key or event time is null,
                or more than 5 minutes in the future; or a row breaks a rule of the view's contract
                whose policy is to fail. It names column and row; nothing was written.
            StoreUnavailableError: The online store cannot be reached (retryable; pushing the same
                rows again does no harm).
        """
        return self._pusher.push(view, rows, append=append)

    def write_to_online_store(self, view: str, rows: object) -> "PushReport":
        """Write rows into the online store; the same as `push`."""
        return self.push(view, rows)

    def delete_entity(
        self, entity: Mapping[str, Any], *, views: Sequence[str] | None = None
    ) -> "DeletionReport":
        """Delete an entity from the online store: lookups do not find it any more.

        A tombstone, with event and created time now, takes the place of its rows. Older rows cannot
        revive it while it is kept: for ttl and grace of the view, or, without a ttl, for
        `tombstone_retention`. Newer rows can. Sources are not touched.

        Args:
            entity: Join keys and their values: `{"user_id": 42}`.
            views: Names of views; None for all online views whose join keys are given.

        Raises:
            NotFoundError: There is no such view.
            EntityValueError: No view has such a join key, a named view has another one, too, or a
                value is null or of the wrong type.
            StoreUnavailableError: The online store cannot be reached (retryable).
        """
        from featurestore.materialize.delete import delete_entity

        return delete_entity(
            self._written_state,
            entity,
            views,
            store=self.online_store,
            now_us=self.clock.now_micros(),
            retention_us=self._retention_us,
        )

    def gc(
        self,
        *,
        dry_run: bool = False,
        rows_per_second: int = ROWS_PER_SECOND,
        progress: "Progress | None" = None,
    ) -> "list[DroppedTable]":
        """Drop tables of this project's online rows that nothing registered can reach any more.

        Those are of views that were deleted or are not served online any more, and of generations
        that lookups do not read and `rollback` cannot go back to.

        Args:
            dry_run: Only count their rows.
            rows_per_second: How fast rows are deleted at most.
            progress: Called with (view, rows dropped, rows in all); it has rows counted first.

        Raises:
            RequestError: Nothing was ever applied: the registry does not say what is in use.
            StoreUnavailableError: The online store cannot be reached (retryable).
        """
        from featurestore.materialize.garbage import collect_garbage

        return collect_garbage(
            self.online_store,
            self.registry,
            self.project,
            dry_run=dry_run,
            rows_per_second=rows_per_second,
            progress=progress,
        )

    def teardown(
        self, *, rows_per_second: int = ROWS_PER_SECOND, progress: "Progress | None" = None
    ) -> "list[DroppedTable]":
        """Drop all of this project's online rows. Lookups find nothing until it is materialized.

        Definitions stay registered; how far they were materialized is forgotten. Nothing of another
        project is touched, and no file.

        Raises:
            LeaseHeldError: A run is under way (retryable).
            StoreUnavailableError: The online store cannot be reached (retryable).
        """
        from featurestore.materialize.garbage import tear_down

        return tear_down(
            self.online_store,
            self.registry,
            self.project,
            rows_per_second=rows_per_second,
            progress=progress,
        )

    def _views_online(self, names: Sequence[str]) -> set[str]:
        """Return those of some views that have rows online, as far as the store can be asked."""
        if not names:
            return set()
        live = self.live_state()
        served = {(name, live.view(name).served.generation) for name in names}
        try:
            found = {(t.view, t.generation) for t in self.online_store.tables(self.project)}
        except FeatureStoreError:  # definitions can be applied without it; nothing is lost so
            found = served
        return {name for name, _ in served & found}

    def _written_state(self) -> "LiveState":
        """Return what writes go to; it is read again only when the registry may have changed."""
        registry = self.registry
        stamp, now = registry.stamp(), registry.wall_now()
        known = self._known_state
        if known is None or known.stamp is None or known.stamp != stamp or now >= known.until:
            live = self.live_state()
            ends = (v.kept_until for v in live.views.values() if v.kept_until is not None)
            known = self._known_state = _KnownState(stamp, live, min(ends, default=FOREVER))
        return known.live

    @property
    def _pusher(self) -> "Pusher":
        from featurestore.materialize.push import Pusher

        return Pusher(
            project=self.project,
            store=self.online_store,
            clock=self.clock,
            root=self.config.root,
            source_roots=self.source_roots,
            live=lambda name: self._written_state().view(name),
        )

    @property
    def _retention_us(self) -> int:
        return self.settings.tombstone_retention // MICROSECOND

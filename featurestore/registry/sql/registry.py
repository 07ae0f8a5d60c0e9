"""The registry: definitions, their history, and the ledger of materialization."""

from datetime import datetime, timedelta
from pathlib import Path

from featurestore.errors import RegistryConflictError
from featurestore.registry.log import LogEntry
from featurestore.registry.plan import Plan
from featurestore.registry.runs import MAX_HOLDER, Lease, RunRecord, Watermark
from featurestore.registry.sql import objects
from featurestore.registry.sql import runs as ledger
from featurestore.registry.sql.database import Database
from featurestore.registry.sql.objects import Version, plain
from featurestore.registry.state import RegistryState
from featurestore.time import SYSTEM_CLOCK, Clock

LOCK_TIMEOUT_S = 30.0


class SqlRegistry:
    """A registry in a SQLite file; it may hold several projects.

    Safe for any number of processes and threads: every method is one transaction, and one that
    raises has changed nothing. Reading never makes a file: a registry that does not exist yet reads
    as empty. The first write makes the folder, the file and the tables.

    Any method raises RegistryError when the file cannot be read or written, is not a registry, is
    damaged, or stayed locked (that one is `retryable`), and RegistryVersionError when a newer
    version of this package wrote it. The message has the path.

    Args:
        url_or_path: A file, or a URL such as `sqlite:///registry.db`.
        lock_timeout_s: How long to wait for another process's transaction.
        wall_clock: What leases expire by. Not the settable clock of the project: two runs have to
            agree on it, and a clock that stands still would never free a dead run's lease.

    Attributes:
        commits: How many plans were applied through this object, so that who has it notices.

    Raises:
        ConfigError: `url_or_path` names no SQLite file.
    """

    def __init__(
        self,
        url_or_path: str | Path,
        *,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        wall_clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._database = Database(url_or_path, lock_timeout_s=lock_timeout_s)
        self._wall_clock = wall_clock
        self.commits = 0

    def __str__(self) -> str:
        return str(self._database)

    def projects(self) -> tuple[str, ...]:
        """Return the names of the projects to which something was applied, in order."""
        with self._database.read() as connection:
            return () if connection is None else objects.read_projects(connection)

    def stamp(self) -> object:
        """Return what differs after every commit, by whomever; None when that cannot be told.

        Where it equals one that was taken before something was read, that need not be read again.
        It costs microseconds, where reading costs milliseconds.
        """
        return self._database.stamp()

    def version(self, project: str) -> Version:
        """Return what is equal as long as the same is registered in `project`.

        It costs a fraction of a snapshot. A revision alone would not do: a registry that was
        deleted, or restored from a backup, counts on from where it is.
        """
        with self._database.read() as connection:
            return () if connection is None else objects.read_version(connection, project)

    def snapshot(self, project: str) -> RegistryState:
        """Return what is registered in `project` now; nothing, at revision 0, for an unknown one.

        Raises:
            RegistryError: A document in it is damaged or cannot be read; the message names it.
        """
        with self._database.read() as connection:
            if connection is None:
                return RegistryState(project=project)
            return objects.read_state(connection, project)

    def commit(self, plan: Plan, *, actor: str, now: datetime) -> RegistryState:
        """Apply all of `plan`, or nothing, and return the new state.

        The revision rises by one; an empty plan changes nothing, the revision included.

        Args:
            plan: Made from a snapshot of this registry.
            actor: Who applies, for the log.
            now: When, aware, for the log.

        Raises:
            RegistryConflictError: The project's revision is no longer the plan's `base_revision`.
                Make the plan again from a new snapshot.
            DefinitionError: The project is new and its name breaks the rules for names, or differs
                from another project's only by case.
        """
        if plan.is_empty:
            return self._unchanged(plan)
        with self._database.write() as connection:
            revision = objects.swap_revision(connection, plan, now)
            objects.write_changes(connection, plan, revision=revision, actor=actor, now=now)
            # Read back before the commit: a state that cannot be read is never committed.
            state = objects.read_state(connection, plan.project)
        self.commits += 1
        return state

    def _unchanged(self, plan: Plan) -> RegistryState:
        state = self.snapshot(plan.project)
        if state.revision != plan.base_revision:
            raise RegistryConflictError(
                project=plan.project, expected=plan.base_revision, found=state.revision
            )
        return state

    def history(self, project: str, *, limit: int = 100) -> list[LogEntry]:
        """Return the newest `limit` changes that were applied, newest first."""
        with self._database.read() as connection:
            return [] if connection is None else objects.read_history(connection, project, limit)

    def watermark(self, project: str, view: str, generation: int) -> Watermark | None:
        """Return how far a generation of a view is materialized; None if no run succeeded."""
        with self._database.read() as connection:
            if connection is None:
                return None
            return ledger.read_watermark(connection, project, view, generation)

    def record_run(
        self, run: RunRecord, *, watermark: Watermark | None = None, holder: str | None = None
    ) -> Watermark | None:
        """Record a run that is over and move its generation's watermark, both or neither.

        Args:
            run: The run.
            watermark: How far it read, if a later incremental run may rely on it; how the watermark
                moves is said at `runs.advanced`.
            holder: Of the run's lease. If that was lost nothing is recorded, because another run
                may have moved the watermark since this one read it. None: no lease is looked at.

        Returns:
            The watermark now, None if there is none.

        Raises:
            NotFoundError: Nothing was ever applied to the project.
            LeaseHeldError: The lease was given back, or another run took it.
        """
        with self._database.write() as connection:
            objects.require_project(connection, run.project)
            if holder is not None:
                now = self._wall_clock.now()
                ledger.require_lease(
                    connection, run.project, run.view, plain(holder, MAX_HOLDER), now=now
                )
            return ledger.write_run(connection, run, watermark)

    def runs(self, project: str, view: str | None = None, *, limit: int = 100) -> list[RunRecord]:
        """Return the newest `limit` runs, of one view or of all, newest first."""
        with self._database.read() as connection:
            if connection is None:
                return []
            return ledger.read_runs(connection, project, view, limit)

    def acquire_lease(self, project: str, view: str, holder: str, *, seconds: float) -> Lease:
        """Take the right to materialize a view for `seconds`, to be renewed before they are over.

        Args:
            project: The project.
            view: The view.
            holder: Unique to the run. Not even the holder itself can take a lease a second time.
            seconds: How long a dead run shall be in the way of others.

        Raises:
            LeaseHeldError: It is held and has not expired (retryable).
            NotFoundError: Nothing was ever applied to the project.
        """
        with self._database.write() as connection:
            objects.require_project(connection, project)
            now = self._wall_clock.now()
            lease = _lease(project, view, holder, now + timedelta(seconds=seconds))
            ledger.take_lease(connection, lease, now=now)
            return lease

    def renew_lease(self, project: str, view: str, holder: str, *, seconds: float) -> Lease:
        """Return the lease with its end `seconds` from now.

        One that expired is renewed too, if nobody took it meanwhile.

        Raises:
            LeaseHeldError: It was given back, or another run took it: this run has to stop.
        """
        with self._database.write() as connection:
            now = self._wall_clock.now()
            lease = _lease(project, view, holder, now + timedelta(seconds=seconds))
            ledger.extend_lease(connection, lease, now=now)
            return lease

    def release_lease(self, project: str, view: str, holder: str) -> None:
        """Give the lease back; one that another run took since stays theirs."""
        with self._database.write() as connection:
            ledger.give_back_lease(connection, project, view, plain(holder, MAX_HOLDER))

    def close(self) -> None:
        """Let go of the database; it is opened again when it is used again."""
        self._database.close()


def _lease(project: str, view: str, holder: str, expires_at: datetime) -> Lease:
    holder = plain(holder, MAX_HOLDER)
    return Lease(project=project, view=view, holder=holder, expires_at=expires_at)

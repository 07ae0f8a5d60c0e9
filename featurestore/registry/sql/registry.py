"""The registry: definitions, their history, and the ledger of materialization."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.access import KeyRecord
from featurestore.errors import RegistryConflictError
from featurestore.registry.datasets import DatasetRecord
from featurestore.registry.generations import DEFAULT_GRACE_S, LiveState, Serving
from featurestore.registry.log import LogEntry
from featurestore.registry.plan import Plan
from featurestore.registry.runs import MAX_HOLDER, Lease, Recorded, RunRecord, Watermark
from featurestore.registry.sql import (
    datasets,
    forget,
    generations,
    keys,
    objects,
    tasks,
    validations,
)
from featurestore.registry.sql import runs as ledger
from featurestore.registry.sql.database import Database
from featurestore.registry.sql.objects import Version, plain
from featurestore.registry.sql.upgrade import (
    has_datasets,
    has_keys,
    has_tasks,
    has_validations,
)
from featurestore.registry.state import RegistryState
from featurestore.registry.tasks import Chunk, TaskRecord
from featurestore.registry.validations import ValidationRecord
from featurestore.time import SYSTEM_CLOCK, Clock

if TYPE_CHECKING:
    from sqlalchemy import Connection

LOCK_TIMEOUT_S = 30.0


class SqlRegistry:
    """A registry in a SQLite file; it may hold several projects.

    Safe for any number of processes and threads: every method is one transaction, and one that
    raises has changed nothing. Reading never makes a file: a registry that does not exist yet reads
    as empty. The first write makes the folder, the file and the tables, and brings tables of an
    older version of this package up to this one.

    Any method raises RegistryError when the file cannot be read or written, is not a registry, is
    damaged, or stayed locked (that one is `retryable`), and RegistryVersionError when a newer
    version of this package wrote it. The message has the path.

    Args:
        url_or_path: A file, or a URL such as `sqlite:///registry.db`.
        lock_timeout_s: How long to wait for another process's transaction.
        wall_clock: What leases expire by. Not the settable clock of the project: two runs have to
            agree on it, and a clock that stands still would never free a dead run's lease.

    Attributes:
        commits: How many times this object changed what lookups mean, so that who has it notices.

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

    def kept_open(self) -> AbstractContextManager[None]:
        """Stay connected while much is written in a row; in the end the file is whole by itself.

        Otherwise that is so after each write, which costs milliseconds.
        """
        return self._database.kept_open()

    def version(self, project: str) -> tuple[Version, int]:
        """Return what is equal as long as the same is registered in `project`, and served of it.

        It costs a fraction of a snapshot. A revision alone would not do: a registry that was
        deleted, or restored from a backup, counts on from where it is.
        """
        with self._database.read() as connection:
            if connection is None:
                return (), 0
            switches = generations.read_stamp(connection, project).switches
            return objects.read_version(connection, project), switches

    def snapshot(self, project: str) -> RegistryState:
        """Return what is registered in `project` now; nothing, at revision 0, for an unknown one.

        Raises:
            RegistryError: A document in it is damaged or cannot be read; the message names it.
        """
        with self._database.read() as connection:
            if connection is None:
                return RegistryState(project=project)
            return objects.read_state(connection, project)

    def live(self, project: str) -> LiveState:
        """Return the same with the generations of views that are alive; raises like `snapshot`."""
        with self._database.read() as connection:
            if connection is None:
                return LiveState.settled(RegistryState(project=project))
            return generations.read_live(connection, project, now=self._wall_clock.now())

    def roll_back(
        self, project: str, view: str, *, actor: str, grace_s: float = DEFAULT_GRACE_S
    ) -> Serving:
        """Let lookups of a view read the generation that they read before, at once.

        The newest generation is held back then: no run switches to it again, only another rollback
        does, or a generation that comes after it.

        Args:
            project: The project.
            view: The view.
            actor: Who wants it, for the log.
            grace_s: How long the generation that is left now is written further.

        Raises:
            NotFoundError: There is no such project or view.
            RequestError: No older generation is kept.
        """
        with self._database.write() as connection:
            objects.require_project(connection, project)
            objects.read_state(connection, project).view(view)
            now = self._wall_clock.now()
            back = generations.roll_back(
                connection, project, view, now=now, grace_s=grace_s, actor=actor
            )
        self.commits += 1
        return back

    def commit(
        self, plan: Plan, *, actor: str, now: datetime, pushed: Collection[str] = ()
    ) -> RegistryState:
        """Apply all of `plan`, or nothing, and return the new state.

        The revision rises by one; an empty plan changes nothing, the revision included. Interrupted
        tasks of views that are gone or mean something else now are forgotten; runs are kept.

        Args:
            plan: Made from a snapshot of this registry.
            actor: Who applies, for the log.
            now: When, aware, for the log.
            pushed: Views of which rows are online although no run may have written any: lookups go
                on with these until their new generation is complete.

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
            generations.note_applied(connection, plan.project, plan.changes, pushed)
            self._forget_outdated(connection, plan)
            # Read back before the commit: a state that cannot be read is never committed.
            state = objects.read_state(connection, plan.project)
        self.commits += 1
        return state

    def _forget_outdated(self, connection: "Connection", plan: Plan) -> None:
        """Drop tasks that nobody can resume after a plan; those under way end by themselves."""
        under_way = ledger.read_leases(connection, plan.project, now=self._wall_clock.now())
        for change in plan.changes:
            is_outdated = change.action == "delete" or change.is_new_generation
            if (
                change.generation_before is not None
                and is_outdated
                and change.name not in under_way
            ):
                tasks.drop_task(connection, plan.project, change.name)

    def _unchanged(self, plan: Plan) -> RegistryState:
        state = self.snapshot(plan.project)
        if state.revision != plan.base_revision:
            raise RegistryConflictError(
                project=plan.project, expected=plan.base_revision, found=state.revision
            )
        return state

    def history(self, project: str, *, limit: int = 100, view: str | None = None) -> list[LogEntry]:
        """Return the newest `limit` changes applied, of a view or of all, newest first."""
        with self._database.read() as connection:
            if connection is None:
                return []
            return objects.read_history(connection, project, limit, view=view)

    def watermark(self, project: str, view: str, generation: int) -> Watermark | None:
        """Return how far a generation of a view is materialized; None if no run succeeded."""
        with self._database.read() as connection:
            if connection is None:
                return None
            return ledger.read_watermark(connection, project, view, generation)

    def record_run(
        self,
        run: RunRecord,
        *,
        watermark: Watermark | None = None,
        holder: str | None = None,
        grace_s: float = DEFAULT_GRACE_S,
        may_switch: bool = True,
    ) -> Recorded:
        """Record a run that is over and move its generation's watermark, both or neither.

        Lookups switch to the generation in the same step, if it is the newest, not held back, and
        this run filled it up to where the one that they read is.

        Args:
            run: The run.
            watermark: How far it read, if a later incremental run may rely on it; how the watermark
                moves is said at `runs.advanced`.
            holder: Of the run's lease. If that was lost, nothing is recorded of a run that
                succeeded, because another one may have moved the watermark since it was read. None:
                no lease is looked at.
            grace_s: How long a generation that lookups leave is written further.
            may_switch: Whether lookups may switch at all.

        The run's task goes if it succeeded; if it failed, the task says why, and can be resumed.

        Returns:
            The watermark now, and whether lookups switched.

        Raises:
            NotFoundError: Nothing was ever applied to the project.
            LeaseHeldError: The lease was given back, or another run took it.
        """
        with self._database.write() as connection:
            objects.require_project(connection, run.project)
            if holder is not None:
                self._end_task(connection, run, plain(holder, MAX_HOLDER))
            reached = ledger.write_run(connection, run, watermark)
            now = self._wall_clock.now()
            fills = watermark is not None and may_switch
            switched = fills and generations.switch_if_complete(
                connection, run, reached, grace_s=grace_s, now=now, actor=holder or ""
            )
        self.commits += switched
        return Recorded(reached, switched)

    def _end_task(self, connection: "Connection", run: RunRecord, holder: str) -> None:
        if run.status == "failed":
            tasks.fail_task(connection, run, holder)
            return
        now = self._wall_clock.now()
        ledger.require_lease(connection, run.project, run.view, holder, now=now)
        tasks.drop_task(connection, run.project, run.view)

    def runs(self, project: str, view: str | None = None, *, limit: int = 100) -> list[RunRecord]:
        """Return the newest `limit` runs, of one view or of all, newest first."""
        with self._database.read() as connection:
            if connection is None:
                return []
            return ledger.read_runs(connection, project, view, limit)

    def begin_task(self, task: TaskRecord) -> None:
        """Write a task, before anything of it is done.

        What an earlier run of the view left is replaced; if it could not say how it ended, that is
        recorded as a failed run.

        Raises:
            LeaseHeldError: The task's holder has no lease, or lost it.
        """
        with self._held(task.project, task.view, task.holder) as (connection, _now):
            left = tasks.read_task(connection, task.project, task.view)
            self._record_silence(connection, left)
            tasks.drop_task(connection, task.project, task.view)
            tasks.put_task(connection, task)

    def resume_task(self, project: str, view: str, holder: str) -> TaskRecord | None:
        """Begin another attempt at a view's interrupted task and return it; None if there is none.

        Raises:
            LeaseHeldError: The holder has no lease, or lost it.
        """
        with self._held(project, view, holder) as (connection, now):
            left = tasks.read_task(connection, project, view)
            self._record_silence(connection, left)
            return None if left is None else tasks.take_over(connection, left, holder, now=now)

    def plan_chunks(self, task: TaskRecord, chunks: Sequence[Chunk]) -> None:
        """Divide a task; raises LeaseHeldError if its holder lost the lease."""
        with self._held(task.project, task.view, task.holder) as (connection, _now):
            tasks.put_chunks(connection, task, chunks)

    def end_chunk(self, task: TaskRecord, chunk: Chunk) -> None:
        """Note that a chunk is in the online store, with what became of its rows.

        Raises:
            LeaseHeldError: The task's holder lost its lease.
        """
        with self._held(task.project, task.view, task.holder) as (connection, now):
            tasks.end_chunk(connection, task, chunk, now=now)

    def tasks(self, project: str) -> list[TaskRecord]:
        """Return the runs that are under way or were interrupted, by view."""
        with self._database.read() as connection:
            if connection is None or not has_tasks(connection):
                return []
            return tasks.read_tasks(connection, project)

    def leases(self, project: str) -> dict[str, Lease]:
        """Return the leases that are held and have not expired, by view."""
        with self._database.read() as connection:
            if connection is None or not has_tasks(connection):
                return {}
            return ledger.read_leases(connection, project, now=self._wall_clock.now())

    def forget_runs(self, project: str) -> None:
        """Forget how far a project is online, for when its rows are gone.

        Definitions, the log of changes and that of runs stay. Whoever calls it holds the leases.
        """
        with self._database.write() as connection:
            forget.forget_runs(connection, project)
        self.commits += 1

    def forget_watermarks(self, project: str, generations: Collection[tuple[str, int]]) -> None:
        """Forget how far some (view, generation) are online, for when their rows are gone."""
        with self._database.write() as connection:
            forget.forget_watermarks(connection, project, generations)

    def keys(self, project: str) -> list[KeyRecord]:
        """Return all keys of a project, oldest first; those that were revoked, too."""
        with self._database.read() as connection:
            if connection is None or not has_keys(connection):
                return []
            return keys.read_keys(connection, project)

    def add_key(self, project: str, key: KeyRecord) -> None:
        """Keep a new key.

        Raises:
            NotFoundError: Nothing was ever applied to the project, or a feature service that is
                granted is not registered.
            RequestError: A key in force has its name or is for its certificate, or there are too
                many.
        """
        with self._database.write() as connection:
            objects.require_project(connection, project)
            state = objects.read_state(connection, project)
            for service in sorted(grant.service for grant in key.grants if grant.service):
                state.service(service)
            keys.put_key(connection, project, key)

    def revoke_key(self, project: str, name_or_id: str, *, actor: str) -> KeyRecord:
        """Put a key out of force, for good, and return it.

        Raises:
            NotFoundError: No key in force has this name or id.
        """
        with self._database.write() as connection:
            objects.require_project(connection, project)
            now = self._wall_clock.now()
            return keys.revoke(connection, project, name_or_id, now=now, actor=actor)

    def record_validation(self, found: ValidationRecord) -> None:
        """Keep what a check of a contract found.

        Raises:
            NotFoundError: Nothing was ever applied to the project.
        """
        with self._database.write() as connection:
            objects.require_project(connection, found.project)
            validations.write_validation(connection, found)

    def validations(
        self, project: str, kind: str | None = None, name: str | None = None, *, limit: int = 100
    ) -> list[ValidationRecord]:
        """Return the newest `limit` checks of contracts, of one object or of all, newest first."""
        with self._database.read() as connection:
            if connection is None or not has_validations(connection):
                return []
            return validations.read_validations(
                connection, project, kind=kind, name=name, limit=limit
            )

    def datasets(self, project: str) -> list[DatasetRecord]:
        """Return all datasets of a project, by name and version; those being built, too."""
        with self._database.read() as connection:
            if connection is None or not has_datasets(connection):
                return []
            return datasets.read_datasets(connection, project)

    def announce_dataset(self, project: str, record: DatasetRecord) -> bool:
        """Keep a dataset that is being built; return False if its version is taken.

        Raises:
            NotFoundError: Nothing was ever applied to the project.
            DatasetExistsError: Another dataset's name differs only by case.
        """
        with self._database.write() as connection:
            objects.require_project(connection, project)
            return datasets.announce(connection, project, record)

    def complete_dataset(self, project: str, record: DatasetRecord) -> DatasetRecord:
        """Note that a dataset that was announced is complete, and return it as it is now.

        Raises:
            RegistryError: It was forgotten meanwhile, and its version is another one's now.
        """
        with self._database.write() as connection:
            return datasets.complete(connection, project, record)

    def withdraw_dataset(self, project: str, record: DatasetRecord) -> None:
        """Forget a dataset that was announced and never became complete."""
        with self._database.write() as connection:
            datasets.withdraw(connection, project, record)

    def wall_now(self) -> datetime:
        """Return the time that leases expire by."""
        return self._wall_clock.now()

    @contextmanager
    def _held(
        self, project: str, view: str, holder: str
    ) -> "Iterator[tuple[Connection, datetime]]":
        """Open a transaction for the holder of a lease."""
        with self._database.write() as connection:
            now = self._wall_clock.now()
            ledger.require_lease(connection, project, view, plain(holder, MAX_HOLDER), now=now)
            yield connection, now

    def _record_silence(self, connection: "Connection", left: TaskRecord | None) -> None:
        run = None if left is None else tasks.silent_end(left)
        if run is not None:
            ledger.write_run(connection, run, None)

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
            return replace(lease, acquired_at=now)

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
            tasks.note_alive(connection, project, view, lease.holder, now=now)
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

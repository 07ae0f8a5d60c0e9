"""Tables of the online store that nobody can reach: found by its catalogue, dropped at a pace."""

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass

from featurestore.errors import RequestError
from featurestore.materialize.lease import holder_name, leased
from featurestore.materialize.live import reachable_tables
from featurestore.online.store import OnlineStore, TableId
from featurestore.registry.generations import LiveState
from featurestore.registry.sql import SqlRegistry

Progress = Callable[[str, int, int], None]
"""Called with (view, rows dropped so far, rows in all)."""


@dataclass(frozen=True, kw_only=True)
class DroppedTable:
    """A table that was dropped, or would be.

    Attributes:
        view: The view's name.
        generation: Which of its generations.
        rows: How many rows it had, tombstones included.
    """

    view: str
    generation: int
    rows: int


class Pacer:
    """Waits so that no more than so many things are done in a second.

    Args:
        per_second: How many.
        now: What time it is, in seconds.
        wait: Waits for seconds.
    """

    def __init__(
        self,
        per_second: int,
        *,
        now: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._per_second = per_second
        self._now = now
        self._wait = wait
        self._began_s = now()
        self._done = 0

    def __call__(self, count: int) -> None:
        """Wait until `count` more may have been done."""
        self._done += count
        ahead_s = self._began_s + self._done / self._per_second - self._now()
        if ahead_s > 0:
            self._wait(ahead_s)


def unreachable(found: Collection[TableId], live: LiveState) -> list[TableId]:
    """Return the tables that no lookup can read and no rollback can go back to, in order."""
    left = set(found) - reachable_tables(live)
    return sorted(left, key=lambda table: (table.view, table.generation))


def collect_garbage(
    store: OnlineStore,
    registry: SqlRegistry,
    project: str,
    *,
    dry_run: bool,
    rows_per_second: int,
    progress: Progress | None = None,
) -> list[DroppedTable]:
    """Drop what is unreachable; see `FeatureStore.gc`."""
    found = store.tables(project)  # first: what is applied and filled after this is not in there
    live = registry.live(project)
    if live.state.revision == 0:
        raise RequestError(
            f"Nothing was ever applied to project {project!r} in this registry: it does not say"
            " which tables are in use.",
            hint="check the registry's path; featurestore teardown drops a whole project",
        )
    pacer, dropped = Pacer(rows_per_second), []
    for table in unreachable(found, live):
        with ExitStack() as held:
            if not dry_run and table.view in live.state.views:
                # It may be served again meanwhile, and filled.
                held.enter_context(leased(registry, project, table.view, holder_name()))
                if table in reachable_tables(registry.live(project)):
                    continue
            if not dry_run:
                registry.forget_watermarks(project, [(table.view, table.generation)])
            dropped.append(drop_table(store, table, pacer, dry_run=dry_run, progress=progress))
    return dropped


def tear_down(
    store: OnlineStore,
    registry: SqlRegistry,
    project: str,
    *,
    rows_per_second: int,
    progress: Progress | None = None,
) -> list[DroppedTable]:
    """Drop all tables of a project; see `FeatureStore.teardown`."""
    pacer, holder = Pacer(rows_per_second), holder_name()
    with ExitStack() as held:  # no run begins before all is gone
        for view in registry.snapshot(project).views:
            held.enter_context(leased(registry, project, view, holder))
        registry.forget_runs(project)  # first: an incremental run must not rely on what is gone
        tables = store.tables(project)
        return [drop_table(store, table, pacer, progress=progress) for table in tables]


def drop_table(
    store: OnlineStore,
    table: TableId,
    pacer: Pacer,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> DroppedTable:
    """Drop a table at a pace, or only count its rows."""
    total = store.count(table) if dry_run or progress is not None else 0
    pace = _reporting(pacer, table.view, progress, total=total)
    rows = total if dry_run else store.drop(table, pace=pace)
    return DroppedTable(view=table.view, generation=table.generation, rows=rows)


def _reporting(
    pacer: Pacer, view: str, progress: Progress | None, *, total: int
) -> Callable[[int], None]:
    done = 0

    def pace(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(view, done, max(done, total))
        pacer(count)

    return pace

"""Live generations in SQL: functions over an open transaction."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from featurestore.definitions import FeatureView
from featurestore.registry.generations import (
    LiveState,
    LiveView,
    Serving,
    after_apply,
    is_complete,
    rolled_back,
)
from featurestore.registry.log import MAX_ACTOR
from featurestore.registry.plan import Change
from featurestore.registry.runs import RunRecord, Watermark
from featurestore.registry.sql.objects import plain, read_state
from featurestore.registry.sql.runs import read_watermark
from featurestore.registry.sql.sqlite import has_table
from featurestore.registry.sql.tables import LOG, OBJECTS, PROJECTS, SERVING
from featurestore.registry.state import RegisteredView, RegistryState
from featurestore.time import from_micros, to_micros


class Stamp(NamedTuple):
    """Changes with everything that may change what lookups mean."""

    revision: int
    switches: int


def read_stamp(connection: Connection, project: str) -> Stamp:
    """Return the project's stamp; (0, 0) where nothing was ever applied."""
    if not has_table(connection, SERVING.name):  # of version 1, and only read since
        query = select(PROJECTS.c.revision).where(PROJECTS.c.project == project)
        return Stamp(connection.execute(query).scalar_one_or_none() or 0, 0)
    columns = (PROJECTS.c.revision, PROJECTS.c.switches)
    row = connection.execute(select(*columns).where(PROJECTS.c.project == project)).one_or_none()
    return Stamp(0, 0) if row is None else Stamp(row.revision, row.switches)


def read_live(connection: Connection, project: str, *, now: datetime) -> LiveState:
    """Return what is registered, with the generations that are alive."""
    state = read_state(connection, project)
    stamp = read_stamp(connection, project)
    serving = _read_all(connection, project) if stamp.switches else {}
    serving = {name: found for name, found in serving.items() if name in state.views}
    if not serving:
        return LiveState.settled(state)
    older = _Older(connection, project)
    views = {name: older.live(view, serving.get(name), now) for name, view in state.views.items()}
    return LiveState(state=state, views=views, older=older.states, switches=stamp.switches)


class _Older:
    """Older generations, each from the state of the last revision that had it."""

    def __init__(self, connection: Connection, project: str) -> None:
        self._connection = connection
        self._project = project
        self._states: dict[int, RegistryState] = {}

    @property
    def states(self) -> tuple[RegistryState, ...]:
        """The states that were read, newest first."""
        return tuple(self._states[revision] for revision in sorted(self._states, reverse=True))

    def live(self, newest: RegisteredView, serving: Serving | None, now: datetime) -> LiveView:
        """Return a view with what is served of it and what is kept."""
        if serving is None:
            return LiveView(newest=newest, served=newest)
        kept = serving.kept_at(now)
        return LiveView(
            newest=newest,
            served=self._view(newest, serving.generation),
            kept=None if kept is None else self._view(newest, kept),
            kept_until=None if kept is None else serving.kept_until,
            is_held=serving.is_held,
        )

    def _view(self, newest: RegisteredView, generation: int) -> RegisteredView:
        if generation == newest.generation:
            return newest
        name = newest.definition.name
        revision = _last_revision_of(self._connection, self._project, name, generation)
        if revision not in self._states:
            state = read_state(self._connection, self._project, until=revision)
            self._states[revision] = state
        return self._states[revision].view(name)


def _last_revision_of(connection: Connection, project: str, view: str, generation: int) -> int:
    """Return the revision before the one that replaced a generation."""
    query = select(func.min(OBJECTS.c.revision)).where(
        OBJECTS.c.project == project,
        OBJECTS.c.kind == FeatureView.kind,
        OBJECTS.c.name == view,
        OBJECTS.c.generation > generation,
    )
    replaced: int = connection.execute(query).scalar_one()
    return replaced - 1


def note_applied(
    connection: Connection, project: str, changes: Iterable[Change], pushed: Collection[str]
) -> None:
    """Keep what lookups read of views that mean something else now, and have something online."""
    for change in changes:
        if change.kind != FeatureView.kind:
            continue
        before, after = change.generation_before, change.generation_after
        if change.action != "update" or before is None or after is None:
            _write(connection, project, change.name, None)
        elif before != after:
            serving = _read(connection, project, change.name)
            read = before if serving is None else serving.generation
            mark = read_watermark(connection, project, change.name, read)
            is_filled = mark is not None or change.name in pushed
            stays = after_apply(serving, before=before, after=after, is_filled=is_filled)
            _write(connection, project, change.name, stays)


def switch_if_complete(
    connection: Connection,
    run: RunRecord,
    reached: Watermark | None,
    *,
    grace_s: float,
    now: datetime,
    actor: str,
) -> bool:
    """Let lookups read the generation that a run filled, if it is complete; return whether so."""
    serving = _read(connection, run.project, run.view)
    if serving is None or serving.is_held or serving.generation == run.generation:
        return False
    if run.generation != _newest(connection, run.project, run.view):
        return False
    served = read_watermark(connection, run.project, run.view, serving.generation)
    if not is_complete(reached, served):
        return False
    switched = Serving(
        generation=run.generation,
        kept=serving.generation,
        kept_until=now + timedelta(seconds=grace_s),
        since=now,
    )
    _write(connection, run.project, run.view, switched)
    entry = _entry("switch", serving, switched, now=now, actor=actor)
    _log(connection, run.project, run.view, entry)
    return True


def roll_back(
    connection: Connection, project: str, view: str, *, now: datetime, grace_s: float, actor: str
) -> Serving:
    """Let lookups read the generation that they read before; see `generations.rolled_back`."""
    serving = _read(connection, project, view)
    newest = _newest(connection, project, view)
    until = now + timedelta(seconds=grace_s)
    back = rolled_back(serving, view=view, newest=newest or 0, now=now, kept_until=until)
    _write(connection, project, view, back)
    assert serving is not None  # noqa: S101 - else it could not be rolled back
    _log(connection, project, view, _entry("rollback", serving, back, now=now, actor=actor))
    return back


def _newest(connection: Connection, project: str, view: str) -> int | None:
    """Return the generation of a view that is registered, or None if it is gone."""
    query = (
        select(OBJECTS.c.generation, OBJECTS.c.deleted)
        .where(
            OBJECTS.c.project == project,
            OBJECTS.c.kind == FeatureView.kind,
            OBJECTS.c.name == view,
        )
        .order_by(OBJECTS.c.version.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None or row.deleted else row.generation


def _read(connection: Connection, project: str, view: str) -> Serving | None:
    return _read_all(connection, project, view).get(view)


def _read_all(connection: Connection, project: str, view: str | None = None) -> dict[str, Serving]:
    query = select(SERVING).where(SERVING.c.project == project)
    if view is not None:
        query = query.where(SERVING.c.view == view)
    return {row.view: _serving(row) for row in connection.execute(query)}


def _serving(row: Any) -> Serving:
    return Serving(
        generation=row.generation,
        kept=row.kept_generation,
        kept_until=None if row.kept_until_us is None else from_micros(row.kept_until_us),
        is_held=row.is_held,
        since=None if row.since_us is None else from_micros(row.since_us),
    )


def _write(connection: Connection, project: str, view: str, serving: Serving | None) -> None:
    """Replace what is known of a view, and count it."""
    mine = (SERVING.c.project == project, SERVING.c.view == view)
    replaced = connection.execute(delete(SERVING).where(*mine)).rowcount
    if serving is not None:
        connection.execute(insert(SERVING).values(_row(project, view, serving)))
    elif not replaced:
        return
    counted = update(PROJECTS).where(PROJECTS.c.project == project)
    connection.execute(counted.values(switches=PROJECTS.c.switches + 1))


def _row(project: str, view: str, serving: Serving) -> dict[str, Any]:
    until, since = serving.kept_until, serving.since
    return {
        "project": project,
        "view": view,
        "generation": serving.generation,
        "kept_generation": serving.kept,
        "kept_until_us": None if until is None else to_micros(until),
        "is_held": serving.is_held,
        "since_us": None if since is None else to_micros(since),
    }


def _log(connection: Connection, project: str, view: str, entry: dict[str, Any]) -> None:
    row = {
        "project": project,
        "revision": read_stamp(connection, project).revision,
        "kind": FeatureView.kind,
        "name": view,
        "impact": "breaking",
        "fields": "[]",
    }
    connection.execute(insert(LOG).values(row | entry))


def _entry(
    action: str, before: Serving, after: Serving, *, now: datetime, actor: str
) -> dict[str, Any]:
    return {
        "action": action,
        "at_us": to_micros(now),
        "actor": plain(actor, MAX_ACTOR),
        "generation_before": before.generation,
        "generation_after": after.generation,
    }

"""Where each view stands: how far it is online, and what became of its last run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from featurestore.registry.generations import LiveView
from featurestore.registry.runs import Lease, RunRecord
from featurestore.registry.sql import SqlRegistry
from featurestore.registry.tasks import TaskRecord
from featurestore.registry.validations import ValidationRecord

Situation = Literal["never", "ready", "running", "failed", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class ViewStatus:
    """Where one view stands.

    Attributes:
        view: The view's name.
        generation: The newest one, as the view is registered.
        served: The one that lookups read.
        kept: One besides that is written further for a rollback, or None.
        kept_until: When that ends, or None.
        is_held: Whether the newest was rolled back.
        situation: "running" while a run holds the lease; "failed" and "interrupted" when the last
            one can be resumed, with and without a word of its own; else "ready", or "never" when
            none has succeeded.
        end_us: The end of what lookups read, or None.
        event_us: The greatest event time read for it, or None.
        age_us: How long before now that end is, or None.
        last_run: The last run that is over, or None.
        task: The run that is under way or was interrupted, or None.
        lease: That of the run under way, or None.
        last_validation: What the last check of the view's contract found, or of its source's where
            it has none of its own; None if there was none.
    """

    view: str
    generation: int
    served: int
    kept: int | None
    kept_until: datetime | None
    is_held: bool
    situation: Situation
    end_us: int | None
    event_us: int | None
    age_us: int | None
    last_run: RunRecord | None
    task: TaskRecord | None
    lease: Lease | None
    last_validation: ValidationRecord | None = None

    @property
    def can_be_resumed(self) -> bool:
        """Whether `materialize(resume=True)` would go on with a run."""
        return self.situation in ("failed", "interrupted")


def view_statuses(
    views: Sequence[LiveView], registry: SqlRegistry, *, project: str, now_us: int
) -> list[ViewStatus]:
    """Return where views stand, in their order."""
    tasks = {task.view: task for task in registry.tasks(project)}
    leases = registry.leases(project)
    found = []
    for view in views:
        name, alive = view.name, {each.generation for each in view.written}
        mark = registry.watermark(project, name, view.served.generation)
        runs = registry.runs(project, name, limit=1)
        task, lease = tasks.get(name), leases.get(name)
        if lease is None and task is not None and task.generation not in alive:
            task = None  # nobody can resume it
        found.append(
            ViewStatus(
                view=name,
                generation=view.newest.generation,
                served=view.served.generation,
                kept=None if view.kept is None else view.kept.generation,
                kept_until=view.kept_until,
                is_held=view.is_held,
                situation=_situation(task, lease, is_online=mark is not None),
                end_us=None if mark is None else mark.end_us,
                event_us=None if mark is None else mark.event_us,
                age_us=None if mark is None else now_us - mark.end_us,
                last_run=runs[0] if runs else None,
                task=task,
                lease=lease,
                last_validation=_last_validation(registry, project, view),
            )
        )
    return found


def _last_validation(
    registry: SqlRegistry, project: str, view: LiveView
) -> ValidationRecord | None:
    definition = view.newest.definition
    owner = definition if definition.contract else definition.source
    if not owner.contract:
        return None
    found = registry.validations(project, owner.kind, owner.name, limit=1)
    return found[0] if found else None


def _situation(task: TaskRecord | None, lease: Lease | None, *, is_online: bool) -> Situation:
    if lease is not None:
        return "running"
    if task is not None:
        return "failed" if task.state == "failed" else "interrupted"
    return "ready" if is_online else "never"

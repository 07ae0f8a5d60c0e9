"""Which generations of a view are alive: the one that lookups read, and those that are written.

A view that gets a new meaning gets a new generation, whose rows are written beside those of the one
before. Lookups read the old one until the new one is complete, then the new one; the old one is
written further until its grace time ends, so that a rollback finds it as fresh as the other. Pure.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from featurestore.errors import RequestError
from featurestore.registry.runs import Watermark
from featurestore.registry.state import RegisteredView, RegistryState

DEFAULT_GRACE_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What lookups of a view read, where that is or was another generation than the newest.

    Attributes:
        generation: What lookups read.
        kept: The generation that they read before, which is still written, or None.
        kept_until: When that ends, in UTC by the wall clock, or None.
        is_held: Whether the newest generation was rolled back: lookups do not switch to it again.
        since: When lookups began to read `generation`; None where it was served from its beginning.
    """

    generation: int
    kept: int | None = None
    kept_until: datetime | None = None
    is_held: bool = False
    since: datetime | None = None

    def kept_at(self, now: datetime) -> int | None:
        """Return the generation that is kept besides, if its grace time has not ended."""
        return self.kept if self.kept_until is not None and now < self.kept_until else None


def after_apply(
    serving: Serving | None, *, before: int, after: int, is_filled: bool
) -> Serving | None:
    """Return what lookups read after a view got a new generation; None for the newest.

    Args:
        serving: What they read now, None for generation `before`.
        before: The newest generation until now.
        after: The new one.
        is_filled: Whether the one that they read was ever materialized. If not, there is nothing
            that a switch at once would take away.
    """
    if not is_filled or after == before:
        return None
    if serving is None:
        return Serving(generation=before)
    return Serving(
        generation=serving.generation,
        kept=serving.kept,
        kept_until=serving.kept_until,
        since=serving.since,
    )


def is_complete(reached: Watermark | None, served: Watermark | None) -> bool:
    """Whether a generation that was filled so far can take the place of the one that is served."""
    return reached is not None and (served is None or reached.end_us >= served.end_us)


def rolled_back(
    serving: Serving | None, *, view: str, newest: int, now: datetime, kept_until: datetime
) -> Serving:
    """Return what lookups read after a rollback: the generation that they read before.

    Raises:
        RequestError: There is none, or its grace time has ended.
    """
    kept = None if serving is None else serving.kept_at(now)
    if serving is None or kept is None:
        raise RequestError(
            f"View {view!r} has no generation to go back to.",
            hint=_why_none(serving, newest),
        )
    return Serving(
        generation=kept,
        kept=serving.generation,
        kept_until=kept_until,
        is_held=serving.generation == newest,
        since=now,
    )


def _why_none(serving: Serving | None, newest: int) -> str:
    if serving is not None and serving.kept is not None:
        return f"generation {serving.kept} was kept until {serving.kept_until}"
    if serving is not None and serving.generation != newest:
        return (
            f"generation {serving.generation} is still the one that is served:"
            f" {newest} is not complete"
        )
    return "a view has one while the grace time after a change of its meaning lasts"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """A view with all of its generations that are alive.

    Attributes:
        newest: As it is registered.
        served: As lookups read it.
        kept: A third one, or one beside the newest that is served, until its grace time ends.
        kept_until: When that is.
        is_held: See `Serving`.
    """

    newest: RegisteredView
    served: RegisteredView
    kept: RegisteredView | None = None
    kept_until: datetime | None = None
    is_held: bool = False

    @property
    def name(self) -> str:
        """The view's name."""
        return self.newest.definition.name

    @property
    def is_pending(self) -> bool:
        """Whether lookups read an older generation than the newest."""
        return self.served.generation != self.newest.generation

    @property
    def written(self) -> tuple[RegisteredView, ...]:
        """All generations that every write goes to, the one that is served first."""
        found = (self.served, self.newest, *(() if self.kept is None else (self.kept,)))
        return tuple({view.generation: view for view in found}.values())


@dataclass(frozen=True, kw_only=True)
class LiveState:
    """A project at one revision, with the generations of its views that are alive.

    Attributes:
        state: What is registered.
        views: All views, by name.
        older: The states that older generations come from, newest first.
        switches: Counts switches and rollbacks: with the revision it tells whether lookups mean
            the same as before.
    """

    state: RegistryState
    views: Mapping[str, LiveView]
    older: Sequence[RegistryState] = field(default_factory=tuple)
    switches: int = 0

    @classmethod
    def settled(cls, state: RegistryState) -> "LiveState":
        """Return a state whose views are all served as they are registered."""
        views = {n: LiveView(newest=view, served=view) for n, view in state.views.items()}
        return cls(state=state, views=views)

    def view(self, name: str) -> LiveView:
        """Return the view called `name`; raises NotFoundError like `RegistryState.view`."""
        return self.views[self.state.view(name).definition.name]

    def online_views(self, names: Sequence[str] | None = None) -> list[LiveView]:
        """Return the views that are served online; errors are those of the state's method."""
        return [self.views[v.definition.name] for v in self.state.online_views(names)]

    @property
    def written(self) -> Iterator[RegisteredView]:
        """All generations of views that are served online: what an online store has to hold."""
        for view in self.online_views():
            yield from view.written

"""The difference between what is registered and what is wanted, as a plan. Pure: no I/O."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    FileSource,
    OnDemandFeatureView,
    OnDemandSelection,
    RequestSource,
)
from featurestore.definitions.base import Document
from featurestore.errors import DefinitionError, NotFoundError
from featurestore.registry.collect import (
    Definitions,
    checked,
    collect,
    definitions_of,
    merged,
    with_on_demand_views,
    with_views,
)
from featurestore.registry.fields import field_changes
from featurestore.registry.plan import Change, FieldChange, Impact, Plan
from featurestore.registry.state import KINDS, ObjectRef, RegistryState, parts_of

D = TypeVar("D", bound=Definition)


def make_plan(
    desired: Sequence[Definition],
    state: RegistryState,
    *,
    full: bool,
    resolve: Callable[[FeatureView], FeatureView] | None = None,
    pin: Callable[[OnDemandFeatureView], OnDemandFeatureView] | None = None,
) -> Plan:
    """Return what has to change so that `desired` is registered.

    What the objects refer to (entities, sources, views) is included without being listed.

    Args:
        desired: The objects wanted.
        state: What is registered.
        full: Whether `desired` is all there should be, as a repository is: then registered objects
            that are not in it are deleted. Otherwise nothing is ever deleted.
        resolve: Returns a view with what its source's files say of it: the types of aggregated
            columns. A plan without it is for views that say all themselves.
        pin: Returns an on-demand view with the hash of the module of its function.

    Raises:
        DefinitionError: Something is not a definition; one name has two different definitions; two
            names differ only by case; a registered view or service does not fit a new definition.
    """
    given = collect(desired)
    if resolve is not None:
        views = {name: resolve(view) for name, view in given.views.items()}
        if any(views[name] is not view for name, view in given.views.items()):
            given = with_views(given, views)
    if pin is not None:
        on_demand = {name: pin(view) for name, view in given.on_demand_views.items()}
        if any(on_demand[name] is not view for name, view in given.on_demand_views.items()):
            given = with_on_demand_views(given, on_demand)
    return compare(state, given if full else merged(state, given), asked_for=frozenset(given.views))


def plan_deletion(targets: Iterable[ObjectRef], state: RegistryState) -> Plan:
    """Return what has to change so that `targets` are gone and everything else stays.

    Raises:
        NotFoundError: One of them is not registered.
        DefinitionError: Something that stays uses one of them; both are named.
    """
    now = definitions_of(state)
    gone = frozenset(targets)
    for ref in gone:
        if ref.name not in now.of(ref.kind):
            where = f" in project {state.project!r}"
            raise NotFoundError(ref.kind, ref.name, known=now.of(ref.kind), where=where)
    for ref in sorted(gone, key=str):
        _refuse_if_used(ref, gone, state)
    return compare(
        state,
        checked(
            Definitions(
                entities=_without(now.entities, Entity.kind, gone),
                sources=_without(now.sources, FileSource.kind, gone),
                request_sources=_without(now.request_sources, RequestSource.kind, gone),
                views=_without(now.views, FeatureView.kind, gone),
                on_demand_views=_without(now.on_demand_views, OnDemandFeatureView.kind, gone),
                services=_without(now.services, FeatureService.kind, gone),
            )
        ),
    )


def _refuse_if_used(ref: ObjectRef, gone: frozenset[ObjectRef], state: RegistryState) -> None:
    for user in state.users.get(ref, ()):
        if user not in gone:
            raise DefinitionError(
                f"{ref.kind.capitalize()} {ref.name!r} cannot be deleted: {user.kind}"
                f" {user.name!r} uses it.",
                hint=f"change or delete {user.kind} {user.name!r} first, or in the same plan",
            )


def _without(known: Mapping[str, D], kind: str, gone: frozenset[ObjectRef]) -> Mapping[str, D]:
    return {name: d for name, d in known.items() if ObjectRef(kind, name) not in gone}


def compare(
    state: RegistryState, target: Definitions, *, asked_for: frozenset[str] = frozenset()
) -> Plan:
    """Return the plan that leads from `state` to exactly the definitions in `target`.

    Args:
        state: What is registered.
        target: What shall be.
        asked_for: Names of the views whose sources shall be checked even if they do not change.
    """
    now = definitions_of(state)
    changes: list[Change] = []
    for kind in (kind.kind for kind in KINDS):
        before, after = now.of(kind), target.of(kind)
        found = (_change(state, before.get(name), after[name]) for name in sorted(after))
        changes += [change for change in found if change is not None]
    touched = asked_for | {change.name for change in changes if change.kind == FeatureView.kind}
    for kind in (kind.kind for kind in reversed(KINDS)):
        before, after = now.of(kind), target.of(kind)
        changes += [_deletion(state, before[name]) for name in before if name not in after]
    return Plan(
        project=state.project,
        base_revision=state.revision,
        changes=tuple(changes),
        target_views=tuple(target.views[name] for name in sorted(touched)),
    )


def _change(state: RegistryState, before: Definition | None, after: Definition) -> Change | None:
    if before is None:
        return _creation(state, after)
    if isinstance(before, FeatureView) and isinstance(after, FeatureView):
        return _view_update(state, before, after)
    return _update(state, before, after)


def _creation(state: RegistryState, definition: Definition) -> Change:
    is_view = isinstance(definition, FeatureView)
    return Change(
        action="create",
        kind=definition.kind,
        name=definition.name,
        impact="additive",
        after=definition.to_document(),
        generation_after=state.retired.get(definition.name, 0) + 1 if is_view else None,
        static=definition.static_sources if isinstance(definition, FeatureView) else (),
    )


def _deletion(state: RegistryState, definition: Definition) -> Change:
    is_view = isinstance(definition, FeatureView)
    return Change(
        action="delete",
        kind=definition.kind,
        name=definition.name,
        impact="destructive",
        before=definition.to_document(),
        generation_before=state.views[definition.name].generation if is_view else None,
        affects=_users(state, definition),
    )


def _update(state: RegistryState, before: Definition, after: Definition) -> Change | None:
    old, new = before.to_document(), after.to_document()
    if old == new:
        return None
    return Change(
        action="update",
        kind=after.kind,
        name=after.name,
        impact=_impact(before, after),
        fields=_shown_changes(old, new),
        before=old,
        after=new,
        affects=_users(state, after),
    )


def _view_update(state: RegistryState, before: FeatureView, after: FeatureView) -> Change | None:
    old, new = before.to_document(), after.to_document()
    is_new = before.meaning() != after.meaning()
    if old == new and not is_new:
        return None
    generation = state.views[after.name].generation
    return Change(
        action="update",
        kind=after.kind,
        name=after.name,
        impact=_view_impact(before, after),
        fields=_shown_changes(old, new),
        through=_through(before, after) if is_new else (),
        before=old,
        after=new,
        generation_before=generation,
        generation_after=generation + is_new,
        affects=_users(state, after),
        static=after.static_sources,
    )


def _shown_changes(old: Document, new: Document) -> tuple[FieldChange, ...]:
    """Return what differs for people: an expression, and not the tree that it was read into."""
    if "contract" in old or "contract" in new:  # rule by rule, also the first and the last
        old, new = {"contract": []} | old, {"contract": []} | new
    found = field_changes(old, new)
    return tuple(change for change in found if not _is_read_from_text(change.path)) or found


def _is_read_from_text(path: str) -> bool:
    parts = ("columns", "where", "star", "table", "joins", "bare")
    return path.endswith(".tree") or path.startswith(tuple(f"transform.{part}" for part in parts))


def _users(state: RegistryState, definition: Definition) -> tuple[ObjectRef, ...]:
    return state.users.get(ObjectRef(definition.kind, definition.name), ())


def _through(before: FeatureView, after: FeatureView) -> tuple[ObjectRef, ...]:
    """Return the entities and sources that both use by name and that mean something else now."""
    old = {(d.kind, d.name): d for d in parts_of(before)}
    used = ((old.get((d.kind, d.name)), d) for d in parts_of(after))
    return tuple(
        ObjectRef(now.kind, now.name)
        for then, now in used
        if then is not None and then.semantics() != now.semantics()
    )


def _impact(before: Definition, after: Definition) -> Impact:
    if isinstance(before, FeatureService) and isinstance(after, FeatureService):
        return _order_impact(_columns(before), _columns(after))
    if isinstance(before, OnDemandFeatureView) and isinstance(after, OnDemandFeatureView):
        return _on_demand_impact(before, after)
    return "metadata" if before.semantics() == after.semantics() else "breaking"


def _view_impact(before: FeatureView, after: FeatureView) -> Impact:
    """Judge a view: new features beside the old ones add; anything else that differs breaks."""
    if before.online and not after.online:
        return "breaking"
    same_schema = after.model_copy(
        update={"fields": before.fields, "aggregations": before.aggregations}
    )
    if same_schema.meaning() != before.meaning():
        return "breaking"
    impact = _order_impact(_types(before), _types(after))
    is_switched_on = after.online and not before.online
    return "additive" if is_switched_on and impact == "metadata" else impact


def _on_demand_impact(before: OnDemandFeatureView, after: OnDemandFeatureView) -> Impact:
    """Judge an on-demand view: callers must not have to bring anything that they did not."""
    if before.brought != after.brought:
        return "breaking"
    return _order_impact(before.meanings(), after.meanings())


def _types(view: FeatureView) -> list[tuple[object, ...]]:
    return [(field.name, field.dtype) for field in view.fields]


def _columns(service: FeatureService) -> list[tuple[object, ...]]:
    """Return what a service yields: per column the role, the feature, and how its key is found."""
    return [
        (role.name, role.view.name, _keys(role), feature)
        for role in service.selections
        for feature in role.feature_names
    ]


def _keys(role: FeatureViewSelection | OnDemandSelection) -> tuple[tuple[str, str], ...]:
    return tuple(role.key_columns.items()) if isinstance(role, FeatureViewSelection) else ()


def _order_impact(before: list[tuple[object, ...]], after: list[tuple[object, ...]]) -> Impact:
    if before == after:
        return "metadata"
    remaining = iter(after)
    return "additive" if all(column in remaining for column in before) else "breaking"

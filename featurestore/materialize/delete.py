"""Deleting an entity: tombstones in all views about it, which older rows cannot revive."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurestore.definitions import FeatureView
from featurestore.errors import EntityValueError, RequestError, close_names, shown
from featurestore.materialize.live import generations, table_of
from featurestore.materialize.plan import remaining_us
from featurestore.online.codec import encode_keys, tombstone
from featurestore.online.key_values import is_null
from featurestore.online.store import EncodedRows, OnlineStore
from featurestore.registry.generations import LiveState
from featurestore.registry.state import RegisteredView
from featurestore.types import type_name


@dataclass(frozen=True, kw_only=True)
class DeletionReport:
    """Where an entity was deleted.

    Attributes:
        deleted: Views in which it is not found now.
        kept: Views in which a row of a later event time than now stays, which was pushed.
        skipped: Views of some of the join keys given that have others, too -> those others: rows
            about this entity and something else are still there.
    """

    deleted: tuple[str, ...]
    kept: tuple[str, ...]
    skipped: Mapping[str, tuple[str, ...]]


def delete_entity(
    live: Callable[[], LiveState],
    entity: Mapping[str, Any],
    names: Sequence[str] | None,
    *,
    store: OnlineStore,
    now_us: int,
    retention_us: int,
) -> DeletionReport:
    """Delete an entity from online views; see `FeatureStore.delete_entity`."""
    state = live()
    served = [view.served for view in state.online_views(names)]
    keys = _keys(served, entity, must_have=names is not None)
    about = [view.definition.name for view in served if _id(view) in keys]
    kept: set[str] = set()
    alive = _written(state, about)
    for view in generations(alive, lambda: _written(live(), about)):
        # Another generation may have other keys; then the tombstone holds the switch to it back.
        key = keys.get(_id(view)) or _key_or_none(view, entity)
        if key is not None and _delete(store, state.state.project, view, key, now_us, retention_us):
            kept.add(view.definition.name)
    return DeletionReport(
        deleted=tuple(name for name in about if name not in kept),
        kept=tuple(name for name in about if name in kept),
        skipped=_skipped(served, entity),
    )


def _keys(
    views: Sequence[RegisteredView], entity: Mapping[str, Any], *, must_have: bool
) -> dict[tuple[str, int], bytes]:
    """Return the entity's key in those views that are about it, before any of it is deleted."""
    _check_keys(entity, views)
    if must_have:
        for view in views:
            _check_is_about(view.definition, entity)
    keys = {_id(v): _key(v.definition, entity) for v in views if _is_about(v, entity)}
    if not keys:
        skipped = _skipped(views, entity)
        _check_is_about(next(v.definition for v in views if v.definition.name in skipped), entity)
    return keys


def _delete(  # noqa: PLR0917 - where, whom and for how long
    store: OnlineStore,
    project: str,
    view: RegisteredView,
    key: bytes,
    now_us: int,
    retention_us: int,
) -> bool:
    """Write a tombstone; return whether a row of a later time stays instead."""
    lifetime_us = remaining_us(view.definition)
    kept_ms = (retention_us if lifetime_us is None else lifetime_us) // 1000
    rows = EncodedRows(keys=[key], values=[tombstone(now_us)], remaining_ms=[kept_ms])
    return bool(store.write(table_of(project, view), rows).kept)


def _id(view: RegisteredView) -> tuple[str, int]:
    return view.definition.name, view.generation


def _written(state: LiveState, names: Sequence[str]) -> Iterator[RegisteredView]:
    """Yield all generations of some views that are alive; a view may be gone."""
    for name in names:
        if name in state.views:
            yield from state.views[name].written


def _key_or_none(view: RegisteredView, entity: Mapping[str, Any]) -> bytes | None:
    """Return the entity's key in a generation that lookups do not read, if it has one there."""
    try:
        return _key(view.definition, entity) if _is_about(view, entity) else None
    except EntityValueError:
        return None


def _skipped(
    views: Sequence[RegisteredView], entity: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return the views that have some of the keys, and which others they have."""
    found = {}
    for view in views:
        keys = view.definition.join_keys
        if not _is_about(view, entity) and not keys.keys().isdisjoint(entity):
            found[view.definition.name] = tuple(key for key in keys if key not in entity)
    return found


def _check_keys(entity: Mapping[str, Any], views: Sequence[RegisteredView]) -> None:
    """Refuse keys that no view has: a misspelt one would delete nothing, and say so to nobody."""
    known = {key for view in views for key in view.definition.join_keys}
    for name in entity:
        if name not in known:
            raise EntityValueError(
                f"{name!r} is no join key of these views.",
                field=str(name),
                suggestions=close_names(str(name), known),
            )
    if not entity:
        raise RequestError("No join key is given.", hint="pass {'user_id': 42}")


def _is_about(view: RegisteredView, entity: Mapping[str, Any]) -> bool:
    """Whether the keys given name a row of a view; one without join keys is about nobody."""
    keys = view.definition.join_keys
    return bool(keys) and keys.keys() <= entity.keys()


def _check_is_about(view: FeatureView, entity: Mapping[str, Any]) -> None:
    if not view.join_keys:
        raise RequestError(f"View {shown(view.name)} has no join keys: its row is about nobody.")
    for name in view.join_keys:
        if name not in entity:
            raise EntityValueError(
                f"View {shown(view.name)} has the join key {name!r}, which is not given.",
                field=name,
            )


def _key(view: FeatureView, entity: Mapping[str, Any]) -> bytes:
    types = [type_name(dtype) for dtype in view.join_keys.values()]
    values = [[entity[name]] for name in view.join_keys]
    (key,) = encode_keys(types, values, names=list(view.join_keys))
    if key is None:
        name = next(name for name in view.join_keys if is_null(entity[name]))
        raise EntityValueError(f"{name!r} is null: that is no entity.", field=name)
    return key

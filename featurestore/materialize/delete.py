"""Deleting an entity: tombstones in all views about it, which older rows cannot revive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurestore.definitions import FeatureView
from featurestore.errors import EntityValueError, RequestError, close_names, shown
from featurestore.materialize.live import table_of
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
    state: LiveState,
    entity: Mapping[str, Any],
    names: Sequence[str] | None,
    *,
    store: OnlineStore,
    now_us: int,
    retention_us: int,
) -> DeletionReport:
    """Delete an entity from online views; see `FeatureStore.delete_entity`."""
    views = state.online_views(names)
    _check_keys(entity, [view.served for view in views])
    if names is not None:
        for view in views:
            _check_is_about(view.served.definition, entity)
    alive = [generation for view in views for generation in view.written]
    chosen = [(view, _key(view.definition, entity)) for view in alive if _is_about(view, entity)]
    skipped = _skipped(alive, entity)
    if not chosen:
        _check_is_about(next(v.definition for v in alive if v.definition.name in skipped), entity)
    kept = set()
    for about, key in chosen:  # all keys were looked at before the first is deleted
        lifetime_us = remaining_us(about.definition)
        kept_ms = (retention_us if lifetime_us is None else lifetime_us) // 1000
        rows = EncodedRows(keys=[key], values=[tombstone(now_us)], remaining_ms=[kept_ms])
        if store.write(table_of(state.state.project, about), rows).kept:
            kept.add(about.definition.name)
    found = dict.fromkeys(about.definition.name for about, _ in chosen)
    return DeletionReport(
        deleted=tuple(name for name in found if name not in kept),
        kept=tuple(name for name in found if name in kept),
        skipped=skipped,
    )


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

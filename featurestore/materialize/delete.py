"""Deleting an entity: tombstones in all views about it, which older rows cannot revive."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurestore.definitions import FeatureView
from featurestore.errors import EntityValueError, RequestError, close_names, shown
from featurestore.materialize.live import live_tables
from featurestore.materialize.plan import remaining_us
from featurestore.online.codec import encode_keys, tombstone
from featurestore.online.key_values import is_null
from featurestore.online.store import EncodedRows, OnlineStore
from featurestore.registry.state import RegisteredView, RegistryState
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
    state: RegistryState,
    entity: Mapping[str, Any],
    views: Sequence[str] | None,
    *,
    store: OnlineStore,
    now_us: int,
    retention_us: int,
) -> DeletionReport:
    """Delete an entity from online views; see `FeatureStore.delete_entity`."""
    known = state.online_views(views)
    _check_keys(entity, known)
    chosen = [v for v in known if _is_about(v.definition, entity)]
    skipped = {
        v.definition.name: tuple(k for k in v.definition.join_keys if k not in entity)
        for v in known
        if v not in chosen and not v.definition.join_keys.keys().isdisjoint(entity)
    }
    if views is not None or not chosen:
        for view in known:
            if views is not None or view.definition.name in skipped:
                _check_is_about(view.definition, entity)
    keys = {v.definition.name: _key(v.definition, entity) for v in chosen}  # all, before the first
    deleted = {}
    for view in chosen:
        name, lifetime_us = view.definition.name, remaining_us(view.definition)
        kept_ms = (retention_us if lifetime_us is None else lifetime_us) // 1000
        rows = EncodedRows(keys=[keys[name]], values=[tombstone(now_us)], remaining_ms=[kept_ms])
        counts = [store.write(table, rows) for table in live_tables(state.project, view)]
        deleted[name] = all(count.kept == 0 for count in counts)
    return DeletionReport(
        deleted=tuple(name for name, done in deleted.items() if done),
        kept=tuple(name for name, done in deleted.items() if not done),
        skipped=skipped,
    )


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


def _is_about(view: FeatureView, entity: Mapping[str, Any]) -> bool:
    """Whether the keys given name a row of a view; one without join keys is about nobody."""
    return bool(view.join_keys) and view.join_keys.keys() <= entity.keys()


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

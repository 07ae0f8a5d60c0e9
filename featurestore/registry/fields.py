"""Where two JSON documents differ."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from featurestore.definitions.base import Document
from featurestore.registry.plan import FieldChange

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NAMES = ("name", "alias", "view")  # a field has a name; a selection goes by its role, or its view


def field_changes(before: Document, after: Document) -> tuple[FieldChange, ...]:
    """Return what differs between two documents of one object, in the order of the documents."""
    return tuple(_between("", before, after))


def _between(path: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _between_keys(path, before, after)
    elif _is_named(before) and _is_named(after):
        yield from _between_items(path, before, after)
    else:
        yield FieldChange(path=path, before=before, after=after)


def _between_keys(
    path: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> Iterator[FieldChange]:
    for key in dict.fromkeys((*before, *after)):
        yield from _between(_joined(path, key), before.get(key), after.get(key))


def _between_items(path: str, before: list[Any], after: list[Any]) -> Iterator[FieldChange]:
    """Compare lists by the names of their items; a new order of those that stay is a change too."""
    old, new = ({_name(item): item for item in items} for items in (before, after))
    yield from _between_keys(path, old, new)
    stayed = [name for name in old if name in new]
    if stayed != [name for name in new if name in old]:
        yield FieldChange(path=path, before=list(old), after=list(new))


def _is_named(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(i, Mapping) and _name(i) for i in value)


def _name(item: Mapping[str, Any]) -> Any:
    return next((item[key] for key in _NAMES if item.get(key)), None)


def _joined(path: str, key: str) -> str:
    part = key if _WORD.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{path}.{part}" if path else part

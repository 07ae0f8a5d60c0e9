"""A plan as plain lines of text; whoever prints them adds the colours."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from featurestore.registry.plan import Change, FieldChange, Plan

MAX_VALUE = 100
MAX_FIELDS = 50
MAX_USERS = 10
_SIGNS: Final = {"create": "+", "update": "~", "delete": "-"}


def render_plan(plan: Plan) -> list[str]:
    """Return the lines to print for `plan`: a block per change, then the summary.

    A block starts with `+`, `~` or `-`; lines that belong to it are indented. What users wrote is
    shortened, with control characters escaped: it can neither break a line nor move a cursor.
    """
    lines = [line for change in plan.changes for line in _block(change)]
    return [*lines, "", plan.summary] if lines else [plan.summary]


def _block(change: Change) -> Iterator[str]:
    yield f"{_SIGNS[change.action]} {change.action} {change.ref}{_remark(change)}"
    for source in change.static:
        yield f"    static: {source} - its rows are taken as they are today, for all times"
    for through in change.through:
        yield f"    meaning changes through {through}"
    for field in change.fields[:MAX_FIELDS]:
        yield f"    {_field(field)}"
    if len(change.fields) > MAX_FIELDS:
        yield f"    and {len(change.fields) - MAX_FIELDS:,} more"
    if change.affects and change.impact in ("breaking", "destructive"):
        yield f"    used by {_users(change)}"


def _remark(change: Change) -> str:
    if change.is_new_generation:
        old, new = change.generation_before, change.generation_after
        return f" ({change.impact}; generation {old} -> {new})"
    return f" ({change.impact})" if change.action == "update" else ""


def _users(change: Change) -> str:
    listed = ", ".join(str(ref) for ref in change.affects[:MAX_USERS])
    rest = len(change.affects) - MAX_USERS
    return f"{listed} and {rest:,} more" if rest > 0 else listed


def _field(field: FieldChange) -> str:
    return f"{_printable(field.path)}: {_value(field.before)} -> {_value(field.after)}"


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        said = (item for item in value.items() if item[0] != "tree")  # it is read from a text
        value = {key: part for key, part in said if part not in (None, "", {}, [])}
    return _printable(json.dumps(value, ensure_ascii=False))


def _printable(text: str) -> str:
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: MAX_VALUE + 1])
    return safe if len(text) <= MAX_VALUE else f"{safe[:MAX_VALUE]}..."

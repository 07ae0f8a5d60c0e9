"""Columns of a spine that hold answers: what a model is to predict, and must never be given.

The mark is metadata of the Arrow field, so it travels wherever the column does: through Parquet
files, the Arrow stream of a server, and into the training set.
"""

import json
import math
from typing import Any, Final, TypeGuard

import pyarrow as pa

from featurestore.errors import RequestError, shown
from featurestore.training.query import FeatureQuery

LABEL: Final = b"featurestore.label"
ORIGIN: Final = b"featurestore.spine"
MAX_ORIGIN: Final = 4_000_000
"""Longer documents of a file are not looked at."""
MAX_DEPTH: Final = 20
"""Nor are those of more levels: an origin has four."""


def label_field(field: pa.Field) -> pa.Field:
    """Return a field that is marked as a label."""
    return field.with_metadata({**(field.metadata or {}), LABEL: b"true"})


def label_names(schema: pa.Schema) -> tuple[str, ...]:
    """Return the names of the columns that are marked as labels."""
    return tuple(field.name for field in schema if LABEL in (field.metadata or {}))


def spine_origin(schema: pa.Schema) -> dict[str, Any] | None:
    """Return how a spine was made, as its schema says; None if it does not say.

    Anybody may have written the file that the schema is from. What is returned has at least `keys`
    and `timestamp_field`, which are texts, and `steps`, which are objects, and is JSON that can be
    written again.
    """
    text = (schema.metadata or {}).get(ORIGIN, b"")
    try:
        found = _read(text) if len(text) <= MAX_ORIGIN else None
    except (ValueError, RecursionError):
        return None
    return found if _is_origin(found) and _is_plain(found, MAX_DEPTH) else None


def _is_origin(found: object) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(found, dict)
        and _is_list_of(str, found.get("keys"))
        and isinstance(found.get("timestamp_field"), str)
        and _is_list_of(dict, found.get("steps"))
    )


def _is_list_of(kind: type, values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, kind) for value in values)


def _is_plain(value: object, depth: int) -> bool:
    """Whether JSON has finite numbers, no surrogates, and so many levels at most."""
    if isinstance(value, dict | list):
        parts = value if isinstance(value, list) else (*value, *value.values())
        return depth > 0 and all(_is_plain(part, depth - 1) for part in parts)
    if isinstance(value, str):
        return not any("\ud800" <= char <= "\udfff" for char in value)
    return not isinstance(value, float) or math.isfinite(value)


def _read(text: bytes) -> object:
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(number: str) -> float:
    """Return a number that can be written as JSON again: Python takes NaN, Infinity and 1e999."""
    if not math.isfinite(found := float(number)):
        raise ValueError(f"{number} is no number")
    return found


def check_labels(query: FeatureQuery, spine: pa.Schema, timestamp_field: str) -> None:
    """Refuse a label as what a feature is looked up or computed by.

    Raises:
        RequestError: It names the column, and what it would have been.
    """
    used = {timestamp_field: "the spine's time"}
    for join in query.joins:
        role = f"a join key of {join.selection.name!r}"
        used |= dict.fromkeys(join.selection.key_columns.values(), role)
    if query.on_demand is not None:
        used |= dict.fromkeys(query.on_demand.fields, "a request field of on-demand features")
    for name in label_names(spine):
        if name in used:
            raise RequestError(
                f"Column {shown(name)} of the spine is a label, and cannot be {used[name]}: a model"
                " would be given the answer.",
                hint="nobody knows it yet when features are asked for; take another column",
            )

"""Columns of a spine that hold answers: what a model is to predict, and must never be given.

The mark is metadata of the Arrow field, so it travels wherever the column does: through Parquet
files, the Arrow stream of a server, and into the training set.
"""

import json
import math
from typing import Any, Final

import pyarrow as pa

from featurestore.errors import RequestError, shown
from featurestore.training.query import FeatureQuery

LABEL: Final = b"featurestore.label"
ORIGIN: Final = b"featurestore.spine"
MAX_ORIGIN: Final = 4_000_000
"""Longer documents of a file are not looked at."""


def label_field(field: pa.Field) -> pa.Field:
    """Return a field that is marked as a label."""
    return field.with_metadata({**(field.metadata or {}), LABEL: b"true"})


def label_names(schema: pa.Schema) -> tuple[str, ...]:
    """Return the names of the columns that are marked as labels."""
    return tuple(field.name for field in schema if LABEL in (field.metadata or {}))


def spine_origin(schema: pa.Schema) -> dict[str, Any] | None:
    """Return how a spine was made, as its schema says; None if it does not say."""
    text = (schema.metadata or {}).get(ORIGIN, b"")
    try:
        found = _read(text) if len(text) <= MAX_ORIGIN else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


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

"""What an explanation says: plain, frozen data. `outline` lays it out for people."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featurestore.explanation.rows import (
    Document,
    PassedOver,
    SourceRow,
    Value,
    Values,
    time_text,
    values_document,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowExplanation:
    """The rows of one window of one column.

    Attributes:
        features: The features over it.
        column: The column, or "*" for whole rows.
        start_us: Where it begins; None for all history.
        end_us: Where it ends.
        closed: Which ends belong to it: "left", "right", "both" or "neither".
        where: The predicate of the rows that count, or None.
        count: How many rows have a value that counts.
        rows: Some of them, newest first.
        deciding: Of first, last, min and max the row that has the value; of several the oldest.
        passed_over: Rows of the entity that do not count, by reason.
    """

    features: tuple[str, ...]
    column: str
    start_us: int | None
    end_us: int
    closed: str
    where: str | None
    count: int
    rows: tuple[SourceRow, ...]
    deciding: Mapping[str, SourceRow]
    passed_over: tuple[PassedOver, ...]

    @property
    def interval(self) -> str:
        """The interval with its open and closed ends: `[2026-01-01T00:00:00Z, ...)`."""
        low = "[" if self.closed in ("left", "both") else "("
        high = "]" if self.closed in ("right", "both") else ")"
        if self.start_us is None:
            return f"(the beginning, {time_text(self.end_us)}{high}"
        return f"{low}{time_text(self.start_us)}, {time_text(self.end_us)}{high}"

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {
            "features": list(self.features),
            "column": self.column,
            "start": time_text(self.start_us),
            "end": time_text(self.end_us),
            "closed": self.closed,
            "interval": self.interval,
            "where": self.where,
            "count": self.count,
            "rows": [row.to_document() for row in self.rows],
            "not_listed": self.count - len(self.rows),
            "deciding": {name: row.to_document() for name, row in self.deciding.items()},
            "passed_over": [each.to_document() for each in self.passed_over],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineFeature:
    """One feature of an entity as a lookup returns it.

    Attributes:
        value: The value; null where it is withheld or missing.
        status: PRESENT, NULL_VALUE, NOT_FOUND or OUTSIDE_MAX_AGE.
        agrees: Whether it is the value that training sees at the moment asked for.
    """

    value: Value
    status: str
    agrees: bool

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {"value": self.value.json, "status": self.status, "agrees": self.agrees}


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlineRow:
    """What the online store holds of an entity in one view, and how that goes with training.

    Attributes:
        state: "row", "pushed", "deleted", "none", or "not served".
        generation: The view's generation that lookups read.
        schema_id: Tells the schema of the stored row, in hexadecimal; None without a row.
        event_us: Event time of the stored row.
        created_us: Its created time.
        size: Its bytes.
        materialized_until_us: End of the last run, or None if there was none.
        request_us: When it was looked up.
        stored: The values in the row, decoded, whether or not a lookup may serve them.
        features: What a lookup returns of each feature asked for.
        why: What is the same, or why it is not.
        is_defect: Whether nothing excuses that it is not.
    """

    state: str
    generation: int | None
    schema_id: str | None = None
    event_us: int | None = None
    created_us: int | None = None
    size: int | None = None
    materialized_until_us: int | None = None
    request_us: int | None = None
    stored: Values = field(default_factory=dict)
    features: Mapping[str, OnlineFeature] = field(default_factory=dict)
    why: str = ""
    is_defect: bool = False

    @property
    def agrees(self) -> bool:
        """Whether lookups return all that training sees."""
        return all(feature.agrees for feature in self.features.values())

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {
            "state": self.state,
            "agrees": self.agrees,
            "why": self.why,
            "is_defect": self.is_defect,
            "generation": self.generation,
            "schema_id": self.schema_id,
            "event_time": time_text(self.event_us),
            "created_time": time_text(self.created_us),
            "size_bytes": self.size,
            "materialized_until": time_text(self.materialized_until_us),
            "request_time": time_text(self.request_us),
            "stored": values_document(self.stored),
            "features": {name: found.to_document() for name, found in self.features.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewExplanation:
    """Where the values of one view, or of one role of a view, come from.

    Attributes:
        role: The role's name, or the view's.
        view: The view.
        source: Its source.
        files: How many files that has.
        source_rows: How many rows.
        keys: Join key of the view -> the entity's value.
        key_columns: Join key of the view -> what the entity calls it.
        transform: The view's SELECT, or None.
        ttl_us: Greatest age of a row, or None; of windows None.
        entity_rows: Rows of the source with this key and a time, behind the transform.
        verdict: One sentence that answers "why this value?".
        rule: What decides between rows.
        values: The features' values.
        chosen: Of a view with a schema, the row that answers; None if there is none.
        windows: Of a view with aggregations, the windows.
        passed_over: Rows that do not answer, by reason; those of windows stand at each window, and
            here what concerns all of them.
        notes: What is worth knowing besides.
        online: What the online store has, if that was asked for.
    """

    role: str
    view: str
    source: str
    files: int
    source_rows: int
    keys: Values
    key_columns: Mapping[str, str]
    transform: str | None
    ttl_us: int | None
    entity_rows: int
    verdict: str
    rule: str
    values: Values
    chosen: SourceRow | None = None
    windows: tuple[WindowExplanation, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()
    notes: tuple[str, ...] = ()
    online: OnlineRow | None = None

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {
            "role": self.role,
            "view": self.view,
            "source": self.source,
            "files": self.files,
            "source_rows": self.source_rows,
            "keys": values_document(self.keys),
            "key_columns": dict(self.key_columns),
            "transform": self.transform,
            "ttl_us": self.ttl_us,
            "entity_rows": self.entity_rows,
            "verdict": self.verdict,
            "rule": self.rule,
            "values": values_document(self.values),
            "chosen": None if self.chosen is None else self.chosen.to_document(),
            "windows": [window.to_document() for window in self.windows],
            "passed_over": [each.to_document() for each in self.passed_over],
            "notes": list(self.notes),
            "online": None if self.online is None else self.online.to_document(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputedInput:
    """What an on-demand feature is computed from.

    Attributes:
        name: What the on-demand view calls it.
        origin: "request" for a request field, else the feature's name as `role:feature`.
        value: Its value.
    """

    name: str
    origin: str
    value: Value

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {"name": self.name, "origin": self.origin, "value": self.value.json}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedFeature:
    """A feature that was asked for.

    Attributes:
        name: `role:feature`.
        value: Its value: that of a training set of this one entity at this moment.
        role: The view or role that `Explanation.views` explains; None of an on-demand feature.
        how: Of an on-demand feature its expression, or the Python function; None of others.
        inputs: What it is computed from.
        online: What a lookup returns of an on-demand feature, if that was asked for.
    """

    name: str
    value: Value
    role: str | None
    how: str | None = None
    inputs: tuple[ComputedInput, ...] = ()
    online: OnlineFeature | None = None

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {
            "name": self.name,
            "type": self.value.dtype,
            "value": self.value.json,
            "role": self.role,
            "how": self.how,
            "inputs": [each.to_document() for each in self.inputs],
            "online": None if self.online is None else self.online.to_document(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why the features of one entity have their values at one moment.

    Attributes:
        project: The project.
        revision: The registry's revision that it follows.
        engine: The engine that computed the values.
        mode: "complete" or "as_served".
        at_us: The moment, in microseconds.
        entity: The entity's join keys.
        request: The request fields.
        features: What was asked for, in order.
        views: Where the values come from: of every view or role that is used.
        defects: What does not add up: that the values of a training set are not those of the rows
            that should answer. It is a bug of this library, and never hidden.
    """

    project: str
    revision: int
    engine: str
    mode: str
    at_us: int
    entity: Values
    request: Values
    features: tuple[ExplainedFeature, ...]
    views: tuple[ViewExplanation, ...]
    defects: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the training set, its rows, and the online store if asked, add up."""
        return not self.defects

    def view(self, role: str) -> ViewExplanation:
        """Return what is said of a view or role; KeyError if it is not used."""
        for view in self.views:
            if view.role == role:
                return view
        raise KeyError(role)

    @property
    def value(self) -> Any:
        """The value of the first feature, as Python has it."""
        return self.features[0].value.python

    def to_document(self) -> Document:
        """Return this as JSON-ready data; rows are counted from 0."""
        return {
            "ok": self.ok,
            "defects": list(self.defects),
            "project": self.project,
            "revision": self.revision,
            "engine": self.engine,
            "mode": self.mode,
            "at": time_text(self.at_us),
            "entity": values_document(self.entity),
            "request": values_document(self.request),
            "features": [feature.to_document() for feature in self.features],
            "views": [view.to_document() for view in self.views],
        }

    def __str__(self) -> str:
        from featurestore.explanation.as_text import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from featurestore.explanation.as_html import as_html

        return as_html(self)

"""Rows of sources and their values, as explanations show them: plain, frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pyarrow as pa

from featurestore.json_values import Json, json_column, text
from featurestore.monitoring.differences import shown_value
from featurestore.time import instant_text
from featurestore.types import type_name

Document = dict[str, Any]


class Reason(StrEnum):
    """Why a row of the source does not answer."""

    LATER = "later"
    """Its event time is after the moment asked for, or at it where the window is open there."""
    NOT_WRITTEN = "not_written"
    """With mode `as_served`: it had not been written by then, or nobody knows when it was."""
    EXPIRED = "expired"
    """It was older than the view's ttl."""
    BEFORE = "before"
    """It took place before the window began."""
    CORRECTED = "corrected"
    """A later version of the same event stands for it."""
    TIE = "tie"
    """It has the times of the row that answers, and stands before it in the files."""
    NANOSECONDS = "nanoseconds"
    """It has the microseconds of the row that answers, and fewer nanoseconds."""
    OLDER = "older"
    """It is visible, and a newer row is, too."""
    WHERE = "where"
    """The aggregation's `where` is not true for it."""
    NULL_VALUE = "null_value"
    """It is in the window, and has no value: functions skip nulls."""
    FILTERED = "filtered"
    """The view's transform leaves it out, or a rule in quarantine does."""
    NULL_TIME = "null_time"
    """It has no event time, so that it is never visible."""
    NULL_KEY = "null_key"
    """A part of its join key is null, so that it belongs to nobody."""


def array_of(scalar: pa.Scalar) -> pa.Array:
    """Return a value as an array of one; `pa.array` takes no null list."""
    return pa.repeat(scalar, 1) if scalar.is_valid else pa.nulls(1, scalar.type)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value together with its Arrow type.

    Attributes:
        scalar: The value.
    """

    scalar: pa.Scalar

    @property
    def dtype(self) -> str:
        """The type, such as `float64` or `list<string>`."""
        return type_name(self.scalar.type)

    @property
    def python(self) -> Any:
        """The value as `to_pylist()` of a training set has it."""
        return shown_value(self.scalar)

    @property
    def json(self) -> Json:
        """The value as JSON, in the manner of proto3 JSON."""
        try:
            (found,) = json_column(array_of(self.scalar))
        except (OverflowError, ValueError):  # a year that Python does not know
            return str(shown_value(self.scalar))
        return found

    @property
    def text(self) -> str:
        """The value as people read it."""
        return text(self.json)

    def __str__(self) -> str:
        return self.text


Values = Mapping[str, Value]


def values_document(values: Values) -> Document:
    """Return values as JSON-ready data."""
    return {name: value.json for name, value in values.items()}


def time_text(micros: int | None) -> str | None:
    """Return an instant in microseconds as RFC 3339; None stays None."""
    return None if micros is None else instant_text(micros, "us", aware=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a row is.

    Attributes:
        file: Path of the Parquet file; relative to the repository if it lies in it.
        row: The row's number in the file, counted from 0 (DuckDB's `file_row_number`).
    """

    file: str
    row: int

    def __str__(self) -> str:
        return f"row {self.row} of {self.file}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedRow:
    """The row of another source that a view's transform joined to a row.

    Attributes:
        name: What the transform calls the joined source.
        source: The source.
        place: Where the row is; None if no row was joined.
        event_us: Its event time; None of a static source.
        created_us: When it was written, if that is known.
        values: The columns that the transform uses.
    """

    name: str
    source: str
    place: Place | None
    event_us: int | None
    created_us: int | None
    values: Values

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {
            "name": self.name,
            "source": self.source,
            "file": None if self.place is None else self.place.file,
            "row": None if self.place is None else self.place.row,
            "event_time": time_text(self.event_us),
            "created_time": time_text(self.created_us),
            "values": values_document(self.values),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """A row of a view's source.

    Attributes:
        place: Where it is.
        event_us: Its event time in microseconds, None where null.
        created_us: When it was written, None where null or not recorded.
        values: What features are made of: behind the transform, if the view has one. Empty for a
            row that is left out, and one that has no key or time.
        read: The source's columns that the transform reads; empty without a transform.
        joined: What the transform joined to it.
        left_out: Why the transform or a rule leaves it out; None of other rows.
    """

    place: Place
    event_us: int | None
    created_us: int | None
    values: Values = field(default_factory=dict)
    read: Values = field(default_factory=dict)
    joined: tuple[JoinedRow, ...] = ()
    left_out: str | None = None

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        document: Document = {
            "file": self.place.file,
            "row": self.place.row,
            "event_time": time_text(self.event_us),
            "created_time": time_text(self.created_us),
            "values": values_document(self.values),
        }
        if self.read:
            document["read"] = values_document(self.read)
        if self.joined:
            document["joined"] = [row.to_document() for row in self.joined]
        if self.left_out is not None:
            document["left_out"] = self.left_out
        return document


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """Rows that do not answer, for one reason.

    Attributes:
        reason: Which.
        why: The same for people, with what decided.
        count: How many rows.
        rows: Some of them: those that came closest to answering, the closest first.
    """

    reason: Reason
    why: str
    count: int
    rows: tuple[SourceRow, ...]

    def to_document(self) -> Document:
        """Return this as JSON-ready data."""
        return {
            "reason": self.reason.value,
            "why": self.why,
            "count": self.count,
            "rows": [row.to_document() for row in self.rows],
        }

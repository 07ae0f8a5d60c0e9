"""The one-row spine that an explanation is about, made of what people write."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from featurestore.definitions import OnDemandSelection
from featurestore.errors import EntityValueError, RequestError, close_names, did_you_mean, shown
from featurestore.expressions.arrow import to_arrow
from featurestore.online.key_values import key_column
from featurestore.online.request_values import request_vector
from featurestore.time import Clock, as_utc, parse_instant, to_micros
from featurestore.training.query import Selection
from featurestore.types import parse_type, type_name

Columns = Mapping[str, Sequence[str]]
"""What has to be brought: name -> its declared types; there are several if views differ."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked about.

    Attributes:
        keys: The entity: one row of its join keys.
        request: One row of request fields.
        at_us: The moment in microseconds.
        time_name: What the moment is called in the spine.
    """

    keys: pa.Table
    request: pa.Table
    at_us: int
    time_name: str

    @property
    def spine(self) -> pa.Table:
        """The spine of one row."""
        at = pa.array([self.at_us], pa.int64()).view(pa.timestamp("us", tz="UTC"))
        names = [*self.keys.column_names, *self.request.column_names, self.time_name]
        return pa.table([*self.keys.columns, *self.request.columns, at], names=names)


def key_types(asked: Iterable[Selection]) -> dict[str, list[str]]:
    """Return the join keys that an entity has, with their declared types."""
    found: dict[str, list[str]] = {}
    for selection in asked:
        if isinstance(selection, OnDemandSelection):
            columns = dict(selection.view.key_columns)
        else:
            keys = selection.view.join_keys
            columns = {column: keys[key] for key, column in selection.key_columns.items()}
        for column, dtype in columns.items():
            types = found.setdefault(column, [])
            if type_name(dtype) not in types:
                types.append(type_name(dtype))
    return found


def request_types(asked: Iterable[Selection]) -> dict[str, list[str]]:
    """Return the request fields that on-demand features need, with their declared types."""
    return {
        name: [type_name(dtype)]
        for selection in asked
        if isinstance(selection, OnDemandSelection)
        for name, dtype in selection.view.request_fields.items()
    }


def ask(
    asked: Sequence[Selection],
    entity: Mapping[str, Any],
    request: Mapping[str, Any],
    *,
    at: datetime | str | None,
    clock: Clock,
) -> Question:
    """Return the question about one entity at one moment.

    Raises:
        EntityValueError: A join key or request field is missing, unknown or of the wrong type.
        RequestError: `at` is not an instant.
    """
    keys, fields = key_types(asked), request_types(asked)
    _check_names(entity, keys, "join key", other=fields, option="request")
    _check_names(request, fields, "request field", other=keys, option="entity")
    fields = {name: types for name, types in fields.items() if name not in keys}
    taken = {name.casefold() for name in (*keys, *fields)}
    time_name = "event_timestamp"
    while time_name in taken:
        time_name += "_"
    return Question(
        keys=pa.table({name: _key(name, types, entity[name]) for name, types in keys.items()}),
        request=pa.table({n: _field(n, types[0], request[n]) for n, types in fields.items()}),
        at_us=_micros(at, clock),
        time_name=time_name,
    )


def _micros(at: datetime | str | None, clock: Clock) -> int:
    if at is None:
        return clock.now_micros()
    try:
        return to_micros(parse_instant(at) if isinstance(at, str) else as_utc(at))
    except ValueError as error:
        raise RequestError(f"at: {error}.") from None
    except (AttributeError, TypeError, OverflowError):
        raise RequestError(
            f"at={at!r} is not an instant.", hint="pass a datetime or RFC 3339 text"
        ) from None


def _check_names(
    given: Mapping[str, Any], expected: Columns, kind: str, *, other: Columns, option: str
) -> None:
    for name in given:
        if name not in expected:
            _refuse(str(name), expected, kind, other=other, option=option)
    for name in expected:
        if name not in given and not (kind == "request field" and name in other):
            raise EntityValueError(
                f"The {kind} {shown(name)} ({expected[name][0]}) is missing.",
                field=name,
                hint=f"these features take {_listed(expected)}",
            )


def _refuse(name: str, expected: Columns, kind: str, *, other: Columns, option: str) -> NoReturn:
    guess = did_you_mean(close_names(name, expected))
    if name in other:
        guess = f"it belongs to {option}: --{option} {name}=..., or {option}={{{name!r}: ...}}"
    raise EntityValueError(
        f"{shown(name)} is not a {kind} of these features; they take {_listed(expected)}.",
        field=name,
        hint=guess,
    )


def _listed(expected: Columns) -> str:
    return ", ".join(f"{shown(name)} ({types[0]})" for name, types in expected.items()) or "none"


def _key(name: str, types: Sequence[str], value: object) -> pa.Array:
    """Return a key in the first of its declared types that has the value."""
    errors = []
    for dtype in types:
        try:
            column = key_column(dtype, [value], field=name)
        except EntityValueError as error:
            errors.append(error)
            continue
        arrow = parse_type(dtype)
        if column.valid is not None and not column.valid[0]:
            return pa.nulls(1, arrow)
        if isinstance(column.values, np.ndarray):
            found = pa.array(column.values)
            return found.cast(arrow) if found.type != arrow else found
        return pa.array(column.values, arrow)
    raise errors[0]


def _field(name: str, dtype: str, value: object) -> pa.Array:
    return to_arrow(request_vector(dtype, [value], field=name), dtype)

"""What a fake server serves: views, services and rows in memory. Pure: messages in, messages out.

Requests are checked as the real server checks them, with its reasons; words may differ.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any

from featurestore_protos.v1 import registry_pb2 as registry
from featurestore_protos.v1 import serving_pb2 as serving

from featurestore_sdk.errors import FieldViolation, InvalidRequestError, NotFoundError
from featurestore_sdk.responses import Status
from featurestore_sdk.testing.values import as_key, encode_as, plain
from featurestore_sdk.values import micros_of

Selecting = serving.GetOnlineFeaturesRequest | registry.DescribeFeaturesRequest


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is stored of one entity."""

    values: Mapping[str, Any]
    statuses: Mapping[str, Status]
    event_timestamp: datetime

    def status(self, feature: str) -> Status:
        """Return what is known about a value."""
        missing = self.values.get(feature) is None
        return self.statuses.get(feature, Status.NULL_VALUE if missing else Status.PRESENT)


@dataclass(frozen=True, kw_only=True)
class View:
    """A view: types of its join keys and features, and its rows by key."""

    keys: Mapping[str, str]
    features: Mapping[str, str]
    rows: dict[tuple[Any, ...], Row] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A feature service: features as `view:feature`, and types of request fields."""

    features: tuple[str, ...]
    request_fields: Mapping[str, str]


@dataclass(frozen=True)
class Output:
    """One feature of a reply."""

    view: str
    feature: str
    name: str


@dataclass
class Project:
    """All that is served.

    Attributes:
        revision: Counts definitions, as a registry does.
    """

    name: str
    revision: int = 0
    views: dict[str, View] = field(default_factory=dict)
    services: dict[str, Service] = field(default_factory=dict)

    def check_project(self, name: str) -> None:
        """Refuse those who expect another project."""
        if name and name != self.name:
            raise _unknown("project", name, [self.name])

    def view(self, name: str) -> View:
        """Return a view by its name."""
        if name not in self.views:
            raise _unknown("feature view", name, self.views)
        return self.views[name]

    def put(self, name: str, key: Mapping[str, Any], row: Row) -> None:
        """Store a row in place of the one that was there.

        Raises:
            InvalidRequestError: The key, or a value, is not what the view declares.
        """
        view = self.view(name)
        for column in row.values.keys() | row.statuses.keys():
            if column not in view.features:
                raise _unknown("feature", column, view.features)
        for column, value in row.values.items():
            try:
                encode_as(view.features[column], [value])
            except (TypeError, ValueError) as error:
                raise _invalid(f"{column!r} of {name!r}: {error}", column) from None
        columns = {column: [value] for column, value in key.items()}
        typed = _checked(columns, view.keys)
        view.rows[tuple(column[0] for column in typed.values())] = row

    def online(
        self, request: serving.GetOnlineFeaturesRequest
    ) -> serving.GetOnlineFeaturesResponse:
        """Answer a lookup."""
        self.check_project(request.project)
        outputs, fields = self._selected(request)
        keys = self._keys(outputs)
        given = {name: plain(values) for name, values in request.entities.items()}
        columns = _checked(given, {**keys, **fields})
        count = max(map(len, columns.values()), default=request.entity_count or 1)
        response = serving.GetOnlineFeaturesResponse(
            project=self.name,
            revision=self.revision,
            request_timestamp_us=micros_of(datetime.now(UTC)),
        )
        for name, dtype in keys.items():
            response.entities.add(name=name, dtype=dtype, values=encode_as(dtype, columns[name]))
        self._fill(response, outputs, columns, count)
        return response

    def _fill(
        self,
        response: serving.GetOnlineFeaturesResponse,
        outputs: Sequence[Output],
        columns: Mapping[str, Sequence[Any]],
        count: int,
    ) -> None:
        found: dict[str, list[Row | None]] = {}
        for output in outputs:
            view = self.views[output.view]
            if output.view not in found:
                found[output.view] = [
                    view.rows.get(tuple(columns[key][row] for key in view.keys))
                    for row in range(count)
                ]
                _add_times(response, output.view, found[output.view])
            rows, dtype = found[output.view], view.features[output.feature]
            statuses = [row.status(output.feature) if row else Status.NOT_FOUND for row in rows]
            values = [
                row.values.get(output.feature) if row and status is Status.PRESENT else None
                for row, status in zip(rows, statuses, strict=True)
            ]
            response.features.add(
                name=output.name,
                dtype=dtype,
                values=encode_as(dtype, values),
                statuses=bytes(statuses),
                view=list(found).index(output.view),
            )

    def describe(
        self, request: registry.DescribeFeaturesRequest
    ) -> registry.DescribeFeaturesResponse:
        """Say what a lookup takes and gives."""
        self.check_project(request.project)
        outputs, fields = self._selected(request)
        response = registry.DescribeFeaturesResponse(revision=self.revision)
        for name, dtype in {**self._keys(outputs), **fields}.items():
            response.request_columns.add(name=name, dtype=dtype)
        for output in outputs:
            dtype = self.views[output.view].features[output.feature]
            response.features.add(name=output.name, dtype=dtype)
        return response

    def objects(self) -> list[registry.RegisteredObject]:
        """Return views and services as a registry lists them."""
        views = [
            registry.RegisteredObject(
                kind=registry.OBJECT_KIND_FEATURE_VIEW,
                name=name,
                definition_json=json.dumps({"name": name, "features": dict(view.features)}),
            )
            for name, view in sorted(self.views.items())
        ]
        services = [
            registry.RegisteredObject(
                kind=registry.OBJECT_KIND_FEATURE_SERVICE,
                name=name,
                definition_json=json.dumps({"name": name, "features": list(service.features)}),
            )
            for name, service in sorted(self.services.items())
        ]
        return views + services

    def check_names(self, names: Sequence[str]) -> None:
        """Refuse features that are not there."""
        for name in names:
            view, separator, feature = name.partition(":")
            if not separator:
                raise _unknown("feature", name, self.views)
            if feature not in self.view(view).features:
                raise _unknown("feature", feature, self.views[view].features)

    def _selected(self, request: Selecting) -> tuple[list[Output], Mapping[str, str]]:
        if request.WhichOneof("selection") == "feature_service":
            if request.feature_service not in self.services:
                raise _unknown("feature service", request.feature_service, self.services)
            service = self.services[request.feature_service]
            names, fields = service.features, service.request_fields
        else:
            names, fields = tuple(request.features.names), {}
        if not names or len(set(names)) < len(names):
            message = "The request names no feature, or one of them twice."
            raise InvalidRequestError(message, reason="REQUEST_INVALID")
        self.check_names(names)
        outputs = [
            Output(view, feature, f"{view}__{feature}" if request.full_feature_names else feature)
            for view, _, feature in (name.partition(":") for name in names)
        ]
        _refuse_collisions([*self._keys(outputs), *(output.name for output in outputs)])
        return outputs, fields

    def _keys(self, outputs: Iterable[Output]) -> dict[str, str]:
        return {
            key: dtype for output in outputs for key, dtype in self.views[output.view].keys.items()
        }


def _add_times(
    response: serving.GetOnlineFeaturesResponse, name: str, rows: Sequence[Row | None]
) -> None:
    times = response.views.add(name=name)
    times.event_timestamps_us.extend(micros_of(row.event_timestamp) if row else 0 for row in rows)
    if None in rows:
        times.found = bytes([row is not None for row in rows])


def _checked(
    given: Mapping[str, Sequence[Any]], expected: Mapping[str, str]
) -> dict[str, list[Any]]:
    """Return the expected columns in their types."""
    for name in [*expected, *given]:
        if name not in given:
            raise _invalid(f"{name!r} is missing from the request.", name)
        if name not in expected:
            close = _close(name, expected)
            raise _invalid(f"{name!r} is not asked for.{_hint(close)}", name, suggestions=close)
        if len(given[name]) != len(given[first := next(iter(expected))]):
            raise _invalid(f"{name!r} and {first!r} have different numbers of values.", name)
    return {name: _typed(name, dtype, given[name]) for name, dtype in expected.items()}


def _typed(name: str, dtype: str, column: Sequence[Any]) -> list[Any]:
    found = []
    for row, value in enumerate(column):
        try:
            found.append(as_key(dtype, value))
        except ValueError as error:
            raise _invalid(f"{name!r}: {error}.", f"{name}[{row}]") from None
    return found


def _refuse_collisions(names: Sequence[str]) -> None:
    if len({name.lower() for name in names}) < len(names):
        message = "Two columns of the reply would share a name."
        violation = FieldViolation(field="features", description=message)
        raise InvalidRequestError(message, violations=[violation], reason="NAME_COLLISION")


def _invalid(message: str, name: str, suggestions: Sequence[str] = ()) -> InvalidRequestError:
    return InvalidRequestError(
        message,
        violations=[FieldViolation(field=f"entities.{name}", description=message)],
        suggestions=suggestions,
        reason="ENTITY_VALUE_INVALID",
    )


def _unknown(kind: str, name: str, known: Iterable[str]) -> NotFoundError:
    close = _close(name, known)
    return NotFoundError(
        f"There is no {kind} {name!r}.{_hint(close)}",
        kind=kind,
        name=name,
        suggestions=close,
        reason=f"{kind.upper().replace(' ', '_')}_NOT_FOUND",
    )


def _close(name: str, known: Iterable[str]) -> list[str]:
    return get_close_matches(name, list(known))


def _hint(close: Sequence[str]) -> str:
    return f" Hint: did you mean {' or '.join(map(repr, close))}?" if close else ""

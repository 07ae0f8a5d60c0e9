"""The oracle as a runner of scenarios."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import pyarrow as pa

from featurestore.definitions import (
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
    RequestSource,
)
from featurestore.errors import EntityValueError, NotFoundError, RequestError, SpineError
from featurestore.testing.oracle import (
    OnlineAnswer,
    OnlineOracle,
    Status,
    check_names,
    historical,
    result_name,
)
from featurestore.testing.oracle_functions import functions_of
from featurestore.testing.oracle_on_demand import (
    Functions,
    Selection,
    compute,
    read_by,
    request_fields,
    request_row,
    view_sources,
)
from featurestore.testing.oracle_rows import key_of
from featurestore.testing.oracle_windows import with_types_of
from featurestore.testing.plain import PlainTable, Row
from featurestore.testing.runners import Reply, is_core_error
from featurestore.testing.scenario import (
    ExpectedError,
    Features,
    LookUp,
    Materialize,
    Push,
    Scenario,
    Train,
)

_KEY_KINDS: Final = (
    (pa.types.is_boolean, bool),
    (pa.types.is_integer, int),
    (pa.types.is_string, str),
    (pa.types.is_binary, bytes),
    (pa.types.is_date, date),
)


class OracleRunner:
    """Answers every step by the oracle, without files and stores."""

    def start(self, scenario: Scenario) -> None:
        """Take the definitions and the rows; nothing is online yet."""
        self.scenario = scenario
        self.functions = functions_of(scenario.modules)
        self.now_us = scenario.now_us
        self.views = {
            name: with_types_of(view, scenario.files[view.source.name], scenario.files)
            for name, view in scenario.views.items()
        }
        self.on_demand = {
            name: OnDemandFeatureView.from_document(
                view.to_document(), views=self.views, request_sources=scenario.request_sources
            )
            for name, view in scenario.on_demand_views.items()
        }
        self.online = {name: OnlineOracle(view) for name, view in self.views.items()}
        self.files: dict[str, dict[str, list[Row]]] = {
            source: {path: list(table.rows) for path, table in files.items()}
            for source, files in scenario.files.items()
        }

    def set_clock(self, now_us: int) -> None:
        """Make it this time."""
        self.now_us = now_us

    def append(self, source: str, file: str, rows: PlainTable) -> None:
        """Add rows at the end of a source's file."""
        self.files[source].setdefault(file, []).extend(rows.rows)

    def push(self, call: Push) -> None:
        """Write rows of a view's source into the online store."""
        self.online[call.view].push(call.rows.rows, now_us=self.now_us)

    def delete(self, entity: Mapping[str, object]) -> None:
        """Delete an entity from all online views about it."""
        for name, view in self.views.items():
            keys = {key: key for key in view.join_keys}
            if keys and keys.keys() <= entity.keys():
                key = key_of(entity, view.join_keys, keys)
                assert key is not None
                self.online[name].delete(key, now_us=self.now_us)

    def train(self, call: Train) -> pa.Table:
        """Return the training set."""
        selections = self._resolve(call.features)
        full = call.full_feature_names
        check_names([*call.spine.columns, *types_named(selections, full=full)])
        requests = _spine_requests(call.spine, request_fields(selections))
        stored = [s for s in selections if isinstance(s, FeatureViewSelection)]
        joined = self._history(call, stored, full=full)
        origins = {s.name: self._history(call, [s], full=True) for s in view_sources(selections)}
        rows: list[dict[str, object]] = []
        for number, row in enumerate(call.spine.rows):
            brought = {
                name: {f: found[number][f"{name}__{f}"] for f in source.feature_names}
                for source in view_sources(selections)
                for name, found in [(source.name, origins[source.name])]
            }
            answer = dict(row)
            for selection in selections:
                for feature in selection.feature_names:
                    column = result_name(selection, feature, full=full)
                    if isinstance(selection, FeatureViewSelection):
                        answer[column] = joined[number][column]
                    else:
                        values = _by_source(selection, brought, requests[number])
                        answer[column] = compute(
                            selection.view, feature, values, row=number, functions=self.functions
                        )
            rows.append(answer)
        columns = {**call.spine.columns, **_types(selections, full=full)}
        return PlainTable(columns, rows).to_arrow()

    def _history(
        self, call: Train, selections: Sequence[FeatureViewSelection], *, full: bool
    ) -> list[dict[str, object]]:
        return historical(
            selections,
            self.files,
            call.spine,
            timestamp_field=call.timestamp_field,
            timezone=call.timezone,
            mode=call.mode,
            full_feature_names=full,
        )

    def materialize(self, call: Materialize) -> None:
        """Bring values online; an end in the future becomes now."""
        end_us = min(call.end_us, self.now_us)
        for name in call.views or self.scenario.views:
            view, files = self.online[name], self.files[self.scenario.views[name].source.name]
            if call.incremental:
                view.materialize_incremental(files, end_us=end_us, joined=self.files)
            else:
                view.materialize(files, start_us=call.start_us, end_us=end_us, joined=self.files)

    def look_up(self, call: LookUp) -> Reply:
        """Return the online values."""
        selections = self._resolve(call.features)
        sources = view_sources(selections)
        stored = [s for s in selections if isinstance(s, FeatureViewSelection)]
        keys, fields = _request_columns(read_by(selections)), request_fields(selections)
        _check_entities(call.entities, keys, fields)
        types = _types(selections, full=call.full_feature_names)
        check_names([*{**keys, **fields}, *types_named(selections, full=call.full_feature_names)])
        requests = [request_row(row, fields, n) for n, row in enumerate(call.entities.rows)]
        found = {s.name: self._answers(s, call.entities.rows) for s in [*stored, *sources]}
        values: dict[str, list[object]] = {}
        statuses: dict[str, list[Status]] = {}
        for selection in selections:
            for feature in selection.feature_names:
                name = result_name(selection, feature, full=call.full_feature_names)
                if isinstance(selection, FeatureViewSelection):
                    values[name] = [a.values[feature] for a in found[selection.name]]
                    statuses[name] = [a.statuses[feature] for a in found[selection.name]]
                    continue
                values[name] = _computed(selection, feature, found, requests, self.functions)
                statuses[name] = ["NULL_VALUE" if v is None else "PRESENT" for v in values[name]]
        rows = [
            {k: entity[k] for k in keys} | {name: column[n] for name, column in values.items()}
            for n, entity in enumerate(call.entities.rows)
        ]
        return Reply(
            table=PlainTable({**keys, **types}, rows).to_arrow(),
            statuses=statuses,
            event_times={name: [a.event_us for a in answers] for name, answers in found.items()},
            request_us=self.now_us,
        )

    def _answers(self, selection: FeatureViewSelection, rows: Sequence[Row]) -> list[OnlineAnswer]:
        view, online = selection.view, self.online[selection.view.name]
        keys = [key_of(row, view.join_keys, selection.key_columns) for row in rows]
        return [online.look_up(key, now_us=self.now_us) for key in keys]

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        """Whether an error is of the class that the scenario names."""
        return is_core_error(error, expected)

    def _resolve(self, features: Features) -> Sequence[Selection]:
        if isinstance(features, str):
            services = self.scenario.services
            if features not in services:
                raise NotFoundError("feature service", features, known=services)
            return [self._with_types(selection) for selection in services[features].selections]
        if len(set(features)) < len(features):
            raise RequestError(f"A feature is asked for twice in {features}.")
        return [self._one_feature(name) for name in features]

    def _one_feature(self, name: str) -> Selection:
        view, _, feature = name.partition(":")
        if view in self.on_demand:
            return self.on_demand[view][[feature]]
        if view not in self.views:
            raise NotFoundError("feature view", view, known=self.views)
        return self.views[view][[feature]]

    def _with_types(self, selection: Selection) -> Selection:
        """Return a service's selection of the view whose columns have types."""
        if not isinstance(selection, FeatureViewSelection):
            computed = self.on_demand[selection.view.name]
            names = selection.features
            return computed.select() if names is None else computed[names]
        view = self.views[selection.view.name]
        typed = view.select() if selection.features is None else view[selection.features]
        typed = typed if selection.alias is None else typed.with_name(selection.alias)
        return typed.with_join_key_map(selection.join_key_map)


def types_named(selections: Sequence[Selection], *, full: bool) -> list[str]:
    """Return the names of all features in a result, those that collide twice."""
    return [result_name(s, feature, full=full) for s in selections for feature in s.feature_names]


def _types(selections: Sequence[Selection], *, full: bool) -> dict[str, pa.DataType]:
    return {
        result_name(s, feature, full=full): s.view.field(feature).dtype
        for s in selections
        for feature in s.feature_names
    }


def _spine_requests(
    spine: PlainTable, fields: Mapping[str, pa.DataType]
) -> list[dict[str, object]]:
    try:
        return [request_row(row, fields, number) for number, row in enumerate(spine.rows)]
    except EntityValueError as error:
        raise SpineError(error.message, column=error.field, row=error.row) from None


def _by_source(
    selection: OnDemandSelection, views: Mapping[str, Row], request: Row
) -> dict[str, Row]:
    return {
        source.name: {field.name: request[field.name] for field in source.fields}
        if isinstance(source, RequestSource)
        else views[source.name]
        for source in selection.view.origins
    }


def _computed(
    selection: OnDemandSelection,
    feature: str,
    found: Mapping[str, Sequence[OnlineAnswer]],
    requests: Sequence[Row],
    functions: Functions,
) -> list[object]:
    results = []
    for number, request in enumerate(requests):
        views = {name: answers[number].values for name, answers in found.items()}
        values = _by_source(selection, views, request)
        results.append(compute(selection.view, feature, values, row=number, functions=functions))
    return results


def _request_columns(selections: Sequence[FeatureViewSelection]) -> dict[str, pa.DataType]:
    columns: dict[str, pa.DataType] = {}
    for selection in selections:
        for key, column in selection.key_columns.items():
            columns.setdefault(column, selection.view.join_keys[key])
    return columns


def _check_entities(
    entities: PlainTable, keys: Mapping[str, pa.DataType], fields: Mapping[str, pa.DataType]
) -> None:
    for name in (*keys, *fields):
        if name not in entities.columns:
            raise EntityValueError(f"{name!r} is missing.", field=name)
    for name in entities.columns:
        if name not in keys and name not in fields:
            raise EntityValueError(f"There is no join key or field {name!r}.", field=name)
    for name in keys:
        for number, value in enumerate(entities.column(name)):
            if value is not None and not _is_key_value(value, keys[name]):
                raise EntityValueError(
                    f"Join key {name!r}, row {number}: {value!r} is not {keys[name]}.",
                    field=name,
                    row=number,
                )


def _is_key_value(value: object, dtype: pa.DataType) -> bool:
    kind = next(kind for is_kind, kind in _KEY_KINDS if is_kind(dtype))
    if kind is int and type(value) is int:
        return _fits(value, dtype)
    return type(value) is kind


def _fits(value: int, dtype: pa.DataType) -> bool:
    bits, signed = int(dtype.bit_width), str(dtype).startswith("int")
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    return low <= value < high

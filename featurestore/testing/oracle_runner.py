"""The oracle as a runner of scenarios."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import pyarrow as pa

from featurestore.definitions import FeatureViewSelection
from featurestore.errors import EntityValueError, NotFoundError, RequestError
from featurestore.testing.oracle import (
    OnlineAnswer,
    OnlineOracle,
    check_names,
    historical,
    result_name,
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
        self.now_us = scenario.now_us
        self.views = {
            name: with_types_of(view, scenario.files[view.source.name])
            for name, view in scenario.views.items()
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

    def train(self, call: Train) -> pa.Table:
        """Return the training set."""
        selections = self._resolve(call.features)
        rows = historical(
            selections,
            self.files,
            call.spine,
            timestamp_field=call.timestamp_field,
            timezone=call.timezone,
            mode=call.mode,
            full_feature_names=call.full_feature_names,
        )
        columns = {**call.spine.columns, **_types(selections, full=call.full_feature_names)}
        return PlainTable(columns, rows).to_arrow()

    def materialize(self, call: Materialize) -> None:
        """Bring values online; an end in the future becomes now."""
        end_us = min(call.end_us, self.now_us)
        for name in call.views or self.scenario.views:
            view, files = self.online[name], self.files[self.scenario.views[name].source.name]
            if call.incremental:
                view.materialize_incremental(files, end_us=end_us)
            else:
                view.materialize(files, start_us=call.start_us, end_us=end_us)

    def look_up(self, call: LookUp) -> Reply:
        """Return the online values."""
        selections = self._resolve(call.features)
        keys = _request_columns(selections)
        _check_entities(call.entities, keys)
        types = _types(selections, full=call.full_feature_names)
        check_names([*keys, *_names(selections, full=call.full_feature_names)])
        answers = {id(s): self._answers(s, call.entities.rows) for s in selections}
        named = [
            (result_name(s, feature, full=call.full_feature_names), feature, answers[id(s)])
            for s in selections
            for feature in s.feature_names
        ]
        rows = [
            dict(entity) | {name: answers[n].values[feature] for name, feature, answers in named}
            for n, entity in enumerate(call.entities.rows)
        ]
        return Reply(
            table=PlainTable({**keys, **types}, rows).to_arrow(),
            statuses={n: [a.statuses[feature] for a in found] for n, feature, found in named},
            event_times={s.name: [a.event_us for a in answers[id(s)]] for s in selections},
            request_us=self.now_us,
        )

    def _answers(self, selection: FeatureViewSelection, rows: Sequence[Row]) -> list[OnlineAnswer]:
        view, online = selection.view, self.online[selection.view.name]
        keys = [key_of(row, view.join_keys, selection.key_columns) for row in rows]
        return [online.look_up(key, now_us=self.now_us) for key in keys]

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        """Whether an error is of the class that the scenario names."""
        return is_core_error(error, expected)

    def _resolve(self, features: Features) -> Sequence[FeatureViewSelection]:
        if isinstance(features, str):
            services = self.scenario.services
            if features not in services:
                raise NotFoundError("feature service", features, known=services)
            return [self._with_types(selection) for selection in services[features].selections]
        if len(set(features)) < len(features):
            raise RequestError(f"A feature is asked for twice in {features}.")
        return [self._one_feature(name) for name in features]

    def _one_feature(self, name: str) -> FeatureViewSelection:
        view, _, feature = name.partition(":")
        if view not in self.views:
            raise NotFoundError("feature view", view, known=self.views)
        return self.views[view][[feature]]

    def _with_types(self, selection: FeatureViewSelection) -> FeatureViewSelection:
        """Return a service's selection of the view whose columns have types."""
        view = self.views[selection.view.name]
        typed = view.select() if selection.features is None else view[selection.features]
        typed = typed if selection.alias is None else typed.with_name(selection.alias)
        return typed.with_join_key_map(selection.join_key_map)


def _names(selections: Sequence[FeatureViewSelection], *, full: bool) -> list[str]:
    return [result_name(s, feature, full=full) for s in selections for feature in s.feature_names]


def _types(selections: Sequence[FeatureViewSelection], *, full: bool) -> dict[str, pa.DataType]:
    return {
        result_name(s, feature, full=full): s.view.field(feature).dtype
        for s in selections
        for feature in s.feature_names
    }


def _request_columns(selections: Sequence[FeatureViewSelection]) -> dict[str, pa.DataType]:
    columns: dict[str, pa.DataType] = {}
    for selection in selections:
        for key, column in selection.key_columns.items():
            columns.setdefault(column, selection.view.join_keys[key])
    return columns


def _check_entities(entities: PlainTable, keys: Mapping[str, pa.DataType]) -> None:
    for name in keys:
        if name not in entities.columns:
            raise EntityValueError(f"Join key {name!r} is missing.", field=name)
    for name in entities.columns:
        if name not in keys:
            raise EntityValueError(f"There is no join key {name!r}.", field=name)
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

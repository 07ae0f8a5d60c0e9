"""From a request to an explanation: the real training set of one row, and the rows behind it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from featurestore.definitions import (
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
)
from featurestore.definitions.on_demand_inputs import Input
from featurestore.errors import NotFoundError, RequestError
from featurestore.explanation.model import (
    ComputedInput,
    ExplainedFeature,
    Explanation,
    OnlineFeature,
    ViewExplanation,
)
from featurestore.explanation.online import OnlineSide
from featurestore.explanation.question import Question, ask
from featurestore.explanation.recomputed import same_bits
from featurestore.explanation.rows import Value
from featurestore.explanation.views import ViewQuestion
from featurestore.functions import FunctionLoader
from featurestore.offline.as_of import as_of
from featurestore.offline.engine import Mode, OfflineEngine
from featurestore.offline.windows.join import windows_as_of
from featurestore.registry.generations import LiveState
from featurestore.registry.state import RegistryState
from featurestore.serving.response import OnlineResponse, feature_array
from featurestore.time import Clock
from featurestore.training.query import (
    FeatureQuery,
    FeatureRequest,
    Selection,
    ViewJoin,
    resolve,
    role_of,
    selections_of,
)
from featurestore.training.retrieve import join_task, retrieve
from featurestore.training.spine import times_us
from featurestore.training.task import JoinTask

Explainable = (
    str
    | FeatureService
    | FeatureView
    | OnDemandFeatureView
    | Selection
    | Sequence[str | FeatureView | OnDemandFeatureView | Selection]
)
"""A "view:feature", a service or its name, a view, a selection, or a list of such."""

MAX_ROWS = 10
"""So many rows of a window are shown."""


def as_request(feature: Explainable) -> FeatureRequest:
    """Return what is asked for as a request for a training set takes it."""
    if isinstance(feature, str):
        return [feature] if ":" in feature else feature
    single = FeatureView | OnDemandFeatureView | FeatureViewSelection | OnDemandSelection
    return [feature] if isinstance(feature, single) else feature


@dataclass(frozen=True, kw_only=True)
class Online:
    """What it takes to set the online store beside training.

    Attributes:
        live: The generations that lookups read.
        side: Looks views up, for a moment and mode.
        look_up: Returns features of one entity as a request gets them, `view__feature`.
    """

    live: LiveState
    side: Callable[[int, Mode], OnlineSide]
    look_up: Callable[[Sequence[Selection], Mapping[str, Any]], OnlineResponse]


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Explains features of one project.

    Attributes:
        project: The project.
        state: What is registered.
        engine: Computes training sets.
        functions: Loads Python functions.
        clock: Says what is now.
        root: Folder of the repository.
        source_roots: See `FeatureStore`.
        online: For the online half; None leaves it out.
        max_rows: So many rows of a window are shown.
    """

    project: str
    state: RegistryState
    engine: OfflineEngine
    functions: FunctionLoader
    clock: Clock
    root: Path
    source_roots: Sequence[Path] | None = None
    online: Online | None = None
    max_rows: int = MAX_ROWS

    def explain(
        self,
        features: FeatureRequest,
        entity: Mapping[str, Any],
        request: Mapping[str, Any],
        *,
        at: datetime | str | None,
        mode: Mode,
    ) -> Explanation:
        """Return why features have their values; see `FeatureStore.explain`."""
        if self.max_rows < 0:
            raise RequestError(f"max_rows={self.max_rows!r} is below 0.")
        asked = [(s, name) for s in selections_of(features, self.state) for name in s.feature_names]
        query = resolve(features, self.state, full_feature_names=True, functions=self.functions)
        chosen = [selection for selection, _ in asked]
        question = ask(chosen, entity, request, at=at, clock=self.clock)
        trained = self._train(features, question, mode)
        found = _Explaining(self, query, question, mode, trained)
        views = [found.view(number) for number in range(len(query.joins))]
        named = list(zip(asked, trained.columns[-len(asked) :], strict=True))
        explained = tuple(found.feature(s, name, column[0]) for (s, name), column in named)
        return Explanation(
            project=self.project,
            revision=self.state.revision,
            engine=self.engine.name,
            mode=mode,
            at_us=question.at_us,
            entity=_row(question.keys),
            request=_row(question.request),
            features=found.with_online(explained, chosen, {**entity, **request}),
            views=tuple(views),
            defects=tuple(found.defects),
        )

    def _train(self, features: FeatureRequest, question: Question, mode: Mode) -> pa.Table:
        """Return the training set of one row, as `get_historical_features` does."""
        job = retrieve(
            entity_df=question.spine,
            features=features,
            state=self.state,
            engine=self.engine,
            functions=self.functions,
            root=self.root,
            source_roots=self.source_roots,
            full_feature_names=True,
            timestamp_field=question.time_name,
            timezone="UTC",
            mode=mode,
        )
        return job.to_arrow()


class _Explaining:
    """One request while it is explained."""

    def __init__(
        self,
        explainer: Explainer,
        query: FeatureQuery,
        question: Question,
        mode: Mode,
        trained: pa.Table,
    ) -> None:
        self._explainer = explainer
        self._query = query
        self._question = question
        self._mode = mode
        self._shown = dict(_shown_outputs(query, trained))
        self._values: dict[object, dict[str, pa.Scalar]] = {}
        self.defects: list[str] = []

    def view(self, number: int) -> ViewExplanation:
        """Explain the features of one join; those that only on-demand features need, too."""
        ours, question = self._explainer, self._question
        join = self._query.joins[number]
        spine = question.spine
        times = times_us(spine, question.time_name, "UTC")
        task = join_task(join, spine, times, root=ours.root, mode=self._mode)
        values = self._values_of(number, join, task)
        self._values[role_of(join.selection)] = values
        asked = ViewQuestion(
            join=join,
            task=task,
            values=values,
            at_us=question.at_us,
            mode=self._mode,
            engine=ours.engine,
            root=ours.root,
            max_rows=ours.max_rows,
            defects=self.defects,
        )
        explained = asked.explain()
        if ours.online is None:
            return explained
        live = ours.online.live.view(join.view.name)
        keys = task.keys.drop_columns(["q"])
        found = ours.online.side(question.at_us, self._mode).beside(live, explained, keys)
        if found.online is not None and found.online.is_defect:
            self.defects.append(f"{found.role} online: {found.online.why}")
        return found

    def _values_of(self, number: int, join: ViewJoin, task: JoinTask) -> dict[str, pa.Scalar]:
        """Return the values of a join's features: those of the training set.

        Features that only on-demand features need are no columns of it, and computed apart.
        """
        shown = {
            name: self._shown[number, position]
            for position, name in enumerate(join.features)
            if (number, position) in self._shown
        }
        if len(shown) == len(join.features):
            return shown
        engine, mode = self._explainer.engine, self._mode
        if task.windows:
            found = windows_as_of(engine, task.scan, task.windows, task.keys, mode=mode)
        else:
            found = as_of(engine, task.scan, task.keys, ttl_us=task.ttl_us, mode=mode)
        apart = {n: column[0] for n, column in zip(join.features, found.columns, strict=True)}
        for name, value in shown.items():
            if not same_bits(value, apart[name]):
                self.defects.append(f"{join.selection.name}: {name} has two values in training")
        return apart | shown

    def feature(self, selection: Selection, name: str, value: pa.Scalar) -> ExplainedFeature:
        """Return what is said of one feature that was asked for."""
        full = f"{selection.name}:{name}"
        if isinstance(selection, FeatureViewSelection):
            return ExplainedFeature(name=full, value=Value(value), role=selection.name)
        view = selection.view
        inputs = view.inputs_of([name])
        names = [given.name for given in inputs]
        return ExplainedFeature(
            name=full,
            value=Value(value),
            role=None,
            how=_how(view, name),
            inputs=tuple(
                self._input(given, given.name if names.count(given.name) == 1 else str(given))
                for given in inputs
            ),
        )

    def _input(self, given: Input, name: str) -> ComputedInput:
        origin = given.origin
        if isinstance(origin, FeatureViewSelection):
            value = self._values[role_of(origin)][given.name]
            return ComputedInput(
                name=name, origin=f"{origin.name}:{given.name}", value=Value(value)
            )
        field = self._question.spine.column(given.name)[0]
        return ComputedInput(name=name, origin="request", value=Value(field))

    def with_online(
        self,
        features: tuple[ExplainedFeature, ...],
        asked: Sequence[Selection],
        entity: Mapping[str, Any],
    ) -> tuple[ExplainedFeature, ...]:
        """Return features with what lookups return of those that are computed."""
        online = self._explainer.online
        if online is None or not any(isinstance(s, OnDemandSelection) for s in asked):
            return features
        # A selection of several features was asked for once for each of them.
        computed = {id(s): s for s in asked if isinstance(s, OnDemandSelection)}
        try:
            response = online.look_up(list(computed.values()), entity)
        except NotFoundError:  # a view that is not served, which its own explanation says
            return features
        found = {
            feature.name: (feature_array(feature)[0], response.statuses[feature.name][0].name)
            for feature in response.result.features
        }
        return tuple(_beside(feature, found) for feature in features)


def _beside(
    feature: ExplainedFeature, found: Mapping[str, tuple[pa.Scalar, str]]
) -> ExplainedFeature:
    name = feature.name.replace(":", "__", 1)
    if feature.role is not None or name not in found:
        return feature
    value, status = found[name]
    agrees = value.type == feature.value.scalar.type and same_bits(feature.value.scalar, value)
    return replace(feature, online=OnlineFeature(value=Value(value), status=status, agrees=agrees))


def _how(view: OnDemandFeatureView, name: str) -> str:
    if view.reference is not None:
        return f"{view.reference.path}({', '.join(view.columns)})"
    return next(feature.expression for feature in view.computed if feature.name == name)


def _shown_outputs(
    query: FeatureQuery, trained: pa.Table
) -> Iterator[tuple[tuple[int, int], pa.Scalar]]:
    """Yield (join, feature) -> value, of the joined features that the training set has."""
    columns = trained.columns[-len(query.names) :]
    order = range(len(columns)) if query.on_demand is None else query.on_demand.order
    for column, position in zip(columns, order, strict=True):
        if position >= 0:
            output = query.outputs[position]
            yield (output.join, output.feature), column[0]


def _row(table: pa.Table) -> dict[str, Value]:
    return {name: Value(table.column(name)[0]) for name in table.column_names}

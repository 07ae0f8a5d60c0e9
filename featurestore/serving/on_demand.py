"""Lookups with on-demand features: an ordinary lookup of their inputs, and the computation."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import numpy as np

from featurestore.errors import EntityValueError, RequestError, close_names
from featurestore.expressions.computation import Computation
from featurestore.expressions.vectors import NO_VECTOR, NUMPY, Array, Vector, from_list
from featurestore.functions import FunctionLoader
from featurestore.online.request_values import request_vector
from featurestore.online.store import OnlineStore, ReadRequest
from featurestore.serving.computed import OnDemandPlan
from featurestore.serving.lookup import (
    MAX_ENTITIES,
    FeatureColumn,
    Lookup,
    LookupResult,
    Question,
    Status,
    ViewTimes,
)
from featurestore.serving.plan import LookupPlan
from featurestore.time import Clock

if TYPE_CHECKING:
    from featurestore.serving.functions import FunctionCalls, Values

_PRESENT: Final = int(Status.PRESENT)
_PRESENT_8, _NULL_8 = np.uint8(Status.PRESENT), np.uint8(Status.NULL_VALUE)


def open_lookup(
    store: OnlineStore,
    plan: LookupPlan,
    clock: Clock,
    *,
    functions: FunctionLoader,
    max_entities: int = MAX_ENTITIES,
) -> "Lookup | OnDemandLookup":
    """Return the lookup that a plan needs; arguments are those of `OnDemandLookup`.

    Raises:
        FunctionLoadError: A Python function cannot be loaded.
    """
    if plan.on_demand is None:
        return Lookup(store, plan, clock, max_entities=max_entities)
    return OnDemandLookup(
        store, plan, plan.on_demand, clock, functions=functions, max_entities=max_entities
    )


class OnDemandQuestion(NamedTuple):
    """A lookup whose keys and request fields are known and whose rows are still to be read.

    Attributes:
        reads: What to read.
        lookup: The question of the inputs; None where nothing is looked up.
        fields: The request fields.
        size: The number of entities, where it is known.
    """

    reads: list[ReadRequest]
    lookup: Question | None
    fields: dict[str, Vector]
    size: int | None


class OnDemandLookup:
    """A prepared lookup with on-demand features. Safe to use from several threads.

    Args:
        store: Where the rows are.
        plan: What is looked up: the features asked for, and the inputs of those that are computed.
        computed: What is computed.
        clock: Decides what is expired.
        functions: Loads Python functions.
        max_entities: Most entities of one request.
    """

    def __init__(
        self,
        store: OnlineStore,
        plan: LookupPlan,
        computed: OnDemandPlan,
        clock: Clock,
        *,
        functions: FunctionLoader,
        max_entities: int = MAX_ENTITIES,
    ) -> None:
        self._lookup = Lookup(
            store, replace(plan, on_demand=None), clock, max_entities=max_entities
        )
        self._store = store
        self._looks_up = bool(plan.inputs or plan.reads)
        self._clock = clock
        self._max_entities = max_entities
        self._plan = computed
        self._keys = tuple(name for name, _ in plan.columns)
        self.request_columns = plan.request_columns
        self._expected = frozenset((*self._keys, *(name for name, _ in computed.fields)))
        self._computation = Computation(computed.input_types, computed.features)
        self._calls = _calls(computed, functions)

    def run(
        self, columns: Mapping[str, Sequence[Any] | Array], *, count: int | None = None
    ) -> LookupResult:
        """Return the features of the entities in `columns`.

        Args:
            columns: As for `Lookup.run`, with a column for every request field.
            count: The number of entities, where no column tells.

        Raises:
            EntityValueError: A join key or request field is missing, unknown or of the wrong type.
            ComputationError: An on-demand feature has no value for an entity.
            FunctionCallError: A Python function failed.
            RequestError, StoreUnavailableError, StoreDataError: As for `Lookup.run`.
        """
        question = self.ask(columns, count=count)
        return self.answer(question, self._store.read(question.reads) if question.reads else [])

    def ask(
        self, columns: Mapping[str, Sequence[Any] | Array], *, count: int | None = None
    ) -> "OnDemandQuestion":
        """Return what has to be read; see `Lookup.ask`. Arguments and errors are those of `run`."""
        if columns.keys() != self._expected:
            self._refuse_columns(columns)
        fields = self._fields(columns)
        if fields:
            count = self._count(columns, fields)
        if not self._looks_up:
            return OnDemandQuestion([], None, fields, count)
        keys = {name: columns[name] for name in self._keys}
        question = self._lookup.ask(keys, count=count)
        return OnDemandQuestion(question.reads, question, fields, count)

    def answer(
        self, question: "OnDemandQuestion", answers: Sequence[Sequence[bytes | None]]
    ) -> LookupResult:
        """Return the features of a question's entities; see `Lookup.answer`.

        Raises:
            ComputationError: An on-demand feature has no value for an entity.
            FunctionCallError: A Python function failed.
            StoreDataError: A stored row cannot be decoded.
        """
        if question.lookup is None:
            result = LookupResult([], [], [], self._clock.now_micros())
        else:
            result = self._lookup.answer(question.lookup, answers)
        entities = _rows(result) if question.size is None else question.size
        return self._combined(result, self._computed(question.fields, result, entities), entities)

    def _computed(
        self, fields: dict[str, Vector], result: LookupResult, entities: int
    ) -> "list[Values]":
        """Return the computed columns, in the order of the plan's `names`."""
        used = self._computation.used
        inputs = [
            self._input(source, fields, result) if n in used else NO_VECTOR
            for n, source in enumerate(self._plan.inputs)
        ]
        vectors = self._computation.run(inputs, entities)
        columns: list[Values] = list(map(_texts_as_list, vectors))
        if self._calls is None:
            return columns
        found = self._calls.run(fields, result, entities)
        found |= zip(self._plan.places, columns, strict=True)
        return [found[place] for place in range(len(found))]

    def _fields(self, columns: Mapping[str, Sequence[Any] | Array]) -> dict[str, Vector]:
        for name, _ in self._plan.fields:
            if hasattr(columns[name], "__len__") and len(columns[name]) > self._max_entities:
                raise RequestError(
                    f"The request holds {len(columns[name]):,} entities;"
                    f" {self._max_entities:,} are allowed.",
                    hint="ask in several requests",
                )
        return {
            name: request_vector(dtype, columns[name], field=name)
            for name, dtype in self._plan.fields
        }

    def _count(self, columns: Mapping[str, Any], fields: Mapping[str, Vector]) -> int:
        """Return the number of entities, which every column has to agree on."""
        lengths = {name: len(values) for name, (values, _) in fields.items()}
        lengths |= {k: len(columns[k]) for k in self._keys if hasattr(columns[k], "__len__")}
        first = next(iter(lengths))
        for name, length in lengths.items():
            if length != lengths[first]:
                raise EntityValueError(
                    f"{name!r} has {length} values and {first!r} has {lengths[first]}; an entity"
                    " takes one of each.",
                    field=name,
                )
        return lengths[first]

    def _input(
        self, source: int | str, fields: Mapping[str, Vector], result: LookupResult
    ) -> Vector:
        return fields[source] if isinstance(source, str) else _vector(result.features[source])

    def _combined(
        self, result: LookupResult, columns: "Sequence[Values]", entities: int
    ) -> LookupResult:
        """Return the reply: features in the order asked, without inputs that nobody asked for."""
        plan = self._plan
        nowhere = np.zeros(entities, np.bool_)
        everywhere = np.full(entities, _PRESENT_8)
        views = [ViewTimes(n, np.zeros(entities, np.int64), nowhere) for n in plan.view_names]
        computed = [
            _feature(name, dtype, values, everywhere, len(result.views) + view)
            for name, dtype, values, view in zip(
                plan.names, plan.types, columns, plan.views, strict=True
            )
        ]
        return LookupResult(
            entity_columns=result.entity_columns,
            features=[result.features[n] if n >= 0 else computed[~n] for n in plan.order],
            views=[*result.views, *views],
            request_us=result.request_us,
        )

    def _refuse_columns(self, columns: Mapping[str, object]) -> NoReturn:
        expected = sorted(self._expected, key=[*self._keys, *dict(self._plan.fields)].index)
        for name in expected:
            if name not in columns:
                kind = "join key" if name in self._keys else "request field"
                guesses = close_names(name, columns.keys() - self._expected)
                raise EntityValueError(
                    f"The {kind} {name!r} is missing from the request.",
                    field=name,
                    hint=f"the request has {guesses[0]!r}; is that meant?" if guesses else None,
                )
        unknown = next(str(name) for name in columns if name not in self._expected)
        raise EntityValueError(
            f"{unknown[:100]!r} is neither a join key nor a request field of these features; they"
            f" take {', '.join(map(repr, expected)) or 'none'}.",
            field=unknown,
            suggestions=close_names(unknown, expected),
        )


def _rows(result: LookupResult) -> int:
    if result.entity_columns:
        return len(result.entity_columns[0].values)
    return len(result) if result.views else 1


def _vector(feature: FeatureColumn) -> Vector:
    """Return a looked-up feature as an input: null where it has no value."""
    if isinstance(feature.values, list):
        return from_list(feature.values)
    # The columns of stored rows lie in one block: kernels want them packed.
    values = np.ascontiguousarray(feature.values, NUMPY[feature.dtype])
    statuses = feature.statuses.tobytes()
    is_complete = statuses.count(_PRESENT) == len(statuses)
    return values, None if is_complete else feature.has_value


def _calls(plan: OnDemandPlan, functions: FunctionLoader) -> "FunctionCalls | None":
    if not plan.functions:
        return None
    from featurestore.serving.functions import FunctionCalls  # loads pyarrow

    return FunctionCalls(plan, functions)


def _texts_as_list(vector: Vector) -> "Values":
    values, valid = vector
    if values.dtype != NUMPY["string"]:
        return vector
    texts = values.tolist()
    if valid is not None:
        texts = [text if ok else None for text, ok in zip(texts, valid.tolist(), strict=True)]
    return texts, valid


def _feature(
    name: str, dtype: str, column: "Values", everywhere: Array, view: int
) -> FeatureColumn:
    values, valid = column
    statuses = everywhere if valid is None else np.where(valid, _PRESENT_8, _NULL_8)
    return FeatureColumn(name, dtype, values, statuses, view)

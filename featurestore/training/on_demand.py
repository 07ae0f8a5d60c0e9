"""On-demand features of a training set: a pure function of the joined features and the spine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from featurestore.definitions import FeatureViewSelection, OnDemandFeatureView, RequestSource
from featurestore.definitions.on_demand_inputs import Input, Scope
from featurestore.errors import RequestError, shown
from featurestore.expressions.arrow import from_arrow, to_arrow
from featurestore.expressions.computation import Computation
from featurestore.expressions.features import ComputedFeature, bound
from featurestore.expressions.vectors import NO_VECTOR
from featurestore.functions import FunctionLoader
from featurestore.functions.batches import BatchFunction
from featurestore.functions.row_wise import check_row_wise
from featurestore.types import parse_type, type_name


@dataclass(frozen=True, slots=True)
class Wanted:
    """A column of the result.

    Attributes:
        name: What it is called.
        view: The on-demand view that computes it; None for a joined feature.
        feature: The feature's name.
        joined: Its position among the joined features; -1 for a computed one.
    """

    name: str
    view: OnDemandFeatureView | None
    feature: str
    joined: int = -1


@dataclass(frozen=True, slots=True)
class FunctionStep:
    """A function to be called.

    Attributes:
        function: The function.
        inputs: Positions of its inputs among those of all on-demand features.
        wanted: Positions among its outputs of the features asked for.
        columns: Positions of those among the computed features.
    """

    function: BatchFunction
    inputs: tuple[int, ...]
    wanted: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class OnDemandColumns:
    """The feature columns of a training set with on-demand features.

    Attributes:
        names: All of them, in the order asked.
        fields: The request fields that the spine has to have, with their types.
        inputs: What features are computed from: the position of a joined feature, or the name of a
            request field.
        input_types: Their types.
        computation: The features with expressions.
        columns: Their positions among the computed features.
        functions: The functions that yield the other computed features.
        computed_types: Types of all computed features.
        order: Each column: the position of a joined feature, or `~n` for the computed feature n.
        texts: The computed features' names and what they are, for people.
    """

    names: tuple[str, ...]
    fields: dict[str, str]
    inputs: tuple[int | str, ...]
    input_types: tuple[str, ...]
    computation: Computation
    columns: tuple[int, ...]
    functions: tuple[FunctionStep, ...]
    computed_types: tuple[str, ...]
    order: tuple[int, ...]
    texts: tuple[tuple[str, str], ...]

    def dtypes(self, joined: Sequence[pa.DataType]) -> list[pa.DataType]:
        """Return the columns' types, given those of the joined features."""
        computed = [parse_type(dtype) for dtype in self.computed_types]
        return [joined[n] if n >= 0 else computed[~n] for n in self.order]

    def arrays(
        self,
        request: pa.Table | None,
        joined: Sequence[pa.ChunkedArray | pa.Array],
        *,
        first_row: int = 0,
    ) -> list[pa.ChunkedArray | pa.Array]:
        """Return the columns of some rows of the training set.

        A function is also called for a few rows by themselves: see `functions.row_wise`.

        Args:
            request: The rows' request fields, as `request_table` has them.
            joined: The rows' joined features, in the order of the query's outputs.
            first_row: The number of the first of these rows in the spine, for messages.

        Raises:
            ComputationError: A feature has no value for a row; it names both.
            FunctionCallError: A function failed, or is not row-wise.
        """
        inputs = [
            _whole(
                request.column(i) if isinstance(i, str) and request is not None else joined[int(i)]
            )
            for i in self.inputs
        ]
        count = len(joined[0]) if joined else 0 if request is None else request.num_rows
        computed = dict(zip(self.columns, self._expressions(inputs, count, first_row), strict=True))
        for step in self.functions:
            given = [inputs[n] for n in step.inputs]
            found = step.function.run(given, count, first_row=first_row)
            check_row_wise(step.function, given, found, count, first_row=first_row)
            computed |= {c: found[n] for c, n in zip(step.columns, step.wanted, strict=True)}
        return [joined[n] if n >= 0 else computed[~n] for n in self.order]

    def _expressions(
        self, inputs: Sequence[pa.Array], count: int, first_row: int
    ) -> list[pa.Array]:
        used = self.computation.used
        vectors = [
            from_arrow(array, dtype) if n in used else NO_VECTOR
            for n, (array, dtype) in enumerate(zip(inputs, self.input_types, strict=True))
        ]
        results = self.computation.run(vectors, count, first_row=first_row)
        return [
            to_arrow(vector, feature.dtype)
            for vector, feature in zip(results, self.computation.features, strict=True)
        ]

    def explain(self) -> str:
        """Return what is computed, for people."""
        lines = [f"  {name} = {text}" for name, text in self.texts]
        return "\n".join(["\non demand:", *lines])


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def on_demand_columns(
    wanted: Sequence[Wanted],
    joined: Callable[[FeatureViewSelection, str], int],
    functions: FunctionLoader,
) -> OnDemandColumns | None:
    """Return the columns of a training set, or None when none of them is computed.

    Args:
        wanted: The columns in the order asked.
        joined: Returns the position of a feature among the joined ones; it may join more.
        functions: Loads Python functions.

    Raises:
        RequestError: Two on-demand views have a request field of one name and different types.
        FunctionLoadError: A function cannot be loaded.
    """
    computed = [column for column in wanted if column.view is not None]
    if not computed:
        return None
    inputs = _Inputs(joined)
    features: dict[int, ComputedFeature] = {}
    steps: dict[str, list[int]] = {}
    for n, column in enumerate(computed):
        view = _view(column)
        if view.reference is None:
            features[n] = _computed(view, column.feature, inputs)
        else:
            steps.setdefault(view.name, []).append(n)
    called = [_step(computed, columns, inputs, functions) for columns in steps.values()]
    places = iter(range(len(computed)))
    return OnDemandColumns(
        names=tuple(column.name for column in wanted),
        fields=_fields({_view(column).name: _view(column) for column in computed}.values()),
        inputs=tuple(inputs.types),
        input_types=tuple(inputs.types.values()),
        computation=Computation(tuple(inputs.types.values()), tuple(features.values())),
        columns=tuple(features),
        functions=tuple(called),
        computed_types=tuple(type_name(_view(c).types[c.feature]) for c in computed),
        order=tuple(c.joined if c.view is None else ~next(places) for c in wanted),
        texts=tuple((column.name, _text(_view(column), column.feature)) for column in computed),
    )


def _view(column: Wanted) -> OnDemandFeatureView:
    assert column.view is not None  # noqa: S101 - asked of computed columns alone
    return column.view


def _text(view: OnDemandFeatureView, name: str) -> str:
    if view.reference is not None:
        return f"{view.reference.path}({', '.join(view.columns)})"
    return next(feature.expression for feature in view.computed if feature.name == name)


class _Inputs:
    """The inputs of on-demand features, while they are collected: where each is, and its type."""

    def __init__(self, joined: Callable[[FeatureViewSelection, str], int]) -> None:
        self._joined = joined
        self.types: dict[int | str, str] = {}

    def position(self, given: Input) -> int:
        """Return the position of an input; it is added unless it is there."""
        origin = given.origin
        source: int | str = given.name
        if not isinstance(origin, RequestSource):
            source = self._joined(origin, given.name)
        self.types.setdefault(source, type_name(given.dtype))
        return list(self.types).index(source)


def _computed(view: OnDemandFeatureView, name: str, inputs: _Inputs) -> ComputedFeature:
    scope = Scope(view.origins)
    feature = next(feature for feature in view.computed if feature.name == name)
    tree = bound(feature.tree, lambda column: inputs.position(scope.find(column)))
    return ComputedFeature(f"{view.name}:{name}", type_name(feature.dtype), tree)


def _step(
    computed: Sequence[Wanted],
    columns: Sequence[int],
    inputs: _Inputs,
    functions: FunctionLoader,
) -> FunctionStep:
    """Return the call that yields the computed features at `columns`, which are all of one view."""
    view = _view(computed[columns[0]])
    assert view.reference is not None  # noqa: S101 - chosen for it
    given, names = view.columns, view.feature_names
    function = BatchFunction(
        view=view.name,
        function=functions.load(view.reference.path, view.reference.sha256),
        inputs=pa.schema([(column, found.dtype) for column, found in given.items()]),
        outputs=pa.schema(list(view.types.items())),
    )
    return FunctionStep(
        function=function,
        inputs=tuple(map(inputs.position, given.values())),
        wanted=tuple(names.index(computed[n].feature) for n in columns),
        columns=tuple(columns),
    )


def _fields(views: Iterable[OnDemandFeatureView]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for view in views:
        for name, dtype in view.request_fields.items():
            known = fields.setdefault(name, type_name(dtype))
            if known != type_name(dtype):
                raise RequestError(
                    f"Request field {shown(name)} would be {type_name(dtype)} for {view.name!r},"
                    f" and {known} besides.",
                    hint="rename one of the request fields",
                )
    return fields

"""On-demand features of a training set: a pure function of the joined features and the spine."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from featurestore.definitions import FeatureViewSelection, OnDemandFeatureView, RequestSource
from featurestore.definitions.on_demand import Scope
from featurestore.errors import RequestError, shown
from featurestore.expressions.arrow import from_arrow, to_arrow
from featurestore.expressions.computation import Computation
from featurestore.expressions.features import ComputedFeature, bound
from featurestore.expressions.tree import Column
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


@dataclass(frozen=True, kw_only=True)
class OnDemandColumns:
    """The feature columns of a training set with on-demand features.

    Attributes:
        names: All of them, in the order asked.
        fields: The request fields that the spine has to have, with their types.
        inputs: What features are computed from: the position of a joined feature, or the name of a
            request field.
        input_types: Their types.
        computation: What is computed.
        order: Each column: the position of a joined feature, or `~n` for the computed feature n.
        texts: The computed features' names and expressions, for people.
    """

    names: tuple[str, ...]
    fields: dict[str, str]
    inputs: tuple[int | str, ...]
    input_types: tuple[str, ...]
    computation: Computation
    order: tuple[int, ...]
    texts: tuple[tuple[str, str], ...]

    def dtypes(self, joined: Sequence[pa.DataType]) -> list[pa.DataType]:
        """Return the columns' types, given those of the joined features."""
        computed = [parse_type(feature.dtype) for feature in self.computation.features]
        return [joined[n] if n >= 0 else computed[~n] for n in self.order]

    def columns(
        self,
        request: pa.Table | None,
        joined: Sequence[pa.ChunkedArray | pa.Array],
        *,
        first_row: int = 0,
    ) -> list[pa.ChunkedArray | pa.Array]:
        """Return the columns of some rows of the training set.

        Args:
            request: The rows' request fields, as `request_table` has them.
            joined: The rows' joined features, in the order of the query's outputs.
            first_row: The number of the first of these rows in the spine, for messages.

        Raises:
            ComputationError: A feature has no value for a row; it names both.
        """
        sources = [
            request.column(i) if isinstance(i, str) and request is not None else joined[int(i)]
            for i in self.inputs
        ]
        count = len(joined[0]) if joined else 0 if request is None else request.num_rows
        vectors = [
            from_arrow(_whole(source), dtype)
            for source, dtype in zip(sources, self.input_types, strict=True)
        ]
        results = self.computation.run(vectors, count, first_row=first_row)
        computed = [
            to_arrow(vector, feature.dtype)
            for vector, feature in zip(results, self.computation.features, strict=True)
        ]
        return [joined[n] if n >= 0 else computed[~n] for n in self.order]

    def explain(self) -> str:
        """Return what is computed, for people."""
        lines = [f"  {name} = {text}" for name, text in self.texts]
        return "\n".join(["\non demand:", *lines])


def _whole(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def on_demand_columns(
    wanted: Sequence[Wanted], joined: Callable[[FeatureViewSelection, str], int]
) -> OnDemandColumns | None:
    """Return the columns of a training set, or None when none of them is computed.

    Args:
        wanted: The columns in the order asked.
        joined: Returns the position of a feature among the joined ones; it may join more.

    Raises:
        RequestError: Two on-demand views have a request field of one name and different types.
    """
    views = {w.view.name: w.view for w in wanted if w.view is not None}
    if not views:
        return None
    inputs: dict[int | str, str] = {}
    features: list[ComputedFeature] = []
    order, texts = [], []
    for column in wanted:
        if column.view is None:
            order.append(column.joined)
            continue
        order.append(~len(features))
        features.append(_computed(column.view, column.feature, inputs, joined))
        texts.append((column.name, column.view.field(column.feature).expression))
    types = tuple(inputs.values())
    return OnDemandColumns(
        names=tuple(column.name for column in wanted),
        fields=_fields(views.values()),
        inputs=tuple(inputs),
        input_types=types,
        computation=Computation(types, features),
        order=tuple(order),
        texts=tuple(texts),
    )


def _computed(
    view: OnDemandFeatureView,
    name: str,
    inputs: dict[int | str, str],
    joined: Callable[[FeatureViewSelection, str], int],
) -> ComputedFeature:
    scope, feature = Scope(view.origins), view.field(name)

    def position(column: Column) -> int:
        found = scope.find(column)
        origin = found.origin
        source = found.name if isinstance(origin, RequestSource) else joined(origin, found.name)
        inputs.setdefault(source, type_name(found.dtype))
        return list(inputs).index(source)

    tree = bound(feature.tree, position)
    return ComputedFeature(f"{view.name}:{name}", type_name(feature.dtype), tree)


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

"""On-demand views as serving has them, and what one request computes: plain data, JSON-ready."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurestore.errors import NotFoundError, RequestError, shown
from featurestore.expressions.features import ComputedFeature, bound
from featurestore.expressions.tree import Column

Columns = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingInput:
    """What an on-demand feature is computed from.

    Attributes:
        name: The feature's or request field's name.
        dtype: Its type.
        view: The view it is of; None for a request field.
        alias: The view's role, or None.
        key_columns: (join key of the view, column of the request) in key order.
    """

    name: str
    dtype: str
    view: str | None = None
    alias: str | None = None
    key_columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingOnDemand:
    """An on-demand view that is served.

    Attributes:
        name: Its name.
        keys: The columns of the join keys of all views that it may read, with their types: a caller
            brings them whichever features are asked for, so that new features change nothing.
        fields: All request fields that a caller brings, with their types.
        inputs: What its features are computed from.
        features: Its features in order; columns of their trees are positions in `inputs`.
    """

    name: str
    keys: Columns
    fields: Columns
    inputs: tuple[ServingInput, ...]
    features: tuple[ComputedFeature, ...]

    def to_document(self) -> dict[str, Any]:
        """Return this as JSON-ready data."""
        return {
            "name": self.name,
            "keys": self.keys,
            "fields": self.fields,
            "inputs": [
                {
                    "name": i.name,
                    "dtype": i.dtype,
                    "view": i.view,
                    "alias": i.alias,
                    "key_columns": i.key_columns,
                }
                for i in self.inputs
            ],
            "features": [feature.to_document() for feature in self.features],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "ServingOnDemand":
        """Return what `to_document` wrote; KeyError, TypeError or ValueError for anything else."""
        return cls(
            name=document["name"],
            keys=tuple((name, dtype) for name, dtype in document["keys"]),
            fields=tuple((name, dtype) for name, dtype in document["fields"]),
            inputs=tuple(
                ServingInput(**{**i, "key_columns": tuple((a, b) for a, b in i["key_columns"])})
                for i in document["inputs"]
            ),
            features=tuple(map(ComputedFeature.from_document, document["features"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemandPlan:
    """What a request computes, and from what.

    Attributes:
        fields: The request fields that it has to hold, with their types.
        inputs: What features are computed from: the position of a looked-up feature among the
            plan's outputs, or the name of a request field.
        input_types: Their types.
        features: What is computed; columns of the trees are positions in `inputs`.
        names: The names of `features` in the reply.
        views: The position of each feature's on-demand view in `view_names`.
        view_names: The on-demand views asked for.
        order: The features of the reply in the order asked: the position of a looked-up feature
            among the plan's outputs, or `~n` for the computed feature n.
    """

    fields: Columns
    inputs: tuple[int | str, ...]
    input_types: tuple[str, ...]
    features: tuple[ComputedFeature, ...]
    names: tuple[str, ...]
    views: tuple[int, ...]
    view_names: tuple[str, ...]
    order: tuple[int, ...]


class Computing:
    """What a plan computes, while the plan is made."""

    def __init__(self) -> None:
        self._asked: list[tuple[ServingOnDemand, ComputedFeature, str]] = []
        self._inputs: dict[int | str, str] = {}

    def add(
        self,
        view: ServingOnDemand,
        features: Sequence[str] | None,
        *,
        full_feature_names: bool,
    ) -> list[int]:
        """Add features of a view, None for all; return where they are, as `OnDemandPlan.order`.

        Raises:
            NotFoundError: The view has no such feature.
            RequestError: A feature is asked for twice.
        """
        known = {feature.name: feature for feature in view.features}
        places = []
        for name in known if features is None else features:
            if name not in known:
                where = f" in on-demand feature view {view.name!r}"
                raise NotFoundError("feature", name, known=known, where=where)
            if any(v is view and f.name == name for v, f, _ in self._asked):
                raise RequestError(f"Feature {view.name}:{name} is asked for twice.")
            places.append(~len(self._asked))
            shown_name = f"{view.name}__{name}" if full_feature_names else name
            self._asked.append((view, known[name], shown_name))
        return places

    def plan(
        self,
        looked_up: Callable[[ServingInput], int],
        keys: Iterable[tuple[str, str]],
        order: Sequence[int],
    ) -> OnDemandPlan | None:
        """Return what was added as a plan, or None when nothing was.

        Args:
            looked_up: Returns the position of a view's feature among the plan's outputs.
            keys: The join keys and their types; `looked_up` may add some.
            order: As `OnDemandPlan.order`.

        Raises:
            RequestError: A request field has two types, or another one than a join key of its name.
        """
        if not self._asked:
            return None
        features = [self._bound(view, feature, looked_up) for view, feature, _ in self._asked]
        views = list(dict.fromkeys(view.name for view, _, _ in self._asked))
        return OnDemandPlan(
            fields=tuple(self._fields(keys).items()),
            inputs=tuple(self._inputs),
            input_types=tuple(self._inputs.values()),
            features=tuple(features),
            names=tuple(name for _, _, name in self._asked),
            views=tuple(views.index(view.name) for view, _, _ in self._asked),
            view_names=tuple(views),
            order=tuple(order),
        )

    def _bound(
        self,
        view: ServingOnDemand,
        feature: ComputedFeature,
        looked_up: Callable[[ServingInput], int],
    ) -> ComputedFeature:
        def position(column: Column) -> int:
            given = view.inputs[int(column.name)]
            source = given.name if given.view is None else looked_up(given)
            self._inputs.setdefault(source, given.dtype)
            return list(self._inputs).index(source)

        name = f"{view.name}:{feature.name}"
        return ComputedFeature(name, feature.dtype, bound(feature.tree, position))

    def _fields(self, keys: Iterable[tuple[str, str]]) -> dict[str, str]:
        fields: dict[str, str] = {}
        types = dict(keys)
        for view, _, _ in self._asked:
            for name, dtype in view.fields:
                known = fields.setdefault(name, dtype)
                key = types.get(name, dtype)
                if known != dtype or comparable(key) != comparable(dtype):
                    raise RequestError(
                        f"Column {shown(name)} of the request would be {dtype} for {view.name!r},"
                        f" and {known if known != dtype else key} besides.",
                        hint="rename the request field",
                    )
        return fields


def comparable(dtype: str) -> str:
    """Return what types are called that one column of a request can serve at the same time."""
    return "integer" if dtype.lstrip("u").startswith("int") else dtype

"""On-demand views as serving has them, and what one request computes: plain data, JSON-ready."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
class ServingFunction:
    """A Python function that is served.

    Attributes:
        reference: "package.module:name".
        sha256: Of its module's file.
        columns: What it gets: a name for each of the view's inputs.
        outputs: What it returns, with types.
    """

    reference: str
    sha256: str
    columns: tuple[str, ...]
    outputs: Columns

    @classmethod
    def from_document(cls, document: Mapping[str, Any] | None) -> "ServingFunction | None":
        """Return what `asdict` made of one; None of nothing."""
        if document is None:
            return None
        return cls(
            reference=document["reference"],
            sha256=document["sha256"],
            columns=tuple(document["columns"]),
            outputs=tuple((name, dtype) for name, dtype in document["outputs"]),
        )


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
        function: What yields its features instead, or None.
    """

    name: str
    keys: Columns
    fields: Columns
    inputs: tuple[ServingInput, ...]
    features: tuple[ComputedFeature, ...] = ()
    function: ServingFunction | None = None

    @property
    def types(self) -> dict[str, str]:
        """The features' names, in order, with their types."""
        if self.function is not None:
            return dict(self.function.outputs)
        return {feature.name: feature.dtype for feature in self.features}

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
            "function": None if self.function is None else asdict(self.function),
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
            function=ServingFunction.from_document(document["function"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCall:
    """A function that a request calls.

    Attributes:
        view: The on-demand view.
        function: The function.
        inputs: Positions of its columns in the plan's `inputs`.
        wanted: Positions among its outputs of the features asked for.
        places: Positions of those in the plan's `names`.
    """

    view: str
    function: ServingFunction
    inputs: tuple[int, ...]
    wanted: tuple[int, ...]
    places: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDemandPlan:
    """What a request computes, and from what.

    Attributes:
        fields: The request fields that it has to hold, with their types.
        inputs: What features are computed from: the position of a looked-up feature among the
            plan's outputs, or the name of a request field.
        input_types: Their types.
        features: The expressions; columns of the trees are positions in `inputs`.
        places: Their positions in `names`.
        functions: What yields the other computed features.
        names: The names of all computed features in the reply.
        types: Their types.
        views: The position of each one's on-demand view in `view_names`.
        view_names: The on-demand views asked for.
        order: The features of the reply in the order asked: the position of a looked-up feature
            among the plan's outputs, or `~n` for the computed feature n.
    """

    fields: Columns
    inputs: tuple[int | str, ...]
    input_types: tuple[str, ...]
    features: tuple[ComputedFeature, ...]
    places: tuple[int, ...]
    functions: tuple[FunctionCall, ...]
    names: tuple[str, ...]
    types: tuple[str, ...]
    views: tuple[int, ...]
    view_names: tuple[str, ...]
    order: tuple[int, ...]


class Computing:
    """What a plan computes, while the plan is made."""

    def __init__(self) -> None:
        self._asked: list[tuple[ServingOnDemand, str, str]] = []
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
        places = []
        for name in view.types if features is None else features:
            if name not in view.types:
                where = f" in on-demand feature view {view.name!r}"
                raise NotFoundError("feature", name, known=view.types, where=where)
            if any(v is view and n == name for v, n, _ in self._asked):
                raise RequestError(f"Feature {view.name}:{name} is asked for twice.")
            places.append(~len(self._asked))
            shown_name = f"{view.name}__{name}" if full_feature_names else name
            self._asked.append((view, name, shown_name))
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
        features: dict[int, ComputedFeature] = {}
        called: dict[str, list[int]] = {}
        for place, (view, name, _) in enumerate(self._asked):
            if view.function is None:
                features[place] = self._bound(view, name, looked_up)
            else:
                called.setdefault(view.name, []).append(place)
        functions = [self._call(places, looked_up) for places in called.values()]
        views = list(dict.fromkeys(view.name for view, _, _ in self._asked))
        return OnDemandPlan(
            fields=tuple(self._fields(keys).items()),
            inputs=tuple(self._inputs),
            input_types=tuple(self._inputs.values()),
            features=tuple(features.values()),
            places=tuple(features),
            functions=tuple(functions),
            names=tuple(shown_name for _, _, shown_name in self._asked),
            types=tuple(view.types[name] for view, name, _ in self._asked),
            views=tuple(views.index(view.name) for view, _, _ in self._asked),
            view_names=tuple(views),
            order=tuple(order),
        )

    def _bound(
        self, view: ServingOnDemand, name: str, looked_up: Callable[[ServingInput], int]
    ) -> ComputedFeature:
        def position(column: Column) -> int:
            return self._position(view.inputs[int(column.name)], looked_up)

        feature = next(feature for feature in view.features if feature.name == name)
        tree = bound(feature.tree, position)
        return ComputedFeature(f"{view.name}:{name}", feature.dtype, tree)

    def _call(
        self, places: Sequence[int], looked_up: Callable[[ServingInput], int]
    ) -> FunctionCall:
        """Return the call that yields the features at `places`, which are all of one view."""
        view = self._asked[places[0]][0]
        assert view.function is not None  # noqa: S101 - chosen for it
        outputs = list(view.types)
        return FunctionCall(
            view=view.name,
            function=view.function,
            inputs=tuple(self._position(given, looked_up) for given in view.inputs),
            wanted=tuple(outputs.index(self._asked[place][1]) for place in places),
            places=tuple(places),
        )

    def _position(self, given: ServingInput, looked_up: Callable[[ServingInput], int]) -> int:
        """Return the position of an input; it is added unless it is there."""
        source = given.name if given.view is None else looked_up(given)
        self._inputs.setdefault(source, given.dtype)
        return list(self._inputs).index(source)

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

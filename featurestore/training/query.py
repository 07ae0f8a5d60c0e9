"""From feature names to an explicit point-in-time query: what to join, and what to call it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featurestore.definitions import (
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
)
from featurestore.errors import NameCollisionError, NotFoundError, RequestError, shown
from featurestore.functions import FunctionLoader
from featurestore.naming import duplicate_name
from featurestore.registry.state import RegistryState
from featurestore.training.on_demand import OnDemandColumns, Wanted, on_demand_columns

Selection = FeatureViewSelection | OnDemandSelection
FeatureRequest = (
    str | FeatureService | Sequence[str | FeatureView | OnDemandFeatureView | Selection]
)
"""A service (or its name), or a list of "view:feature", views and selections."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewJoin:
    """One role of one view and the features wanted of it, in the order they are joined."""

    selection: FeatureViewSelection
    features: tuple[str, ...]

    @property
    def view(self) -> FeatureView:
        """The view."""
        return self.selection.view


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A joined feature: what its column is called, which join it comes from, its position there."""

    name: str
    join: int
    feature: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureQuery:
    """What was asked for, resolved.

    Attributes:
        joins: In the order of their first feature.
        outputs: The joined features, in the order asked; those that only on-demand features need
            come last.
        on_demand: What is computed from them, and the order of it all; None when nothing is.
    """

    joins: tuple[ViewJoin, ...]
    outputs: tuple[Output, ...]
    on_demand: OnDemandColumns | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The feature columns' names, in the order asked."""
        if self.on_demand is not None:
            return self.on_demand.names
        return tuple(output.name for output in self.outputs)


def resolve(
    features: FeatureRequest,
    state: RegistryState,
    *,
    full_feature_names: bool,
    functions: FunctionLoader | None = None,
) -> FeatureQuery:
    """Return the query that `features` asks for.

    Args:
        features: What is asked for.
        state: What is registered.
        full_feature_names: Call columns `view__feature` instead of `feature`.
        functions: Loads Python functions; None refuses them.

    Raises:
        NotFoundError: An unknown service, view or feature; it suggests names that look alike.
        NameCollisionError: Two features would have one name (case is ignored).
        RequestError: Nothing is asked for, or a feature is asked for twice.
        FunctionLoadError: A Python function cannot be loaded.
    """
    asked = [
        (selection, name)
        for selection in selections_of(features, state)
        for name in selection.feature_names
    ]
    if not asked:
        raise RequestError("No feature is asked for.", hint="name a service or 'view:feature'")
    _check_asked_once(asked)
    _check_roles([selection for selection, _ in asked])
    joining, wanted = _Joining(), []
    for selection, name in asked:
        shown_name = f"{selection.name}__{name}" if full_feature_names else name
        if isinstance(selection, OnDemandSelection):
            _check_types(selection)
            wanted.append(Wanted(shown_name, selection.view, name))
        else:
            wanted.append(Wanted(shown_name, None, name, joining.add(selection, name, shown_name)))
    on_demand = on_demand_columns(wanted, joining.find, functions or FunctionLoader())
    query = FeatureQuery(joins=joining.joins, outputs=tuple(joining.outputs), on_demand=on_demand)
    check_names(query.names)
    _check_roles([*(join.selection for join in query.joins), *(s for s, _ in asked)])
    return query


class _Joining:
    """The joins of a query, while it is made."""

    def __init__(self) -> None:
        self._joins: dict[object, tuple[FeatureViewSelection, list[str]]] = {}
        self.outputs: list[Output] = []

    @property
    def joins(self) -> tuple[ViewJoin, ...]:
        """The joins so far."""
        return tuple(
            ViewJoin(selection=selection, features=tuple(wanted))
            for selection, wanted in self._joins.values()
        )

    def add(self, selection: FeatureViewSelection, feature: str, name: str) -> int:
        """Add a feature; return its position among the outputs."""
        key = role_of(selection)
        _, wanted = self._joins.setdefault(key, (selection, []))
        join = list(self._joins).index(key)
        self.outputs.append(Output(name=name, join=join, feature=len(wanted)))
        wanted.append(feature)
        return len(self.outputs) - 1

    def find(self, selection: FeatureViewSelection, feature: str) -> int:
        """Return the position of a feature among the outputs; it is added unless it is there."""
        key = role_of(selection)
        _, wanted = self._joins.get(key, (selection, []))
        if feature not in wanted:
            return self.add(selection, feature, feature)
        place = (list(self._joins).index(key), wanted.index(feature))
        return next(n for n, o in enumerate(self.outputs) if (o.join, o.feature) == place)


def role_of(selection: Selection) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Return what tells apart roles: a view may be used with several choices of join keys."""
    if isinstance(selection, OnDemandSelection):
        return selection.name, ()
    return selection.name, tuple(selection.key_columns.items())


def selections_of(features: FeatureRequest, state: RegistryState) -> Iterator[Selection]:
    """Yield what is asked for, in order: views and on-demand views, as they are used.

    Raises:
        NotFoundError: An unknown service, view or feature; it suggests names that look alike.
        RequestError: It is no request.
    """
    if isinstance(features, str):
        if ":" in features:
            raise RequestError(
                f"{shown(features)} names one feature, where a service or a list is expected.",
                hint=f"write [{shown(features)}]",
            )
        features = state.service(features)
    if isinstance(features, FeatureService):
        yield from features.selections
        return
    if not isinstance(features, Sequence):
        raise _not_a_request("Features", features)
    for item in features:
        yield _selection(item, state)


def _selection(item: object, state: RegistryState) -> Selection:
    if isinstance(item, str):
        return _reference(item, state)
    if isinstance(item, FeatureView | OnDemandFeatureView):
        return item.select()
    if isinstance(item, Selection):
        return item
    raise _not_a_request("A feature", item)


def _check_types(selection: OnDemandSelection) -> None:
    """Refuse what `plan` has not looked at: types over windows, a function's module."""
    if not selection.view.is_resolved and selection.view.reference is not None:
        raise RequestError(
            f"On-demand view {selection.view.name!r} has a Python function that was not applied.",
            hint="apply it first and ask for it by name: only functions that are registered run",
        )
    if not selection.view.is_resolved:
        raise RequestError(
            f"On-demand view {selection.view.name!r} computes from windows whose types are not"
            " known yet.",
            hint="apply it first and ask for it by name, or give its aggregations a dtype=",
        )


def _not_a_request(what: str, value: object) -> RequestError:
    return RequestError(
        f"{what} cannot be asked for by a value of type {type(value).__name__}.",
        hint="pass a service or its name, or a list of 'view:feature', views and view[['feature']]",
    )


def _reference(reference: str, state: RegistryState) -> Selection:
    view, colon, feature = reference.partition(":")
    if not colon:
        known = (*state.views, *state.on_demand_views, *state.services)
        if view in known:
            raise RequestError(
                f"{shown(reference)} is not a feature.",
                hint=f"write 'view:feature', or features={reference!r} for a service",
            )
        raise NotFoundError("feature", reference, known=known, where=" ('view:feature')")
    if view in state.on_demand_views:
        computed = state.on_demand_views[view]
        return computed[computed.field(feature).name]
    if view not in state.views:
        known = (*state.views, *state.on_demand_views)
        where = f" in project {state.project!r}"
        raise NotFoundError(FeatureView.kind, view, known=known, where=where)
    definition = state.view(view).definition
    return definition[definition.field(feature).name]


def _check_asked_once(asked: Sequence[tuple[Selection, str]]) -> None:
    seen = set()
    for selection, name in asked:
        key = (role_of(selection), name)
        if key in seen:
            raise RequestError(f"Feature {selection.name}:{name} is asked for twice.")
        seen.add(key)


def _check_roles(selections: Sequence[Selection]) -> None:
    """Refuse one role name for two views: their features could not be told apart."""
    views: dict[str, FeatureView | OnDemandFeatureView] = {}
    for selection in selections:
        view = views.setdefault(selection.name.casefold(), selection.view)
        if view.name != selection.view.name:
            raise NameCollisionError(
                f"Views {view.name!r} and {selection.view.name!r} would both be called"
                f" {selection.name!r}.",
                names=(view.name, selection.view.name),
                hint="give one of them another name with with_name()",
            )


def check_names(features: Sequence[str], spine: Sequence[str] = ()) -> None:
    """Make sure that no two columns of a result share a name, case ignored.

    Raises:
        NameCollisionError: It names the two.
    """
    if (pair := duplicate_name(features)) is not None:
        raise NameCollisionError(
            f"Two features would be called {shown(pair[0])}"
            + (f" and {shown(pair[1])}, which differ only by case." if pair[0] != pair[1] else "."),
            names=pair,
            hint="ask with full_feature_names=True, or give a role its own name with with_name()",
        )
    taken = {name.casefold(): name for name in spine}
    for name in features:
        if (column := taken.get(name.casefold())) is not None:
            raise NameCollisionError(
                f"Feature {shown(name)} has the name of the spine's column {shown(column)}.",
                names=(name, column),
                hint="rename the column, or ask with full_feature_names=True",
            )

"""From feature names to an explicit point-in-time query: what to join, and what to call it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from featurestore.definitions import FeatureService, FeatureView, FeatureViewSelection
from featurestore.errors import NameCollisionError, NotFoundError, RequestError, shown
from featurestore.naming import duplicate_name
from featurestore.registry.state import RegistryState

FeatureRequest = str | FeatureService | Sequence[str | FeatureView | FeatureViewSelection]
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
    """A feature column of the result: which join it comes from, and its position there."""

    name: str
    join: int
    feature: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureQuery:
    """What was asked for, resolved: joins in the order of their first feature, and columns."""

    joins: tuple[ViewJoin, ...]
    outputs: tuple[Output, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The feature columns' names, in the order asked."""
        return tuple(output.name for output in self.outputs)


def resolve(
    features: FeatureRequest, state: RegistryState, *, full_feature_names: bool
) -> FeatureQuery:
    """Return the query that `features` asks for.

    Raises:
        NotFoundError: An unknown service, view or feature; it suggests names that look alike.
        NameCollisionError: Two features would have one name (case is ignored).
        RequestError: Nothing is asked for, or a feature is asked for twice.
    """
    asked = [
        (selection, name)
        for selection in _selections(features, state)
        for name in selection.feature_names
    ]
    if not asked:
        raise RequestError("No feature is asked for.", hint="name a service or 'view:feature'")
    _check_asked_once(asked)
    _check_roles([selection for selection, _ in asked])
    joins: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[FeatureViewSelection, list[str]]]
    joins = {}
    outputs = []
    for selection, name in asked:
        key = (selection.name, tuple(selection.key_columns.items()))
        _, wanted = joins.setdefault(key, (selection, []))
        shown_name = f"{selection.name}__{name}" if full_feature_names else name
        outputs.append(Output(name=shown_name, join=list(joins).index(key), feature=len(wanted)))
        wanted.append(name)
    check_names([o.name for o in outputs])
    return FeatureQuery(
        joins=tuple(
            ViewJoin(selection=selection, features=tuple(wanted))
            for selection, wanted in joins.values()
        ),
        outputs=tuple(outputs),
    )


def _selections(features: FeatureRequest, state: RegistryState) -> Iterator[FeatureViewSelection]:
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


def _selection(item: object, state: RegistryState) -> FeatureViewSelection:
    if isinstance(item, str):
        return _reference(item, state)
    if isinstance(item, FeatureView):
        return item.select()
    if isinstance(item, FeatureViewSelection):
        return item
    raise _not_a_request("A feature", item)


def _not_a_request(what: str, value: object) -> RequestError:
    return RequestError(
        f"{what} cannot be asked for by a value of type {type(value).__name__}.",
        hint="pass a service or its name, or a list of 'view:feature', views and view[['feature']]",
    )


def _reference(reference: str, state: RegistryState) -> FeatureViewSelection:
    view, colon, feature = reference.partition(":")
    if not colon:
        known = (*state.views, *state.services)
        if view in known:
            raise RequestError(
                f"{shown(reference)} is not a feature.",
                hint=f"write 'view:feature', or features={reference!r} for a service",
            )
        raise NotFoundError("feature", reference, known=known, where=" ('view:feature')")
    definition = state.view(view).definition
    return definition[definition.field(feature).name]


def _check_asked_once(asked: Sequence[tuple[FeatureViewSelection, str]]) -> None:
    seen = set()
    for selection, name in asked:
        key = (selection.name, tuple(selection.key_columns.items()), name)
        if key in seen:
            raise RequestError(f"Feature {selection.name}:{name} is asked for twice.")
        seen.add(key)


def _check_roles(selections: Sequence[FeatureViewSelection]) -> None:
    """Refuse one role name for two views: their features could not be told apart."""
    views: dict[str, FeatureView] = {}
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

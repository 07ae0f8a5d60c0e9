"""What is tested: the features asked for, what each looks at, and the rows that it takes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from featurestore.definitions import (
    FeatureView,
    FeatureViewSelection,
    FileSource,
    OnDemandFeatureView,
)
from featurestore.definitions.on_demand_inputs import Input, Scope
from featurestore.definitions.row_join import RowJoin
from featurestore.errors import RequestError
from featurestore.expressions.check import columns_of
from featurestore.leakage.extract import (
    SINCE,
    UNTIL,
    Extract,
    Wanted,
    column_values,
    decoded,
    extract,
)
from featurestore.leakage.shadow import laid_over
from featurestore.leakage.sight import Read, read_of
from featurestore.leakage.source_rows import NEVER
from featurestore.offline.column_types import dedup_types, with_file_types
from featurestore.offline.files import list_files
from featurestore.offline.instants import DAY_US
from featurestore.registry.collect import collect
from featurestore.registry.state import RegistryState
from featurestore.training.query import FeatureRequest, Selection, selections_of
from featurestore.training.spine import key_column
from featurestore.types import type_name

FAR_US = 2**62
"""Far from any overflow, and from any time that a row can have."""
HEAD_ROWS = 2_000
"""So many rows are kept of sources that only functions could read by themselves."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The features of one test.

    Attributes:
        state: What is registered, and what was asked for besides.
        asked: Views and on-demand views, as they are used.
        features: "view:feature" of all of them, in order.
        reads: What each of these features looks at.
        roles: Every view that is looked at, by the name of its role; types of columns are known.
        functions: The on-demand views with a Python function.
        fields: The request fields, with their types.
    """

    state: RegistryState
    asked: tuple[Selection, ...]
    features: tuple[str, ...]
    reads: tuple[frozenset[Read], ...]
    roles: Mapping[str, FeatureViewSelection]
    functions: tuple[OnDemandFeatureView, ...]
    fields: Mapping[str, str]

    @property
    def sources(self) -> dict[str, FileSource]:
        """The sources that views read, and all that are registered if functions might."""
        views = [role.view for role in self.roles.values()]
        used = {s.name: s for view in views for s in (view.source, *view.joins)}
        return {**self.state.sources, **used} if self.functions else used

    @property
    def static(self) -> tuple[str, ...]:
        """Names of the lookup tables, whose rows hold for all times by declaration."""
        views = (role.view for role in self.roles.values())
        return tuple(dict.fromkeys(name for view in views for name in view.static_sources))

    def request(self, state: RegistryState) -> list[Selection]:
        """Return what is asked for, with the views of another state."""
        return [_in_state(selection, state) for selection in self.asked]


def subject_of(features: FeatureRequest, state: RegistryState, root: Path) -> Subject:
    """Return what a request for features is about.

    Raises:
        RequestError, NotFoundError, SourceError: As for a training set.
    """
    asked = tuple(selections_of(features, state))
    state = laid_over(state, collect(selection.view for selection in asked))
    labels, reads, inputs = [], [], []
    for selection in asked:
        for name in selection.feature_names:
            found = list(_inputs(selection, name))
            inputs += [selection for selection, _ in found]
            labels.append(f"{selection.name}:{name}")
            reads.append(frozenset(read_of(*pair) for pair in found))
    on_demand = {s.view.name: s.view for s in asked if not isinstance(s, FeatureViewSelection)}
    return Subject(
        state=state,
        asked=asked,
        features=tuple(labels),
        reads=tuple(reads),
        roles={s.name: _resolved(s, root) for s in inputs},
        functions=tuple(v for v in on_demand.values() if v.reference is not None),
        fields={
            name: type_name(dtype)
            for view in on_demand.values()
            for name, dtype in view.request_fields.items()
        },
    )


def all_features(state: RegistryState) -> list[Selection]:
    """Return all features of all registered views and on-demand views.

    Raises:
        RequestError: There are none.
    """
    found: list[Selection] = [view.definition.select() for view in state.views.values()]
    found += [view.select() for view in state.on_demand_views.values()]
    if not found:
        raise RequestError("No view is registered.", hint="featurestore apply")
    return found


def _inputs(selection: Selection, name: str) -> Iterator[tuple[FeatureViewSelection, str]]:
    """Yield the features that a feature is, or is computed from."""
    if isinstance(selection, FeatureViewSelection):
        yield selection, name
        return
    for given in _computed_from(selection.view, name):
        if isinstance(given.origin, FeatureViewSelection):
            yield given.origin, given.name


def _computed_from(view: OnDemandFeatureView, name: str) -> Iterable[Input]:
    if view.reference is not None:
        return view.columns.values()
    tree = next(feature.tree for feature in view.computed if feature.name == name)
    return [Scope(view.origins).find(column) for column in columns_of(tree)]


def _resolved(selection: FeatureViewSelection, root: Path) -> FeatureViewSelection:
    return _of_view(selection, with_file_types(selection.view, root))


def _of_view(selection: FeatureViewSelection, view: FeatureView) -> FeatureViewSelection:
    return FeatureViewSelection(
        view=view,
        features=selection.features,
        alias=selection.alias,
        join_key_map=selection.join_key_map,
    )


def _in_state(selection: Selection, state: RegistryState) -> Selection:
    if isinstance(selection, FeatureViewSelection):
        return _of_view(selection, state.view(selection.view.name).definition)
    found = state.on_demand_view(selection.view.name)
    return found.select() if selection.features is None else found[list(selection.features)]


def key_table(selection: FeatureViewSelection, spine: pa.Table) -> pa.Table:
    """Return the join keys of a spine's rows, for one role, by the keys' names."""
    columns = {
        key: key_column(
            spine, column, selection.view.join_keys[key], role=f"join key of {selection.name!r}"
        )
        for key, column in selection.key_columns.items()
    }
    return pa.table(columns)


def coded_columns(subject: Subject, root: Path) -> dict[str, dict[str, pa.DataType]]:
    """Return the columns of each source that decide who sees a row, with their types."""
    found: dict[str, dict[str, pa.DataType]] = {name: {} for name in subject.sources}
    for role in subject.roles.values():
        view = role.view
        own = found[view.source.name]
        own |= view.join_keys
        if view.aggregations:
            own |= dedup_types(view.source, list_files(view.source, root))
        for join in _joins(view):
            joined = view.joined_source(join)
            for key in join.keys:
                own.setdefault(key.own, _own_type(view, key.own))
                found[joined.name].setdefault(key.joined, join.types[key.joined])
    return found


def _joins(view: FeatureView) -> tuple[RowJoin, ...]:
    return () if view.row_transform is None else view.row_transform.joins


def _own_type(view: FeatureView, name: str) -> pa.DataType:
    transform = view.row_transform
    assert transform is not None  # noqa: S101 - asked of a transform's joins
    return transform.types[name]


def extracts_of(
    subject: Subject, spine: pa.Table, times: pa.Array, root: Path
) -> dict[str, Extract]:
    """Return what has to be kept of every source for the features of a spine.

    That is the rows of the spine's keys, from as long ago as a feature looks back, and before that
    as long again, until as long after; of those rows all versions of the same events; of what is
    joined all rows of the keys that they name; and a few rows of what functions might read.

    Args:
        subject: The features.
        spine: The spine.
        times: Its times in microseconds.
        root: Folder that the sources' relative paths start at.

    Raises:
        ExtractTooLargeError: A source has more rows of these keys than are worked on.
    """
    wanted: dict[str, list[pa.Table]] = {name: [] for name in subject.sources}
    for role in subject.roles.values():
        wanted[role.view.source.name].append(_spans(subject, role, key_table(role, spine), times))
    sources = subject.sources
    owned = {role.view.source.name for role in subject.roles.values()}
    first = {n: extract(sources[n], root, Wanted(keys=wanted[n])) for n in owned}
    counts = {name: len(keys) for name, keys in wanted.items()}
    for role in subject.roles.values():
        for name, keys in _also_wanted(role.view, first[role.view.source.name], root):
            wanted[name].append(keys)
    return {
        name: first[name]
        if name in first and len(wanted[name]) == counts[name]
        else extract(source, root, Wanted(keys=wanted[name], head=0 if wanted[name] else HEAD_ROWS))
        for name, source in sources.items()
    }


def _also_wanted(view: FeatureView, own: Extract, root: Path) -> Iterator[tuple[str, pa.Table]]:
    """Yield sources and keys of what a view's rows make wanted besides."""
    for join in _joins(view):
        names = {key.own: _own_type(view, key.own) for key in join.keys}
        renamed = {key.joined: join.types[key.joined] for key in join.keys}
        yield view.joined_source(join).name, _as_keys(_tuples(own, names), renamed)
    if view.aggregations and view.source.dedup_keys:
        types = dedup_types(view.source, list_files(view.source, root))
        plain = {name: t for name, t in types.items() if not pa.types.is_timestamp(t)}
        yield view.source.name, _as_keys(_tuples(own, plain), plain) if plain else pa.table({})


def _tuples(own: Extract, names: Mapping[str, pa.DataType]) -> set[tuple[object, ...]]:
    found: set[tuple[object, ...]] = set()
    for file in own.files:
        columns = (
            decoded(column_values(own.source, file.origin, file.table, name, dtype)).to_pylist()
            for name, dtype in names.items()
        )
        found |= set(zip(*columns, strict=True))
    return {values for values in found if None not in values}


def _as_keys(tuples: Iterable[Sequence[object]], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Return distinct keys as a table; what a type cannot hold is no key of it."""
    fitting = [t for t in tuples if all(map(_fits, t, types.values()))]
    columns = zip(*fitting, strict=True) if fitting else ([] for _ in types)
    arrays = {n: pa.array(list(c), t) for (n, t), c in zip(types.items(), columns, strict=True)}
    return pa.table(arrays)


def _fits(value: object, dtype: pa.DataType) -> bool:
    try:
        pa.scalar(value, dtype)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        return False
    return True


def _spans(
    subject: Subject, role: FeatureViewSelection, keys: pa.Table, times: pa.Array
) -> pa.Table:
    """Return the keys of a spine's rows, each with the event times that are of interest."""
    backs = [r.span.back_us for reads in subject.reads for r in reads if r.role == role.name]
    back = None if None in backs else max(b for b in backs if b is not None)
    q_us = np.clip(times.fill_null(0).to_numpy(zero_copy_only=False), -FAR_US, FAR_US)
    since = np.full(len(q_us), NEVER + 1) if back is None else q_us - 2 * back - DAY_US
    until = q_us + (30 * DAY_US if back is None else back + DAY_US)
    columns = dict(zip(keys.column_names, keys.columns, strict=True))
    spans = pa.table({**columns, SINCE: pa.array(since), UNTIL: pa.array(until)})
    return spans.filter(times.is_valid()).drop_null()

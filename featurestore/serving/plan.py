"""What serving knows of a project, and what one request needs of it: plain data, no heavy imports.

A server's workers get a `ServingCatalog` as JSON instead of a registry. A `LookupPlan` is prepared
once per service (or list of features) and then used for every request.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NoReturn

from featurestore.errors import (
    ConfigError,
    NameCollisionError,
    NotFoundError,
    RequestError,
    shown,
)
from featurestore.naming import duplicate_name
from featurestore.online.store import TableId
from featurestore.serving.computed import (
    Computing,
    OnDemandPlan,
    ServingInput,
    ServingOnDemand,
    comparable,
)

CATALOG_SCHEMA_VERSION: Final = 4

Columns = tuple[tuple[str, str], ...]
"""Pairs of name and type, as `featurestore.types.type_name` writes types."""

Empty = bool | int | float | str | None
"""What a windowed feature of an entity without a row is, as JSON; None for null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingView:
    """A view that is served.

    Attributes:
        name: Its name.
        table: The generation to read.
        ttl_us: Greatest age of a row in microseconds, or None.
        keys: Join keys in order, with their types.
        columns: All features in schema order, with their types: the layout of a stored row.
        empty: Of windows: for each feature what an entity without a row has, None for null. Empty
            for other views.
    """

    name: str
    table: TableId
    ttl_us: int | None
    keys: Columns
    columns: Columns
    empty: tuple[Empty, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSelection:
    """A view as it is used.

    Attributes:
        view: The view's name.
        alias: The role's name, or None.
        features: Names in the order wanted; None for all.
        key_columns: (join key of the view, column of the request) in key order.
    """

    view: str
    alias: str | None = None
    features: tuple[str, ...] | None = None
    key_columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingService:
    """A feature service that is served."""

    name: str
    selections: tuple[ServingSelection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The rows of one view that a request reads, and the columns it takes from them.

    Attributes:
        role: The role's name, or the view's.
        table: What to read.
        ttl_us: Greatest age of a row in microseconds, or None.
        keys: Positions of the join keys in the plan's `inputs`.
        layout: Types of all columns of a stored row.
        wanted: Positions in `layout` of the columns to take.
    """

    role: str
    table: TableId
    ttl_us: int | None
    keys: tuple[int, ...]
    layout: tuple[str, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A feature of the reply.

    Attributes:
        name: What it is called.
        dtype: Its type.
        read: The read it comes from.
        column: Its position there.
        empty: What an entity without a row has instead of null; None for null.
    """

    name: str
    dtype: str
    read: int
    column: int
    empty: Empty = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupPlan:
    """A prepared lookup.

    Attributes:
        columns: What a request has to hold, in order of first use: name and type.
        inputs: The same, once more for every other width of integer that a view declares for such a
            column: what is read from a request.
        reads: What is read, one per role.
        outputs: The features of the reply, in the order asked; with on-demand features all that are
            looked up, and `on_demand` has the order.
        on_demand: What is computed, and from what; None when nothing is.
    """

    columns: Columns
    inputs: Columns
    reads: tuple[Read, ...]
    outputs: tuple[Output, ...]
    on_demand: OnDemandPlan | None = None

    @property
    def request_columns(self) -> Columns:
        """What a request has to hold: join keys, then request fields, with their types."""
        fields = () if self.on_demand is None else self.on_demand.fields
        known = dict(self.columns)
        return (*self.columns, *((name, dtype) for name, dtype in fields if name not in known))

    @property
    def features(self) -> Columns:
        """The features of the reply in the order asked, with their types."""
        looked_up = [(output.name, output.dtype) for output in self.outputs]
        if self.on_demand is None:
            return tuple(looked_up)
        computed = list(zip(self.on_demand.names, self.on_demand.types, strict=True))
        return tuple(looked_up[n] if n >= 0 else computed[~n] for n in self.on_demand.order)


@dataclass(frozen=True, kw_only=True)
class ServingCatalog:
    """All that serving needs to know of a project at one revision.

    Attributes:
        project: Its name.
        revision: Counts what was applied.
        switches: Counts changes of the generations that lookups read.
        clock: As in the configuration.
        views: What is served, by name.
        services: Services made of these.
        on_demand: On-demand views made of these.
        waiting: Views of which an older generation is served than the one that is registered.
    """

    project: str
    revision: int
    clock: str
    views: Mapping[str, ServingView] = field(default_factory=dict)
    services: Mapping[str, ServingService] = field(default_factory=dict)
    on_demand: Mapping[str, ServingOnDemand] = field(default_factory=dict)
    switches: int = 0
    waiting: tuple[str, ...] = ()

    def prepare(
        self,
        features: str | Sequence[str | ServingSelection] | ServingService,
        *,
        full_feature_names: bool = False,
    ) -> LookupPlan:
        """Return the plan for a service (or its name), or for a list of "view:feature".

        Raises:
            NotFoundError: An unknown service, view or feature; it suggests names that look alike.
            NameCollisionError: Two columns of the reply would share a name, case ignored.
            RequestError: Nothing is asked for, or a feature is asked for twice.
        """
        building = _Building(self)
        for selection in self._selections(features):
            if selection.view in self.on_demand:
                building.compute(selection, full_feature_names=full_feature_names)
            else:
                building.add(selection, full_feature_names=full_feature_names)
        return building.plan()

    def _selections(
        self, features: str | Sequence[str | ServingSelection] | ServingService
    ) -> Iterable[ServingSelection]:
        if isinstance(features, str):
            if ":" in features:
                raise RequestError(
                    f"{shown(features)} names one feature, where a service or a list is expected.",
                    hint=f"write [{shown(features)}]",
                )
            if features not in self.services:
                self._not_found("feature service", features, self.services)
            features = self.services[features]
        if isinstance(features, ServingService):
            return features.selections
        return [f if isinstance(f, ServingSelection) else self._reference(f) for f in features]

    def _reference(self, reference: str) -> ServingSelection:
        view, colon, feature = reference.partition(":")
        if not colon:
            where = " ('view:feature')"
            known = (*self.views, *self.on_demand, *self.services)
            raise NotFoundError("feature", reference, known=known, where=where)
        if view in self.on_demand:
            return ServingSelection(view=view, features=(feature,))
        keys = tuple((key, key) for key, _ in self.view(view).keys)
        return ServingSelection(view=view, features=(feature,), key_columns=keys)

    def view(self, name: str) -> ServingView:
        """Return the view called `name`.

        Raises:
            NotFoundError: It is not served; names that look alike are suggested.
        """
        if name not in self.views:
            self._not_found("feature view", name, (*self.views, *self.on_demand))
        return self.views[name]

    def _not_found(self, kind: str, name: str, known: Iterable[str]) -> NoReturn:
        where = f" in project {self.project!r}{self.waiting_text(*self.waiting)}"
        raise NotFoundError(kind, name, known=known, where=where)

    def waiting_text(self, *views: str) -> str:
        """Return what to say besides where something is missing of views that are waited for."""
        if not (found := [shown(view) for view in views if view in self.waiting]):
            return ""
        names = ", ".join(found)
        return f"; an older generation of {names} is served until the newest is materialized"

    def to_json(self) -> str:
        """Return this as JSON that `from_json` reads."""
        document = {
            "schema_version": CATALOG_SCHEMA_VERSION,
            "project": self.project,
            "revision": self.revision,
            "switches": self.switches,
            "waiting": list(self.waiting),
            "clock": self.clock,
            "views": [asdict(view) for view in self.views.values()],
            "services": [asdict(service) for service in self.services.values()],
            "on_demand": [view.to_document() for view in self.on_demand.values()],
        }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "ServingCatalog":
        """Return the catalog that `to_json` wrote.

        Raises:
            ConfigError: It is not one, or one of another version.
        """
        try:
            document = json.loads(text)
            if document["schema_version"] != CATALOG_SCHEMA_VERSION:
                raise ConfigError("The serving catalog was written by another version.")
            views = [_read_view(v) for v in document["views"]]
            services = [_read_service(s) for s in document["services"]]
            on_demand = [ServingOnDemand.from_document(v) for v in document["on_demand"]]
            return cls(
                project=document["project"],
                revision=document["revision"],
                switches=document["switches"],
                waiting=tuple(document["waiting"]),
                clock=document["clock"],
                views={view.name: view for view in views},
                services={service.name: service for service in services},
                on_demand={view.name: view for view in on_demand},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"This is not a serving catalog ({type(error).__name__}).") from None


def whole_view_plan(view: ServingView) -> LookupPlan:
    """Return the plan that looks up all features of one view by its own join keys."""
    building = _Building(
        ServingCatalog(project="", revision=0, clock="system", views={view.name: view})
    )
    building.add(ServingSelection(view=view.name), full_feature_names=False)
    return building.plan()


class _Building:
    """A plan while it is made."""

    def __init__(self, catalog: ServingCatalog) -> None:
        self._catalog = catalog
        self._inputs: dict[tuple[str, str], str] = {}
        self._reads: dict[tuple[str, str, tuple[int, ...]], tuple[int, list[int]]] = {}
        self._outputs: list[Output] = []
        self._order: list[int] = []
        self._computing = Computing()

    def add(self, selection: ServingSelection, *, full_feature_names: bool) -> None:
        """Add the features of one selection."""
        view = self._catalog.view(selection.view)
        role = selection.alias or view.name
        read, wanted = self._read(view, role, selection.key_columns)
        positions = {name: position for position, (name, _) in enumerate(view.columns)}
        for feature in positions if selection.features is None else selection.features:
            if feature not in positions:
                where = f" in feature view {view.name!r}{self._catalog.waiting_text(view.name)}"
                raise NotFoundError("feature", feature, known=positions, where=where)
            position = positions[feature]
            if position in wanted:
                raise RequestError(f"Feature {role}:{feature} is asked for twice.")
            name = f"{role}__{feature}" if full_feature_names else feature
            dtype = view.columns[position][1]
            empty = view.empty[position] if view.empty else None
            output = Output(name=name, dtype=dtype, read=read, column=len(wanted), empty=empty)
            self._order.append(len(self._outputs))
            self._outputs.append(output)
            wanted.append(position)

    def _read(
        self, view: ServingView, role: str, key_columns: tuple[tuple[str, str], ...]
    ) -> tuple[int, list[int]]:
        """Return the position of a read, and the columns that it takes; both may be new."""
        mapped = dict(key_columns)
        keys = tuple(self._input(mapped.get(k, k), dtype, role) for k, dtype in view.keys)
        return self._reads.setdefault((role, view.name, keys), (len(self._reads), []))

    def compute(self, selection: ServingSelection, *, full_feature_names: bool) -> None:
        """Add the features of one on-demand view."""
        view = self._catalog.on_demand[selection.view]
        names = selection.features
        for name, dtype in view.keys:
            self._input(name, dtype, view.name)
        self._order += self._computing.add(view, names, full_feature_names=full_feature_names)

    def _looked_up(self, given: ServingInput) -> int:
        """Return the position of an input among the outputs; it is added unless it is there."""
        view = self._catalog.view(given.view or "")
        read, wanted = self._read(view, given.alias or view.name, given.key_columns)
        position = [column for column, _ in view.columns].index(given.name)
        if position not in wanted:
            empty = view.empty[position] if view.empty else None
            output = Output(
                name=given.name, dtype=given.dtype, read=read, column=len(wanted), empty=empty
            )
            wanted.append(position)
            self._outputs.append(output)
            return len(self._outputs) - 1
        column = wanted.index(position)
        return next(n for n, o in enumerate(self._outputs) if (o.read, o.column) == (read, column))

    def _input(self, name: str, dtype: str, role: str) -> int:
        """Return the position of a request's column as a key of this type."""
        for (known, other), first_role in self._inputs.items():
            if known == name and comparable(other) != comparable(dtype):
                raise RequestError(
                    f"Column {shown(name)} is a key of type {other} in {first_role!r} and of type"
                    f" {dtype} in {role!r}.",
                    hint="give one of them another column with with_join_key_map()",
                )
        self._inputs.setdefault((name, dtype), role)
        return list(self._inputs).index((name, dtype))

    def plan(self) -> LookupPlan:
        """Return what was added as a plan."""
        if not self._order:
            raise RequestError("No feature is asked for.", hint="name a service or 'view:feature'")
        asked = [output.name for output in self._outputs]
        on_demand = self._computing.plan(self._looked_up, self._inputs, self._order)
        columns = dict(reversed(self._inputs))
        columns = {name: columns[name] for name, _ in self._inputs}
        roles = [role for role, _, _ in self._reads]
        brought = dict.fromkeys(columns)
        if on_demand is not None:
            roles += on_demand.view_names
            brought |= dict.fromkeys(name for name, _ in on_demand.fields)
            asked += on_demand.names
        _check_roles(roles)
        _check_names([*brought], asked)
        return LookupPlan(
            columns=tuple(columns.items()),
            inputs=tuple(self._inputs),
            reads=tuple(self._finished_reads()),
            outputs=tuple(self._outputs),
            on_demand=on_demand,
        )

    def _finished_reads(self) -> Iterator[Read]:
        for (role, name, keys), (_, wanted) in self._reads.items():
            view = self._catalog.view(name)
            yield Read(
                role=role,
                table=view.table,
                ttl_us=view.ttl_us,
                keys=keys,
                layout=tuple(dtype for _, dtype in view.columns),
                wanted=tuple(wanted),
            )


def _check_roles(roles: Sequence[str]) -> None:
    if (pair := duplicate_name(roles)) is None:
        return
    raise NameCollisionError(
        f"Two views, or two choices of join keys, would go by the name {shown(pair[0])}.",
        names=pair,
        hint="give one of them a name of its own with with_name()",
    )


def _check_names(columns: Sequence[str], features: Sequence[str]) -> None:
    if (pair := duplicate_name([*columns, *features])) is None:
        return
    raise NameCollisionError(
        f"Two columns of the reply would be called {shown(pair[0])}"
        + (f" and {shown(pair[1])}, which differ only by case." if pair[0] != pair[1] else "."),
        names=pair,
        hint="ask with full_feature_names=True, or give a role its own name with with_name()",
    )


def _read_view(data: Mapping[str, Any]) -> ServingView:
    return ServingView(
        name=data["name"],
        table=TableId(**data["table"]),
        ttl_us=data["ttl_us"],
        keys=_pairs(data["keys"]),
        columns=_pairs(data["columns"]),
        empty=tuple(data["empty"]),
    )


def _read_service(data: Mapping[str, Any]) -> ServingService:
    selections = tuple(
        ServingSelection(
            view=s["view"],
            alias=s["alias"],
            features=None if s["features"] is None else tuple(s["features"]),
            key_columns=_pairs(s["key_columns"]),
        )
        for s in data["selections"]
    )
    return ServingService(name=data["name"], selections=selections)


def _pairs(data: Iterable[Sequence[str]]) -> Columns:
    return tuple((first, second) for first, second in data)

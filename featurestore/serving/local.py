"""Lookups in this process, prepared once and followed up when the registry changes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from time import monotonic_ns
from typing import Any, Final, Protocol

from featurestore.definitions import (
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    OnDemandFeatureView,
    OnDemandSelection,
)
from featurestore.errors import EntityValueError, RequestError
from featurestore.functions import FunctionLoader
from featurestore.online.store import OnlineStore
from featurestore.registry.generations import LiveState
from featurestore.serving.background import Background
from featurestore.serving.catalog import catalog_from_live, serving_selection, serving_service
from featurestore.serving.lookup import Lookup
from featurestore.serving.on_demand import OnDemandLookup, open_lookup
from featurestore.serving.plan import ServingSelection, ServingService
from featurestore.serving.response import OnlineResponse
from featurestore.time import Clock

Selectable = FeatureView | FeatureViewSelection | OnDemandFeatureView | OnDemandSelection
Features = str | FeatureService | Sequence[str | Selectable]
EntityRows = Sequence[Mapping[str, Any]] | Mapping[str, Sequence[Any]]

CACHED_PLANS: Final = 256
"""Lookups kept at hand for `get_online_features`: of so many choices of features."""
FOLLOW_NS: Final = 10_000_000
"""How long what others apply may go unnoticed: 10 ms."""
FEW_ENTITIES: Final = 100
"""So many are looked up on an event loop's own thread if the store is in this process."""

Asked = str | ServingService | tuple[str | ServingSelection, ...]


class Registry(Protocol):
    """What lookups need of a registry."""

    @property
    def commits(self) -> int:
        """How many times this object changed what lookups mean."""
        ...

    def stamp(self) -> object:
        """Return what differs after every commit; None when that cannot be told."""
        ...

    def version(self, project: str) -> object:
        """Return what is equal as long as the same is registered and served."""
        ...

    def live(self, project: str) -> LiveState:
        """Return what is registered, with the generations that are alive."""
        ...


class Parts(Protocol):
    """What lookups need of a `FeatureStore`. Its parts may be replaced between two calls."""

    clock: Clock

    @property
    def project(self) -> str:
        """The project's name."""
        ...

    @property
    def registry(self) -> Registry:
        """Where definitions are."""
        ...

    @property
    def online_store(self) -> OnlineStore:
        """Where rows are."""
        ...

    @property
    def functions(self) -> FunctionLoader:
        """What loads Python functions."""
        ...


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What the registry serves as it was at some moment.

    Attributes:
        commits: The registry's, from before it was read.
        stamp: The same.
        version: The project's, from before it was read.
        store: Where rows are.
        clock: Decides what is expired.
        open: Returns the lookup of (what is asked for, full feature names), made once.
        until_ns: Until when nobody need ask whether the registry changed, in monotonic time.
    """

    commits: int
    stamp: object
    version: object
    store: OnlineStore
    clock: Clock
    open: Callable[[Asked, bool], Lookup | OnDemandLookup]
    until_ns: int

    def is_of(self, parts: Parts) -> bool:
        """Whether the parts are still those that this was made from."""
        return (
            self.store is parts.online_store
            and self.clock is parts.clock
            and self.commits == parts.registry.commits
        )


class LocalLookups:
    """The lookups of one project in this process. Safe to use from several threads.

    Plans are kept as long as the registry holds what they were made from. A call goes by what was
    applied through this feature store before it, and by what others applied 10 ms before it: so
    often the registry is asked whether there is something new, which takes microseconds.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._known: _Prepared | None = None
        self._background = Background()

    def get(
        self, features: Features | Asked, entity_rows: EntityRows, *, full_feature_names: bool
    ) -> OnlineResponse:
        """Return the newest features of some entities; see `FeatureStore.get_online_features`."""
        lookup = self.open(as_asked(features), full_feature_names=full_feature_names)
        return _look_up(lookup, entity_rows)

    async def get_async(
        self, features: Features | Asked, entity_rows: EntityRows, *, full_feature_names: bool
    ) -> OnlineResponse:
        """Return the newest features of some entities without holding up the event loop."""
        asked = as_asked(features)
        if _entities(entity_rows) <= FEW_ENTITIES and (known := self._ready()) is not None:
            lookup = known.open(asked, full_feature_names)
            # Functions may do anything. Other lookups of few entities in this process's memory take
            # less time than a thread needs to be told of them.
            if isinstance(lookup, Lookup) and known.store.capabilities.in_process:
                return _look_up(lookup, entity_rows)
        return await self._background.run(
            lambda: self.get(asked, entity_rows, full_feature_names=full_feature_names)
        )

    def prepare(self, features: Features, *, full_feature_names: bool) -> "PreparedLookup":
        """Return a lookup to be called many times; see `FeatureStore.prepare_online`."""
        return PreparedLookup(self, as_asked(features), full_feature_names=full_feature_names)

    def open(self, asked: Asked, *, full_feature_names: bool) -> Lookup | OnDemandLookup:
        """Return the lookup of what is asked for, by what is registered now.

        Raises:
            NotFoundError: An unknown service, view or feature.
            RequestError: What is asked for cannot be used.
            FunctionLoadError: A Python function cannot be loaded.
            RegistryError: The registry changed, and cannot be read.
        """
        known = self._ready()
        if known is None:
            known = self._known = self._followed_up()
        return known.open(asked, full_feature_names)

    def close(self) -> None:
        """Let go of threads; they are started again when they are needed."""
        self._background.close()

    def _ready(self) -> _Prepared | None:
        """Return what is known if it is what the registry serves now."""
        known, now_ns = self._known, monotonic_ns()
        if known is None or not known.is_of(self._parts):
            return None
        if now_ns < known.until_ns:
            return known
        stamp = self._parts.registry.stamp()
        if stamp is None or stamp != known.stamp:
            return None
        self._known = replace(known, until_ns=now_ns + FOLLOW_NS)
        return self._known

    def _followed_up(self) -> _Prepared:
        """Return what the registry serves now, which may be what is known already."""
        parts, known = self._parts, self._known
        # In this order: what is written meanwhile differs from them next time.
        until_ns = monotonic_ns() + FOLLOW_NS
        commits, stamp = parts.registry.commits, parts.registry.stamp()
        version = parts.registry.version(parts.project)
        if known is not None and known.is_of(parts) and known.version == version:
            return replace(known, stamp=stamp, until_ns=until_ns)
        catalog = catalog_from_live(parts.registry.live(parts.project), clock=parts.clock)
        store, clock, functions = parts.online_store, parts.clock, parts.functions

        @lru_cache(maxsize=CACHED_PLANS)
        def opened(asked: Asked, full_feature_names: bool) -> Lookup | OnDemandLookup:  # noqa: FBT001 - a cache's key
            features = list(asked) if isinstance(asked, tuple) else asked
            plan = catalog.prepare(features, full_feature_names=full_feature_names)
            return open_lookup(store, plan, clock, functions=functions)

        return _Prepared(commits, stamp, version, store, clock, opened, until_ns)


class PreparedLookup:
    """A choice of features, ready to be looked up. Safe to use from several threads.

    `FeatureStore.prepare_online` makes one. It lives as long as its feature store, and follows the
    registry: what was applied before a call is what the call answers by, and what another process
    applied 10 ms before it.
    """

    def __init__(self, lookups: LocalLookups, asked: Asked, *, full_feature_names: bool) -> None:
        self._lookups = lookups
        self._asked = asked
        self._full_feature_names = full_feature_names
        self._open()  # what cannot be looked up is said here, and the first call finds it prepared

    def __repr__(self) -> str:
        columns = ", ".join(f"{name}: {dtype}" for name, dtype in self.request_columns.items())
        return f"<PreparedLookup by {columns or 'nothing'}>"

    @property
    def request_columns(self) -> Mapping[str, str]:
        """What a call has to bring: join keys, then request fields, with their types."""
        return dict(self._open().request_columns)

    def get(self, entity_rows: EntityRows) -> OnlineResponse:
        """Return the newest features of some entities.

        Arguments, result and errors are those of `FeatureStore.get_online_features`.
        """
        return _look_up(self._open(), entity_rows)

    async def get_async(self, entity_rows: EntityRows) -> OnlineResponse:
        """Return the same without holding up the event loop.

        Arguments, result and errors are those of `FeatureStore.get_online_features_async`.
        """
        return await self._lookups.get_async(
            self._asked, entity_rows, full_feature_names=self._full_feature_names
        )

    def _open(self) -> Lookup | OnDemandLookup:
        return self._lookups.open(self._asked, full_feature_names=self._full_feature_names)


def _look_up(lookup: Lookup | OnDemandLookup, entity_rows: EntityRows) -> OnlineResponse:
    """Return the newest features of some entities; see `FeatureStore.get_online_features`."""
    count = None if isinstance(entity_rows, Mapping) else len(entity_rows)
    return OnlineResponse(lookup.run(to_columns(entity_rows), count=count))


def _entities(entity_rows: EntityRows) -> int:
    """Return about how many entities there are; what is wrong with them is said elsewhere."""
    if isinstance(entity_rows, Mapping):
        return max((len(c) for c in entity_rows.values() if hasattr(c, "__len__")), default=0)
    return len(entity_rows)


def as_asked(features: Features | Asked) -> Asked:
    """Return what is asked for as plain data that can be compared.

    Raises:
        RequestError: Something in it is no feature.
    """
    if isinstance(features, str | ServingService):
        return features
    if isinstance(features, FeatureService):
        return serving_service(features)
    return tuple(map(_item, features))


def _item(item: str | Selectable | ServingSelection) -> str | ServingSelection:
    if isinstance(item, str | ServingSelection):
        return item
    if not isinstance(item, Selectable):
        raise RequestError(f"A feature cannot be asked for by a {type(item).__name__}.")
    whole = FeatureView | OnDemandFeatureView
    return serving_selection(item.select() if isinstance(item, whole) else item)


def to_columns(entity_rows: EntityRows) -> dict[str, Sequence[Any]]:
    """Return rows as columns; a dict of columns is taken as it is.

    Raises:
        EntityValueError: Rows do not all have the same fields; it names the field and the row.
        RequestError: There is no row.
    """
    if isinstance(entity_rows, Mapping):
        return dict(entity_rows)
    rows = list(entity_rows)
    if not rows:
        raise RequestError("The request holds no entity.", hint="pass at least one row")
    names = list(rows[0])
    for number, row in enumerate(rows):
        if row.keys() != rows[0].keys():
            field = str(next(iter(row.keys() ^ rows[0].keys())))
            raise EntityValueError(
                f"Row {number} and row 0 do not have the same fields: {field!r} is in one of them.",
                field=field,
                row=number,
            )
    return {name: [row[name] for row in rows] for name in names}

"""Two clients change, plan and apply at random; the registry is what a simple model says."""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
)
from featurestore.errors import RegistryConflictError
from featurestore.registry import Plan, make_plan
from featurestore.registry.sql import SqlRegistry
from featurestore.types import parse_type

NOW = datetime(2026, 1, 5, tzinfo=UTC)
T = TypeVar("T")


@dataclass(frozen=True)
class EntitySpec:
    key_type: str
    text: str


@dataclass(frozen=True)
class SourceSpec:
    path: str
    lateness_h: int
    text: str


@dataclass(frozen=True)
class ViewSpec:
    entity: str
    source: str
    features: tuple[str, ...]
    ttl_h: int | None
    text: str


@dataclass(frozen=True)
class ServiceSpec:
    views: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Repo:
    """What one client has written down, or what the model says is registered."""

    entities: Mapping[str, EntitySpec] = field(default_factory=dict)
    sources: Mapping[str, SourceSpec] = field(default_factory=dict)
    views: Mapping[str, ViewSpec] = field(default_factory=dict)
    services: Mapping[str, ServiceSpec] = field(default_factory=dict)

    def meaning(self, view: str) -> tuple[object, ...]:
        """What decides the values of a view, said independently of the product."""
        spec = self.views[view]
        key = (f"{spec.entity[0]}_id", self.entities[spec.entity].key_type)
        return key, self.sources[spec.source].path, spec.features, spec.ttl_h

    def part(self, views: Iterable[str], services: Iterable[str]) -> "Repo":
        """The views and services named, with all that they use."""
        services = {name: self.services[name] for name in services}
        names = {*views, *(v for spec in services.values() for v in spec.views)}
        chosen = {name: self.views[name] for name in sorted(names)}
        return Repo(
            {spec.entity: self.entities[spec.entity] for spec in chosen.values()},
            {spec.source: self.sources[spec.source] for spec in chosen.values()},
            chosen,
            services,
        )

    def under(self, other: "Repo") -> "Repo":
        """This one with another laid over it."""
        return Repo(
            {**self.entities, **other.entities},
            {**self.sources, **other.sources},
            {**self.views, **other.views},
            {**self.services, **other.services},
        )

    def definitions(self) -> list[Definition]:
        entities = {
            name: Entity(
                name=name,
                join_keys={f"{name[0]}_id": parse_type(spec.key_type)},
                description=spec.text,
            )
            for name, spec in self.entities.items()
        }
        sources = {
            name: FileSource(
                name=name,
                path=spec.path,
                timestamp_field="at",
                lateness=timedelta(hours=spec.lateness_h),
                description=spec.text,
            )
            for name, spec in self.sources.items()
        }
        views = {
            name: FeatureView(
                name=name,
                entities=[entities[spec.entity]],
                source=sources[spec.source],
                schema=[Field(name=f, dtype=parse_type("int64")) for f in spec.features],
                ttl=None if spec.ttl_h is None else timedelta(hours=spec.ttl_h),
                description=spec.text,
            )
            for name, spec in self.views.items()
        }
        services = [
            FeatureService(
                name=name, features=[views[v] for v in spec.views], description=spec.text
            )
            for name, spec in self.services.items()
        ]
        return [*entities.values(), *sources.values(), *views.values(), *services]


def expected_changes(before: Repo, after: Repo) -> set[tuple[str, str, str]]:
    found = set()
    for kind in ("entities", "sources", "views", "services"):
        old, new = getattr(before, kind), getattr(after, kind)
        found |= {("create", kind, name) for name in new.keys() - old.keys()}
        found |= {("delete", kind, name) for name in old.keys() - new.keys()}
        found |= {("update", kind, n) for n in new.keys() & old.keys() if old[n] != new[n]}
    for view in before.views.keys() & after.views.keys():
        if before.meaning(view) != after.meaning(view):
            found.add(("update", "views", view))
    return found


PLURALS = {
    "entity": "entities",
    "source": "sources",
    "feature view": "views",
    "feature service": "services",
}


@dataclass
class Client:
    registry: SqlRegistry
    repo: Repo = field(default_factory=Repo)
    plan: Plan | None = None
    wanted: Repo = field(default_factory=Repo)
    again: Callable[[], Plan] | None = None
    """Makes the same plan from a new snapshot."""


CLIENTS = st.integers(0, 1)
THEN = st.sampled_from(["apply", "apply", "plan", "wait"])
TEXTS = st.sampled_from(["", "a", 'it\'s "quoted"; --', "é\U0001f4a3\u2028"])
# alice and anna have keys of the same name: swapping them need not change a view's meaning.
ENTITIES = st.sampled_from(["alice", "anna", "bob"])
SOURCES = st.sampled_from(["s1", "s2"])
VIEWS = st.sampled_from(["v1", "v2", "v3"])
SERVICES = st.sampled_from(["f1", "f2"])
KINDS = st.sampled_from(sorted(PLURALS.values()))
FEATURES = st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, unique=True).map(tuple)
TTLS = st.sampled_from([None, 1, 24])
VIEW_SPECS = st.builds(ViewSpec, ENTITIES, SOURCES, FEATURES, TTLS, TEXTS)
VIEW_LISTS = st.lists(VIEWS, min_size=1, max_size=3, unique=True).map(tuple)
SERVICE_SPECS = st.builds(ServiceSpec, VIEW_LISTS, TEXTS)
ATTRIBUTES: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "entities": {"key_type": st.sampled_from(["int64", "string"]), "text": TEXTS},
    "sources": {"path": st.sampled_from(["a", "b"]), "lateness_h": st.integers(0, 1)},
    "views": {
        "entity": ENTITIES,
        "source": SOURCES,
        "features": FEATURES,
        "ttl_h": TTLS,
        "text": TEXTS,
    },
    "services": {"views": VIEW_LISTS, "text": TEXTS},
}
START = Repo(
    {"alice": EntitySpec("int64", ""), "anna": EntitySpec("int64", "")},
    {"s1": SourceSpec("a", 0, ""), "s2": SourceSpec("b", 0, "")},
    {
        "v1": ViewSpec("alice", "s1", ("x", "y"), None, ""),
        "v2": ViewSpec("alice", "s2", ("x",), 24, ""),
    },
    {"f1": ServiceSpec(("v1",), "")},
)


def without(known: Mapping[str, T], *names: str) -> dict[str, T]:
    return {name: value for name, value in known.items() if name not in names}


class RegistryMachine(RuleBasedStateMachine):
    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name) / "registry.db"
        self.clients = [Client(SqlRegistry(path), START), Client(SqlRegistry(path), START)]
        self.model = Repo()
        self.generations: dict[str, int] = {}
        self.revision = self.logged = 0
        self._write(0, START, "apply")

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    # --- what clients write down, and whether they plan or apply it at once ---

    def _write(self, client: int, repo: Repo, then: str) -> None:
        self.clients[client].repo = _completed(repo)
        if then != "wait":
            self.plan_everything(client=client)
        if then == "apply":
            self.apply(client=client)

    @rule(client=CLIENTS)
    def pull(self, client: int) -> None:
        self.clients[client].repo = self.model

    @rule(client=CLIENTS, data=st.data(), then=THEN)
    def change_entity(self, *, client: int, data: st.DataObject, then: str) -> None:
        self._change("entities", client, data, then)

    @rule(client=CLIENTS, data=st.data(), then=THEN)
    def change_source(self, *, client: int, data: st.DataObject, then: str) -> None:
        self._change("sources", client, data, then)

    @rule(client=CLIENTS, data=st.data(), then=THEN)
    def change_view(self, *, client: int, data: st.DataObject, then: str) -> None:
        self._change("views", client, data, then)

    @rule(client=CLIENTS, data=st.data(), then=THEN)
    def change_service(self, *, client: int, data: st.DataObject, then: str) -> None:
        self._change("services", client, data, then)

    def _change(self, kind: str, client: int, data: st.DataObject, then: str) -> None:
        """Give one attribute of one object another value."""
        repo = self.clients[client].repo
        if not (known := getattr(repo, kind)):
            return
        which = data.draw(st.sampled_from(sorted(known)))
        name = data.draw(st.sampled_from(sorted(ATTRIBUTES[kind])))
        now = getattr(known[which], name)
        value = data.draw(ATTRIBUTES[kind][name].filter(lambda v: v != now))
        changed = {**known, which: replace(known[which], **{name: value})}
        self._write(client, replace(repo, **{kind: changed}), then)

    @rule(client=CLIENTS, name=VIEWS, spec=VIEW_SPECS, then=THEN)
    def write_view(self, *, client: int, name: str, spec: ViewSpec, then: str) -> None:
        repo = self.clients[client].repo
        self._write(client, replace(repo, views={**repo.views, name: spec}), then)

    @rule(client=CLIENTS, name=SERVICES, spec=SERVICE_SPECS, then=THEN)
    def write_service(self, *, client: int, name: str, spec: ServiceSpec, then: str) -> None:
        repo = self.clients[client].repo
        self._write(client, replace(repo, services={**repo.services, name: spec}), then)

    @rule(client=CLIENTS, kind=KINDS, data=st.data(), then=THEN)
    def remove(self, *, client: int, kind: str, data: st.DataObject, then: str) -> None:
        """Remove an object, and what uses it."""
        repo = self.clients[client].repo
        if not (known := sorted(getattr(repo, kind))):
            return
        gone = data.draw(st.sampled_from(known))
        repo = replace(repo, **{kind: without(getattr(repo, kind), gone)})
        views = {
            name: spec
            for name, spec in repo.views.items()
            if spec.entity in repo.entities and spec.source in repo.sources
        }
        self._write(client, replace(repo, views=views), then)

    @rule(client=CLIENTS, old=VIEWS, new=VIEWS, then=THEN)
    def rename_view(self, *, client: int, old: str, new: str, then: str) -> None:
        repo = self.clients[client].repo
        if old in repo.views and new not in repo.views:
            views = {**without(repo.views, old), new: repo.views[old]}
            services = {
                name: replace(spec, views=tuple(new if v == old else v for v in spec.views))
                for name, spec in repo.services.items()
            }
            self._write(client, replace(repo, views=views, services=services), then)

    # --- what they plan and apply ---

    @rule(client=CLIENTS)
    def plan_everything(self, client: int) -> None:
        repo = self.clients[client].repo
        self._plan(self.clients[client], repo.definitions(), repo, full=True)

    @rule(client=CLIENTS, data=st.data())
    def plan_some(self, client: int, data: st.DataObject) -> None:
        repo = self.clients[client].repo
        views = data.draw(st.sets(st.sampled_from(sorted(repo.views)))) if repo.views else set()
        services = (
            data.draw(st.sets(st.sampled_from(sorted(repo.services)))) if repo.services else set()
        )
        part = repo.part(views, services)
        listed = [d for d in part.definitions() if d.name in views | services]
        self._plan(self.clients[client], listed, self.model.under(part), full=False)

    def _plan(self, client: Client, desired: list[Definition], wanted: Repo, *, full: bool) -> None:
        def again() -> Plan:
            return make_plan(desired, client.registry.snapshot("shop"), full=full)

        client.again, client.plan, client.wanted = again, again(), wanted
        assert client.plan.base_revision == self.revision
        found = {(c.action, PLURALS[c.kind], c.name) for c in client.plan.changes}
        assert found == expected_changes(self.model, wanted)
        assert len(found) == len(client.plan.changes)

    @rule(client=CLIENTS)
    def apply(self, client: int) -> None:
        me = self.clients[client]
        plan, me.plan = me.plan, None
        if plan is None:
            return
        if plan.base_revision != self.revision:
            with pytest.raises(RegistryConflictError):
                me.registry.commit(plan, actor=str(client), now=NOW)
        else:
            me.registry.commit(plan, actor=str(client), now=NOW)
            self._applied(plan, me.wanted)
            assert me.again is not None
            assert me.again().is_empty
        self._check(client)

    def _applied(self, plan: Plan, wanted: Repo) -> None:
        for view in wanted.views:
            known = view in self.model.views
            if not known or wanted.meaning(view) != self.model.meaning(view):
                self.generations[view] = self.generations.get(view, 0) + 1
        self.model = wanted
        self.revision += not plan.is_empty
        self.logged += len(plan.changes)

    @precondition(lambda self: self.revision > 0)
    @rule(client=CLIENTS)
    def read(self, client: int) -> None:
        self._check(client)

    def _check(self, client: int) -> None:
        registry = self.clients[client].registry
        state = registry.snapshot("shop")
        assert state.revision == self.revision
        assert _by_name(state.definitions) == _by_name(self.model.definitions())
        generations = {name: view.generation for name, view in state.views.items()}
        assert generations == {name: self.generations[name] for name in self.model.views}
        assert make_plan(state.definitions, state, full=True).is_empty
        assert len(registry.history("shop", limit=10_000)) == self.logged


def _completed(repo: Repo) -> Repo:
    """Add the entities and sources that views lack, and take from services the views that are not.

    A service that is left with none goes too.
    """
    views = repo.views.values()
    services = {
        name: replace(spec, views=tuple(view for view in spec.views if view in repo.views))
        for name, spec in repo.services.items()
    }
    return Repo(
        {**{view.entity: EntitySpec("int64", "") for view in views}, **repo.entities},
        {**{view.source: SourceSpec("a", 0, "") for view in views}, **repo.sources},
        repo.views,
        {name: spec for name, spec in services.items() if spec.views},
    )


def _by_name(definitions: Iterable[Definition]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(d.kind, d.name): d.to_document() for d in definitions}


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(max_examples=max(20, settings().max_examples // 4))

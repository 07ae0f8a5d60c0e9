"""Lookups in this process: prepared once, and never by definitions that are gone."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from featurestore.definitions import FeatureService, OnDemandFeatureView, RequestSource
from featurestore.definitions import Field as FeatureField
from featurestore.errors import EntityValueError, NotFoundError, RequestError
from featurestore.functions import FunctionLoader
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.store import ReadRequest
from featurestore.registry.generations import LiveState
from featurestore.registry.sql import SqlRegistry
from featurestore.serving.local import FEW_ENTITIES, FOLLOW_NS, LocalLookups
from featurestore.store import FeatureStore
from featurestore.time import Clock, parse_clock
from featurestore.types import Float64
from tests.forks import run_python
from tests.unit.projects import FILE, QUICK, project, rows, view, write

READING = view()
SERVICE = FeatureService(name="both", features=[READING])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / FILE, rows(3, y=[10.0, 20.0, 30.0]))
    return tmp_path


@pytest.fixture
def store(root: Path) -> Iterator[FeatureStore]:
    with project(root, online_store="lmdb", **QUICK) as opened:
        opened.apply([READING, SERVICE])
        opened.materialize()
        yield opened


def test_a_prepared_lookup_answers_as_the_store_does(store: FeatureStore) -> None:
    for asked in ("both", SERVICE, ["reading:x"], [READING], [READING[["x"]]]):
        for full in (False, True):
            prepared = store.prepare_online(asked, full_feature_names=full)
            for given in ({"k": [3, 9, 1]}, [{"k": 3}, {"k": 9}, {"k": 1}]):
                expected = store.get_online_features(asked, given, full_feature_names=full)
                found = prepared.get(given)
                assert found.to_dict(include_statuses=True) == expected.to_dict(
                    include_statuses=True
                )
    assert store.prepare_online("both").get({"k": [3]}).to_dict() == {"k": [3], "x": [3.0]}


def test_it_says_what_a_call_has_to_bring(store: FeatureStore) -> None:
    request = RequestSource(name="request", schema=[FeatureField(name="factor", dtype=Float64)])
    scaled = OnDemandFeatureView(
        name="scaled", sources=[READING, request], features={"scaled_x": "x * factor"}
    )
    store.apply([request, scaled])
    prepared = store.prepare_online([scaled])
    assert prepared.request_columns == {"k": "int64", "factor": "float64"}
    assert "k: int64, factor: float64" in repr(prepared)
    assert prepared.get({"k": [2], "factor": [1.5]}).to_dict()["scaled_x"] == [3.0]
    assert store.prepare_online("both").request_columns == {"k": "int64"}


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ("bot", NotFoundError),
        (["reading:z"], NotFoundError),
        ([1], RequestError),
        ([], RequestError),
    ],
)
def test_what_is_wrong_with_the_features_is_said_when_they_are_prepared(
    store: FeatureStore, asked: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.prepare_online(asked)


def test_what_is_wrong_with_entities_is_said_at_the_call(store: FeatureStore) -> None:
    prepared = store.prepare_online("both")
    with pytest.raises(EntityValueError, match="missing"):
        prepared.get({})
    with pytest.raises(RequestError, match="no entity"):
        prepared.get([])


# --- the registry changes --------------------------------------------------------------------


def with_another_feature() -> list[Any]:
    """Return the definitions of the project, with a feature more."""
    wider = view(features={"x": Float64, "y": Float64})
    return [wider, FeatureService(name="both", features=[wider])]


def test_what_was_applied_before_a_call_is_what_it_answers_by(store: FeatureStore) -> None:
    prepared = store.prepare_online("both")
    assert prepared.get({"k": [2]}).to_dict() == {"k": [2], "x": [2.0]}
    store.apply(with_another_feature())
    assert prepared.get({"k": [2]}).to_dict() == {"k": [2], "x": [2.0]}, "y is not complete"
    store.materialize()
    assert prepared.get({"k": [2]}).to_dict() == {"k": [2], "x": [2.0], "y": [20.0]}
    assert store.get_online_features("both", {"k": [2]}).feature_names == ("x", "y")


def test_an_apply_of_another_process_is_followed_too(store: FeatureStore, root: Path) -> None:
    prepared = store.prepare_online("both")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tests.unit.projects import QUICK, project\n"
        "from tests.unit.test_prepared_lookups import with_another_feature\n"
        "with project(Path(sys.argv[1]), online_store='lmdb', **QUICK) as store:\n"
        "    store.apply(with_another_feature())\n"
        "    store.materialize()\n"
    )
    assert run_python(code, root).returncode == 0
    time.sleep(FOLLOW_NS / 1e9)
    assert prepared.get({"k": [2]}).to_dict() == {"k": [2], "x": [2.0], "y": [20.0]}


def test_features_that_are_deleted_are_not_found_any_more(root: Path) -> None:
    with project(root, online_store="lmdb", **QUICK) as store:
        store.apply([READING])
        prepared = store.prepare_online(["reading:x"])
        for file in (root / "data").glob("registry.db*"):
            file.unlink()
        time.sleep(FOLLOW_NS / 1e9)
        with pytest.raises(NotFoundError):
            prepared.get({"k": [1]})
        with pytest.raises(NotFoundError):
            store.get_online_features(["reading:x"], {"k": [1]})


def test_a_clock_that_is_set_anew_counts_from_the_next_call_on(root: Path) -> None:
    with project(root, online_store="lmdb", clock="2024-01-01T00:00:00Z", **QUICK) as store:
        store.apply([view(ttl=timedelta(days=1))])
        store.materialize()
        prepared = store.prepare_online(["reading:x"])
        assert prepared.get({"k": [1]}).to_dict()["x"] == [1.0]
        store.clock = parse_clock("2024-01-02T00:00:01Z")
        assert prepared.get({"k": [1]}).to_dict()["x"] == [None]


def test_a_store_that_was_closed_is_opened_again(store: FeatureStore) -> None:
    prepared = store.prepare_online("both")
    store.close()
    assert prepared.get({"k": [2]}).to_dict() == {"k": [2], "x": [2.0]}


def test_threads_share_a_lookup_while_the_registry_changes(store: FeatureStore) -> None:
    """Every reply is wholly of one state: x alone, or x and y."""
    prepared = store.prepare_online("both")
    replies: list[dict[str, list[Any]]] = []
    failures: list[BaseException] = []
    is_over = threading.Event()

    def ask() -> None:
        try:
            while not is_over.is_set():
                replies.append(prepared.get({"k": [2]}).to_dict())
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    store.apply(with_another_feature())
    store.materialize()
    is_over.set()
    for thread in threads:
        thread.join(60)
    assert failures == []
    kinds: list[dict[str, list[Any]]] = [
        {"k": [2], "x": [2.0]},
        {"k": [2], "x": [2.0], "y": [20.0]},
    ]
    assert replies
    assert all(reply in kinds for reply in replies)
    assert prepared.get({"k": [2]}).to_dict() == kinds[-1]


# --- what it costs ---------------------------------------------------------------------------


@dataclass
class CountingRegistry:
    """A registry that counts how often it is read."""

    real: SqlRegistry
    reads: list[str] = field(default_factory=list)

    @property
    def commits(self) -> int:
        return self.real.commits

    def stamp(self) -> object:
        return self.real.stamp()

    def version(self, project: str) -> object:
        self.reads.append("version")
        return self.real.version(project)

    def live(self, project: str) -> LiveState:
        self.reads.append("live")
        return self.real.live(project)


@dataclass
class PlainParts:
    project: str
    registry: CountingRegistry
    online_store: MemoryOnlineStore = field(default_factory=MemoryOnlineStore)
    clock: Clock = field(default_factory=Clock)
    functions: FunctionLoader = field(default_factory=lambda: FunctionLoader([]))


def test_the_registry_is_read_when_it_changed_and_not_otherwise(store: FeatureStore) -> None:
    registry = CountingRegistry(store.registry)
    lookups = LocalLookups(PlainParts("plant", registry))

    def ask() -> list[str]:
        time.sleep(FOLLOW_NS / 1e9)
        registry.reads.clear()
        for asked in ("both", ["reading:x"]):
            lookups.get(asked, {"k": [1]}, full_feature_names=False)
        return registry.reads

    assert ask() == ["version", "live"]
    assert ask() == []
    store.materialize()  # writes to the ledger, which no lookup reads
    assert ask() == ["version"]
    assert ask() == []
    store.apply(with_another_feature())
    assert ask() == ["version", "live"]
    store.materialize()  # lookups switch to the new generation
    assert ask() == ["version", "live"]


def test_a_lookup_is_made_once(store: FeatureStore) -> None:
    lookups = LocalLookups(store)
    made = {lookups.open("both", full_feature_names=full) for full in (True, False, True, False)}
    assert len(made) == 2


# --- event loops -----------------------------------------------------------------------------


class GatedStore(MemoryOnlineStore):
    """A store somewhere else, which answers when it is let."""

    capabilities = replace(MemoryOnlineStore.capabilities, in_process=False)

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> list[list[bytes | None]]:
        self.threads.add(threading.get_ident())
        self.asked.set()
        assert self.may_answer.wait(60)
        return super().read(requests, until=until)


@pytest.fixture
def gated(root: Path) -> Iterator[tuple[FeatureStore, GatedStore]]:
    online = GatedStore()
    with project(root, **QUICK) as store:
        store.__dict__["online_store"] = online
        store.apply([READING, SERVICE])
        store.materialize()
        yield store, online
        online.may_answer.set()


def test_an_event_loop_goes_on_while_a_store_does_not_answer(
    gated: tuple[FeatureStore, GatedStore],
) -> None:
    store, online = gated
    prepared = store.prepare_online("both")

    async def lookups() -> list[dict[str, list[Any]]]:
        asked = [
            asyncio.ensure_future(call)
            for call in (
                prepared.get_async({"k": [2]}),
                store.get_online_features_async(["reading:x"], [{"k": 3}]),
            )
        ]
        # Were the loop held up, it would not get here.
        assert await asyncio.to_thread(online.asked.wait, 60)
        assert not any(call.done() for call in asked)
        online.may_answer.set()
        return [reply.to_dict() for reply in await asyncio.gather(*asked)]

    assert asyncio.run(lookups()) == [{"k": [2], "x": [2.0]}, {"k": [3], "x": [3.0]}]
    assert threading.get_ident() not in online.threads


def test_a_lookup_that_was_given_up_leaves_the_loop_usable(
    gated: tuple[FeatureStore, GatedStore],
) -> None:
    store, online = gated
    prepared = store.prepare_online("both")

    async def lookups() -> dict[str, list[Any]]:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(prepared.get_async({"k": [1]}), timeout=0.05)
        online.may_answer.set()
        return (await prepared.get_async({"k": [2]})).to_dict()

    assert asyncio.run(lookups()) == {"k": [2], "x": [2.0]}


def test_an_event_loop_gets_the_same_answers_and_errors(store: FeatureStore) -> None:
    prepared = store.prepare_online("both", full_feature_names=True)

    async def same(given: Any) -> bool:
        reply = await prepared.get_async(given)
        return reply.to_dict(include_statuses=True) == prepared.get(given).to_dict(
            include_statuses=True
        )

    many = {"k": list(range(FEW_ENTITIES + 1))}
    for given in ({"k": [1, 9]}, [{"k": 2}], many):
        assert asyncio.run(same(given))
    for wrong, error in (({}, EntityValueError), ([], RequestError), ({"k": 1}, EntityValueError)):
        with pytest.raises(error):
            asyncio.run(same(wrong))
    store.apply(with_another_feature())
    assert asyncio.run(same({"k": [1]}))


def test_many_lookups_of_one_loop_are_answered_each_by_its_own(store: FeatureStore) -> None:
    async def lookups() -> list[list[Any]]:
        calls = [
            store.get_online_features_async("both", {"k": [k] * times})
            for k in (1, 2, 3)
            for times in (1, FEW_ENTITIES + k)
        ]
        return [reply.to_dict()["x"] for reply in await asyncio.gather(*calls)]

    assert asyncio.run(lookups()) == [
        [float(k)] * times for k in (1, 2, 3) for times in (1, FEW_ENTITIES + k)
    ]


def test_a_forked_process_has_threads_of_its_own(store: FeatureStore) -> None:
    many = {"k": [2] * (FEW_ENTITIES + 1)}

    def x() -> list[Any]:
        return asyncio.run(store.get_online_features_async("both", many)).to_dict()["x"]

    assert set(x()) == {2.0}
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if set(x()) == {2.0} else 1
        finally:
            os._exit(code)  # whatever happened: an error would go on as a second pytest
    assert os.waitpid(child, 0)[1] == 0
    store.close()
    assert set(x()) == {2.0}

"""What applications push and delete reads back the same from every store, while time goes by."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.materialize.delete import delete_entity
from featurestore.materialize.push import Pusher
from featurestore.online.lmdb import LmdbOnlineStore
from featurestore.online.memory import MemoryOnlineStore
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.store import OnlineStore, TableId
from featurestore.registry.generations import LiveState
from featurestore.registry.state import RegisteredView, RegistryState
from featurestore.serving.catalog import serving_view
from featurestore.serving.lookup import Lookup
from featurestore.serving.plan import whole_view_plan
from featurestore.serving.response import OnlineResponse
from featurestore.testing.store_runner import MovableClock, micros
from featurestore.time import from_micros
from tests.unit.projects import view

Stores = dict[str, OnlineStore]

KEYS = (1, 2, 3)
MINUTE_US = 60_000_000
TTL_US = 60 * MINUTE_US
GRACE_US = 24 * TTL_US
START_US = 1_700_000_000_000_000
VIEW = RegisteredView(
    definition=view(ttl=timedelta(hours=1), reads={"created_timestamp_column": "c"}),
    generation=1,
    version=1,
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[Stores]:
    with ExitStack() as stack:
        made: Stores = {
            "memory": MemoryOnlineStore(),
            "lmdb": LmdbOnlineStore(tmp_path_factory.mktemp("online")),
            "redis": RedisOnlineStore(redis_url),
        }
        for store in made.values():
            stack.enter_context(closing(store))
        yield made


class Row(NamedTuple):
    """A row of the source: how long before now it took place and was written, in microseconds."""

    key: int
    age_us: int
    created_us: int | None
    value: float | None


ages = st.sampled_from([0, 1, -5 * MINUTE_US, MINUTE_US, TTL_US, TTL_US + 1]) | st.sampled_from(
    [TTL_US + GRACE_US - 10 * MINUTE_US, TTL_US + GRACE_US, 2 * GRACE_US]
)
rows = st.builds(
    Row,
    st.sampled_from(KEYS),
    ages,
    st.none() | st.integers(-3, 3),
    st.none() | st.integers(0, 9).map(float),
)
steps = st.one_of(
    st.tuples(st.just("push"), st.lists(rows, min_size=1, max_size=4), st.booleans()),
    st.tuples(st.just("delete"), st.sampled_from(KEYS)),
    st.tuples(st.just("wait"), st.sampled_from([1, MINUTE_US, TTL_US, TTL_US + 1, GRACE_US])),
    st.just(("read",)),
)
programs = st.lists(steps, min_size=1, max_size=12)


class Model:
    """The contract in a dict: key -> (event, created or -1), and a value, or no row at all."""

    def __init__(self) -> None:
        self.now_us = START_US
        self.held: dict[int, tuple[tuple[int, int], float | None, bool]] = {}

    def run(self, step: tuple[Any, ...]) -> object:
        if step[0] == "wait":
            self.now_us += step[1]
        elif step[0] == "delete":
            return self._put(step[1], (self.now_us, self.now_us), None, is_row=False)
        elif step[0] == "push":
            return self._push(step[1], with_created=step[2])
        else:
            return [self._read(key) for key in KEYS]
        return None

    def _push(self, pushed: list[Row], *, with_created: bool) -> tuple[int, int, int]:
        written = expired = 0
        for row in pushed:
            event = self.now_us - row.age_us
            if (event + TTL_US + GRACE_US - self.now_us) // 1_000 <= 0:
                expired += 1
                continue
            created = self.now_us if not with_created else -1
            if with_created and row.created_us is not None:
                created = START_US + row.created_us
            written += self._put(row.key, (event, created), row.value, is_row=True)
        return written, len(pushed) - written - expired, expired

    def _put(
        self, key: int, version: tuple[int, int], value: float | None, *, is_row: bool
    ) -> bool:
        if key in self.held and self.held[key][0] > version:
            return False
        self.held[key] = (version, value, is_row)
        return True

    def _read(self, key: int) -> tuple[str, float | None, int | None]:
        if key not in self.held or not self.held[key][2]:
            return "NOT_FOUND", None, None
        (event, _), value, _ = self.held[key]
        if self.now_us - event > TTL_US:
            return "OUTSIDE_MAX_AGE", None, event
        return "NULL_VALUE" if value is None else "PRESENT", value, event


class Application:
    """What an application does to one store."""

    def __init__(self, store: OnlineStore, project: str) -> None:
        self.store, self.project = store, project
        self.clock = MovableClock()
        self.clock.put(START_US)
        state = RegistryState(project=project, revision=1, views={"reading": VIEW})
        self.live = LiveState.settled(state)
        self.pusher = Pusher(
            project=project, store=store, clock=self.clock, root=Path(), live=self.live.view
        )

    def run(self, step: tuple[Any, ...]) -> object:
        now_us = self.clock.now_micros()
        if step[0] == "wait":
            self.clock.put(now_us + step[1])
        elif step[0] == "delete":
            report = delete_entity(
                lambda: self.live,
                {"k": step[1]},
                None,
                store=self.store,
                now_us=now_us,
                retention_us=0,
            )
            return report.kept == ()
        elif step[0] == "push":
            return self._push(step[1], now_us, with_created=step[2])
        else:
            return self._read()
        return None

    def _push(self, pushed: list[Row], now_us: int, *, with_created: bool) -> tuple[int, int, int]:
        columns: dict[str, list[Any]] = {
            "k": [row.key for row in pushed],
            "t": [from_micros(now_us - row.age_us) for row in pushed],
            "x": [row.value for row in pushed],
        }
        if with_created:
            columns["c"] = [
                None if row.created_us is None else from_micros(START_US + row.created_us)
                for row in pushed
            ]
        report = self.pusher.push("reading", columns)
        return report.written, report.kept, report.expired

    def _read(self) -> list[tuple[str, float | None, int | None]]:
        plan = whole_view_plan(serving_view(VIEW, self.project))
        response = OnlineResponse(Lookup(self.store, plan, self.clock).run({"k": list(KEYS)}))
        statuses = [status.name for status in response.statuses["x"]]
        events = [micros(at) for at in response.event_timestamps["reading"]]
        return list(zip(statuses, response.to_dict()["x"], events, strict=True))


@given(programs)
def test_every_store_reads_back_what_was_pushed_and_deleted(
    stores: Stores, program: list[tuple[Any, ...]]
) -> None:
    program = [*program, ("read",)]
    project = f"p{uuid.uuid4().hex}"
    model = Model()
    expected = [model.run(step) for step in program]
    for name, store in stores.items():
        application = Application(store, project)
        try:
            assert [application.run(step) for step in program] == expected, name
        finally:
            store.drop(TableId(project=project, view="reading", generation=1))

"""kill -9 anywhere, then go on: online at T is what training says of T all the same."""

import random
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from itertools import count, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurestore.definitions import Aggregation, Entity, FeatureView, Field, FileSource
from featurestore.materialize.failpoints import Failpoint
from featurestore.store import FeatureStore
from featurestore.testing.growth import BASE_US, Growth, check_law
from featurestore.testing.oracle_rows import instant
from featurestore.testing.oracle_runner import OracleRunner
from featurestore.testing.plain import PlainTable, Row
from featurestore.testing.scenario import Append, Materialize
from featurestore.types import Float64, Int64
from tests.depth import every_run
from tests.forks import in_a_process
from tests.property.dying import Death, DyingRunner, materialize
from tests.servers import redis_url
from tests.unit.projects import FILE, NOW, view, write
from tests.unit.projects import rows as plain_rows

__all__ = ["redis_url"]

STORES: dict[str, Callable[[pytest.FixtureRequest], dict[str, Any]]] = {
    "lmdb": lambda _: {"type": "lmdb"},
    "redis": lambda request: {"type": "redis", "url": request.getfixturevalue("redis_url")},
}
USER = Entity(name="user", join_keys={"id": Int64})
SOURCE = FileSource(
    name="events",
    path="data/events/*.parquet",
    timestamp_field="event",
    created_timestamp_column="created",
)
TIME = pa.timestamp("us", tz="UTC")
COLUMNS = {"id": Int64, "event": TIME, "score": Float64, "created": TIME}
KEYS = 6
SPAN_US = 40
VIEWS = {
    "latest": FeatureView(
        name="growing",
        entities=[USER],
        source=SOURCE,
        schema=[Field(name="score", dtype=Float64)],
        ttl=timedelta(microseconds=SPAN_US // 2),
    ),
    "windows": FeatureView(
        name="growing",
        entities=[USER],
        source=SOURCE,
        aggregations=[Aggregation("score", ["sum", "count", "last_2"], windows=["1h", None])],
    ),
}


# What a run does at a step depends on its store or on its kind, hardly on both together: the proof
# crosses all, every run has each step with one of them, and each store with every second step.
OFTEN = (("lmdb", "windows"), ("redis", "latest"))
STEPS = [
    pytest.param(point, store, kind, marks=every_run(when=(store, kind) == OFTEN[number % 2]))
    for number, point in enumerate(Failpoint)
    for store in STORES
    for kind in VIEWS
]
SWITCHES = [
    pytest.param(point, store, marks=every_run(when=number % 2 == turn))
    for number, point in enumerate(Failpoint)
    for turn, store in enumerate(reversed(STORES))
]


@pytest.fixture(params=STORES)
def online_store(request: pytest.FixtureRequest) -> dict[str, Any]:
    return STORES[request.param](request)


def rows(draw: random.Random, number: int) -> PlainTable:
    """Return the rows of a file: late ones and corrections too, each created after all before."""
    cells: list[Row] = [
        {
            "id": draw.randrange(KEYS),
            "event": instant(BASE_US + draw.randrange(SPAN_US)),
            "score": draw.choice([None, draw.randrange(1_000) / 8]),  # sums are exact
            "created": instant(BASE_US + 100 * number + n),
        }
        for n in range(draw.randint(3, 9))
    ]
    return PlainTable(COLUMNS, cells)


def growth(draw: random.Random, view: FeatureView) -> Growth:
    """Return a source that grows twice, and runs of all kinds in between."""
    steps: list[Append | Materialize] = []
    for number in (1, 2):
        steps.append(run(draw, view, BASE_US + draw.randint(1, SPAN_US)))
        table = rows(draw, number)
        steps.append(Append(source=SOURCE.name, file=f"{number}.parquet", rows=table))
    end_us = BASE_US + SPAN_US
    steps.append(Materialize(end_us=end_us, incremental=draw.random() < 0.8))
    keys = [(key,) for key in range(KEYS + 1)]
    return Growth(view=view, first=rows(draw, 0), steps=steps, end_us=end_us, keys=keys)


def run(draw: random.Random, view: FeatureView, end_us: int) -> Materialize:
    kind = draw.choice(["full", "incremental", "full" if view.aggregations else "range"])
    start_us = draw.randrange(BASE_US, end_us) if kind == "range" else None
    return Materialize(start_us=start_us, end_us=end_us, incremental=kind == "incremental")


def play(
    grown: Growth, folder: Path, online_store: dict[str, Any], deaths: Iterator[list[Death]]
) -> DyingRunner:
    """Play a growth with runs that die, compare with the oracle, and return who died."""
    settings = {"project": f"p{uuid.uuid4().hex}", "online_store": online_store}
    with closing(DyingRunner(folder, settings, deaths)) as runner:
        check_law(grown, runner, OracleRunner())
        report = runner.store.verify(sample=None)
        assert report.ok, report
        assert runner.store.registry.tasks(runner.store.project) == []
    return runner


@pytest.mark.parametrize(("point", "online_store", "kind"), STEPS, indirect=["online_store"])
def test_a_run_that_is_killed_at_a_step_is_resumed_as_if_nothing_had_happened(
    tmp_path: Path, online_store: dict[str, Any], point: Failpoint, kind: str
) -> None:
    grown = growth(random.Random(point), VIEWS[kind])  # noqa: S311
    late = next(step for step in grown.steps if isinstance(step, Append))
    steps: list[Append | Materialize] = [Materialize(end_us=grown.end_us), late, grown.steps[-1]]
    deaths = [Death(point=point)]
    runner = play(replace(grown, steps=steps), tmp_path, online_store, repeat(deaths))
    assert runner.killed == deaths * 2, "a failpoint was not hit"


@pytest.mark.parametrize(("point", "online_store"), SWITCHES, indirect=["online_store"])
def test_lookups_mean_one_thing_when_the_run_that_makes_them_switch_is_killed(
    tmp_path: Path, online_store: dict[str, Any], point: Failpoint
) -> None:
    write(tmp_path / FILE, plain_rows(3))
    settings = {"project": f"p{uuid.uuid4().hex}", "clock": NOW, "online_store": online_store}
    with FeatureStore(tmp_path, config={**settings, "registry": "registry.db"}) as store:
        store.apply([view()])
        store.materialize()
        store.delete_entity({"k": 2})
        store.apply([view(transform="SELECT x * x AS x FROM readings")])

        def looked_up() -> list[Any]:
            found = store.get_online_features(["reading:x"], {"k": [1, 2, 3]}).to_dict()["x"]
            return list(found)

        # The first hit is that of the generation which lookups read, the second that of the new.
        killed = in_a_process(materialize, tmp_path, settings, 1, Death(point=point, hit=2))
        assert killed == -signal.SIGKILL, "the failpoint was not hit"
        is_over = point is Failpoint.SWITCHED
        assert looked_up() == ([1.0, None, 9.0] if is_over else [1.0, None, 3.0])
        for number in (2, 3):
            assert in_a_process(materialize, tmp_path, settings, number, None) == 0
        assert looked_up() == [1.0, None, 9.0]
        assert store.verify().ok


def random_deaths(draw: random.Random) -> Iterator[list[Death]]:
    """Yield for each run up to four deaths, anywhere."""
    while True:
        yield [
            Death(after_ms=draw.uniform(0, 60))
            if draw.random() < 0.3
            else Death(hit=draw.randint(1, 12))
            for _ in range(draw.randint(1, 4))
        ]


PROOF = [pytest.param(1_000 * n, 25, marks=pytest.mark.proof) for n in range(1, 11)]


@pytest.mark.parametrize(("first_seed", "kills"), [(0, 3), *PROOF])
@pytest.mark.parametrize("kind", VIEWS)
def test_runs_that_are_killed_anywhere_end_where_the_oracle_does(
    tmp_path: Path, online_store: dict[str, Any], kind: str, first_seed: int, kills: int
) -> None:
    died = 0
    for seed in count(first_seed):
        draw = random.Random(f"{kind} {seed}")  # noqa: S311
        grown = growth(draw, VIEWS[kind])
        runner = play(grown, tmp_path / str(seed), online_store, random_deaths(draw))
        died += len(runner.killed)
        if died >= kills:
            break

"""Whatever is applied, materialized and rolled back: a lookup is of one meaning, the right one."""

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import mkdtemp

import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from featurestore.definitions import FeatureView
from featurestore.errors import RequestError
from featurestore.registry.sql import SqlRegistry
from featurestore.time import Clock
from tests.unit.projects import FILE, THEN, UTC_US, project, rows, view, write

BEGINNING = datetime(2026, 11, 27, tzinfo=UTC)
GRACE = timedelta(hours=24)
KEYS = 2
DEPTH = settings.default.max_examples if settings.default else 100


@dataclass
class Generation:
    """What the model knows of one: its factor, and the day up to which it was filled."""

    factor: int
    filled: int | None = None


@dataclass
class Model:
    """One view in a few lines."""

    newest: int = 1
    served: int = 1
    kept: int | None = None
    kept_until: datetime = BEGINNING
    held: bool = False
    of: dict[int, Generation] = field(default_factory=lambda: {1: Generation(1)})

    def apply(self, factor: int) -> None:
        if self.of[self.newest].factor == factor:
            return
        self.newest += 1
        self.of[self.newest] = Generation(factor)
        self.held = False
        if self.of[self.served].filled is None:
            self.served, self.kept = self.newest, None

    def alive(self, now: datetime) -> set[int]:
        kept = {self.kept} if self.kept is not None and now < self.kept_until else set()
        return {self.served, self.newest, *kept}

    def fill(self, day: int, now: datetime) -> None:
        for generation in self.alive(now):
            before = self.of[generation].filled
            self.of[generation].filled = day if before is None else max(before, day)
        new, old = self.of[self.newest].filled, self.of[self.served].filled
        is_complete = new is not None and (old is None or new >= old)
        if self.newest != self.served and not self.held and is_complete:
            self.kept, self.served = self.served, self.newest
            self.kept_until = now + GRACE

    def roll_back(self, now: datetime) -> bool:
        if self.kept is None or now >= self.kept_until:
            return False
        self.held = self.served == self.newest
        self.kept, self.served = self.served, self.kept
        self.kept_until = now + GRACE
        return True


class Generations(RuleBasedStateMachine):
    """Drives a store and the model side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(mkdtemp())
        self.day, self.now, self.model = 1, BEGINNING, Model()
        self._write()
        self.store = project(self.root)
        self._pass_time(timedelta())
        self.store.apply([self._view(1)])

    @staticmethod
    def _view(factor: int) -> FeatureView:
        return view(transform=f"SELECT x * {factor} AS x FROM readings")  # noqa: S608

    def _write(self) -> None:
        days = [day for day in range(1, self.day + 1) for _ in range(KEYS)]
        columns = rows(
            len(days),
            k=list(range(1, KEYS + 1)) * self.day,
            t=pa.array([THEN + timedelta(days=day) for day in days], UTC_US),
            x=[float(day) for day in days],
        )
        write(self.root / FILE, columns)

    def _pass_time(self, by: timedelta) -> None:
        self.now += by
        path = self.store.config.path(self.store.settings.registry.path)
        self.store.registry = SqlRegistry(path, wall_clock=Clock(self.now))

    @rule(factor=st.integers(1, 3))
    def apply(self, factor: int) -> None:
        self.store.apply([self._view(factor)])
        self.model.apply(factor)

    @rule()
    def grow(self) -> None:
        self.day += 1
        self._write()

    @rule(hours=st.sampled_from([1, 23, 24, 25]))
    def wait(self, hours: int) -> None:
        self._pass_time(timedelta(hours=hours))

    @rule(full=st.booleans(), back=st.integers(0, 2))
    def materialize(self, *, full: bool, back: int) -> None:
        day = max(1, self.day - back)
        end = THEN + timedelta(days=day)
        run = self.store.materialize if full else self.store.materialize_incremental
        reports = run(end=end)
        assert {r.generation for r in reports} == self.model.alive(self.now)
        before = self.model.served
        self.model.fill(day, self.now)
        assert any(r.switched for r in reports) == (self.model.served != before)

    @rule()
    def roll_back(self) -> None:
        if self.model.roll_back(self.now):
            assert self.store.rollback("reading").generation == self.model.served
        else:
            with pytest.raises(RequestError):
                self.store.rollback("reading")

    @invariant()
    def lookups_are_of_the_generation_that_is_served(self) -> None:
        served = self.model.of[self.model.served]
        expected = None if served.filled is None else float(served.factor * served.filled)
        found = self.store.get_online_features(["reading:x"], {"k": [1, KEYS]}).to_dict()["x"]
        assert found == [expected] * KEYS, (found, self.model)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)


TestGenerations = Generations.TestCase
Generations.TestCase.settings = settings(max_examples=max(5, DEPTH // 5), stateful_step_count=12)

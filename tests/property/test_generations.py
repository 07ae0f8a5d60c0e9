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
from featurestore.errors import RequestError, SourceError
from featurestore.registry.sql import SqlRegistry
from featurestore.time import Clock
from tests.unit.projects import FILE, THEN, UTC_US, project, rows, view, write

BEGINNING = datetime(2026, 11, 27, tzinfo=UTC)
GRACE = timedelta(hours=24)
KEYS = 2
DEPTH = settings.default.max_examples if settings.default else 100


@dataclass
class Generation:
    """What the model knows of one.

    Attributes:
        factor: What it multiplies with.
        filled: The day up to which full and incremental runs filled it.
        rows: Key -> (day of its row, what is multiplied); half days are pushed.
        is_deleted: Whether there is a tombstone of the last key.
    """

    factor: int
    filled: int | None = None
    rows: dict[int, tuple[float, float]] = field(default_factory=dict)
    is_deleted: bool = False

    @property
    def is_online(self) -> bool:
        return self.filled is not None or bool(self.rows) or self.is_deleted

    def offer(self, key: int, day: float, value: float) -> None:
        if key not in self.rows or day >= self.rows[key][0]:
            self.rows[key] = day, value

    def value(self, key: int) -> float | None:
        if key not in self.rows or (key == KEYS and self.is_deleted):
            return None
        return self.factor * self.rows[key][1]

    def misses_pushes_of(self, other: "Generation") -> bool:
        """Whether the other has a pushed row that is newer than what is here."""
        day = other.rows.get(1, (0.0, 0.0))[0]
        return day % 1 > 0 and day > self.rows.get(1, (0.0, 0.0))[0]


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
        if not self.of[self.served].is_online:
            self.served, self.kept = self.newest, None

    def alive(self, now: datetime) -> set[int]:
        kept = {self.kept} if self.kept is not None and now < self.kept_until else set()
        return {self.served, self.newest, *kept}

    def write(self, day: int, now: datetime) -> None:
        for generation in self.alive(now):
            for key in range(1, KEYS + 1):
                self.of[generation].offer(key, day, day)

    def fill(self, day: int, now: datetime) -> None:
        self.write(day, now)
        old, new = self.of[self.served], self.of[self.newest]
        for generation in self.alive(now):
            before = self.of[generation].filled
            self.of[generation].filled = day if before is None else max(before, day)
        is_next = self.newest != self.served and not self.held
        # It is the run that has to come up to where lookups are, not what came before it.
        if is_next and (old.filled is None or day >= old.filled):
            new.is_deleted |= old.is_deleted
            if new.misses_pushes_of(old):
                if new.factor != old.factor:
                    return
                new.offer(1, *old.rows[1])
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

    @rule(back=st.integers(0, 2))
    def write_a_window(self, back: int) -> None:
        day = max(1, self.day - back)
        self.store.materialize(start="2020-01-01T00:00:00Z", end=THEN + timedelta(days=day))
        self.model.write(day, self.now)

    @rule()
    def fail(self) -> None:
        (self.root / FILE).unlink()
        with pytest.raises(SourceError):
            self.store.materialize_incremental()
        self._write()

    @rule(back=st.integers(0, 2))
    def push(self, back: int) -> None:
        day = max(1, self.day - back) + 0.5
        self.store.push("reading", {"k": [1], "t": [THEN + timedelta(days=day)], "x": [100.0]})
        for generation in self.model.alive(self.now):
            self.model.of[generation].offer(1, day, 100.0)

    @rule()
    def delete(self) -> None:
        self.store.delete_entity({"k": KEYS})
        for generation in self.model.alive(self.now):
            self.model.of[generation].is_deleted = True

    @rule()
    def roll_back(self) -> None:
        if self.model.roll_back(self.now):
            assert self.store.rollback("reading").generation == self.model.served
        else:
            with pytest.raises(RequestError):
                self.store.rollback("reading")

    @invariant()
    def lookups_are_of_the_generation_that_is_served(self) -> None:
        served, keys = self.model.of[self.model.served], list(range(1, KEYS + 1))
        found = self.store.get_online_features(["reading:x"], {"k": keys}).to_dict()["x"]
        assert found == [served.value(key) for key in keys], (found, self.model)

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.root)


TestGenerations = Generations.TestCase
Generations.TestCase.settings = settings(max_examples=max(5, DEPTH // 5), stateful_step_count=12)

"""Runs in processes of their own that are killed on the way, and who starts them."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from typing_extensions import override

from featurestore.materialize.failpoints import arm
from featurestore.materialize.plan import plan_incremental, plan_run
from featurestore.materialize.run import Materializer
from featurestore.registry.sql import SqlRegistry
from featurestore.store import FeatureStore
from featurestore.testing.scenario import Materialize
from featurestore.testing.store_runner import StoreRunner
from featurestore.time import Clock, from_micros, to_micros
from tests.forks import in_a_process

_WALL = datetime(2100, 1, 1, tzinfo=UTC)
_REGISTRY = "registry.db"


@dataclass(frozen=True, kw_only=True)
class Death:
    """When a process dies: at a hit of a failpoint, or of any, or after some time.

    Attributes:
        point: Whose hits are counted; None counts all.
        hit: Which of them it is, from 1.
        after_ms: Milliseconds instead, since the run began.
    """

    point: StrEnum | None = None
    hit: int = 1
    after_ms: float | None = None


def arrange(death: Death) -> None:
    """Let this process be killed by the operating system, as kill -9 does it."""
    if death.after_ms is not None:
        threading.Timer(death.after_ms / 1_000, _die).start()
        return
    hits = 0
    lock = threading.Lock()  # batches are written by a thread of their own

    def count(point: StrEnum) -> None:
        nonlocal hits
        if death.point in (None, point):
            with lock:
                hits += 1
                if hits == death.hit:
                    _die()

    arm(count)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def attempt(  # noqa: PLR0917 - a process takes them by position
    folder: Path,
    settings: Mapping[str, Any],
    now_us: int,
    number: int,
    call: Materialize,
    death: Death | None,
) -> None:
    """Go on with what was interrupted, or begin; every row is a batch and a chunk.

    Args:
        folder: The repository.
        settings: Its configuration.
        now_us: Its time.
        number: Which attempt it is; each comes when the lease of the one before is over.
        call: What to do if nothing was begun.
        death: What prevents that, or None.
    """
    with FeatureStore(folder, config=settings, clock=Clock(from_micros(now_us))) as store:
        wall = Clock(_WALL + timedelta(minutes=number))
        materializer = Materializer(
            project=store.project,
            engine=store.engine,
            store=store.online_store,
            registry=SqlRegistry(folder / _REGISTRY, wall_clock=wall),
            clock=store.clock,
            root=folder,
            chunk_entities=1,
            batch_rows=1,
        )
        [view] = store.state().views.values()
        bounds = {"end_us": call.end_us, "now_us": now_us}
        if call.incremental:
            mark = store.registry.watermark(store.project, view.definition.name, view.generation)
            task = plan_incremental(view, mark, **bounds)
        else:
            task = plan_run(view, start_us=call.start_us, **bounds)
        if death is not None:
            arrange(death)
        if materializer.resume([view]) is None:
            materializer.run(task)


def materialize(
    folder: Path, settings: Mapping[str, Any], number: int, death: Death | None
) -> None:
    """Go on with what was interrupted, or write all generations of all views.

    Args:
        folder: The repository.
        settings: Its configuration.
        number: Which attempt it is; each comes when the lease of the one before is over.
        death: What prevents that, or None.
    """
    with FeatureStore(folder, config={**settings, "registry": _REGISTRY}) as store:
        wall = Clock(_WALL + timedelta(minutes=number))
        store.registry = SqlRegistry(folder / _REGISTRY, wall_clock=wall)
        if death is not None:
            arrange(death)
        if not store.materialize(resume=True):
            store.materialize()


class DyingRunner(StoreRunner):
    """Plays scenarios of one view; every run dies until the deaths for it are used up.

    Args:
        folder: An empty folder.
        settings: What `feature_store.yaml` would say.
        deaths: Yields for each run how its attempts die, one after the other.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], deaths: Iterator[list[Death]]
    ) -> None:
        self._settings = {**settings, "registry": _REGISTRY}
        super().__init__(folder, self._settings)
        self._deaths = deaths
        self._attempts = 0
        self.killed: list[Death] = []

    @override
    def materialize(self, call: Materialize) -> None:
        before = self._successes()
        for death in [*next(self._deaths), None]:
            code = self._attempt(call, death)
            if code == 0:
                return
            assert (code, death is not None) == (-signal.SIGKILL, True), f"it ended with {code}"
            assert death is not None
            self.killed.append(death)
            if self._successes() > before:
                return  # the watermark has moved: what is missing now will be missed
        raise AssertionError("it died without a reason")

    def _attempt(self, call: Materialize, death: Death | None) -> int:
        self._attempts += 1
        now_us = to_micros(self.clock.now())
        return in_a_process(
            attempt, self.folder, self._settings, now_us, self._attempts, call, death
        )

    def _successes(self) -> int:
        runs = self.store.registry.runs(self.store.project, limit=1_000)
        return sum(run.status == "succeeded" for run in runs)

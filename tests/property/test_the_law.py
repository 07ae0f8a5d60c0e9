"""What is online at T is what training says of T, however the store was filled (SEMANTICS, 6)."""

import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from featurestore.testing.growth import Growth, check_law, growths, join_growths
from featurestore.testing.oracle_runner import OracleRunner
from featurestore.testing.store_runner import StoreRunner
from featurestore.testing.window_growth import window_growths
from tests.depth import every_run
from tests.servers import redis_url

__all__ = ["redis_url"]

STORES: dict[str, Callable[[pytest.FixtureRequest], dict[str, Any]]] = {
    "memory": lambda _: {"type": "memory"},
    "lmdb": lambda _: {"type": "lmdb"},
    "redis": lambda request: {"type": "redis", "url": request.getfixturevalue("redis_url")},
}
DEPTH = settings.default.max_examples if settings.default else 100


# Stores are given encoded bytes and never learn which engine found the rows: in every run each
# engine plays, and each store, in pairs that `tests/conformance/test_scenarios.py` leaves to the
# proof. The proof crosses them all.
IN_EVERY_RUN = {("polars", "memory"), ("polars", "lmdb"), ("duckdb", "redis")}
PLAYERS = [
    pytest.param(engine, store, marks=every_run(when=(engine, store) in IN_EVERY_RUN))
    for engine in ("duckdb", "polars")
    for store in STORES
]


@pytest.fixture(scope="module")
def online_store(request: pytest.FixtureRequest) -> dict[str, Any]:
    return STORES[request.param](request)


@given(growth=growths())
def test_the_oracle_keeps_the_law(growth: Growth) -> None:
    check_law(growth, OracleRunner(), OracleRunner())


@given(growth=window_growths())
def test_the_oracle_keeps_the_law_of_windows(growth: Growth) -> None:
    check_law(growth, OracleRunner(), OracleRunner())


@given(growth=join_growths())
def test_the_oracle_keeps_the_law_of_joins(growth: Growth) -> None:
    check_law(growth, OracleRunner(), OracleRunner())


# An example is a repository with a registry of its own, so there are fewer of them.
@pytest.mark.parametrize(("engine", "online_store"), PLAYERS, indirect=["online_store"])
@settings(max_examples=max(1, DEPTH // 5), suppress_health_check=list(HealthCheck))
@given(growth=growths())
def test_every_engine_and_store_keep_the_law(
    growth: Growth, engine: str, online_store: dict[str, Any]
) -> None:
    keep_the_law(growth, engine, online_store)


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@settings(max_examples=max(1, DEPTH // 5), suppress_health_check=list(HealthCheck))
@given(growth=join_growths())
def test_every_engine_keeps_the_law_of_joins(growth: Growth, engine: str) -> None:
    keep_the_law(growth, engine, {"type": "memory"})  # stores know nothing of joins


@pytest.mark.parametrize(("engine", "online_store"), PLAYERS, indirect=["online_store"])
@settings(max_examples=max(1, DEPTH // 5), suppress_health_check=list(HealthCheck))
@given(growth=window_growths())
def test_every_engine_and_store_keep_the_law_of_windows(
    growth: Growth, engine: str, online_store: dict[str, Any]
) -> None:
    keep_the_law(growth, engine, online_store)


def keep_the_law(growth: Growth, engine: str, online_store: dict[str, Any]) -> None:
    """Play a growth in a project of its own."""
    configuration = {
        "project": f"p{uuid.uuid4().hex}",
        "offline_store": engine,
        "online_store": online_store,
    }
    with (
        TemporaryDirectory() as folder,
        closing(StoreRunner(Path(folder), configuration)) as runner,
    ):
        check_law(growth, runner, OracleRunner())

"""How deep the property tests dig: `make test` runs the profile ci, `make proof` proof."""

import contextlib
import gc
import os
import signal
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.forked import forking
from tests.servers import redis_url, valkey_url
from tests.topologies import (
    redis_cluster_url,
    redis_tls,
    sentinel_url,
    valkey_cluster_url,
)

# Fixtures: here a session starts each server once.
__all__ = [
    "redis_cluster_url",
    "redis_tls",
    "redis_url",
    "sentinel_url",
    "valkey_cluster_url",
    "valkey_url",
]

SHARED = "FEATURESTORE_TESTS_FORKED"
"""The variable that tells workers of the program that they share."""

# A slow machine is no defect, so there are no deadlines. The profile ci derives its examples from
# each test's own code: the same commit always gives the same answer.
settings.register_profile(
    "ci",
    max_examples=10,
    stateful_step_count=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile(
    "proof",
    parent=settings.get_profile("ci"),
    max_examples=int(os.environ.get("PROOF_EXAMPLES", "200")),
    derandomize=False,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    """Let Ctrl-C end the commands that tests start, and let all workers share one fork server.

    A shell that starts us in the background has us ignore it, and our children inherit that.
    """
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        and threading.current_thread() is threading.main_thread()
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("numprocesses", None):  # this is the process that starts them
        shared = contextlib.ExitStack()
        os.environ[SHARED] = str(shared.enter_context(forking()))
        config.add_cleanup(shared.close)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector pass over what thousands of collected tests consist of.

    Nothing of that is ever garbage: looking at it again and again took a third of the collection's
    time, and some of each test's.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_unconfigure() -> None:
    """Let the interpreter free everything as it ends: else DuckDB's bindings report leaks."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def forked() -> Iterator[Path]:
    """A `featurestore` program whose commands cost no imports."""
    if shared := os.environ.get(SHARED):
        yield Path(shared)
        return
    with forking() as program:
        yield program

"""Calls go on while servers and workers come and go: with default retries, none fails."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from featurestore_sdk import ClientError, FeatureStoreClient

from tests.sdk.clients import Connect
from tests.sdk.processes import ServerProcess, filled_store, server_process

THREADS = 4
LIGHT_S = 0.02
"""How long threads pause between calls where it takes a second or two until anything can happen."""


@pytest.fixture(scope="module")
def online_store(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return filled_store(tmp_path_factory.mktemp("restarts") / "online")


@pytest.fixture(scope="module")
def pair(online_store: dict[str, Any]) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers that tests may restart."""
    with server_process(online_store) as one, server_process(online_store) as two:
        yield one, two


class Load:
    """Calls from several threads, one after another, and what became of them."""

    def __init__(self, client: FeatureStoreClient) -> None:
        self._client = client
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._answered = 0
        self._pause_s = 0.0
        self.failures: list[ClientError] = []

    def run(self) -> None:
        while not self._stop.is_set():
            try:
                # Machines that run tests stall; the retries are what is tested, not the timeout.
                found = self._client.get_online_features(
                    ["users:visits"], {"user_id": [1]}, timeout_s=30
                )
                assert found.to_dict()["visits"] == [10]
            except ClientError as error:
                self.failures.append(error)
            with self._progress:
                self._answered += 1
                self._progress.notify_all()
            if self._pause_s:
                self._stop.wait(self._pause_s)

    @contextmanager
    def light(self) -> Iterator[None]:
        """Go on with a few calls: as many as there can be take the time that a server starts in."""
        self._pause_s = LIGHT_S
        yield
        self._pause_s = 0.0

    def wait_for_more(self, calls: int = 200) -> None:
        """Wait until so many more calls have ended."""
        with self._progress:
            goal = self._answered + calls
            assert self._progress.wait_for(lambda: self._answered >= goal, timeout=60)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def under_load(client: FeatureStoreClient) -> Iterator[Load]:
    load = Load(client)
    threads = [threading.Thread(target=load.run) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        load.wait_for_more()
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join()


def test_no_call_fails_while_servers_restart_one_after_another(
    pair: tuple[ServerProcess, ServerProcess], connect: Connect
) -> None:
    with under_load(connect([server.address for server in pair])) as load:
        for server in pair:
            server.stop()
            with load.light():
                server.start()
                # One that is back is waited for before the next goes: that is what rolls.
                connect(server.address).wait_ready(30)
            load.wait_for_more()
    assert load.failures == []


def test_no_call_fails_while_workers_are_killed(
    online_store: dict[str, Any], connect: Connect
) -> None:
    with server_process(online_store, workers=2) as server:
        with under_load(connect(server.address)) as load:
            victim = server.workers[0]
            victim.kill()
            load.wait_for_more()
        assert load.failures == []

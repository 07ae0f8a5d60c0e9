"""How much of what users ask for a client sends to servers that refuse most of it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import NoReturn

import grpc
import pytest
from featurestore_sdk import FeatureStoreClient, RetryPolicy, UnavailableError, throttling
from featurestore_sdk.errors import NotFoundError
from featurestore_sdk.throttling import FACTOR, HALF_LIFE_S, PATIENCE, LoadThrottle
from google.rpc.error_details_pb2 import ErrorInfo

from tests.sdk.clients import Connect
from tests.sdk.scripted import EMPTY_REPLY, Context, Script, fail

ONCE = RetryPolicy(attempts=1)


class Clock:
    """A time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Asked:
    """A throttle whose users ask at a steady rate, of servers that take another."""

    def __init__(self) -> None:
        self.clock = Clock()
        random = Random(7)  # noqa: S311 - no secret
        self.throttle = LoadThrottle(now=self.clock, chance=random.random)

    def sent(self, seconds: int, *, asked: int, taken: int) -> list[int]:
        """How many calls were sent in each second, where so many a second are asked and taken."""
        return [self._second(asked, taken) for _ in range(seconds)]

    def _second(self, asked: int, taken: int) -> int:
        sent, room = 0, 0.0
        for _ in range(asked):
            self.clock.now_s += 1 / asked
            room = min(room + taken / asked, 5)
            if self.throttle.admits():
                sent += 1
                if room >= 1:
                    room -= 1
                    self.throttle.taken()
                else:
                    self.throttle.refused()
        return sent


@pytest.mark.parametrize("times", [2, 5, 10])
def test_servers_that_are_asked_for_too_much_are_sent_a_little_more_than_they_take(
    times: int,
) -> None:
    sent = Asked().sent(30, asked=1_000 * times, taken=1_000)
    assert all(900 * FACTOR <= second <= 1_100 * FACTOR for second in sent[10:])


def test_servers_that_take_all_are_sent_all() -> None:
    assert Asked().sent(5, asked=1_000, taken=1_000) == [1_000] * 5


def test_servers_that_take_two_thirds_are_sent_all() -> None:
    assert Asked().sent(20, asked=1_000, taken=700) == [1_000] * 20


def test_once_servers_take_all_again_they_are_sent_all() -> None:
    asked = Asked()
    assert asked.sent(20, asked=5_000, taken=500)[-1] < 1_000
    recovered = asked.sent(20, asked=5_000, taken=5_000)
    assert recovered[-1] == 5_000
    assert recovered[9] > 4_000


def test_servers_that_took_nothing_are_tried_now_and_then() -> None:
    asked = Asked()
    sent = asked.sent(20, asked=100, taken=0)
    assert sum(sent) < 20 * 25
    assert min(sent) > 0
    asked.clock.now_s += 20 * HALF_LIFE_S
    assert asked.sent(1, asked=5, taken=0) == [5]  # all of it is forgotten


def test_a_few_refusals_are_no_overload() -> None:
    throttle = LoadThrottle(now=Clock(), chance=lambda: 0.0)
    for _ in range(int(PATIENCE)):
        assert throttle.admits()
        throttle.refused()
    assert throttle.admits()
    throttle.refused()
    assert not throttle.admits()


def test_calls_under_way_are_no_overload() -> None:
    throttle = LoadThrottle(now=Clock(), chance=lambda: 0.0)
    assert all(throttle.admits() for _ in range(10_000))
    for _ in range(10_000):
        throttle.taken()
    assert all(throttle.admits() for _ in range(10_000))


def _refuse(_: bytes, context: Context) -> NoReturn:
    info = ErrorInfo(domain="featurestore", reason="OVERLOADED")
    fail(context, grpc.StatusCode.UNAVAILABLE, "too much", info)


def _drop(_: bytes, context: Context) -> NoReturn:
    context.abort(grpc.StatusCode.CANCELLED, "")
    raise AssertionError


@pytest.mark.parametrize("answer", [_refuse, _drop])
def test_a_client_keeps_calls_back_from_a_server_that_refuses_them(
    script: Script, connect: Connect, answer: object
) -> None:
    server = script(answer)  # type: ignore[arg-type]
    client = connect(server.address, retry=ONCE, timeout_s=30)
    kept_back = []
    for _ in range(300):
        with pytest.raises(UnavailableError) as caught:
            client.get_online_features("any", {"id": [1]})
        if "was not sent" in caught.value.message:
            assert (caught.value.reason, caught.value.retryable) == ("OVERLOADED", True)
            kept_back.append(caught.value)
    assert len(kept_back) + len(server.calls) == 300
    assert len(server.calls) < 150
    server.answer = lambda _, __: EMPTY_REPLY
    patient = connect(server.address, timeout_s=30)
    assert patient.get_online_features("any", {"id": [1]}).project == "scripted"


def test_many_calls_at_once_are_all_sent(script: Script) -> None:
    gate = threading.Event()

    def held(_: bytes, __: Context) -> bytes:
        gate.wait(30)
        return EMPTY_REPLY

    server = script(held)
    with (
        FeatureStoreClient(server.address, retry=ONCE, timeout_s=30) as client,
        ThreadPoolExecutor(60) as callers,
    ):
        calls = [callers.submit(client.get_online_features, "any", {"id": [1]}) for _ in range(60)]
        threading.Timer(1.0, gate.set).start()
        assert {call.result().project for call in calls} == {"scripted"}


def test_other_failures_keep_nothing_back(script: Script, connect: Connect) -> None:
    def gone(_: bytes, context: Context) -> NoReturn:
        fail(context, grpc.StatusCode.UNAVAILABLE, "gone", ErrorInfo(reason="BUSY"))

    def unknown(_: bytes, context: Context) -> NoReturn:
        fail(context, grpc.StatusCode.NOT_FOUND, "no view")

    server = script(gone)
    client = connect(server.address, retry=ONCE, timeout_s=30)
    for answer, error in ((gone, UnavailableError), (unknown, NotFoundError)):
        server.answer = answer
        for _ in range(60):
            with pytest.raises(error):
                client.get_online_features("any", {"id": [1]})
    assert len(server.calls) == 120


def test_a_server_that_refuses_all_keeps_nothing_back_from_another(
    script: Script, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine 400 calls may take many half-lives, and after each the server is tried anew.
    monkeypatch.setattr(throttling, "HALF_LIFE_S", 3_600.0)
    busy, free = script(_refuse), script()
    client = connect([busy.address, free.address], retry=ONCE, timeout_s=30)
    answered = []
    for _ in range(400):
        try:
            client.get_online_features("any", {"id": [1]})
        except UnavailableError:
            answered.append(False)
        else:
            answered.append(True)
    assert sum(answered[200:]) > 160
    assert len(busy.calls) < 150  # it is tried now and then
    assert len(free.calls) == sum(answered)

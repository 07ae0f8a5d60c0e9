"""Whether a call that failed is tried again, and when."""

from itertools import pairwise
from time import monotonic
from typing import Any

import grpc
import pytest
from featurestore_sdk import (
    ClientError,
    DeadlineExceededError,
    LimitExceededError,
    RetryPolicy,
    ServerError,
    UnavailableError,
)
from featurestore_sdk.failures import NOT_SENT, OVERLOADED, is_unsent
from featurestore_sdk.retries import JITTER, Throttle, Tries
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from tests.sdk.clients import Connect
from tests.sdk.scripted import EMPTY_REPLY, Context, Script, fail, nobody

GONE = UnavailableError("gone", code="UNAVAILABLE", reason="ONLINE_STORE_UNAVAILABLE")
LOST = UnavailableError("Socket closed", code="UNAVAILABLE")
UNSENT = UnavailableError("failed to connect to all addresses; last error", code="UNAVAILABLE")
POLICY = RetryPolicy(attempts=6, first_pause_s=0.02, last_pause_s=0.5, growth=4)


def _tries(**options: Any) -> Tries:
    arguments = {"timeout_s": 60.0, **options}
    return Tries(
        arguments.pop("policy", POLICY), arguments.pop("throttle", Throttle()), **arguments
    )


def test_pauses_grow_up_to_the_longest_and_vary() -> None:
    found = [_pauses(_tries(), GONE) for _ in range(50)]
    for pauses in found:
        for pause, middle in zip(pauses, [0.02, 0.08, 0.32, 0.5, 0.5], strict=True):
            assert middle * (1 - JITTER) <= pause <= middle * (1 + JITTER)
    assert len({pauses[0] for pauses in found}) > 40


def _pauses(tries: Tries, failure: ClientError) -> list[float]:
    pauses = []
    while (pause := tries.pause_after(failure)) is not None:
        pauses.append(pause)
    return pauses


@pytest.mark.parametrize(
    "failure",
    [
        ServerError("failed", code="INTERNAL"),
        LimitExceededError("too large", code="RESOURCE_EXHAUSTED"),
        DeadlineExceededError("too late", code="DEADLINE_EXCEEDED"),
    ],
)
def test_only_what_is_unavailable_is_tried_again(failure: ClientError) -> None:
    assert _pauses(_tries(), failure) == []


def test_a_pause_that_the_server_asks_for_is_kept() -> None:
    asked = UnavailableError("busy", code="UNAVAILABLE", reason="BUSY", retry_after_s=3.0)
    pauses = _pauses(_tries(), asked)
    assert len(pauses) == 5
    assert all(3 <= pause <= 3 * (1 + JITTER) for pause in pauses)


def test_no_pause_goes_past_the_deadline() -> None:
    asked = UnavailableError("busy", code="UNAVAILABLE", reason="BUSY", retry_after_s=3.0)
    assert _tries(timeout_s=2.9).pause_after(asked) is None
    assert _tries(timeout_s=None).pause_after(asked) is not None


def test_a_call_that_the_server_may_have_seen_is_not_repeated_if_it_must_not_be() -> None:
    assert _pauses(_tries(repeatable=False), GONE) == []
    assert _pauses(_tries(repeatable=False), LOST) == []
    assert len(_pauses(_tries(repeatable=False), UNSENT)) == 5


def test_an_address_that_is_down_is_passed_over_at_once_and_for_nothing() -> None:
    pauses = _pauses(_tries(addresses=3), UNSENT)
    assert pauses[:2] == [0, 0]
    assert len(pauses) == 2 + 5
    assert all(pauses[2:])


def test_one_attempt_is_no_retry() -> None:
    assert _pauses(_tries(policy=RetryPolicy(attempts=1)), GONE) == []


def test_retries_stop_while_most_calls_fail() -> None:
    throttle = Throttle()
    retries = [len(_pauses(_tries(throttle=throttle), GONE)) for _ in range(20)]
    assert retries[0] == 5
    assert retries[-1] == 0
    assert sum(retries) == 41  # with the 9 failures that ended calls, half of the hundred tokens
    for _ in range(200):
        throttle.succeeded()
    assert len(_pauses(_tries(throttle=throttle), GONE)) > 0


def test_what_the_client_kept_back_is_tried_again_whatever_it_is() -> None:
    kept_back = UnavailableError(NOT_SENT, code="UNAVAILABLE", reason=OVERLOADED)
    refused = UnavailableError("too much", code="UNAVAILABLE", reason=OVERLOADED)
    assert len(_pauses(_tries(repeatable=False), kept_back)) == POLICY.attempts - 1
    assert _pauses(_tries(repeatable=False), refused) == []  # who knows how far it came


def test_the_policy_of_a_client_is_its_own(script: Script, connect: Connect) -> None:
    def gone(_: bytes, context: Context) -> bytes:
        fail(context, grpc.StatusCode.UNAVAILABLE, "gone", ErrorInfo(domain="featurestore"))

    server = script(gone)
    client = connect(server.address, retry=RetryPolicy(attempts=3, first_pause_s=0), timeout_s=30)
    with pytest.raises(UnavailableError):
        client.get_online_features("any", {"id": [1]})
    assert len(server.calls) == 3


def test_a_client_waits_as_long_as_the_server_asks(script: Script, connect: Connect) -> None:
    times = []

    def busy_once(_: bytes, context: Context) -> bytes:
        times.append(monotonic())
        if len(times) == 1:
            info = ErrorInfo(domain="featurestore", reason="BUSY")
            delay = RetryInfo(retry_delay=Duration(nanos=300_000_000))
            fail(context, grpc.StatusCode.UNAVAILABLE, "busy", info, delay)
        return EMPTY_REPLY

    client = connect(script(busy_once).address, timeout_s=30)
    assert client.get_online_features("any", {"id": [1]}).project == "scripted"
    assert [late - early >= 0.3 for early, late in pairwise(times)] == [True]


def test_a_call_is_not_made_again_when_there_is_no_time(script: Script, connect: Connect) -> None:
    def busy(_: bytes, context: Context) -> bytes:
        info = ErrorInfo(domain="featurestore", reason="BUSY")
        fail(
            context,
            grpc.StatusCode.UNAVAILABLE,
            "busy",
            info,
            RetryInfo(retry_delay=Duration(seconds=60)),
        )

    server = script(busy)
    with pytest.raises(UnavailableError) as caught:
        connect(server.address, timeout_s=30).get_online_features("any", {"id": [1]})
    assert caught.value.retry_after_s == 60
    assert len(server.calls) == 1


@pytest.mark.parametrize("target", ["{}", "dns:///{}", "unix:/not/there", "nobody.invalid:1"])
def test_gRPC_still_says_in_these_words_that_nothing_was_sent(  # noqa: N802
    connect: Connect, target: str
) -> None:
    client = connect(target.format(nobody()), timeout_s=30, retry=RetryPolicy(attempts=1))
    with pytest.raises(UnavailableError) as caught:
        client.get_online_features("any", {"id": [1]})
    assert is_unsent(caught.value)


def test_a_call_that_was_cut_off_may_have_been_sent(script: Script, connect: Connect) -> None:
    def die(_: bytes, __: Context) -> bytes:
        server.server.stop(None)
        return EMPTY_REPLY

    server = script(die)
    client = connect(server.address, timeout_s=30, retry=RetryPolicy(attempts=1))
    with pytest.raises(UnavailableError) as caught:
        client.get_online_features("any", {"id": [1]})
    assert not is_unsent(caught.value)

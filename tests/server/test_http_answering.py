"""Calls over HTTP that come together, or too many at once."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from featurestore_server.admission import Admission
from featurestore_server.calls import Call
from featurestore_server.errors import OverloadedError
from featurestore_server.http.answering import CALLS_AT_ONCE, Answer, Answering

CALL_S = 0.005


class Slow:
    """Takes its time for each call, and counts how many it was given together."""

    def __init__(self) -> None:
        self.together: list[int] = []

    def answer_all(self, calls: Sequence[Call]) -> list[Answer]:
        self.together.append(len(calls))
        time.sleep(CALL_S * len(calls))
        return [call.request for call in calls]


async def _flood(answering: Answering, calls: int, *, pause_s: float) -> list[Answer]:
    asked = []
    for number in range(calls):
        asked.append(asyncio.create_task(answering.answer(Call("x", b"%d" % number))))
        await asyncio.sleep(pause_s)
    return list(await asyncio.gather(*asked))


@pytest.mark.parametrize("threads", [1, 3])
def test_every_caller_gets_its_own_answer(threads: int) -> None:
    slow = Slow()
    admission = Admission(0)
    answering = Answering(slow.answer_all, threads=threads, max_calls=1_000, admission=admission)
    answers = asyncio.run(_flood(answering, 200, pause_s=0))
    answering.close()
    assert answers == [b"%d" % number for number in range(200)]
    assert 1 < max(slow.together) <= CALLS_AT_ONCE


def test_calls_that_would_wait_too_long_are_refused_and_the_others_answered() -> None:
    slow = Slow()
    answering = Answering(slow.answer_all, threads=1, max_calls=1_000)
    answers = asyncio.run(_flood(answering, 400, pause_s=CALL_S / 10))
    answering.close()
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert all(isinstance(error, OverloadedError) for error in refused)
    assert refused
    assert sum(slow.together) == len(answers) - len(refused)


def test_what_answering_raises_is_everybodys_answer() -> None:
    def fail(_: Sequence[Call]) -> list[Answer]:
        raise OSError

    answering = Answering(fail, threads=1, max_calls=10)
    answers = asyncio.run(_flood(answering, 3, pause_s=0))
    answering.close()
    assert [type(answer) for answer in answers] == [OSError] * 3

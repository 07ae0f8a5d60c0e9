"""Calls that came together are answered together, off the event loop."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeAlias

from featurestore_server.admission import Admission
from featurestore_server.calls import NO_DEADLINE, Call
from featurestore_server.errors import DeadlinePassedError, OverloadedError

Answer: TypeAlias = bytes | Exception
AnswerAll: TypeAlias = Callable[[Sequence[Call]], list[Answer]]

CALLS_AT_ONCE: Final = 32
"""Calls answered with one trip to the store."""
BYTES_AT_ONCE: Final = 4_096
"""Bytes of requests at which no more are added."""


class Answering:
    """Answers calls in a few threads. To be used from one event loop.

    Args:
        answer_all: Answers calls together.
        threads: How many times that may go on at once.
        max_calls: Calls under way, waiting or still coming; more are refused.
        admission: Decides which calls are refused because too many wait.
    """

    def __init__(
        self,
        answer_all: AnswerAll,
        *,
        threads: int,
        max_calls: int,
        admission: Admission | None = None,
    ) -> None:
        self._answer_all = answer_all
        self._admission = admission or Admission()
        self._max_answering = threads
        self._max_calls = max_calls
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="http_lookup")
        self._waiting: deque[tuple[Call, asyncio.Future[Answer]]] = deque()
        self._answering = 0
        self._tasks: set[asyncio.Task[None]] = set()  # the loop alone would let them be collected
        self._places_taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place for one call, from before its body is read.

        Raises:
            OverloadedError: All are taken.
        """
        if self._places_taken >= self._max_calls:
            raise OverloadedError("The server has as many calls as it takes; nothing was done.")
        self._places_taken += 1
        try:
            yield
        finally:
            self._places_taken -= 1

    async def answer(self, call: Call) -> Answer:
        """Return a call's reply, or why there is none; no later than its deadline."""
        if self._admission.refuses(len(self._waiting)):
            return OverloadedError()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((call, future))
        if self._answering < self._max_answering:
            self._answering += 1
            task = asyncio.create_task(self._answer_waiting())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            async with asyncio.timeout(_left_s(call)):
                return await future
        except TimeoutError:
            return DeadlinePassedError("The deadline passed before there was an answer.")

    async def _answer_waiting(self) -> None:
        while calls := self._some_waiting():
            loop = asyncio.get_running_loop()
            began = time.perf_counter()
            try:
                asked = [call for call, _ in calls]
                answers = await loop.run_in_executor(self._pool, self._answer_all, asked)
            except Exception as error:  # noqa: BLE001 - whoever asked is told
                answers = [error] * len(calls)
            took_s = time.perf_counter() - began
            self._admission.answered(len(calls), took_s, at_once=self._answering)
            for (_, future), answer in zip(calls, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        self._answering -= 1

    def _some_waiting(self) -> list[tuple[Call, asyncio.Future[Answer]]]:
        """Return calls that somebody still waits for."""
        calls: list[tuple[Call, asyncio.Future[Answer]]] = []
        size = 0
        while self._waiting and len(calls) < CALLS_AT_ONCE and size < BYTES_AT_ONCE:
            call, future = self._waiting.popleft()
            if not future.done():
                calls.append((call, future))
                size += len(call.request)
        return calls

    def close(self) -> None:
        """Let go of the threads; they end with what they are at."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _left_s(call: Call) -> float | None:
    return None if call.deadline == NO_DEADLINE else max(0.0, call.deadline - time.time())

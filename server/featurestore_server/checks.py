"""Health as a server offers it: nobody needs a key for it, and nobody may keep others from it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from featurestore_server.errors import OverloadedError
from featurestore_server.first_message import FIRST_MESSAGE_S, first_message
from featurestore_server.guard import in_pool

THREADS: Final = 32
MAX_SILENT: Final = 8
"""Calls that may keep threads waiting for the message that ought to come with them."""
CROWDED_S: Final = 0.25
"""How long all beyond may; threads for some hundred a second of them remain."""
MAX_WATCHES: Final = 100
"""Watches under way. Each takes a thread: those of grpcio that take none are told of a change with
the lock held that the end of another needs, in the thread that would let both go on."""


class HealthMethods:
    """The methods of grpc.health.v1, with threads of their own for each.

    Args:
        servicer: Knows the answers.
    """

    def __init__(self, servicer: health.HealthServicer) -> None:
        self._servicer = servicer
        self._watches = threading.BoundedSemaphore(MAX_WATCHES)
        self._pools = (
            ThreadPoolExecutor(THREADS, thread_name_prefix="check"),
            ThreadPoolExecutor(MAX_WATCHES + THREADS, thread_name_prefix="watch"),
        )
        self._checks, self._watchers = _Silent(), _Silent()

    def by_name(self) -> dict[str, Any]:
        """Return the method handlers; they are to be guarded."""
        read, write = HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
        watch = in_pool(self._pools[1], self._watch)
        return {
            "Check": grpc.stream_unary_rpc_method_handler(
                in_pool(self._pools[0], self._check), read, write
            ),
            "Watch": grpc.stream_stream_rpc_method_handler(watch, read, write),
        }

    def close(self) -> None:
        """Let go of the threads, whose calls have ended."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

    def _check(
        self, requests: Iterator[HealthCheckRequest], context: grpc.ServicerContext
    ) -> HealthCheckResponse:
        return self._servicer.Check(self._checks.first(requests, context), context)

    def _watch(
        self,
        requests: Iterator[HealthCheckRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[HealthCheckResponse]:
        request = self._watchers.first(requests, context)
        if not self._watches.acquire(blocking=False):
            raise OverloadedError("The server has more watchers of its health than it takes.")
        if not context.add_callback(self._watches.release):
            self._watches.release()
            return iter(())
        replies: Iterator[HealthCheckResponse] = self._servicer.Watch(request, context)
        return replies


class _Silent:
    """Counts calls whose message has not come; the more they are, the less time they have."""

    def __init__(self) -> None:
        self._counting = threading.Lock()
        self._calls = 0

    def first(
        self, requests: Iterator[HealthCheckRequest], context: grpc.ServicerContext
    ) -> HealthCheckRequest:
        """Return what a call asks, as `first_message` does."""
        with self._counting:
            self._calls += 1
            patience_s = FIRST_MESSAGE_S if self._calls <= MAX_SILENT else CROWDED_S
        try:
            return first_message(requests, context, patience_s=patience_s)
        finally:
            with self._counting:
                self._calls -= 1

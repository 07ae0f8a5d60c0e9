"""Admission where grpcio's own server answers lookups: its threads, and who may wait for them."""

import functools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from featurestore_server.admission import Admission
from featurestore_server.calls import Call, Observer
from featurestore_server.errors import OverloadedError
from featurestore_server.guard import guarded, in_pool, observed

T = TypeVar("T")


class WatchedPool(ThreadPoolExecutor):
    """Threads that know how many calls wait for them.

    Attributes:
        waiting: Calls that no thread has begun.
    """

    def __init__(self, threads: int) -> None:
        super().__init__(threads, thread_name_prefix="call")
        self._counting = threading.Lock()
        self.waiting = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Have a thread call `fn`, as its base does."""
        with self._counting:
            self.waiting += 1
        try:
            return super().submit(self._begun, fn, *args, **kwargs)
        except BaseException:
            self._count_begun()
            raise

    def _begun(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        self._count_begun()
        return fn(*args, **kwargs)

    def _count_begun(self) -> None:
        with self._counting:
            self.waiting -= 1


class LookupAdmission(grpc.ServerInterceptor):
    """Refuses calls of one method that would wait too long for a thread.

    Args:
        method: Its full name.
        pool: The server's threads.
        threads: How many they are.
        max_calls: Calls that may wait or be under way.
        observer: Told of the calls that were refused.
    """

    def __init__(
        self,
        method: str,
        pool: WatchedPool,
        *,
        threads: int,
        max_calls: int,
        observer: Observer,
    ) -> None:
        self._max_calls = max_calls
        self._under_way = 0
        self._method = method
        self._pool = pool
        self._threads = threads
        self._deciding = threading.Lock()
        self._admission = Admission()
        # A thread of its own: those of the pool may all be held up, which is why it is said.
        self._refusing = ThreadPoolExecutor(1, thread_name_prefix="refuse")
        refuse = in_pool(self._refusing, guarded(observed(method, _refuse, observer)))
        self._refusal: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
            refuse, None, None
        )

    @property
    def calls_under_way(self) -> int:
        """How many calls wait for a thread or are being answered."""
        return self._pool.waiting + self._under_way

    def shutdown(self) -> None:
        """Let go of the thread."""
        self._refusing.shutdown(wait=False, cancel_futures=True)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Any],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return what answers a call; it runs before the call waits for a thread."""
        if handler_call_details.method == self._method:
            with self._deciding:
                is_full = self.calls_under_way >= self._max_calls
                if is_full or self._admission.refuses(self._pool.waiting):
                    return self._refusal
        return continuation(handler_call_details)

    def timed(self, behavior: Callable[..., T]) -> Callable[..., T]:
        """Return a behaviour of the method whose calls are timed."""

        @functools.wraps(behavior)
        def call(*arguments: Any) -> T:
            began = time.perf_counter()
            with self._deciding:
                self._under_way += 1
            try:
                return behavior(*arguments)
            finally:
                took_s = time.perf_counter() - began
                with self._deciding:
                    self._under_way -= 1
                    self._admission.answered(1, took_s, at_once=self._threads)

        return call


def _refuse(_: Call) -> bytes:
    raise OverloadedError

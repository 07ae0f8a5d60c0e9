"""Lookups on a completion queue of their own: several times what grpcio's own server does.

grpcio gives every call to a thread of its pool, which waits twice for the one thread that polls:
for the request, and for the end of the reply. On one core these handovers cost more than the call.
Here the thread that polls takes all requests that have come, hands polling over to the next thread,
and answers them itself, with one trip to the store. Meanwhile the next thread does the same, so a
store that takes its time holds up no more calls than in the public server.

This uses grpcio's Cython layer, which is private: `is_supported` says with which versions it was
tested. Everything else, other methods included, stays on the public server.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from grpc_status import rpc_status

from featurestore.errors import JobCancelledError
from featurestore_server.admission import Admission
from featurestore_server.calls import Call, Observer, Observers, request_id_of
from featurestore_server.errors import (
    DeadlinePassedError,
    MalformedMessageError,
    OverloadedError,
)
from featurestore_server.grpc_core import is_tested
from featurestore_server.guard import logged_status

LOGGER: Final = logging.getLogger("featurestore_server")

AnswerAll: TypeAlias = Callable[[Sequence[Call]], list[bytes | Exception]]

CALLS_AT_HAND: Final = 128
"""Calls that gRPC may hand over before it is asked for more."""
EVENTS_AT_ONCE: Final = 128
"""Events taken before those calls are answered whose requests have come."""
CALLS_AT_ONCE: Final = 32
"""Calls answered together."""
BYTES_AT_ONCE: Final = 4_096
"""Bytes of requests at which no more are added: of large ones, one is answered while the store
looks for the next."""

_NO_FLAGS: Final = 0
_IDLE_S: Final = 3_600.0
_TIMEOUT: Final = cygrpc.CompletionType.queue_timeout
_TOO_LATE: Final = (grpc.StatusCode.DEADLINE_EXCEEDED, b"The deadline passed.")
_NO_REQUEST: Final = (grpc.StatusCode.UNIMPLEMENTED, b"The method takes exactly one request.")


def is_supported(version: str = grpc.__version__) -> bool:
    """Whether this grpcio is one of those that the loop was tested with."""
    return is_tested(version)


class _Call(Call):
    """A call, and what the loop does with it."""

    __slots__ = ("call", "is_watched")

    def __init__(self, method: str, event: Any) -> None:
        call = self.call = event.call
        super().__init__(
            method,
            b"",
            event.invocation_metadata,
            deadline=event.call_details.deadline,
            peer=lambda: call.peer().decode(),
            identities=lambda: [name.decode() for name in cygrpc.peer_identities(call) or ()],
        )
        self.is_watched = False  # whether its end, early or not, is asked for already


class LookupLoop:
    """Answers the calls of one method. It ends by itself once the server was stopped.

    Args:
        server: A server that was not started yet.
        method: The full name, such as "/package.Service/Method"; the server must not have it.
        answer_all: Answers requests together.
        threads: How many times that may go on at once.
        max_calls: Calls whose request has come and that are not answered; more are refused.
        admission: Decides which calls are refused because too many wait.
        observer: Told how each call ended.
    """

    def __init__(
        self,
        server: grpc.Server,
        method: str,
        answer_all: AnswerAll,
        *,
        threads: int,
        max_calls: int,
        admission: Admission | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._admission = admission or Admission()
        self._observer = observer or Observers()
        self._server: Any = server._state.server  # type: ignore[attr-defined]  # noqa: SLF001
        self._method = method
        self._answer_all = answer_all
        self._max_answering = threads
        self._max_calls = max_calls
        self._queue: Any = cygrpc.CompletionQueue()
        self._server.register_completion_queue(self._queue)
        self._server.register_method(method)
        # One thread more than may answer, so that one always polls, and refuses what is too much.
        self._threads = [
            threading.Thread(target=self._run, name=f"lookup_{number}", daemon=True)
            for number in range(threads + 1)
        ]
        self._polling = threading.Lock()
        # Touched by the thread that polls, alone:
        self._at_hand = 0
        self._under_way = 0
        self._watched = 0
        # Touched with `_turns` held:
        self._turns = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._answering = 0
        self._unanswered = 0  # calls whose request has come; others cost nothing but memory

    @property
    def calls_under_way(self) -> int:
        """How many calls wait or are being answered."""
        return self._unanswered

    def start(self) -> None:
        """Take calls; after the server was started."""
        self._want_calls()
        for thread in self._threads:
            thread.start()

    def join(self, timeout_s: float) -> None:
        """Wait until all calls have ended, after the server was told to stop."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # --- who does what ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._polling:
                calls = self._first_calls()
            if not calls:
                return
            while calls:
                self._answer(calls)
                del calls  # they keep their connection from ending
                calls = self._next_calls()

    def _first_calls(self) -> list[_Call]:
        """Poll until there are calls that this thread may answer; none once everything ended."""
        while self._at_hand or self._under_way or self._watched:
            self._take_events()
            with self._turns:
                if self._waiting and self._answering < self._max_answering:
                    self._answering += 1
                    return self._some_waiting()
        return []

    def _next_calls(self) -> list[_Call]:
        """Return calls that came while this thread was busy; if none did, its turn is over."""
        with self._turns:
            if self._waiting:
                return self._some_waiting()
            self._answering -= 1
            return []

    @property
    def _queued(self) -> int:
        """How many calls wait for those that are being answered; with `_turns` held."""
        return max(0, self._unanswered - self._max_answering)

    def _some_waiting(self) -> list[_Call]:
        calls: list[_Call] = []
        size = 0
        while self._waiting and len(calls) < CALLS_AT_ONCE and size < BYTES_AT_ONCE:
            calls.append(self._waiting.popleft())
            size += len(calls[-1].request)
        return calls

    # --- events ----------------------------------------------------------------------------------

    def _take_events(self) -> None:
        """Wait for an event, and take those that have come by then."""
        deadline = time.time() + _IDLE_S
        for _ in range(EVENTS_AT_ONCE):
            event = self._queue.poll(deadline)
            if event.completion_type == _TIMEOUT:
                return
            try:
                event.tag(event)
            except Exception:
                LOGGER.exception("an event of a call could not be handled")
            event = None  # it may hold a call, which must not outlive its end
            deadline = 0.0

    def _want_calls(self) -> None:
        """Ask for as many calls as there is room for; what is too much gRPC gives up by itself."""
        with self._turns:
            room = self._admission.room(self._queued)
        while self._at_hand < min(CALLS_AT_HAND, room):
            try:
                self._server.request_registered_call(
                    self._queue, self._queue, self._method, self._on_call
                )
            except ValueError:  # the server is being stopped
                return
            self._at_hand += 1

    def _refuse(self, waiting: _Call) -> None:
        error = OverloadedError()
        self._reply(waiting, error)
        self._observer.ended(waiting, error)

    def _on_call(self, event: Any) -> None:
        self._at_hand -= 1
        if not event.success:  # the server is being stopped
            return
        self._under_way += 1
        self._want_calls()
        waiting = _Call(self._method, event)
        with self._turns:
            is_refused = self._admission.refuses(self._queued)
        if is_refused:
            self._refuse(waiting)
            return

        def on_request(received: Any) -> None:
            self._on_request(waiting, received.batch_operations[0].message())

        waiting.call.start_server_batch((cygrpc.ReceiveMessageOperation(_NO_FLAGS),), on_request)

    def _on_request(self, waiting: _Call, request: bytes | None) -> None:
        if request is None:
            self._end(waiting.call, _NO_REQUEST)
            self._observer.ended(waiting, MalformedMessageError("There is no request."))
            return
        waiting.request = request
        with self._turns:  # the limit counts here: before, a call is no more than a few bytes
            is_refused = self._unanswered >= self._max_calls
            if not is_refused:
                if self._answering >= self._max_answering:
                    self._watch(waiting)
                self._waiting.append(waiting)
                self._unanswered += 1
        if is_refused:
            self._refuse(waiting)

    def _watch(self, waiting: _Call) -> None:
        """Give up a call whose caller does not wait as long as it would have to."""

        def on_close(_: Any) -> None:
            self._watched -= 1
            has_given_up = False
            with self._turns:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
                    self._unanswered -= 1
                    self._under_way -= 1
                    has_given_up = True
            if has_given_up:
                is_late = waiting.deadline <= time.time()
                late = DeadlinePassedError("The deadline passed while the request waited.")
                self._observer.ended(waiting, late if is_late else JobCancelledError())
            self._want_calls()

        waiting.is_watched = True
        self._watched += 1
        waiting.call.start_server_batch(
            (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),), on_close
        )

    def _on_end(self, _: Any) -> None:
        self._under_way -= 1
        self._want_calls()

    # --- answers ---------------------------------------------------------------------------------

    def _answer(self, calls: list[_Call]) -> None:
        began = time.perf_counter()
        try:
            answers = self._answer_all(calls)
        except BaseException as error:  # noqa: BLE001 - a thread that dies is one less, for good
            failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
            answers = [failure] * len(calls)
        with self._turns:  # before the replies, whose ends make room for others
            self._unanswered -= len(calls)
        for call, answer in zip(calls, answers, strict=True):
            try:
                self._reply(call, answer)
                self._observer.ended(call, answer if isinstance(answer, Exception) else None)
            except Exception:
                LOGGER.exception("a call could not be answered")
        took_s = time.perf_counter() - began
        # A call that came to its end while it waited costs next to nothing: it says nothing of
        # how long the next one takes.
        worked_on = sum(not isinstance(answer, DeadlinePassedError) for answer in answers)
        if worked_on:
            with self._turns:
                self._admission.answered(worked_on, took_s, at_once=self._answering)

    def _reply(self, to: _Call, answer: bytes | Exception) -> None:
        if isinstance(answer, DeadlinePassedError) and to.deadline <= time.time():
            self._end(to.call, _TOO_LATE, is_watched=to.is_watched)  # nobody reads more
            return
        if isinstance(answer, Exception):
            status = rpc_status.to_status(logged_status(answer, request_id=request_id_of(to)))
            details = (status.code, (status.details or "").encode())
            self._end(to.call, details, status.trailing_metadata, is_watched=to.is_watched)
            return
        self._finish(
            to.call,
            cygrpc.SendStatusFromServerOperation(None, 0, b"", _NO_FLAGS),
            cygrpc.SendMessageOperation(answer, _NO_FLAGS),
            is_watched=to.is_watched,
        )

    def _end(
        self,
        call: Any,
        status: tuple[grpc.StatusCode, bytes],
        metadata: Any = None,
        *,
        is_watched: bool = False,
    ) -> None:
        code, details = status
        number = code.value[0]
        self._finish(
            call,
            cygrpc.SendStatusFromServerOperation(metadata, number, details, _NO_FLAGS),
            is_watched=is_watched,
        )

    def _finish(self, call: Any, *operations: Any, is_watched: bool) -> None:
        operations += (cygrpc.SendInitialMetadataOperation(None, _NO_FLAGS),)
        if not is_watched:
            operations += (cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),)
        call.start_server_batch(operations, self._on_end)

"""Methods that a worker passes on to the backend, bytes for bytes.

Here callers say who they are and are let in or not; what they want is read no further than that
needs. Deadlines and cancellations go on to the backend, and its statuses come back as they are.
"""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain
from typing import Any, Final

import grpc
from featurestore_protos.v1 import registry_pb2, training_pb2, writing_pb2
from featurestore_protos.v1.training_pb2 import GetHistoricalFeaturesRequest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from featurestore.errors import JobCancelledError, UnsupportedError
from featurestore_server.calls import (
    REQUEST_ID_HEADER,
    Call,
    Gate,
    Observer,
    request_id_of,
)
from featurestore_server.errors import (
    BackendUnavailableError,
    DeadlinePassedError,
    MalformedMessageError,
)
from featurestore_server.first_message import first_message
from featurestore_server.guard import Behavior, EndedError, call_of, in_pool, parse
from featurestore_server.link import BackendLink
from featurestore_server.permissions import admitted, require_permission
from featurestore_server.statuses import PassedOnError

LOGGER: Final = logging.getLogger("featurestore_server")

TRAINING_SERVICE: Final = training_pb2.DESCRIPTOR.services_by_name["TrainingService"].full_name
WRITING_SERVICE: Final = writing_pb2.DESCRIPTOR.services_by_name["WritingService"].full_name
REGISTRY_SERVICE: Final = registry_pb2.DESCRIPTOR.services_by_name["RegistryService"].full_name
SERVICES: Final = (TRAINING_SERVICE, WRITING_SERVICE, REGISTRY_SERVICE)

CALLER: Final = "x-featurestore-caller"
MAX_VALUE_CHARACTERS: Final = 200

THREADS: Final = 8
"""Pushes, and questions about the registry, under way at once in one worker."""
STREAMS: Final = 32
"""Training sets that one worker passes on at once; the backend takes fewer."""
LONG_S: Final = 366 * 86_400.0
"""Beyond this a deadline is none: grpcio says so by a far one."""
REQUEST_S: Final = 60.0
"""How long a request may take to come, of somebody who was let in: pushes are of megabytes."""

_UNARY: Final = (
    writing_pb2.DESCRIPTOR.services_by_name["WritingService"],
    registry_pb2.DESCRIPTOR.services_by_name["RegistryService"],
)


class PassedMethods:
    """The methods of the backend as a worker offers them.

    They have threads of their own: a training set that a slow client takes an hour for holds up no
    lookup.

    Args:
        link: The connection; None refuses all of them.
        gate: Decides who may call what.
        observer: Told how each call ended.
    """

    def __init__(self, link: BackendLink | None, *, gate: Gate, observer: Observer) -> None:
        self._link = link
        self._gate = gate
        self._observer = observer
        self._pools = (
            ThreadPoolExecutor(THREADS, thread_name_prefix="passed"),
            ThreadPoolExecutor(STREAMS, thread_name_prefix="training"),
        )

    def by_service(self) -> dict[str, dict[str, Any]]:
        """Return the method handlers by service and name; they are to be guarded."""
        unary, streams = self._pools
        services: dict[str, dict[str, Any]] = {}
        for service in _UNARY:
            services[service.full_name] = {}
            for method in service.methods:
                name = f"/{service.full_name}/{method.name}"
                behavior = in_pool(unary, self._pass_unary(name))
                handler: Any = grpc.stream_unary_rpc_method_handler(behavior, None, None)
                services[service.full_name][method.name] = handler
        behavior = in_pool(streams, self._pass_training)
        handler = grpc.stream_stream_rpc_method_handler(behavior, None, None)
        services[TRAINING_SERVICE] = {"GetHistoricalFeatures": handler}
        return services

    def close(self) -> None:
        """Let go of the threads, whose calls have ended."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

    def _pass_unary(self, method: str) -> Behavior:
        def behave(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
            with self._observed(call_of(method, b"", context)) as call:
                admitted(self._gate, call)
                request = call.request = first_message(requests, context, patience_s=REQUEST_S)
                channel = self._channel(call)
                passed = channel.unary_unary(method).future(request, **_terms(call))
                _end_together(context, passed)
                with _statuses():
                    reply: bytes = passed.result()
                return reply

        return behave

    def _pass_training(
        self, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        method = f"/{TRAINING_SERVICE}/GetHistoricalFeatures"
        with self._observed(call_of(method, b"", context)) as call:
            caller = call.caller = self._gate.admit(call)
            first = call.request = first_message(requests, context, field="query")
            call.service = _service_asked_for(first)
            require_permission(self._gate, call, caller, service=call.service)
            channel = self._channel(call)
            passed = channel.stream_stream(method)(
                _until_broken(chain([first], requests)), **_terms(call)
            )
            _end_together(context, passed)
            with _statuses():
                yield from passed

    @contextmanager
    def _observed(self, call: Call) -> Iterator[Call]:
        call.began = time.perf_counter()
        try:
            yield call
        except GeneratorExit:  # nobody takes the rest of the stream
            self._observer.ended(call, JobCancelledError())
            raise
        except Exception as error:
            self._observer.ended(call, error)
            raise EndedError(call, error) from error
        self._observer.ended(call, None)

    def _channel(self, call: Call) -> Any:
        if self._link is None:
            raise UnsupportedError(
                "This server answers lookups alone.",
                hint="training sets, pushes and the registry need server.backend in its"
                " feature_store.yaml",
            )
        if not self._link.wait(call.deadline - time.time()):
            raise BackendUnavailableError(
                "The part of the server that does this is being started, or does not answer."
            )
        return self._link.channel


def _service_asked_for(first: bytes) -> str:
    """Return the feature service that is asked for; "" when features are named one by one."""
    message: GetHistoricalFeaturesRequest = parse(GetHistoricalFeaturesRequest.FromString, first)
    if message.WhichOneof("part") != "query":
        raise MalformedMessageError(
            "The first message does not say what is wanted.", field="query", hint="send it first"
        )
    service: str = message.query.feature_service
    return service


def _until_broken(requests: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what the client sends; if it goes away, the call to the backend is cancelled already.

    What the iterator then raises would be logged, with a traceback.
    """
    with suppress(JobCancelledError):
        yield from requests


def _terms(call: Call) -> dict[str, Any]:
    """Return deadline and metadata of a call as the backend gets them."""
    left_s = call.deadline - time.time()
    caller = "" if call.caller is None else call.caller.name
    told = {REQUEST_ID_HEADER: request_id_of(call), CALLER: caller}
    return {
        "timeout": max(0.0, left_s) if left_s < LONG_S else None,
        "metadata": tuple((name, _plain(value)) for name, value in told.items() if value),
    }


def _plain(value: str) -> str:
    """Return text as metadata and logs take it."""
    cut = value[:MAX_VALUE_CHARACTERS]
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in cut)


def _end_together(context: grpc.ServicerContext, passed: Any) -> None:
    """Cancel a call to the backend when the one that it answers ends, which may be so already."""
    if not context.add_callback(passed.cancel):
        passed.cancel()


@contextmanager
def _statuses() -> Iterator[None]:
    """Turn what came back from the backend, or did not, into what the caller is told."""
    try:
        yield
    except (grpc.RpcError, grpc.FutureCancelledError) as error:
        raise _told(error) from None


def _told(error: Exception) -> Exception:
    """Return an error with the status of a call, if the backend made it."""
    code: Callable[[], grpc.StatusCode] | None = getattr(error, "code", None)
    if code is None:
        return JobCancelledError()
    trailing = tuple(error.trailing_metadata() or ())  # type: ignore[attr-defined]
    if any(name == "grpc-status-details-bin" for name, _ in trailing):
        details: str = error.details() or ""  # type: ignore[attr-defined]
        reason = _reason(error)
        return PassedOnError(details, code=code().name, reason=reason, trailing=trailing)
    if code() is grpc.StatusCode.CANCELLED:
        return JobCancelledError()
    if code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlinePassedError("The deadline passed before the answer was there.")
    LOGGER.error("the backend did not answer: %s", error)
    return BackendUnavailableError("The part of the server that does this ended meanwhile.")


def _reason(error: Any) -> str:
    """Return the reason in a status that the backend made."""
    status, info = rpc_status.from_call(error), ErrorInfo()
    found = (info.reason for packed in status.details if packed.Unpack(info))
    return next(found, "UNKNOWN")

"""Around every method: no exception leaves as text, whatever it is."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from featurestore.errors import JobCancelledError
from featurestore_server.calls import NO_DEADLINE, Call, Observer, request_id_of
from featurestore_server.errors import MalformedMessageError
from featurestore_server.failures import logged_failure
from featurestore_server.statuses import PassedOnError, status_for

Behavior = Callable[..., Any]


def guarded(behavior: Behavior) -> Behavior:
    """Return a method that answers what it raises with a status.

    Errors of the table go out as the table says. Anything else becomes INTERNAL with an id; the
    exception and its traceback are logged under that id and never sent.
    """

    @functools.wraps(behavior)
    def call(request: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
        try:
            return behavior(request, context, *rest)
        except Exception as error:  # noqa: BLE001 - this is the last place that can catch it
            abort(context, error)

    return call


def guarded_stream(behavior: Behavior) -> Behavior:
    """Return a method with a stream of replies that answers what it raises, as `guarded` does."""

    @functools.wraps(behavior)
    def call(request: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
        try:
            replies = behavior(request, context, *rest)
        except Exception as error:  # noqa: BLE001 - as above
            abort(context, error)
        return None if replies is None else _guarded_replies(replies, context)

    return call


def _guarded_replies(replies: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
    try:
        yield from replies
    except Exception as error:  # noqa: BLE001 - as above
        abort(context, error)


class EndedError(Exception):
    """What a call raised, with the call, so that its status has the id that observers were told."""

    def __init__(self, call: Call, error: Exception) -> None:
        super().__init__()
        self.call = call
        self.error = error


def observed(method: str, answer: Callable[[Call], bytes], observer: Observer) -> Behavior:
    """Return the behaviour of a method that answers calls as the lookup loop does.

    Args:
        method: Its full name.
        answer: Answers a call, or raises.
        observer: Told how each call ended.
    """

    def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
        call = call_of(method, request, context)
        try:
            reply = answer(call)
        except Exception as error:
            observer.ended(call, error)
            raise EndedError(call, error) from error
        observer.ended(call, None)
        return reply

    return behave


def call_of(method: str, request: bytes, context: grpc.ServicerContext) -> Call:
    """Return what grpcio's own server knows about a call."""
    left_s: float | None = context.time_remaining()  # never below 0; None without a deadline
    return Call(
        method,
        request,
        tuple(context.invocation_metadata()),
        deadline=NO_DEADLINE if left_s is None else time.time() + left_s,
        peer=context.peer,
        identities=lambda: [name.decode() for name in context.peer_identities() or ()],
    )


def abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with the status that stands for `error`."""
    call = call_of("", b"", context)
    if isinstance(error, EndedError):
        call, error = error.call, error.error
    if isinstance(error, PassedOnError):
        context.set_trailing_metadata(error.trailing)
        context.abort(grpc.StatusCode[error.answer.code], error.message)
    status = logged_status(error, request_id=request_id_of(call))
    context.abort_with_status(rpc_status.to_status(status))


def logged_status(error: Exception, *, request_id: str = "") -> Status:
    """Return the status that stands for `error`; log what it does not say, under its id."""
    return status_for(logged_failure(error, request_id=request_id))


def in_pool(pool: ThreadPoolExecutor, behavior: Behavior) -> Behavior:
    """Return a behaviour that grpcio runs in a pool of its own, instead of the server's."""

    def behave(request: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
        return behavior(request, context, *rest)

    behave.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return behave


class HandlerCollector:
    """Stands in for a server while a generated `add_..._to_server` registers its methods."""

    def __init__(self) -> None:
        self.services: dict[str, Mapping[str, Any]] = {}

    def add_generic_rpc_handlers(self, handlers: tuple[grpc.GenericRpcHandler, ...]) -> None:
        """Ignore the handlers: the same ones come by name."""

    def add_registered_method_handlers(self, service: str, methods: Mapping[str, Any]) -> None:
        """Take the methods of one service."""
        self.services[service] = methods


def add_guarded(server: grpc.Server, service: str, methods: Mapping[str, Any]) -> None:
    """Register a service whose methods are guarded."""
    wrapped = {name: _guarded_method(method) for name, method in methods.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))
    server.add_registered_method_handlers(service, wrapped)


def _guarded_method(method: Any) -> Any:
    """Return a method handler whose behaviour is guarded; messages are parsed inside the guard.

    grpcio would answer bytes that are no message with INTERNAL and a traceback in the log.
    """
    read, write = method.request_deserializer, method.response_serializer
    if method.unary_unary:
        call = guarded(_parsing(method.unary_unary, read))
        return grpc.unary_unary_rpc_method_handler(call, None, write)
    if method.unary_stream:
        call = guarded_stream(_parsing(method.unary_stream, read))
        return grpc.unary_stream_rpc_method_handler(call, None, write)
    if method.stream_stream:
        call = guarded_stream(_parsing_stream(method.stream_stream, read))
        return grpc.stream_stream_rpc_method_handler(call, None, write)
    call = guarded(_parsing_stream(method.stream_unary, read))
    return grpc.stream_unary_rpc_method_handler(call, None, write)


def _parsing(behavior: Behavior, read: Callable[[bytes], Any] | None) -> Behavior:
    if read is None:
        return behavior

    @functools.wraps(behavior)
    def call(request: bytes, context: grpc.ServicerContext, *rest: Any) -> Any:
        return behavior(parse(read, request), context, *rest)

    return call


def _parsing_stream(behavior: Behavior, read: Callable[[bytes], Any] | None) -> Behavior:
    @functools.wraps(behavior)
    def call(requests: Iterator[bytes], context: grpc.ServicerContext, *rest: Any) -> Any:
        sent = _sent(requests)
        messages = sent if read is None else (parse(read, request) for request in sent)
        return behavior(messages, context, *rest)

    return call


def _sent(requests: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what a client sends.

    Raises:
        JobCancelledError: It has gone, or its call was ended; grpcio says so by an error without
            a name or a word.
    """
    try:
        yield from requests
    except grpc.RpcError:
        raise JobCancelledError from None


def parse(read: Callable[[bytes], Any], request: bytes) -> Any:
    """Return the message in `request`.

    Raises:
        MalformedMessageError: It is not one.
    """
    from google.protobuf.message import DecodeError

    try:
        return read(request)
    except DecodeError:
        raise MalformedMessageError(
            "The request is not a protobuf message of the expected type."
        ) from None

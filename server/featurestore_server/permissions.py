"""What each method asks of its caller: one table, for whoever answers the method."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc

from featurestore_server.calls import Call, Caller, Gate, Observer, Permission
from featurestore_server.errors import PermissionDeniedError
from featurestore_server.guard import EndedError, call_of, in_pool

_V1: Final = "/featurestore.v1."
REFLECTION_METHODS: Final = (
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
)

PERMISSIONS: Final[Mapping[str, Permission | None]] = {
    f"{_V1}ServingService/GetOnlineFeatures": Permission.READ_ONLINE,
    f"{_V1}TrainingService/GetHistoricalFeatures": Permission.READ_OFFLINE,
    f"{_V1}WritingService/Push": Permission.WRITE,
    f"{_V1}RegistryService/GetProject": None,
    f"{_V1}RegistryService/ListObjects": None,
    f"{_V1}RegistryService/GetObject": None,
    f"{_V1}RegistryService/DescribeFeatures": None,
    **dict.fromkeys(REFLECTION_METHODS),
}
"""The permission that a method needs; None if any caller will do who is known.

Health is not among them: who looks after a server (Kubernetes, a load balancer) has no key.
"""


def admitted(gate: Gate, call: Call, *, service: str = "") -> Caller:
    """Return who calls, if it may, and note it in the call; for methods other than lookups.

    Args:
        gate: Who decides.
        call: A call of a method in `PERMISSIONS`.
        service: The feature service that it is about; "" for all of the project.

    Raises:
        UnauthenticatedError: Nobody knows who calls.
        PermissionDeniedError: It may not do this, or nobody has said who may.
    """
    caller = call.caller = gate.admit(call)
    require_permission(gate, call, caller, service=service)
    return caller


def require_permission(gate: Gate, call: Call, caller: Caller, *, service: str = "") -> None:
    """Return if somebody who was admitted may make a call: the second half of `admitted`.

    It is for methods that learn from the caller's first message which feature service it is about.

    Raises:
        PermissionDeniedError: It may not do this, or nobody has said who may.
    """
    if call.method not in PERMISSIONS:
        raise PermissionDeniedError("Nobody may call this method.")
    needed = PERMISSIONS[call.method]
    if needed is not None:
        gate.authorize(caller, needed, service=service)


def gated_stream(
    method: str, handler: Any, gate: Gate, observer: Observer, *, pool: ThreadPoolExecutor
) -> Any:
    """Return the handler of a method with two streams that only callers reach whom a gate admits.

    Args:
        method: Its full name.
        handler: Its grpcio handler.
        gate: Who decides.
        observer: Told how each call ended.
        pool: Whose threads it takes, one for as long as a call lasts.
    """

    def behave(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        call = call_of(method, b"", context)
        try:
            admitted(gate, call)
            yield from handler.stream_stream(requests, context)
        except Exception as error:
            observer.ended(call, error)
            raise EndedError(call, error) from error
        observer.ended(call, None)

    return grpc.stream_stream_rpc_method_handler(
        in_pool(pool, behave), handler.request_deserializer, handler.response_serializer
    )

"""Calls as a client without our SDK makes them, and how they fail."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import grpc
import pytest
from featurestore_protos.v1.serving_pb2 import FeatureList, GetOnlineFeaturesRequest
from featurestore_protos.v1.values_pb2 import Values
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status

Dial = Callable[[str], grpc.Channel]
Found = TypeVar("Found", bound=Message)


def lookup(
    features: str | Sequence[str],
    *,
    full_feature_names: bool = False,
    project: str = "",
    **entities: Values,
) -> GetOnlineFeaturesRequest:
    """A request for a service, or for features by name."""
    request = GetOnlineFeaturesRequest(
        project=project, full_feature_names=full_feature_names, entities=entities
    )
    if isinstance(features, str):
        request.feature_service = features
    else:
        request.features.CopyFrom(FeatureList(names=features))
    return request


def raw(channel: grpc.Channel, method: str) -> Callable[[bytes], bytes]:
    """A method that takes and returns bytes."""
    call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    return lambda request: call(request, timeout=10)


@contextmanager
def silent(channel: grpc.Channel, method: str, *, calls: int) -> Iterator[None]:
    """Calls that are under way, and have sent headers alone."""
    done = threading.Event()

    def nothing() -> Iterator[bytes]:
        done.wait()
        yield from ()

    ask: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    under_way = [ask(nothing(), timeout=60) for _ in range(calls)]
    try:
        yield
    finally:
        for call in under_way:
            call.cancel()
        done.set()


class Failure:
    """A call's status, taken apart."""

    def __init__(self, error: grpc.RpcError) -> None:
        call = cast("grpc.Call", error)
        self.code = call.code()
        self.message = call.details() or ""
        self.status = rpc_status.from_call(call)
        self.everything = repr(error) + repr(call.trailing_metadata())

    def detail(self, kind: type[Found]) -> Found:
        assert self.status is not None
        for packed in self.status.details:
            found = kind()
            if packed.Unpack(found):
                return found
        raise AssertionError(f"no {kind.__name__} in {self.status}")

    @property
    def reason(self) -> str:
        reason: str = self.detail(ErrorInfo).reason
        return reason

    @property
    def fields(self) -> list[str]:
        return [violation.field for violation in self.detail(BadRequest).field_violations]


def fails(call: Callable[[], object]) -> Failure:
    """Make a call that is expected to fail."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return Failure(caught.value)

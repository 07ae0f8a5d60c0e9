"""A small gRPC server of which a test says what it answers, to every method alike."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import grpc
import pytest
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesResponse
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from tests.servers import free_port

Context = Any
Answer = Callable[[bytes, Context], bytes]
EMPTY_REPLY = GetOnlineFeaturesResponse(project="scripted").SerializeToString()


def answer_empty(_: bytes, __: Context) -> bytes:
    return EMPTY_REPLY


def fail(context: Context, code: grpc.StatusCode, message: str, *details: Message) -> NoReturn:
    """End a call as servers of feature stores do."""
    status = Status(code=code.value[0], message=message)
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)
    raise AssertionError


@dataclass
class Scripted(grpc.GenericRpcHandler):
    """A server that is running.

    Attributes:
        answer: What it does with a request.
        calls: Of every call the method, the request and the metadata.
    """

    answer: Answer
    address: str = ""
    calls: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    server: Any = None

    def service(self, handler_call_details: Any) -> Any:
        details = handler_call_details

        def handle(request: bytes, context: Context) -> bytes:
            metadata = dict(details.invocation_metadata)
            self.calls.append((details.method, request, metadata))
            return self.answer(request, context)

        return grpc.unary_unary_rpc_method_handler(handle)

    def start(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.server = grpc.server(ThreadPoolExecutor(4), handlers=[self])
        address = self.address or "127.0.0.1:0"
        port = (
            self.server.add_secure_port(address, credentials)
            if credentials
            else self.server.add_insecure_port(address)
        )
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def stop(self) -> None:
        self.server.stop(None).wait()


class Script(Protocol):
    """Starts a server that answers so; the test's end stops it."""

    def __call__(
        self, answer: Answer = ..., credentials: grpc.ServerCredentials | None = None
    ) -> Scripted: ...


@pytest.fixture
def script() -> Iterator[Script]:
    with ExitStack() as stack:

        def start(
            answer: Answer = answer_empty, credentials: grpc.ServerCredentials | None = None
        ) -> Scripted:
            server = Scripted(answer)
            server.start(credentials)
            stack.callback(server.stop)
            return server

        yield start


def nobody() -> str:
    """An address at which nobody listens."""
    return f"127.0.0.1:{free_port()}"

"""The limit of the lookups: a gRPC server in Python whose handler does nothing.

    python -m benchmarks.empty_server PORT REPLY_BYTES

It answers every method with as many bytes as our server's reply has, from a pool of threads like
any synchronous server of grpcio, and says that it is healthy.
"""

from __future__ import annotations

import sys
from concurrent import futures
from typing import Any, TypeAlias

import grpc

from benchmarks.grpc_server import HEALTH_METHOD, SERVING

THREADS = 4
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class _Anything(grpc.GenericRpcHandler):
    def __init__(self, reply: bytes) -> None:
        self._empty: Handler = grpc.unary_unary_rpc_method_handler(lambda _request, _context: reply)
        self._healthy: Handler = grpc.unary_unary_rpc_method_handler(
            lambda _request, _context: SERVING
        )

    def service(self, handler_call_details: Any) -> Handler:
        return self._healthy if handler_call_details.method == HEALTH_METHOD else self._empty


def main() -> None:
    port, reply_bytes = (int(argument) for argument in sys.argv[1:])
    server = grpc.server(futures.ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((_Anything(bytes(reply_bytes)),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()

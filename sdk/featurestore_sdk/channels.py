"""The gRPC channels of a client, and the loop that makes a call. Its twin is async_channels."""

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

import grpc

from featurestore_sdk.connections import (
    CLOSED_DURING_CALL,
    Pool,
    channel_credentials,
    channel_options,
)
from featurestore_sdk.errors import ClientClosedError, ClientError
from featurestore_sdk.options import ClientOptions
from featurestore_sdk.requests import Call
from featurestore_sdk.retries import Tries

if TYPE_CHECKING:
    UnaryCall = grpc.UnaryUnaryMultiCallable[bytes, bytes]


class Connection:
    """A channel, and its methods that were called before."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        arguments = channel_options(target, options.tls)
        self.channel: grpc.Channel = (
            grpc.insecure_channel(target, arguments)
            if options.tls is None
            else grpc.secure_channel(target, channel_credentials(options.tls), arguments)
        )
        self._unary: dict[str, UnaryCall] = {}

    def unary(self, method: str) -> "UnaryCall":
        """Return what calls a method with the bytes of a message."""
        found = self._unary.get(method)
        if found is None:
            found = self._unary[method] = self.channel.unary_unary(method)
        return found


class Channels:
    """All connections of one client. Safe to use from several threads."""

    def __init__(self, options: ClientOptions) -> None:
        self._pool = Pool(options, lambda target: Connection(target, options))
        self._pool.ring  # noqa: B018 - now, not by several threads at once

    def unary(self, call: Call, timeout_s: float | None) -> bytes:
        """Make a call, again where that is of use, and return the reply.

        Args:
            call: The call.
            timeout_s: How long it may take, in seconds; None for what the client was told.

        Raises:
            ClientError: It failed.
        """
        tries = self._pool.tries(self._pool.seconds(timeout_s), repeatable=call.repeatable)
        while True:
            try:
                return self._call(self._pool.admitted, call, tries.left_s())
            except ClientError as failure:
                pause_s = tries.pause_after(failure)
                if pause_s is None:
                    raise
            time.sleep(pause_s)

    def once(self, call: Call, timeout_s: float | None) -> bytes:
        """Make a call a single time, whether or not servers refuse most calls.

        Raises:
            ClientError: It failed.
        """
        return self._call(self._pool.next, call, timeout_s)

    def _call(
        self, choose: Callable[[], tuple[int, Connection]], call: Call, timeout_s: float | None
    ) -> bytes:
        index, connection = choose()
        try:
            reply = connection.unary(call.method)(
                call.request, timeout=timeout_s, metadata=self._pool.metadata
            )
        except grpc.RpcError as error:
            raise self.failure_of(error, index) from error
        except ValueError:
            self._require_open()  # another thread may have closed the client a moment ago
            raise
        self._pool.succeeded(index)
        return reply

    def _require_open(self) -> None:
        if self._pool.closed:
            raise ClientClosedError(CLOSED_DURING_CALL) from None

    def tries(self, timeout_s: float | None) -> Tries:
        """Return the tries of a call that `stream` makes."""
        return self._pool.tries(timeout_s)

    def stream(
        self, method: str, requests: Iterator[bytes], timeout_s: float | None
    ) -> tuple[int, Any]:
        """Begin a call of many messages in both directions.

        Returns:
            The position of its connection, for `failure_of` and `succeeded`, and the call.

        Raises:
            ClientClosedError: The client is closed.
        """
        index, connection = self._pool.next()
        begin: grpc.StreamStreamMultiCallable[bytes, bytes] = connection.channel.stream_stream(
            method
        )
        try:
            return index, begin(requests, timeout=timeout_s, metadata=self._pool.metadata)
        except ValueError:
            self._require_open()
            raise

    def succeeded(self, index: int) -> None:
        """Take note of a call of `stream` that ended well."""
        self._pool.succeeded(index)

    def close(self) -> None:
        """Close the connections; calls under way are cancelled. Twice is fine."""
        for connection in self._pool.close():
            connection.channel.close()

    def failure_of(self, error: grpc.RpcError, index: int) -> ClientError:
        """Return the typed error of a call on the connection at `index`, and take note of it."""
        # What a call raises is both an RpcError and a Call; the types of grpcio do not say so.
        call = cast("grpc.Call", error)
        return self._pool.failed(index, call.code(), call.details(), call.trailing_metadata())

"""The gRPC channels of an async client, and the loop that makes a call: the twin of channels."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc.aio

from featurestore_sdk.connections import (
    CLOSED_DURING_CALL,
    Pool,
    channel_credentials,
    channel_options,
)
from featurestore_sdk.errors import ClientClosedError, ClientError
from featurestore_sdk.options import ClientOptions
from featurestore_sdk.requests import Call

if TYPE_CHECKING:
    UnaryCall = grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]


class Connection:
    """A channel, and its methods that were called before."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        arguments = channel_options(target, options.tls)
        self.channel: grpc.aio.Channel = (
            grpc.aio.insecure_channel(target, arguments)
            if options.tls is None
            else grpc.aio.secure_channel(target, channel_credentials(options.tls), arguments)
        )
        self._unary: dict[str, UnaryCall] = {}

    def unary(self, method: str) -> "UnaryCall":
        """Return what calls a method with the bytes of a message."""
        found = self._unary.get(method)
        if found is None:
            found = self._unary[method] = self.channel.unary_unary(method)
        return found


class AsyncChannels:
    """All connections of one client, on the event loop that uses them first."""

    def __init__(self, options: ClientOptions) -> None:
        self._pool = Pool(options, lambda target: Connection(target, options))
        self._loop: asyncio.AbstractEventLoop | None = None

    async def unary(self, call: Call, timeout_s: float | None) -> bytes:
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
                return await self._call(self._pool.admitted, call, tries.left_s())
            except ClientError as failure:
                pause_s = tries.pause_after(failure)
                if pause_s is None:
                    raise
            await asyncio.sleep(pause_s)

    async def once(self, call: Call, timeout_s: float | None) -> bytes:
        """Make a call a single time, whether or not servers refuse most calls.

        Raises:
            ClientError: It failed.
        """
        return await self._call(self._pool.next, call, timeout_s)

    async def _call(
        self, choose: Callable[[], tuple[int, Connection]], call: Call, timeout_s: float | None
    ) -> bytes:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            if self._loop is not None:
                raise ClientClosedError("This client belongs to another event loop; make another.")
            self._loop = loop
        index, connection = choose()
        try:
            reply = await connection.unary(call.method)(
                call.request, timeout=timeout_s, metadata=self._pool.metadata
            )
        except grpc.aio.AioRpcError as error:
            raise self.failure_of(error, index) from error
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._pool.closed and not (task and task.cancelling()):
                # Nobody cancelled the task: closing a channel of grpc.aio does so to its calls.
                raise ClientClosedError(CLOSED_DURING_CALL) from None
            raise
        self._pool.succeeded(index)
        return reply

    async def close(self) -> None:
        """Close the connections; calls under way are cancelled. Twice is fine."""
        for connection in self._pool.close():
            await connection.channel.close()

    def failure_of(self, error: grpc.aio.AioRpcError, index: int) -> ClientError:
        """Return the typed error of a call on the connection at `index`, and take note of it."""
        return self._pool.failed(index, error.code(), error.details(), error.trailing_metadata())

"""Which connections there are, and whose turn it is: what both clients share of them."""

import itertools
import json
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Final, Generic, TypeVar

import grpc

from featurestore_sdk.errors import ClientClosedError, ClientError, UnavailableError
from featurestore_sdk.failures import (
    NOT_SENT,
    OVERLOADED,
    Metadata,
    error_from_status,
    is_refused,
    is_unsent,
)
from featurestore_sdk.options import ClientOptions, Tls, is_local
from featurestore_sdk.retries import Throttle, Tries
from featurestore_sdk.throttling import LoadThrottle

MAX_REPLY_BYTES: Final = 256 << 20
"""Replies larger than this fail with LimitExceededError."""
PASS_OVER_S: Final = 1.0
"""How long a connection that failed is passed over while others work."""

# For a name behind which there are several servers. Retries are ours: gRPC's policy stays within
# one channel, and so with an address that is down.
_IN_TURN: Final = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})

CLOSED_DURING_CALL: Final = "The client was closed while the call was under way."

Channel = TypeVar("Channel")


def channel_options(target: str, tls: Tls | None) -> list[tuple[str, str | int]]:
    """Return the gRPC options of a channel to `target`."""
    options: list[tuple[str, str | int]] = [
        # Without a pool of its own a channel shares one connection with its siblings, and one
        # connection ends at one worker process of the server.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_receive_message_length", MAX_REPLY_BYTES),
        # A server that is back is found again within the pauses of one call's tries. The second
        # is how long a connection may take, whatever its name says.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1_000),
        ("grpc.max_reconnect_backoff_ms", 500),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    if target.startswith("dns:"):
        options.append(("grpc.service_config", _IN_TURN))
    if is_local(target):  # a proxy from the environment is no way to get there
        options.append(("grpc.enable_http_proxy", 0))
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Return what gRPC needs to check the server, and to be checked."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca, private_key=tls.key, certificate_chain=tls.certificate
    )


class Ring(Generic[Channel]):
    """Channels in turn, several to each address; those that failed a moment ago are passed over.

    Args:
        options: What the client was told.
        connect: Makes a channel to an address.
    """

    def __init__(self, options: ClientOptions, connect: Callable[[str], Channel]) -> None:
        self._addresses = len(options.targets)
        # a, b, a, b: calls that follow each other go to different addresses.
        self._channels = [connect(t) for _ in range(options.connections) for t in options.targets]
        self._count = len(self._channels)
        self._turns = itertools.count()
        self._down_until = [0.0] * self._count
        self._any_down = False

    @property
    def channels(self) -> Sequence[Channel]:
        """All of them."""
        return self._channels

    def next(self) -> tuple[int, Channel]:
        """Return the position of the channel whose turn it is, and the channel."""
        turn = next(self._turns)
        index = turn % self._count if not self._any_down else self._next_up(turn)
        return index, self._channels[index]

    def _next_up(self, turn: int) -> int:
        now = time.monotonic()
        up = [index for index, until in enumerate(self._down_until) if until <= now]
        self._any_down = len(up) < self._count
        return up[turn % len(up)] if up else turn % self._count

    def succeeded(self, index: int) -> None:
        """Take note that a channel works."""
        if self._any_down:
            self._down_until[index] = 0.0

    def failed(self, index: int, failure: ClientError) -> None:
        """Take note of a call that failed."""
        if not isinstance(failure, UnavailableError) or failure.reason:
            return  # somebody answered: the connection works
        until = time.monotonic() + PASS_OVER_S
        if is_unsent(failure):  # nobody listens, to its siblings neither
            for sibling in range(index % self._addresses, self._count, self._addresses):
                self._down_until[sibling] = until
        self._down_until[index] = until
        self._any_down = True


class Pool(Generic[Channel]):
    """What the calls of one client have in common.

    Attributes:
        metadata: What goes with every call.
        closed: Whether the client was closed.
    """

    def __init__(self, options: ClientOptions, connect: Callable[[str], Channel]) -> None:
        self.metadata: tuple[tuple[str, str], ...] = options.metadata
        self.closed: bool = False
        self._options = options
        self._connect = connect
        self._throttle = Throttle()
        self._opened = False

    @cached_property
    def ring(self) -> Ring[Channel]:
        """The connections; made when they are first needed, on the event loop that needs them."""
        self._opened = True
        return Ring(self._options, self._connect)

    @cached_property
    def _loads(self) -> Sequence[LoadThrottle]:
        """A throttle for each connection: it ends at one process of one server."""
        return [LoadThrottle() for _ in self.ring.channels]

    def next(self) -> tuple[int, Channel]:
        """Return the position of the connection whose turn it is, and the connection.

        Raises:
            ClientClosedError: The client is closed.
        """
        if self.closed:
            raise ClientClosedError("This client is closed; make another one.")
        return self.ring.next()

    def admitted(self) -> tuple[int, Channel]:
        """Return the same of the next connection on which a call may be sent now.

        Raises:
            ClientClosedError: The client is closed.
            UnavailableError: There is none: servers refuse most calls.
        """
        for _ in self.ring.channels:
            index, channel = self.next()
            if self._loads[index].admits():
                return index, channel
        raise UnavailableError(NOT_SENT, code="UNAVAILABLE", reason=OVERLOADED)

    def tries(self, timeout_s: float | None, *, repeatable: bool = True) -> Tries:
        """Return the tries of a new call."""
        return Tries(
            self._options.retry,
            self._throttle,
            timeout_s=timeout_s,
            repeatable=repeatable,
            addresses=len(self._options.targets),
        )

    def seconds(self, timeout_s: float | None) -> float:
        """Return a call's timeout, or that of the client."""
        return self._options.timeout_s if timeout_s is None else timeout_s

    def succeeded(self, index: int) -> None:
        """Take note of a call that was answered."""
        self.ring.succeeded(index)
        self._throttle.succeeded()
        self._loads[index].taken()

    def failed(
        self, index: int, code: grpc.StatusCode, details: str | None, trailers: Metadata | None
    ) -> ClientError:
        """Take note of a call that failed, and return its typed error."""
        if self.closed:
            return ClientClosedError(CLOSED_DURING_CALL)
        failure = error_from_status(code.name, details or "", trailers or ())
        self.ring.failed(index, failure)
        if is_refused(failure):
            self._loads[index].refused()
        else:
            self._loads[index].taken()
        return failure

    def close(self) -> Sequence[Channel]:
        """Let no call begin any more, and return the connections to close."""
        self.closed = True
        return self.ring.channels if self._opened else ()

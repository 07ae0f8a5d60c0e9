"""The client."""

import time
from collections.abc import Sequence
from itertools import cycle
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, cast

import grpc
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub

from featurestore_sdk.connections import channel_options
from featurestore_sdk.entities import Entities
from featurestore_sdk.errors import ClientClosedError, UnavailableError
from featurestore_sdk.failures import error_from_status
from featurestore_sdk.requests import online_request
from featurestore_sdk.responses import OnlineFeatures

if TYPE_CHECKING:
    from featurestore_sdk.errors import ClientError

DEFAULT_TIMEOUT_S: Final = 2.0
_HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"
# Written by hand, so that nobody needs the package grpcio-health-checking for two messages:
# HealthCheckRequest(service=...) and HealthCheckResponse(status=SERVING) of grpc.health.v1.
_SERVICE: Final = b"featurestore.v1.ServingService"
_HEALTH_REQUEST: Final = bytes([0x0A, len(_SERVICE)]) + _SERVICE
_SERVING: Final = b"\x08\x01"
_POLL_S: Final = 0.05


class FeatureStoreClient:
    """Fetches features from a feature store's server. Safe to use from several threads.

    Connections are opened when they are first needed and stay open; use the client as a context
    manager, or `close()` it. Do not use one across a fork.

    Args:
        address: `host:port`, or `unix:/path`.
        timeout_s: How long a call may take by default, retries included, in seconds.
        connections: How many connections to open. The server's worker processes share
            connections, not calls, so that one connection keeps one worker busy.
        project: The project the server is expected to serve; None takes any.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        connections: int = 4,
        project: str | None = None,
    ) -> None:
        if connections < 1:
            raise ValueError("connections is at least 1")
        self._address = address
        self._timeout_s = timeout_s
        self._project = project
        options = channel_options(address)
        self._channels = [grpc.insecure_channel(address, options) for _ in range(connections)]
        self._stubs = cycle([ServingServiceStub(channel) for channel in self._channels])
        self._closed = False

    def get_online_features(
        self,
        features: str | Sequence[str],
        entities: Entities,
        *,
        full_feature_names: bool = False,
        timeout_s: float | None = None,
    ) -> OnlineFeatures:
        """Return the newest values of features for a batch of entities.

        An entity that the store does not know is no error: its values are None and their status is
        NOT_FOUND. Calls that find the server unavailable are tried up to four times.

        Args:
            features: The name of a feature service, or a list of `"view:feature"`.
            entities: A dict of columns, a list of dicts, or a table of pandas, Polars, Arrow or
                anything with the Arrow PyCapsule interface; it has the join keys, the
                request fields of on-demand features, and nothing else.
            full_feature_names: Name features `view__feature` instead of `feature`.
            timeout_s: How long this call may take, in seconds; None takes the client's.

        Raises:
            InvalidRequestError: A join key or request field is missing, unknown or of the wrong
                type; an on-demand feature has no value for an entity.
            NotFoundError: The server does not know a service, view, feature or the project.
            LimitExceededError: Request or reply are too large.
            UnavailableError: The server or its store cannot be reached.
            DeadlineExceededError: There was no answer in time.
            ServerError: The server failed.
            ClientClosedError: The client is closed.
        """
        request = online_request(
            features, entities, full_feature_names=full_feature_names, project=self._project
        )
        self._check_open()
        stub = next(self._stubs)
        try:
            response = stub.GetOnlineFeatures(request, timeout=self._seconds(timeout_s))
        except grpc.RpcError as error:
            raise _typed(error) from error
        return OnlineFeatures(response)

    def wait_ready(self, timeout_s: float = 10.0) -> None:
        """Wait until the server says that it serves.

        Raises:
            UnavailableError: It did not within `timeout_s` seconds.
            ClientClosedError: The client is closed.
        """
        self._check_open()
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channels[0].unary_unary(
            _HEALTH_METHOD
        )
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                if check(_HEALTH_REQUEST, timeout=left_s, wait_for_ready=True) == _SERVING:
                    return
            except grpc.RpcError as error:
                failure: ClientError = _typed(error)
                if not failure.retryable:
                    raise failure from error
            time.sleep(min(_POLL_S, left_s))
        raise UnavailableError(
            f"The server at {self._address} was not ready within {timeout_s:g} s."
        )

    def close(self) -> None:
        """Close the connections; calls under way are cancelled. Twice is fine."""
        self._closed = True
        for channel in self._channels:
            channel.close()

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError("This client is closed; make another one.")

    def _seconds(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _typed(error: grpc.RpcError) -> "ClientError":
    # What a call raises is both an RpcError and a Call; the types of grpcio do not say so.
    call = cast("grpc.Call", error)
    return error_from_status(call.code().name, call.details() or "", call.trailing_metadata() or ())

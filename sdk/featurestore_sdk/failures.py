"""From a failed call to a typed error. Pure, so that every kind of client can share it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from featurestore_sdk.errors import (
    AccessDeniedError,
    ClientError,
    DeadlineExceededError,
    FieldViolation,
    InvalidRequestError,
    LimitExceededError,
    NotFoundError,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedByServerError,
)

if TYPE_CHECKING:
    from google.protobuf.any_pb2 import Any as AnyMessage

Metadata = Iterable[tuple[str, str | bytes]]
ERROR_DOMAIN: Final = "featurestore"
OVERLOADED: Final = "OVERLOADED"
"""The reason of a call that a server did not take because it has too many."""
NOT_SENT: Final = "The servers refuse most calls, so that this one was not sent; try again later."
DETAILS_KEY: Final = "grpc-status-details-bin"

_PLAIN: Final[dict[str, type[ClientError]]] = {
    "UNAVAILABLE": UnavailableError,
    # Nobody here cancelled it: gRPC's server does so to calls that come while it shuts down.
    "CANCELLED": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "RESOURCE_EXHAUSTED": LimitExceededError,
    "UNAUTHENTICATED": UnauthenticatedError,
    "PERMISSION_DENIED": AccessDeniedError,
    "UNIMPLEMENTED": UnsupportedByServerError,
}
_NO_CONNECTION: Final = (
    "failed to connect to all addresses",
    "connections to all backends failing",
    "errors resolving",
    "DNS resolution failed",
)
_INVALID: Final = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE"})


@dataclass
class _Facts:
    """What the details of a failure say."""

    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[FieldViolation] = field(default_factory=list)
    retry_after_s: float | None = None

    @property
    def suggestions(self) -> tuple[str, ...]:
        try:
            names = json.loads(self.metadata.get("suggestions", "[]"))
        except ValueError:
            return ()
        return tuple(map(str, names)) if isinstance(names, list) else ()


def error_from_status(code: str, message: str, trailing_metadata: Metadata) -> ClientError:
    """Return the typed error of a call that failed.

    Args:
        code: The gRPC status by name, such as "NOT_FOUND".
        message: The status' message.
        trailing_metadata: Keys and values that came with the status.
    """
    facts = _facts(trailing_metadata)
    if code in _INVALID and facts.reason != "LIMIT_EXCEEDED":
        return InvalidRequestError(
            message,
            violations=facts.violations,
            suggestions=facts.suggestions,
            code=code,
            reason=facts.reason,
            metadata=facts.metadata,
        )
    if code == "NOT_FOUND":
        return NotFoundError(
            message,
            kind=facts.metadata.get("kind", ""),
            name=facts.metadata.get("name", ""),
            suggestions=facts.suggestions,
            code=code,
            reason=facts.reason,
            metadata=facts.metadata,
        )
    kind = LimitExceededError if code in _INVALID else _PLAIN.get(code, ServerError)
    return kind(
        message,
        code=code,
        reason=facts.reason,
        metadata=facts.metadata,
        retry_after_s=facts.retry_after_s,
    )


def is_unsent(failure: ClientError) -> bool:
    """Whether a call surely never left this machine: no connection could be made.

    gRPC says so in its message alone. Should its words change, calls that may not be repeated are
    not repeated any more; a test would notice.
    """
    return (
        failure.code == "UNAVAILABLE"
        and not failure.reason
        and failure.message.startswith(_NO_CONNECTION)
    )


def was_kept_back(failure: ClientError) -> bool:
    """Whether the client itself did not send a call, because servers would only refuse it."""
    return failure.message == NOT_SENT


def is_refused(failure: ClientError) -> bool:
    """Whether a server did not take a call because it has too many.

    It says so while it has the time, and lets gRPC end calls without a word when it has not.
    """
    return failure.reason == OVERLOADED or (failure.code == "CANCELLED" and not failure.reason)


def _facts(trailing_metadata: Metadata) -> _Facts:
    facts = _Facts()
    for key, value in trailing_metadata:
        if key == DETAILS_KEY and isinstance(value, bytes):
            _read_details(value, facts)
    return facts


def _read_details(serialized: bytes, facts: _Facts) -> None:
    # Imported here: only a failure needs them, and importing this package is to cost little.
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status

    try:
        for detail in Status.FromString(serialized).details:
            _read_detail(detail, facts)
    except DecodeError:
        return  # a proxy's invention: the status' code and message still stand


def _read_detail(detail: "AnyMessage", facts: _Facts) -> None:
    from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    if detail.Unpack(info) and info.domain == ERROR_DOMAIN:
        facts.reason = info.reason
        facts.metadata = dict(info.metadata)
    elif detail.Unpack(bad):
        facts.violations = [
            FieldViolation(field=v.field, description=v.description) for v in bad.field_violations
        ]
    elif detail.Unpack(retry):
        facts.retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9

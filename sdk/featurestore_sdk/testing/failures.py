"""From a typed error to what a server sends: the other direction of featurestore_sdk.failures."""

import json
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from featurestore_sdk import errors
from featurestore_sdk.failures import ERROR_DOMAIN

_CODES: Final[dict[type[errors.ClientError], str]] = {
    errors.InvalidRequestError: "INVALID_ARGUMENT",
    errors.NotFoundError: "NOT_FOUND",
    errors.UnauthenticatedError: "UNAUTHENTICATED",
    errors.AccessDeniedError: "PERMISSION_DENIED",
    errors.LimitExceededError: "RESOURCE_EXHAUSTED",
    errors.UnavailableError: "UNAVAILABLE",
    errors.DeadlineExceededError: "DEADLINE_EXCEEDED",
    errors.UnsupportedByServerError: "UNIMPLEMENTED",
    errors.ServerError: "INTERNAL",
}


def code_of(error: errors.ClientError) -> str:
    """Return the gRPC status, by name, with which a server sends an error.

    Raises:
        ValueError: No server sends such an error.
    """
    if type(error) not in _CODES:
        raise ValueError(f"no server sends a {type(error).__name__}")
    return error.code or _CODES[type(error)]


def details_of(error: errors.ClientError, code: int) -> bytes:
    """Return the serialized google.rpc.Status that goes with it."""
    status = Status(code=code, message=error.message)
    for detail in _details(error):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    serialized: bytes = status.SerializeToString()
    return serialized


def _details(error: errors.ClientError) -> list[Message]:
    metadata = dict(error.metadata)
    if isinstance(error, errors.NotFoundError):
        metadata |= {"kind": error.kind, "name": error.name}
    if isinstance(error, errors.NotFoundError | errors.InvalidRequestError) and error.suggestions:
        metadata["suggestions"] = json.dumps(list(error.suggestions))
    # With a reason, so that it counts as a server's answer and not as a lost connection.
    reason = error.reason or "FAKED"
    found: list[Message] = [ErrorInfo(domain=ERROR_DOMAIN, reason=reason, metadata=metadata)]
    if isinstance(error, errors.InvalidRequestError) and error.violations:
        violations = [
            BadRequest.FieldViolation(field=v.field, description=v.description)
            for v in error.violations
        ]
        found.append(BadRequest(field_violations=violations))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMicroseconds(round(error.retry_after_s * 1e6))
        found.append(RetryInfo(retry_delay=delay))
    return found

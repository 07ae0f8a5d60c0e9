"""From an error to a google.rpc.Status with details."""

import json
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from featurestore.errors import (
    EntityValueError,
    FeatureStoreError,
    NameCollisionError,
    NotFoundError,
)
from featurestore_server.errors import (
    Answer,
    LimitExceededError,
    MalformedMessageError,
    answer_to,
    reason_of,
)

ERROR_DOMAIN: Final = "featurestore"
# A status travels in HTTP/2 trailers, which clients refuse above 8 KiB in all. The message is in
# there twice, once in a form that takes three bytes per byte.
_MAX_MESSAGE_BYTES: Final = 1_000
_MAX_FIELD_BYTES: Final = 500
_MAX_NAME_BYTES: Final = 250


def status_of(error: Exception, *, error_id: str = "", request_id: str = "") -> Status:
    """Return what a client is told about `error`.

    Args:
        error: What went wrong.
        error_id: The id under which the error was logged; goes out when the message does not.
        request_id: What logs call the request; goes out unless it is "".
    """
    answer = answer_to(error)
    if answer.message is None and isinstance(error, FeatureStoreError):
        message = f"{error.message} Hint: {error.hint}" if error.hint else error.message
    else:
        message = f"{answer.message or 'The request failed.'} Error id: {error_id}"
    code = StatusCode[answer.code].value[0]
    status = Status(code=code, message=_cut(message, _MAX_MESSAGE_BYTES))
    metadata = _metadata(error)
    if answer.message is not None:
        metadata["error_id"] = error_id
    if request_id:
        metadata["request_id"] = request_id
    for detail in _details(error, answer, status.message, metadata):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(
    error: Exception, answer: Answer, message: str, metadata: dict[str, str]
) -> list[Message]:
    reason = reason_of(error)
    details: list[Message] = [ErrorInfo(reason=reason, domain=ERROR_DOMAIN, metadata=metadata)]
    if field := _field(error):
        violation = BadRequest.FieldViolation(
            field=_cut(field, _MAX_NAME_BYTES),
            description=_cut(message, _MAX_FIELD_BYTES),
            reason=reason,
        )
        details.append(BadRequest(field_violations=[violation]))
    if answer.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(answer.retry_after_s * 1_000))
        details.append(RetryInfo(retry_delay=delay))
    return details


def _field(error: Exception) -> str:
    if isinstance(error, EntityValueError):
        row = "" if error.row is None else f"[{error.row}]"
        return f"entities.{_cut(error.field, _MAX_NAME_BYTES - 32)}{row}"
    if isinstance(error, MalformedMessageError | LimitExceededError):
        return error.field
    return "features" if isinstance(error, NameCollisionError) else ""


def _metadata(error: Exception) -> dict[str, str]:
    metadata: dict[str, str] = {}
    if isinstance(error, NotFoundError):
        metadata |= {"kind": error.kind, "name": _cut(error.name, _MAX_NAME_BYTES)}
    if isinstance(error, NotFoundError | EntityValueError) and error.suggestions:
        names = list(error.suggestions)
        while len(json.dumps(names, ensure_ascii=False).encode()) > _MAX_FIELD_BYTES:
            names.pop()
        metadata["suggestions"] = json.dumps(names, ensure_ascii=False)
    return metadata


def _cut(text: str, limit: int) -> str:
    """Return the beginning of `text` that fits into `limit` bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    return raw[:limit].decode("utf-8", "ignore")

"""From what a client is told to a google.rpc.Status with details."""

from collections.abc import Sequence
from typing import Final

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from featurestore.errors import FeatureStoreError
from featurestore_server.errors import Answer
from featurestore_server.failures import Failure, failure_of, suggestions_text

ERROR_DOMAIN: Final = "featurestore"


class PassedOnError(FeatureStoreError):
    """The backend answered with a status, which goes to the client as it is.

    Attributes:
        answer: The row of the table that it came from, as far as the status says.
        trailing: What came with it.
    """

    def __init__(
        self, message: str, *, code: str, reason: str, trailing: Sequence[tuple[str, str | bytes]]
    ) -> None:
        super().__init__(message)
        self.answer = Answer(code, reason)
        self.trailing = tuple(trailing)


def status_of(error: Exception, *, error_id: str = "") -> Status:
    """Return what a client is told about `error`; arguments are those of `failure_of`."""
    return status_for(failure_of(error, error_id=error_id))


def status_for(failure: Failure) -> Status:
    """Return a failure as gRPC carries it."""
    code = StatusCode[failure.answer.code].value[0]
    status = Status(code=code, message=failure.message)
    for detail in _details(failure):
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(failure: Failure) -> list[Message]:
    info = ErrorInfo(reason=failure.reason, domain=ERROR_DOMAIN, metadata=_metadata(failure))
    details: list[Message] = [info]
    if failure.field:
        violation = BadRequest.FieldViolation(
            field=failure.field, description=failure.description, reason=failure.reason
        )
        details.append(BadRequest(field_violations=[violation]))
    if failure.answer.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(failure.answer.retry_after_s * 1_000))
        details.append(RetryInfo(retry_delay=delay))
    return details


def _metadata(failure: Failure) -> dict[str, str]:
    metadata = {"kind": failure.kind, "name": failure.name, "error_id": failure.error_id}
    metadata["request_id"] = failure.request_id
    if failure.suggestions:
        metadata["suggestions"] = suggestions_text(failure.suggestions)
    return {key: value for key, value in metadata.items() if value}

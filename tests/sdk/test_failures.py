"""From a status with its details to a typed error."""

import pytest
from featurestore_sdk import (
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
from featurestore_sdk.failures import DETAILS_KEY, error_from_status
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status


def _trailers(*details: Message) -> list[tuple[str, str | bytes]]:
    status = Status()
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    return [("other", "x"), (DETAILS_KEY, status.SerializeToString())]


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("INVALID_ARGUMENT", InvalidRequestError, False),
        ("OUT_OF_RANGE", InvalidRequestError, False),
        ("NOT_FOUND", NotFoundError, False),
        ("UNAUTHENTICATED", UnauthenticatedError, False),
        ("PERMISSION_DENIED", AccessDeniedError, False),
        ("RESOURCE_EXHAUSTED", LimitExceededError, False),
        ("UNAVAILABLE", UnavailableError, True),
        ("DEADLINE_EXCEEDED", DeadlineExceededError, True),
        ("UNIMPLEMENTED", UnsupportedByServerError, False),
        ("INTERNAL", ServerError, False),
        ("DATA_LOSS", ServerError, False),
        ("UNKNOWN", ServerError, False),
        ("CANCELLED", UnavailableError, True),
        ("ABORTED", ServerError, False),
    ],
)
def test_every_status_has_a_typed_error(
    code: str,
    kind: type[ClientError],
    retryable: bool,  # noqa: FBT001
) -> None:
    error = error_from_status(code, "what happened", [])
    assert (type(error), error.code, error.retryable) == (kind, code, retryable)
    assert str(error) == "what happened"


def test_a_request_over_a_limit_of_the_server_has_its_own_error() -> None:
    info = ErrorInfo(reason="LIMIT_EXCEEDED", domain="featurestore")
    error = error_from_status("INVALID_ARGUMENT", "too many", _trailers(info))
    assert (type(error), error.reason) == (LimitExceededError, "LIMIT_EXCEEDED")


def test_field_violations_are_attributes() -> None:
    bad = BadRequest(
        field_violations=[BadRequest.FieldViolation(field="entities.a[3]", description="too large")]
    )
    info = ErrorInfo(reason="ENTITY_VALUE_INVALID", domain="featurestore")
    error = error_from_status("INVALID_ARGUMENT", "bad", _trailers(info, bad))
    assert isinstance(error, InvalidRequestError)
    assert error.violations == (FieldViolation(field="entities.a[3]", description="too large"),)
    assert error.reason == "ENTITY_VALUE_INVALID"


def test_what_was_not_found_and_what_looks_like_it_are_attributes() -> None:
    facts = {"kind": "feature service", "name": "frad", "suggestions": '["fraud", "frugal"]'}
    info = ErrorInfo(reason="FEATURE_SERVICE_NOT_FOUND", domain="featurestore", metadata=facts)
    error = error_from_status("NOT_FOUND", "gone", _trailers(info))
    assert isinstance(error, NotFoundError)
    assert (error.kind, error.name, error.suggestions) == (
        "feature service",
        "frad",
        ("fraud", "frugal"),
    )


def test_the_pause_before_a_retry_is_an_attribute() -> None:
    retry = RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    error = error_from_status("UNAVAILABLE", "later", _trailers(retry))
    assert error.retry_after_s == 1.5


def test_the_id_of_a_failure_is_an_attribute() -> None:
    info = ErrorInfo(reason="INTERNAL", domain="featurestore", metadata={"error_id": "abc"})
    error = error_from_status("INTERNAL", "failed", _trailers(info))
    assert isinstance(error, ServerError)
    assert error.error_id == "abc"


@pytest.mark.parametrize(
    "details",
    [
        [(DETAILS_KEY, b"\xff\xff")],
        [(DETAILS_KEY, "text")],
        _trailers(ErrorInfo(reason="OTHER", domain="somebody.else", metadata={"name": "x"})),
        _trailers(ErrorInfo(domain="featurestore", metadata={"suggestions": "not json"})),
        _trailers(ErrorInfo(domain="featurestore", metadata={"suggestions": '{"a": 1}'})),
    ],
)
def test_details_of_others_do_no_harm(details: list[tuple[str, str | bytes]]) -> None:
    error = error_from_status("NOT_FOUND", "gone", details)
    assert isinstance(error, NotFoundError)
    assert (error.reason, error.name, error.suggestions) == ("", "", ())

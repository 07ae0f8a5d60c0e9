"""The one table from errors to what a client is told."""

import json
from typing import TypeVar

import pytest
from featurestore_server.errors import (
    ANSWERS,
    DeadlinePassedError,
    LimitExceededError,
    MalformedMessageError,
    OverloadedError,
    PermissionDeniedError,
    UnauthenticatedError,
    answer_to,
)
from featurestore_server.statuses import status_of
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from featurestore import errors as core

Found = TypeVar("Found", bound=Message)
PRIVATE = "redis://user:secret@10.0.0.7"

CASES: list[tuple[Exception, StatusCode, str]] = [
    (MalformedMessageError("bad"), StatusCode.INVALID_ARGUMENT, "MESSAGE_MALFORMED"),
    (LimitExceededError("much", field="features"), StatusCode.INVALID_ARGUMENT, "LIMIT_EXCEEDED"),
    (
        core.EntityValueError("bad", field="user_id", row=3),
        StatusCode.INVALID_ARGUMENT,
        "ENTITY_VALUE_INVALID",
    ),
    (
        core.NameCollisionError("twice", names=["a", "A"]),
        StatusCode.INVALID_ARGUMENT,
        "NAME_COLLISION",
    ),
    (
        core.ComputationError(feature="ratio:x", row=0, reason="integer overflow in +"),
        StatusCode.OUT_OF_RANGE,
        "FEATURE_NOT_COMPUTABLE",
    ),
    (
        core.FunctionCallError(
            view="scored", function="scoring:f", first_row=0, last_row=0, reason=PRIVATE
        ),
        StatusCode.INTERNAL,
        "FUNCTION_FAILED",
    ),
    (core.RequestError("bad"), StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID"),
    (
        core.NotFoundError("feature service", "frad", known=["fraud"]),
        StatusCode.NOT_FOUND,
        "FEATURE_SERVICE_NOT_FOUND",
    ),
    (core.NotFoundError("feature", "x"), StatusCode.NOT_FOUND, "FEATURE_NOT_FOUND"),
    (core.UnsupportedError("cannot"), StatusCode.UNIMPLEMENTED, "UNSUPPORTED"),
    (UnauthenticatedError("who?"), StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
    (PermissionDeniedError("not you"), StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    (OverloadedError("much to do"), StatusCode.UNAVAILABLE, "OVERLOADED"),
    (DeadlinePassedError("late"), StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED"),
    (core.StoreUnavailableError(PRIVATE), StatusCode.UNAVAILABLE, "ONLINE_STORE_UNAVAILABLE"),
    (core.StoreDataError(PRIVATE), StatusCode.DATA_LOSS, "STORED_ROW_UNREADABLE"),
    (core.StoreError(PRIVATE), StatusCode.INTERNAL, "ONLINE_STORE_FAILED"),
    (core.ConfigError(PRIVATE), StatusCode.INTERNAL, "INTERNAL"),
    (RuntimeError(PRIVATE), StatusCode.INTERNAL, "INTERNAL"),
]


def _detail(status: Status, kind: type[Found]) -> Found | None:
    for packed in status.details:
        found = kind()
        if packed.Unpack(found):
            return found
    return None


@pytest.mark.parametrize(
    ("error", "code", "reason"), CASES, ids=[type(error).__name__ for error, _, _ in CASES]
)
def test_every_row_of_the_table(error: Exception, code: StatusCode, reason: str) -> None:
    status = status_of(error, error_id="id-1")
    info = _detail(status, ErrorInfo)
    assert info is not None
    assert (status.code, info.reason, info.domain) == (code.value[0], reason, "featurestore")


def test_every_row_of_the_table_is_in_the_test_above() -> None:
    known = [[base for base in type(error).__mro__ if base in ANSWERS] for error, _, _ in CASES]
    tested = {bases[0] for bases in known} - {Exception}
    assert set(ANSWERS) - tested == {Exception}
    assert answer_to(RuntimeError()) is ANSWERS[Exception]


@pytest.mark.parametrize("error", [error for error, _, _ in CASES])
def test_no_text_leaves_but_what_is_about_the_request(error: Exception) -> None:
    status = status_of(error, error_id="id-1")
    assert b"secret" not in status.SerializeToString()
    info = _detail(status, ErrorInfo)
    assert info is not None
    hidden = PRIVATE in str(error)
    assert (info.metadata["error_id"] if hidden else None) == ("id-1" if hidden else None)
    assert ("id-1" in status.message) == hidden


def test_what_is_wrong_with_a_field_is_said_by_field() -> None:
    error = core.EntityValueError("it is no number", field="user_id", row=3)
    violation = _detail(status_of(error), BadRequest)
    assert violation is not None
    [found] = violation.field_violations
    assert (found.field, found.description) == ("entities.user_id[3]", "it is no number")


def test_suggestions_are_in_the_message_and_in_the_facts() -> None:
    status = status_of(core.NotFoundError("feature service", "frad", known=["fraud", "other"]))
    assert status.message == "There is no feature service 'frad'. Hint: did you mean 'fraud'?"
    info = _detail(status, ErrorInfo)
    assert info is not None
    assert dict(info.metadata) == {
        "kind": "feature service",
        "name": "frad",
        "suggestions": '["fraud"]',
    }


def test_only_what_is_worth_a_retry_asks_for_one() -> None:
    asked = {type(e) for e, _, _ in CASES if _detail(status_of(e), RetryInfo) is not None}
    retryable = {type(e) for e, _, _ in CASES if getattr(e, "retryable", False)}
    assert asked == retryable == {core.StoreUnavailableError, OverloadedError}


@pytest.mark.parametrize("letter", ["a", "ü", "\U0001f6eb", "%"])
def test_a_status_fits_into_the_trailers_of_a_call(letter: str) -> None:
    known = [letter * 250 + end for end in "abc"]
    error = core.NotFoundError("feature", letter * 251, known=known)
    unknown = core.EntityValueError(
        letter * 10_000, field=letter * 10_000, row=10**9, suggestions=known
    )
    for status in (status_of(error), status_of(unknown)):
        in_trailers = 3 * len(status.message.encode()) + 4 / 3 * len(status.SerializeToString())
        assert in_trailers < 8_000
        info = _detail(status, ErrorInfo)
        assert info is not None
        assert set(json.loads(info.metadata["suggestions"])) <= set(known)

"""The one table from errors to what a client is told."""

import json
from collections.abc import Iterator
from typing import TypeVar

import pytest
from featurestore_server.errors import (
    ANSWERS,
    BackendUnavailableError,
    BodyTooLargeError,
    ContentTypeError,
    DeadlinePassedError,
    LimitExceededError,
    MalformedMessageError,
    MethodNotAllowedError,
    OriginRefusedError,
    OverloadedError,
    PassedOnError,
    PermissionDeniedError,
    ServeError,
    TrainingBusyError,
    UnauthenticatedError,
    answer_for,
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
    (TrainingBusyError("much to do"), StatusCode.UNAVAILABLE, "TRAINING_BUSY"),
    (BackendUnavailableError("gone"), StatusCode.UNAVAILABLE, "BACKEND_UNAVAILABLE"),
    (
        core.SourceOutsideRootsError(source="s"),
        StatusCode.FAILED_PRECONDITION,
        "SOURCE_NOT_ALLOWED",
    ),
    (
        core.AppendError(PRIVATE, source="s"),
        StatusCode.FAILED_PRECONDITION,
        "SOURCE_NOT_APPENDABLE",
    ),
    (core.DefinitionError(PRIVATE), StatusCode.FAILED_PRECONDITION, "DEFINITION_INVALID"),
    (OverloadedError("much to do"), StatusCode.UNAVAILABLE, "OVERLOADED"),
    (DeadlinePassedError("late"), StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED"),
    (core.StoreUnavailableError(PRIVATE), StatusCode.UNAVAILABLE, "ONLINE_STORE_UNAVAILABLE"),
    (core.StoreDataError(PRIVATE), StatusCode.DATA_LOSS, "STORED_ROW_UNREADABLE"),
    (core.StoreError(PRIVATE), StatusCode.INTERNAL, "ONLINE_STORE_FAILED"),
    (BodyTooLargeError("much", field="body"), StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE"),
    (ContentTypeError("text"), StatusCode.INVALID_ARGUMENT, "CONTENT_TYPE_UNSUPPORTED"),
    (
        MethodNotAllowedError("GET", allowed="POST"),
        StatusCode.UNIMPLEMENTED,
        "METHOD_NOT_ALLOWED",
    ),
    (OriginRefusedError("not you"), StatusCode.PERMISSION_DENIED, "ORIGIN_REFUSED"),
    (core.SpineError("bad", column="at", row=1), StatusCode.INVALID_ARGUMENT, "SPINE_INVALID"),
    (core.RowsError("bad", column="at", row=1), StatusCode.INVALID_ARGUMENT, "ROWS_INVALID"),
    (core.TableError("bad"), StatusCode.INVALID_ARGUMENT, "TABLE_INVALID"),
    (
        core.SumOverflowError(feature="x", dtype="int64"),
        StatusCode.OUT_OF_RANGE,
        "SUM_OVERFLOW",
    ),
    (core.JobCancelledError(), StatusCode.CANCELLED, "JOB_CANCELLED"),
    (core.SourceChangedError(PRIVATE, source="s"), StatusCode.ABORTED, "SOURCE_CHANGED"),
    (
        core.SourceError(PRIVATE, source="s"),
        StatusCode.FAILED_PRECONDITION,
        "SOURCE_UNREADABLE",
    ),
    (
        core.RegistryConflictError(project=PRIVATE, expected=1, found=2),
        StatusCode.ABORTED,
        "REGISTRY_CONFLICT",
    ),
    (
        core.DestructiveChangeError([PRIVATE]),
        StatusCode.FAILED_PRECONDITION,
        "CHANGE_DESTRUCTIVE",
    ),
    (core.RegistryError(PRIVATE), StatusCode.INTERNAL, "REGISTRY_FAILED"),
    (
        core.LeaseHeldError(view="v", holder=PRIVATE, expires_in_s=1),
        StatusCode.ABORTED,
        "LEASE_HELD",
    ),
    (
        core.ResumeError(view="v", reason=PRIVATE),
        StatusCode.FAILED_PRECONDITION,
        "RUN_NOT_RESUMABLE",
    ),
    (core.ResourceLimitError(PRIVATE), StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_LIMIT"),
    (core.OutputError(PRIVATE), StatusCode.INTERNAL, "OUTPUT_FAILED"),
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
    assert asked == retryable
    assert {core.StoreUnavailableError, OverloadedError} <= asked


def _tree(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


SHIPPED = [k for k in _tree(core.FeatureStoreError) if k.__module__.startswith("featurestore")]
# Nobody who calls a server meets these: they are what it would be a defect to answer with.
WITHOUT_A_ROW = {
    core.FeatureStoreError,
    core.ConfigError,
    core.MissingExtraError,
    core.VerificationError,
    ServeError,
    PassedOnError,  # brings its row along
}


@pytest.mark.parametrize("kind", SHIPPED, ids=[kind.__name__ for kind in SHIPPED])
def test_every_error_has_a_row_or_a_base_class_with_one(kind: type[Exception]) -> None:
    bases = set(kind.__mro__) - {core.FeatureStoreError}
    is_defect = kind is core.FeatureStoreError or bool(WITHOUT_A_ROW & bases)
    assert (answer_for(kind) is ANSWERS[Exception]) == is_defect


@pytest.mark.parametrize("kind", SHIPPED, ids=[kind.__name__ for kind in SHIPPED])
def test_an_error_is_worth_a_retry_everywhere_or_nowhere(
    kind: type[core.FeatureStoreError],
) -> None:
    # The class decides about the exit code and for callers in the process, the row on the wire.
    assert (answer_for(kind).retry_after_s is not None) == kind.retryable


@pytest.mark.parametrize("kind", ANSWERS, ids=[kind.__name__ for kind in ANSWERS])
def test_every_row_has_an_http_status_and_says_what_to_do(kind: type[Exception]) -> None:
    answer = ANSWERS[kind]
    assert 400 <= answer.http_status < 600
    assert answer.todo
    assert StatusCode[answer.code] is not StatusCode.OK


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
        assert set(json.loads(info.metadata.get("suggestions", "[]"))) <= set(known)

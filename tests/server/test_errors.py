"""The one table from errors to what a client is told."""

import io
import json
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import grpc
import pytest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_server.calls import Call, Caller, Gate, Permission
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
    PermissionDeniedError,
    TrainingBusyError,
    UnauthenticatedError,
    answer_for,
    answer_to,
)
from featurestore_server.server import FeatureServer
from featurestore_server.statuses import status_of
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from featurestore import errors as core
from featurestore.cli import exits, failures
from featurestore.cli.session import Session
from featurestore.online.memory import MemoryOnlineStore

from . import error_page, shop
from .calls import fails, lookup
from .error_page import PAGE
from .http_calls import Client, http_served

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


class Refusing(Gate):
    """Raises what it is told to, at the door."""

    error: Exception

    def admit(self, call: Call) -> Caller:  # noqa: ARG002
        raise self.error

    def authorize(self, caller: Caller, permission: Permission, *, service: str = "") -> None:
        """Return: nobody comes so far."""


class Served(NamedTuple):
    """A server of gRPC and HTTP whose gate refuses everybody."""

    gate: Refusing
    stub: ServingServiceStub
    http: Client


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    gate = Refusing()
    store = MemoryOnlineStore()
    with http_served(shop.catalog(), store, gate=gate) as (http, _, twin):
        server = FeatureServer(shop.catalog(), store, gate=gate)
        port = server.listen("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Served(gate, ServingServiceStub(channel), http)
        server.stop(5)
        assert twin.connections <= 1


@pytest.mark.parametrize(
    ("error", "code", "reason"), CASES, ids=[type(error).__name__ for error, _, _ in CASES]
)
def test_every_row_arrives_over_grpc_and_over_http(
    served: Served, error: Exception, code: StatusCode, reason: str
) -> None:
    served.gate.error = error
    over_grpc = fails(lambda: served.stub.GetOnlineFeatures(lookup("checkout"), timeout=10))
    over_http = served.http.post({"feature_service": "checkout"})
    told = over_http.error
    answer = answer_to(error)
    assert (over_grpc.code, over_grpc.reason) == (code, reason)
    assert (over_http.status, told["code"]) == (answer.http_status, code.name)
    assert told["reason"] == reason
    assert told["retryable"] == (answer.retry_after_s is not None)
    assert ("retry-after" in over_http.headers) == told["retryable"]
    everything = over_grpc.everything + repr(over_http)
    assert "secret" not in everything
    assert "Traceback" not in everything
    if isinstance(error, core.NotFoundError):
        assert told["suggestions"] == list(error.suggestions)


ON_PURPOSE = [error for error, _, _ in CASES if isinstance(error, core.FeatureStoreError)]


@pytest.mark.parametrize("error", ON_PURPOSE, ids=[type(error).__name__ for error in ON_PURPOSE])
def test_every_row_has_an_exit_code(error: core.FeatureStoreError) -> None:
    session = Session(out=io.StringIO(), err=io.StringIO())
    may_pass = answer_to(error).retry_after_s is not None
    assert failures.report_error(session, error) == (exits.RETRY if may_pass else exits.ERROR)


def test_the_page_about_errors_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == error_page.page(), (
        "run `python -m tests.server.error_page`"
    )


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


SHIPPED = [k for k in _tree(core.FeatureStoreError) if k.__module__ in error_page.MODULES]


@pytest.mark.parametrize("kind", SHIPPED, ids=[kind.__name__ for kind in SHIPPED])
def test_every_error_has_a_row_or_a_base_class_with_one(kind: type[Exception]) -> None:
    bases = set(kind.__mro__)
    is_defect = kind is core.FeatureStoreError or bool({*error_page.WITHOUT_A_ROW} & bases)
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

"""Why a server cannot start, and the one table from errors to what a client is told.

FeatureStoreError (featurestore.errors)
├── ServeError
│   ├── AddressError            the address is none, or this machine does not have it
│   ├── AddressInUseError       another process listens there
│   ├── InsecureAddressError    other machines could reach it, and nothing is encrypted
│   └── WorkerError             a worker process did not come up
├── RequestError
│   ├── MalformedMessageError   the bytes of a request are no request
│   ├── LimitExceededError      a request asks for more than the server takes
│   │   └── BodyTooLargeError   its bytes alone are too many
│   ├── ContentTypeError        the body of an HTTP request is not said to be JSON
│   └── MethodNotAllowedError   an HTTP path has no such method
├── OriginRefusedError          a page of an origin that nobody allowed calls over HTTP
├── UnauthenticatedError        nobody knows who calls
├── PermissionDeniedError       whoever calls may not do this
├── BackendUnavailableError     the process behind it does not answer (retryable)
├── OverloadedError             the server has more calls than it can answer in time (retryable)
│   └── TrainingBusyError       it computes as many training sets as it takes (retryable)
└── DeadlinePassedError         the caller does not wait any longer

Messages of all but ServeError, and of the core's errors about requests and computed features, are
about what the caller sent, and are sent back: rows of the table without a message of their own.
Those of all other errors may name hosts, files or keys: they stay in the server's log, under an id
that the caller gets instead.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from featurestore import errors as core


class ServeError(core.FeatureStoreError):
    """The server cannot start."""


class AddressError(ServeError):
    """The address cannot be understood, or is none of this machine's."""


class AddressInUseError(ServeError):
    """Another process listens at the address.

    Attributes:
        address: The address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"Another process listens at {address}.",
            hint="stop it, or choose another address; port 0 picks a free one",
        )


class InsecureAddressError(ServeError):
    """The address can be reached from other machines, and nothing is encrypted.

    Attributes:
        address: The address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(
            f"{address} can be reached from other machines, and this server does not encrypt.",
            hint="set server.tls, or listen on localhost, or allow it with --insecure",
        )


class WorkerError(ServeError):
    """A worker process ended before it was ready, or did not get ready in time."""


class MalformedMessageError(core.RequestError):
    """The bytes of a request are not the message they should be.

    Attributes:
        field: The field at fault, or "".
    """

    def __init__(self, message: str, *, field: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class LimitExceededError(core.RequestError):
    """A request asks for more than the server takes.

    Attributes:
        field: The field at fault.
    """

    def __init__(self, message: str, *, field: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.field = field


class BodyTooLargeError(LimitExceededError):
    """The bytes of a request are more than the server takes; they were not all read."""


class ContentTypeError(core.RequestError):
    """The body of an HTTP request is said to be something else than JSON."""


class MethodNotAllowedError(core.RequestError):
    """An HTTP path has no such method.

    Attributes:
        allowed: The methods that it has, as the header `Allow` takes them.
    """

    def __init__(self, method: str, *, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"There is no {core.shown(method)} here.", hint=f"use {allowed}")


class OriginRefusedError(core.FeatureStoreError):
    """A page of another origin calls, and nobody allowed that origin."""


class UnauthenticatedError(core.FeatureStoreError):
    """The call does not say who makes it, or not in a way that can be believed.

    Attributes:
        cause: Why, for the log alone: who guesses keys shall not learn how close the guess was.
        key_id: The id of the key that it is about; "" if there is no such key.
    """

    def __init__(
        self, message: str, *, cause: str = "", key_id: str = "", hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.cause = cause
        self.key_id = key_id


class PermissionDeniedError(core.FeatureStoreError):
    """The caller is known, and may not do this."""


class OverloadedError(core.FeatureStoreError):
    """The server has more calls than it can answer in time; nothing was done."""

    retryable = True

    def __init__(
        self, message: str = "The server has more requests than it can answer in time."
    ) -> None:
        super().__init__(message)


class TrainingBusyError(OverloadedError):
    """As many training sets are computed, or wait for their turn, as the server takes."""


class BackendUnavailableError(core.FeatureStoreError):
    """The process behind training sets, pushes and the registry does not answer."""

    retryable = True


class DeadlinePassedError(core.FeatureStoreError):
    """The caller's deadline passed before the work began."""


HTTP_STATUSES: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "DATA_LOSS": 500,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""The HTTP status of each gRPC status, as google.rpc.Code has them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client is told about an error.

    Attributes:
        code: The gRPC status, by name: the parent process, which imports this, has no gRPC.
        reason: The cause, for programs.
        message: What the message says instead of the error's own, which then stays in the log.
        retry_after_s: When a retry is worth it, in seconds; None when it is not.
        own_http_status: The HTTP status where the one of `code` would say less; 0 where not.
        todo: What whoever gets it does about it, for the documents.
    """

    code: str
    reason: str
    message: str | None = None
    retry_after_s: float | None = None
    own_http_status: int = 0
    todo: str = ""

    @property
    def http_status(self) -> int:
        """The HTTP status."""
        return self.own_http_status or HTTP_STATUSES[self.code]


_BAD: Final = "INVALID_ARGUMENT"
_FIX_REQUEST: Final = "correct the request: the message and the field violations say what"

ANSWERS: Final[Mapping[type[BaseException], Answer]] = {
    # --- what the caller sent ---
    MalformedMessageError: Answer(_BAD, "MESSAGE_MALFORMED", todo=_FIX_REQUEST),
    ContentTypeError: Answer(
        _BAD,
        "CONTENT_TYPE_UNSUPPORTED",
        own_http_status=415,
        todo="send `Content-Type: application/json`, uncompressed",
    ),
    MethodNotAllowedError: Answer(
        "UNIMPLEMENTED",
        "METHOD_NOT_ALLOWED",
        own_http_status=405,
        todo="use a method that the `Allow` header names",
    ),
    OriginRefusedError: Answer(
        "PERMISSION_DENIED",
        "ORIGIN_REFUSED",
        todo="have the page's origin added to `server.http_cors_origins`",
    ),
    LimitExceededError: Answer(_BAD, "LIMIT_EXCEEDED", todo="ask in several requests"),
    BodyTooLargeError: Answer(
        "RESOURCE_EXHAUSTED",
        "REQUEST_TOO_LARGE",
        own_http_status=413,
        todo="ask in several requests",
    ),
    core.EntityValueError: Answer(_BAD, "ENTITY_VALUE_INVALID", todo=_FIX_REQUEST),
    core.NameCollisionError: Answer(
        _BAD, "NAME_COLLISION", todo="ask for each feature once, or for full feature names"
    ),
    core.SpineError: Answer(_BAD, "SPINE_INVALID", todo="correct the entity table"),
    core.RowsError: Answer(_BAD, "ROWS_INVALID", todo="correct the rows; none of them was written"),
    core.TableError: Answer(_BAD, "TABLE_INVALID", todo="correct the table"),
    core.SumOverflowError: Answer(
        "OUT_OF_RANGE", "SUM_OVERFLOW", todo="give the aggregation `dtype=Float64`"
    ),
    core.RequestError: Answer(_BAD, "REQUEST_INVALID", todo=_FIX_REQUEST),
    core.NotFoundError: Answer(
        "NOT_FOUND", "NOT_FOUND", todo="correct the name: suggestions are in the details"
    ),
    core.UnsupportedError: Answer("UNIMPLEMENTED", "UNSUPPORTED", todo="read the message"),
    core.ComputationError: Answer(
        "OUT_OF_RANGE",
        "FEATURE_NOT_COMPUTABLE",
        todo="guard the expression with nullif(), try_cast() or CASE",
    ),
    # --- who may call, and when ---
    UnauthenticatedError: Answer(
        "UNAUTHENTICATED", "UNAUTHENTICATED", todo="send a valid key: `authorization: Bearer ...`"
    ),
    PermissionDeniedError: Answer(
        "PERMISSION_DENIED", "PERMISSION_DENIED", todo="ask for a key that may do this"
    ),
    OverloadedError: Answer(
        "UNAVAILABLE", "OVERLOADED", retry_after_s=0.1, todo="try again later, or add workers"
    ),
    TrainingBusyError: Answer(
        "UNAVAILABLE",
        "TRAINING_BUSY",
        retry_after_s=5.0,
        todo="try again later, or raise `server.backend.training_jobs`",
    ),
    BackendUnavailableError: Answer(
        "UNAVAILABLE",
        "BACKEND_UNAVAILABLE",
        retry_after_s=1.0,
        todo="try again; if it lasts, the log says why the backend ends",
    ),
    DeadlinePassedError: Answer(
        "DEADLINE_EXCEEDED", "DEADLINE_PASSED", todo="give the call more time"
    ),
    core.JobCancelledError: Answer("CANCELLED", "JOB_CANCELLED", todo="ask for it again"),
    # --- what the server works with ---
    core.StoreUnavailableError: Answer(
        "UNAVAILABLE",
        "ONLINE_STORE_UNAVAILABLE",
        "The online store cannot be reached, or did not answer in time.",
        retry_after_s=0.5,
        todo="try again; if it lasts, look after the online store",
    ),
    core.StoreDataError: Answer(
        "DATA_LOSS",
        "STORED_ROW_UNREADABLE",
        "A stored row cannot be read; it was not served.",
        todo="materialize the view again; the log names it",
    ),
    core.StoreError: Answer(
        "INTERNAL",
        "ONLINE_STORE_FAILED",
        "The online store answered with an error.",
        todo="see the server's log, under the error id",
    ),
    core.FunctionError: Answer(
        "INTERNAL",
        "FUNCTION_FAILED",
        "The function of an on-demand feature failed.",
        todo="correct the function and apply; the log says what it said",
    ),
    core.SourceChangedError: Answer(
        "ABORTED",
        "SOURCE_CHANGED",
        "A file of a source changed while it was read.",
        retry_after_s=1.0,
        todo="try again when nobody writes to the source",
    ),
    core.SourceOutsideRootsError: Answer(
        "FAILED_PRECONDITION",
        "SOURCE_NOT_ALLOWED",
        todo="have the source's folder added to `server.backend.source_roots`",
    ),
    core.AppendError: Answer(
        "FAILED_PRECONDITION",
        "SOURCE_NOT_APPENDABLE",
        "Rows cannot be appended to the source of this view.",
        todo="push without appending; the log says what the source would need",
    ),
    core.DefinitionError: Answer(
        "FAILED_PRECONDITION",
        "DEFINITION_INVALID",
        "What is defined does not go with the source's files.",
        todo="correct the definitions and apply; the log says what is wrong",
    ),
    core.SourceError: Answer(
        "FAILED_PRECONDITION",
        "SOURCE_UNREADABLE",
        "A source cannot be read.",
        todo="correct the source's files; the log names them",
    ),
    core.RegistryConflictError: Answer(
        "ABORTED",
        "REGISTRY_CONFLICT",
        "Somebody else changed the registry first; nothing was done.",
        retry_after_s=0.1,
        todo="plan again, and apply that",
    ),
    core.DestructiveChangeError: Answer(
        "FAILED_PRECONDITION",
        "CHANGE_DESTRUCTIVE",
        "The change deletes registered objects, and deleting was not allowed.",
        todo="define them again, or allow it",
    ),
    core.RegistryError: Answer(
        "INTERNAL",
        "REGISTRY_FAILED",
        "The registry cannot be read or written.",
        todo="see the server's log, under the error id",
    ),
    core.LeaseHeldError: Answer(
        "ABORTED",
        "LEASE_HELD",
        "Another run of this view is under way.",
        retry_after_s=5.0,
        todo="try again when it is done",
    ),
    core.ResumeError: Answer(
        "FAILED_PRECONDITION",
        "RUN_NOT_RESUMABLE",
        "The interrupted run cannot be continued.",
        todo="start a new run",
    ),
    core.ResourceLimitError: Answer(
        "RESOURCE_EXHAUSTED",
        "RESOURCE_LIMIT",
        "The server's memory, or its space for temporary files, was not enough.",
        todo="ask for less, or give the server more",
    ),
    core.OutputError: Answer(
        "INTERNAL",
        "OUTPUT_FAILED",
        "A file cannot be written; nothing was left at its final name.",
        todo="see the log: the disk is full, or not this user's",
    ),
    Exception: Answer(
        "INTERNAL",
        "INTERNAL",
        "The server failed.",
        todo="see the server's log, under the error id",
    ),
}
"""What each error becomes; an error that is not here is answered as its nearest base class."""


def answer_to(error: Exception) -> Answer:
    """Return what a client is told about `error`."""
    own = getattr(error, "answer", None)  # of what another process answered already
    if isinstance(own, Answer):
        return own
    return answer_for(type(error))


def answer_for(kind: type[BaseException]) -> Answer:
    """Return what a client is told about errors of a class."""
    return next(ANSWERS[base] for base in kind.__mro__ if base in ANSWERS)


def reason_of(error: Exception) -> str:
    """Return the cause that a client is told, for programs: it names what was not found."""
    if isinstance(error, core.NotFoundError):
        return f"{error.kind.upper().replace(' ', '_')}_NOT_FOUND"
    return answer_to(error).reason

"""Why a server cannot start, and the one table from errors to what a client is told.

FeatureStoreError (featurestore.errors)
├── ServeError
│   ├── AddressError            the address is none, or this machine does not have it
│   ├── AddressInUseError       another process listens there
│   ├── InsecureAddressError    other machines could reach it, and nothing is encrypted
│   └── WorkerError             a worker process did not come up
├── RequestError
│   ├── MalformedMessageError   the bytes of a request are no request
│   └── LimitExceededError      a request asks for more than the server takes
├── UnauthenticatedError        nobody knows who calls
├── PermissionDeniedError       whoever calls may not do this
├── OverloadedError             the server has more calls than it can answer in time (retryable)
└── DeadlinePassedError         the caller does not wait any longer

Messages of all but ServeError, and of the core's errors about requests and computed features, are
about what the caller sent, and are sent back. Those of all other errors may name hosts, files or
keys: they stay in the server's log, under an id that the caller gets instead.
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
            hint="listen on localhost or a unix socket, or allow it with --insecure",
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


class UnauthenticatedError(core.FeatureStoreError):
    """The call does not say who makes it, or not in a way that can be believed."""


class PermissionDeniedError(core.FeatureStoreError):
    """The caller is known, and may not do this."""


class OverloadedError(core.FeatureStoreError):
    """The server has more calls than it can answer in time; nothing was done."""

    retryable = True


class DeadlinePassedError(core.FeatureStoreError):
    """The caller's deadline passed before the work began."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client is told about an error.

    Attributes:
        code: The gRPC status, by name: the parent process, which imports this, has no gRPC.
        reason: The cause, for programs.
        message: What the message says instead of the error's own, which then stays in the log.
        retry_after_s: When a retry is worth it, in seconds; None when it is not.
    """

    code: str
    reason: str
    message: str | None = None
    retry_after_s: float | None = None


_BAD: Final = "INVALID_ARGUMENT"

ANSWERS: Final[Mapping[type[BaseException], Answer]] = {
    MalformedMessageError: Answer(_BAD, "MESSAGE_MALFORMED"),
    LimitExceededError: Answer(_BAD, "LIMIT_EXCEEDED"),
    core.EntityValueError: Answer(_BAD, "ENTITY_VALUE_INVALID"),
    core.NameCollisionError: Answer(_BAD, "NAME_COLLISION"),
    core.RequestError: Answer(_BAD, "REQUEST_INVALID"),
    core.ComputationError: Answer("OUT_OF_RANGE", "FEATURE_NOT_COMPUTABLE"),
    core.FunctionError: Answer(
        "INTERNAL", "FUNCTION_FAILED", "The function of an on-demand feature failed."
    ),
    core.NotFoundError: Answer("NOT_FOUND", "NOT_FOUND"),
    core.UnsupportedError: Answer("UNIMPLEMENTED", "UNSUPPORTED"),
    UnauthenticatedError: Answer("UNAUTHENTICATED", "UNAUTHENTICATED"),
    PermissionDeniedError: Answer("PERMISSION_DENIED", "PERMISSION_DENIED"),
    OverloadedError: Answer("UNAVAILABLE", "OVERLOADED", retry_after_s=0.1),
    DeadlinePassedError: Answer("DEADLINE_EXCEEDED", "DEADLINE_PASSED"),
    core.StoreUnavailableError: Answer(
        "UNAVAILABLE",
        "ONLINE_STORE_UNAVAILABLE",
        "The online store cannot be reached, or did not answer in time.",
        retry_after_s=0.5,
    ),
    core.StoreDataError: Answer(
        "DATA_LOSS",
        "STORED_ROW_UNREADABLE",
        "A stored row cannot be read; it was not served.",
    ),
    core.StoreError: Answer(
        "INTERNAL", "ONLINE_STORE_FAILED", "The online store answered with an error."
    ),
    Exception: Answer("INTERNAL", "INTERNAL", "The server failed."),
}
"""What each error becomes; an error that is not here is answered as its nearest base class."""


def answer_to(error: Exception) -> Answer:
    """Return what a client is told about `error`."""
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


def reason_of(error: Exception) -> str:
    """Return the cause that a client is told, for programs: it names what was not found."""
    if isinstance(error, core.NotFoundError):
        return f"{error.kind.upper().replace(' ', '_')}_NOT_FOUND"
    return answer_to(error).reason

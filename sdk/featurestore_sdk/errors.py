"""Every error this package raises on purpose.

ClientError
├── InvalidRequestError      the request is wrong: `violations` says which fields, and how
├── NotFoundError            a service, view, feature or project that the server does not know
├── UnauthenticatedError     the server wants to know who asks, or does not believe it
├── AccessDeniedError        the server knows who asks, and does not allow it
├── LimitExceededError       the request or its reply is larger than the server or client takes
├── UnavailableError         the server, or the store behind it, cannot be reached (retryable)
├── DeadlineExceededError    no answer within the call's timeout (retryable)
├── UnsupportedByServerError the server is older than this client and lacks the call
├── ServerError              the server failed; `error_id` finds the cause in its log
├── InvalidOptionsError      a client cannot be made like this; also a ValueError
├── JobCancelledError        a training set was cancelled, by whoever asked for it
├── ClientClosedError        the client was closed before or during the call
└── MissingExtraError        an optional dependency is not installed

Facts are attributes, so that a caller need not read the message. Calls that are worth a retry were
retried before a retryable error was raised, as long as the call's timeout allowed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldViolation:
    """What is wrong with one field of a request.

    Attributes:
        field: The field, such as `entities.user_id` or `entities.user_id[3]` (row 3, from 0).
        description: What is wrong, and where possible what to write instead.
    """

    field: str
    description: str


class ClientError(Exception):
    """Base of all errors of this package.

    Attributes:
        message: What happened.
        code: The gRPC status, such as "NOT_FOUND", or None when the server was not asked.
        reason: The server's name for the cause, such as "FEATURE_NOT_FOUND", or "".
        metadata: More facts from the server.
        retry_after_s: How long the server asks to wait before the next try, in seconds, or None.
        retryable: Whether the same call may succeed later without any change by the caller.
    """

    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        self.retry_after_s = retry_after_s


class InvalidRequestError(ClientError):
    """The request is wrong; nothing was looked up.

    Attributes:
        violations: The fields at fault, and how.
        suggestions: Names that look like an unknown field, best first.
    """

    def __init__(
        self,
        message: str,
        *,
        violations: Sequence[FieldViolation] = (),
        suggestions: Sequence[str] = (),
        code: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, code=code, reason=reason, metadata=metadata)
        self.violations: tuple[FieldViolation, ...] = tuple(violations)
        self.suggestions: tuple[str, ...] = tuple(suggestions)


class NotFoundError(ClientError):
    """The server does not know something the request names.

    Attributes:
        kind: "feature service", "feature view", "feature" or "project".
        name: What was asked for.
        suggestions: Names that look like it, best first.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        name: str = "",
        suggestions: Sequence[str] = (),
        code: str | None = None,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, code=code, reason=reason, metadata=metadata)
        self.kind = kind
        self.name = name
        self.suggestions: tuple[str, ...] = tuple(suggestions)


class UnauthenticatedError(ClientError):
    """The server wants to know who asks: there is no API key, or none that it accepts."""


class AccessDeniedError(ClientError):
    """The server knows who asks, and does not allow the call."""


class LimitExceededError(ClientError):
    """The request or its reply is larger than allowed, or the server is at a limit of its own."""


class UnavailableError(ClientError):
    """The server, or the online store behind it, cannot be reached."""

    retryable = True


class DeadlineExceededError(ClientError):
    """There was no answer within the call's timeout."""

    retryable = True


class UnsupportedByServerError(ClientError):
    """The server does not have this call."""


class ServerError(ClientError):
    """The server failed."""

    @property
    def error_id(self) -> str:
        """Names the failure in the server's log; "" when the server gave none."""
        return self.metadata.get("error_id", "")


class InvalidOptionsError(ClientError, ValueError):
    """A client cannot be made with these arguments. Secrets are never part of the message."""


class JobCancelledError(ClientError):
    """A training set was cancelled, by whoever asked for it."""

    def __init__(self) -> None:
        super().__init__("The job was cancelled.")


class ClientClosedError(ClientError):
    """The client was closed before the call, or while it was under way."""


class MissingExtraError(ClientError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        package: The package that is missing.
    """

    def __init__(self, *, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed."
            f"\n  hint: pip install 'featurestore-sdk[{extra}]'"
        )
        self.package = package

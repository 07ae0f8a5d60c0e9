"""From an error to what a client is told about it, before any protocol.

Names and texts that came from the client go back to it, cut: a gRPC status travels in HTTP/2
trailers, which clients refuse above 8 KiB in all, and nobody reads more than that.
"""

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from featurestore.errors import (
    EntityValueError,
    FeatureStoreError,
    NameCollisionError,
    NotFoundError,
    RowsError,
    TableError,
)
from featurestore_server.errors import (
    Answer,
    ContentTypeError,
    LimitExceededError,
    MalformedMessageError,
    answer_to,
    reason_of,
)

LOGGER: Final = logging.getLogger("featurestore_server")

# A status has the message twice, once in a form that takes three bytes per byte.
_MAX_MESSAGE_BYTES: Final = 1_000
_MAX_FIELD_BYTES: Final = 500
_MAX_NAME_BYTES: Final = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What a client is told.

    Attributes:
        answer: The row of the table.
        reason: The cause, for programs; names what was not found.
        message: The cause, for people.
        field: The field of the request at fault, or "".
        description: What is wrong with the field.
        kind: Of something that was not found: what it is, or "".
        name: Of something that was not found: its name, or "".
        suggestions: Names that may have been meant, best first.
        error_id: Under which the log has what the message does not say, or "".
        request_id: What logs call the request, or "".
    """

    answer: Answer
    reason: str
    message: str
    field: str = ""
    description: str = ""
    kind: str = ""
    name: str = ""
    suggestions: tuple[str, ...] = ()
    error_id: str = ""
    request_id: str = ""


def logged_failure(error: Exception, *, request_id: str = "") -> Failure:
    """Return what a client is told about `error`; log what it is not told, under an id."""
    error_id = ""
    if answer_to(error).message is not None:
        error_id = secrets.token_hex(8)
        LOGGER.error(
            "call failed, error id %s, request id %s",
            error_id,
            request_id or "none",
            exc_info=error,
            extra={"error_id": error_id, "request_id": request_id},
        )
    return failure_of(error, error_id=error_id, request_id=request_id)


def failure_of(error: Exception, *, error_id: str = "", request_id: str = "") -> Failure:
    """Return what a client is told about `error`.

    Args:
        error: What went wrong.
        error_id: The id under which the error was logged; goes out when the message does not.
        request_id: What logs call the request; goes out.
    """
    answer = answer_to(error)
    if answer.message is None and isinstance(error, FeatureStoreError):
        message = f"{error.message} Hint: {error.hint}" if error.hint else error.message
        error_id = ""
    else:
        message = f"{answer.message or 'The request failed.'} Error id: {error_id}"
    message = _cut(message, _MAX_MESSAGE_BYTES)
    kind, name = "", ""
    if isinstance(error, NotFoundError):
        kind, name = error.kind, _cut(error.name, _MAX_NAME_BYTES)
    return Failure(
        answer=answer,
        reason=reason_of(error),
        message=message,
        field=_cut(_field(error), _MAX_NAME_BYTES),
        description=_cut(message, _MAX_FIELD_BYTES),
        kind=kind,
        name=name,
        suggestions=_suggestions(error),
        error_id=error_id,
        request_id=request_id,
    )


def _field(error: Exception) -> str:
    if isinstance(error, EntityValueError):
        row = "" if error.row is None else f"[{error.row}]"
        return f"entities.{_cut(error.field, _MAX_NAME_BYTES - 32)}{row}"
    if isinstance(error, MalformedMessageError | LimitExceededError):
        return error.field
    if isinstance(error, TableError) and error.column is not None:
        place = "columns" if isinstance(error, RowsError) else "spine"
        row = "" if error.row is None else f"[{error.row}]"
        return f"{place}.{_cut(error.column, _MAX_NAME_BYTES - 32)}{row}"
    if isinstance(error, ContentTypeError):
        return "content-type"
    return "features" if isinstance(error, NameCollisionError) else ""


def _suggestions(error: Exception) -> tuple[str, ...]:
    """Return as many suggestions as a detail of a status has room for."""
    if not isinstance(error, NotFoundError | EntityValueError):
        return ()
    names = list(error.suggestions)
    while len(suggestions_text(names).encode()) > _MAX_FIELD_BYTES:
        names.pop()
    return tuple(names)


def suggestions_text(names: Sequence[str]) -> str:
    """Return names as the one text that a detail of a status holds."""
    return json.dumps(list(names), ensure_ascii=False)


def _cut(text: str, limit: int) -> str:
    """Return the beginning of `text` that fits into `limit` bytes of UTF-8."""
    raw = text.encode("utf-8", "replace")
    return raw[:limit].decode("utf-8", "ignore")

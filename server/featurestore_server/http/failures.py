"""From what a client is told about an error to an HTTP reply: one shape for all of them."""

import math
from typing import Any

from starlette.responses import Response

from featurestore_server.errors import MethodNotAllowedError
from featurestore_server.failures import Failure, logged_failure
from featurestore_server.http.replies import write_json


def error_response(error: Exception, *, request_id: str = "") -> Response:
    """Return the reply that stands for `error`; log what it does not say, under its id."""
    failure = logged_failure(error)
    headers = {"cache-control": "no-store"}
    if failure.answer.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(failure.answer.retry_after_s))
    if failure.answer.code == "UNAUTHENTICATED":
        headers["www-authenticate"] = "Bearer"
    if isinstance(error, MethodNotAllowedError):
        headers["allow"] = error.allowed
    return Response(
        error_body(failure, request_id=request_id),
        failure.answer.http_status,
        headers,
        "application/json",
    )


def error_body(failure: Failure, *, request_id: str = "") -> bytes:
    """Return a failure as JSON."""
    facts: dict[str, Any] = {
        "code": failure.answer.code,
        "reason": failure.reason,
        "message": failure.message,
        "retryable": failure.answer.retry_after_s is not None,
        "field_violations": _violations(failure),
        "suggestions": list(failure.suggestions),
    }
    known = {"error_id": failure.error_id, "request_id": request_id}
    return write_json({"error": facts | {key: value for key, value in known.items() if value}})


def _violations(failure: Failure) -> list[dict[str, str]]:
    if not failure.field:
        return []
    return [{"field": failure.field, "description": failure.description, "reason": failure.reason}]

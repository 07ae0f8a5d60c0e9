"""The HTTP interface: paths, headers and bodies. Lookups are answered where gRPC's are."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from featurestore.errors import NotFoundError, shown
from featurestore_server.calls import Call, Observer
from featurestore_server.errors import (
    BodyTooLargeError,
    ContentTypeError,
    DeadlinePassedError,
    MalformedMessageError,
    MethodNotAllowedError,
    OriginRefusedError,
)
from featurestore_server.http.answering import Answering
from featurestore_server.http.failures import error_response
from featurestore_server.http.replies import write_json
from featurestore_server.options import Limits

LOOKUP_PATH: Final = "/v1/online-features"
HEALTH_PATH: Final = "/healthz"
READINESS_PATH: Final = "/readyz"
PATHS: Final = (LOOKUP_PATH, HEALTH_PATH, READINESS_PATH)

DEFAULT_TIMEOUT_S: Final = 10.0
"""How long a call takes at most that does not say how long it waits."""
MAX_TIMEOUT_MS: Final = 3_600_000
TIMEOUT_HEADER: Final = "x-timeout-ms"


class HttpApp:
    """The application.

    Args:
        answering: Answers lookups.
        limits: What one request may take.
        observer: Told how each lookup ended.
        is_ready: Whether lookups can be answered: the store answers, and the server is not ending.
        body_timeout_s: How long the body of a request may take to come, in seconds.
        cors_origins: Origins whose pages may call, as in "https://app.example.com"; "*" for all.
    """

    def __init__(
        self,
        answering: Answering,
        *,
        limits: Limits,
        observer: Observer,
        is_ready: Callable[[], bool],
        body_timeout_s: float,
        cors_origins: tuple[str, ...] = (),
    ) -> None:
        self._answering = answering
        self._limits = limits
        self._observer = observer
        self._is_ready = is_ready
        self._origins = cors_origins
        self._body_timeout_s = body_timeout_s
        cors = Middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["POST"],
            allow_headers=["authorization", "content-type", TIMEOUT_HEADER, "x-request-id"],
            expose_headers=["retry-after", "x-request-id"],
            max_age=600,
        )
        self.asgi = Starlette(
            routes=[
                Route(LOOKUP_PATH, self._look_up, methods=["POST"]),
                Route(HEALTH_PATH, self._health, methods=["GET"]),
                Route(READINESS_PATH, self._readiness, methods=["GET"]),
            ],
            middleware=[cors] if cors_origins else [],
            exception_handlers={HTTPException: _refuse, Exception: _fail},
        )
        self.asgi.router.redirect_slashes = False

    async def _look_up(self, request: Request) -> Response:
        call = Call(
            LOOKUP_PATH,
            b"",
            tuple(request.headers.items()),
            deadline=time.time() + DEFAULT_TIMEOUT_S,
            peer=lambda: _peer(request),
        )
        answer: bytes | Exception
        try:
            call.deadline = time.time() + _timeout_s(request)
            self._check_origin(request)
            _check_content_type(request)
            with self._answering.place():
                call.request = await self._body(request, call.deadline)
                answer = await self._answering.answer(call)
        except ClientDisconnect as error:
            self._observer.ended(call, error)
            return Response()  # nobody is there to read it
        except Exception as error:  # noqa: BLE001 - this is the last place that can catch it
            answer = error
        self._observer.ended(call, answer if isinstance(answer, Exception) else None)
        return _response(call, answer)

    async def _health(self, _: Request) -> Response:
        return _json(write_json({"status": "SERVING"}))

    async def _readiness(self, _: Request) -> Response:
        if self._is_ready():
            return _json(write_json({"status": "SERVING"}))
        return _json(write_json({"status": "NOT_SERVING"}), status=503)

    def _check_origin(self, request: Request) -> None:
        """Refuse pages of origins that nobody allowed, also where they need no permission to ask.

        A browser says from where a page calls whenever it sends a body. A page that somebody got
        this host's name for (DNS rebinding) says so, too, and would pass as one of our own.
        """
        origin = request.headers.get("origin")
        if origin is None or "*" in self._origins or origin in self._origins:
            return
        raise OriginRefusedError(
            f"Pages of {shown(origin)} may not call this server.",
            hint="add the origin to server.http_cors_origins",
        )

    async def _body(self, request: Request, deadline: float) -> bytes:
        """Return the body; what is too large is refused before it is read.

        Raises:
            BodyTooLargeError: It is too large.
            DeadlinePassedError: It does not come in time.
        """
        limit = self._limits.max_request_bytes
        # The HTTP server has made sure that this is a number.
        if int(request.headers.get("content-length", 0)) > limit:
            raise _too_large(limit)
        parts, size = [], 0
        try:
            async with asyncio.timeout(min(self._body_timeout_s, deadline - time.time())):
                async for part in request.stream():
                    parts.append(part)
                    size += len(part)
                    if size > limit:
                        raise _too_large(limit)
        except TimeoutError:
            raise DeadlinePassedError("The body of the request did not come in time.") from None
        return b"".join(parts)


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The request has more than {limit:,} bytes.", field="", hint="ask in several requests"
    )


def _check_content_type(request: Request) -> None:
    """Only JSON: a page can make a browser send other types without asking for permission."""
    headers = request.headers
    kind, _, parameters = headers.get("content-type", "").partition(";")
    if kind.strip().lower() != "application/json":
        raise ContentTypeError(
            f"The body is said to be {shown(kind.strip())}, not application/json.",
            hint="send Content-Type: application/json",
        )
    name, _, charset = parameters.strip().lower().partition("=")
    if name == "charset" and charset.strip('"') not in ("utf-8", "utf8"):
        raise ContentTypeError(f"JSON is UTF-8, not {shown(charset)}.")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise ContentTypeError("The body is compressed.", hint="send it as it is")


def _timeout_s(request: Request) -> float:
    text = request.headers.get(TIMEOUT_HEADER)
    if text is None:
        return DEFAULT_TIMEOUT_S
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:9]) <= MAX_TIMEOUT_MS:
        raise MalformedMessageError(
            f"{shown(text)} is no time to wait.",
            field=TIMEOUT_HEADER,
            hint=f"send milliseconds, 1 to {MAX_TIMEOUT_MS}",
        )
    return int(text[:9]) / 1e3


def _peer(request: Request) -> str:
    if request.client is None:
        return "unix:"
    host, port = request.client
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _response(call: Call, answer: bytes | Exception) -> Response:
    if isinstance(answer, Exception):
        response = error_response(answer, request_id=call.request_id)
        # What was not read of the body would be taken for the next request.
        if not call.request:
            response.headers["connection"] = "close"
    else:
        response = _json(answer)
    if call.request_id:
        response.headers["x-request-id"] = call.request_id
    return response


def _json(body: bytes, *, status: int = 200) -> Response:
    return Response(body, status, {"cache-control": "no-store"}, "application/json")


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer what the routes refuse: unknown paths, and methods that a path does not have."""
    if isinstance(error, HTTPException) and error.status_code == 405:  # noqa: PLR2004
        allowed = (error.headers or {}).get("Allow", "")
        response = error_response(MethodNotAllowedError(request.method, allowed=allowed))
    else:
        response = error_response(NotFoundError("path", request.url.path, known=PATHS))
    response.headers["connection"] = "close"
    return response


async def _fail(_: Request, error: Exception) -> Response:
    return error_response(error)

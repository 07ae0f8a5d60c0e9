"""Connections that keep their word: uvicorn's, with an end to waiting.

uvicorn bounds how long a connection may idle between requests, and nothing else: one that sends the
beginning of a request, or never reads its reply, would be kept for ever, and headers have no limit.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from featurestore_server.errors import LimitExceededError, MalformedMessageError
from featurestore_server.failures import failure_of
from featurestore_server.http.failures import error_body
from featurestore_server.http.tls import names_in

MAX_HEAD_BYTES: Final = 64 << 10
MAX_FRAMING_RATIO: Final = 8
"""Bytes that may frame each byte of a body, beside those that a head may have: enough for chunks of
one byte."""
MAX_AGE_S: Final = 300.0
"""How long a connection is used, as gRPC's are: then its client's certificate is looked at again,
and another worker may have more time."""
CERTIFICATE_NAMES: Final = "featurestore.certificate_names"
"""Where the scope of a request has the names in its client's certificate."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a client is waited for, in seconds.

    Attributes:
        head_s: For the first line and the headers of a request.
        body_s: For the body of a request.
        idle_s: For another request, and for a client to read some of its reply.
    """

    head_s: float = 10.0
    body_s: float = 10.0
    idle_s: int = 60


class Connection(HttpToolsProtocol):
    """One connection of a client; arguments beside the first are uvicorn's."""

    def __init__(self, patience: Patience, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._patience = patience
        self._head_bytes = 0
        self._is_in_head = True
        self._head_timeout: asyncio.TimerHandle | None = None
        self._unread_bytes = 0
        self._body_bytes = 0
        self._framing_bytes = 0  # what came with a body and is none: chunks' heads, trailers
        self._names: list[str] = []
        self._made_at = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        self._names = names_in(transport.get_extra_info("peercert"))
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to wait."""
        self._end_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is more than a head may have."""
        if self._is_in_head:
            self._head_bytes += len(data)
        else:
            self._framing_bytes += len(data)
        super().data_received(data)
        # What came with the end of the head may belong to the body, and is not counted.
        is_long = self._is_in_head and self._head_bytes > MAX_HEAD_BYTES
        framing_limit = MAX_HEAD_BYTES + MAX_FRAMING_RATIO * self._body_bytes
        if is_long or self._framing_bytes > framing_limit:
            text = f"The headers have more than {MAX_HEAD_BYTES:,} bytes."
            self._refuse(431, LimitExceededError(text, field="headers"))

    def on_message_begin(self) -> None:
        """Begin to wait for the end of the head; this is its first byte."""
        super().on_message_begin()
        if not self._is_in_head:
            self._await_head()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._end_head()
        if self.parser.should_upgrade():
            # The parser would take the body for what comes after the upgrade: another request.
            text = "Connections cannot be upgraded here."
            hint = "send HTTP/1.1 without the header Upgrade: curl --http1.1"
            self._refuse(400, MalformedMessageError(text, field="upgrade", hint=hint))
            return
        self._body_bytes = self._framing_bytes = 0
        self.scope[CERTIFICATE_NAMES] = self._names  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()
        if self.loop.time() - self._made_at > MAX_AGE_S:
            self.cycle.keep_alive = False  # the reply says so, and is the last

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body_bytes += len(body)
        self._framing_bytes -= len(body)
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the one shape that errors have."""
        self._refuse(400, MalformedMessageError("The bytes are no HTTP request.", hint=None))
        del msg

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that idles; one whose client does not read is cut off."""
        unread = self.transport.get_write_buffer_size()
        if unread and unread != self._unread_bytes:
            self._unread_bytes = unread
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        elif unread:
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _await_head(self) -> None:
        self._head_bytes = 0
        self._is_in_head = True
        self._head_timeout = self.loop.call_later(self._patience.head_s, self._give_up)

    def _end_head(self) -> None:
        self._is_in_head = False
        if self._head_timeout:
            self._head_timeout.cancel()
            self._head_timeout = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, status: int, error: Exception) -> None:
        """Answer without the application, and close."""
        if self.transport.is_closing():
            return
        body = error_body(failure_of(error))
        head = b"content-type: application/json\r\nconnection: close\r\n"
        length = f"content-length: {len(body)}\r\n\r\n".encode()
        self.transport.write(STATUS_LINE[status] + head + length + body)
        self.transport.close()

"""The small HTTP server that answers scrapes, in the parent."""

import errno
import logging
import socket
import socketserver
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Final, TypeAlias

from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from featurestore_server.addresses import resolve_tcp
from featurestore_server.errors import AddressError, AddressInUseError

LOGGER: Final = logging.getLogger("featurestore_server")

PATH: Final = "/metrics"
CLIENT_TIMEOUT_S: Final = 10.0
"""How long a connection may stay silent."""
MAX_CONNECTIONS: Final = 16
"""Each has a thread; more are closed as they come."""


class MetricsServer:
    """Answers `GET /metrics`, in threads of its own, as soon as it was made.

    Metrics hold names of services and views, but no keys and no values: they are served wherever
    whoever configured the address wants them, without encryption.

    Args:
        address: `host:port`, or `[ipv6]:port`; port 0 picks a free one.
        collector: What is answered.

    Attributes:
        address: With the port that was picked.

    Raises:
        AddressError: It is no address, or none of this machine's.
        AddressInUseError: Another process listens there.
    """

    def __init__(self, address: str, collector: Collector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        self._server = _listen(address, registry)
        self.address = f"{address.rpartition(':')[0]}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_Request: TypeAlias = socket.socket | tuple[bytes, socket.socket]


class _Server(socketserver.ThreadingTCPServer):
    # Not http.server's: that one asks the name service for its own name.
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, family: int, where: tuple[str, int], registry: CollectorRegistry) -> None:
        self.address_family = family
        self.registry = registry
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(where, _Handler)

    def process_request(self, request: _Request, client_address: object) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # there is no thread that would
            self._free.release()
            raise

    def process_request_thread(self, request: _Request, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: _Request, client_address: object) -> None:  # noqa: ARG002
        if not isinstance(sys.exception(), OSError):  # that is a client that hung up
            LOGGER.exception("a scrape cannot be answered")


def _listen(address: str, registry: CollectorRegistry) -> _Server:
    family, host, port = resolve_tcp(address)
    try:
        return _Server(family, (host, port), registry)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(address) from None
        raise AddressError(f"Nothing can listen at {address!r}: {error.strerror}.") from None


class _Handler(BaseHTTPRequestHandler):
    timeout = CLIENT_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"there is {PATH} alone")
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        body = encode(self.server.registry)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "featurestore"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing: scrapes come every few seconds, for ever."""

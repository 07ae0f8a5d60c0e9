"""gRPC servers of the sides: started, known to be healthy, stopped."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from benchmarks.errors import JobFailedError
from benchmarks.process import free_port, pinned, stop, wait_for_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HEALTH_METHOD = "/grpc.health.v1.Health/Check"
# HealthCheckResponse(status=SERVING) on the wire: field 1, varint 1.
SERVING = b"\x08\x01"
POLL_S = 0.005
READY_TIMEOUT_S = 120.0
LOG_LINES = 20


@contextmanager
def serving(
    command: Callable[[int], list[str]],
    folder: Path,
    *,
    service: str = "",
    core: int | None = None,
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``command(port)`` in ``folder`` and yield it and its port from its first SERVING on.

    ``service`` is the one whose health is asked for; the empty name is the whole server's.

    Raises:
        JobFailedError: it ended before, or did not become healthy in two minutes.
    """
    port = free_port()
    with tempfile.TemporaryFile() as log:
        with pinned(core):
            server = subprocess.Popen(command(port), cwd=folder, stdout=log, stderr=log)
        try:
            with _explained_by(log):
                _wait_until_serving(port, server, service)
            yield server, port
        finally:
            stop(server)


def _wait_until_serving(port: int, server: subprocess.Popen[bytes], service: str) -> None:
    import grpc

    # HealthCheckRequest(service=...): field 1, a string of less than 128 bytes.
    request = b"\x0a" + bytes([len(service)]) + service.encode()
    deadline = time.monotonic() + READY_TIMEOUT_S
    # Only then a channel: a refused connection would make it wait a second before it tries again.
    wait_for_port(port, server, timeout_s=READY_TIMEOUT_S)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(HEALTH_METHOD)
        while time.monotonic() < deadline and server.poll() is None:
            try:
                if check(request, timeout=10) == SERVING:
                    return
            except grpc.RpcError:  # not yet: it listens before it serves
                pass
            time.sleep(POLL_S)
    raise JobFailedError(f"The server on port {port} did not become healthy.")


@contextmanager
def _explained_by(log: IO[bytes]) -> Iterator[None]:
    """Add the end of a server's log to the error of its not starting."""
    try:
        yield
    except JobFailedError as error:
        log.seek(0)
        said = log.read().decode(errors="replace").splitlines()[-LOG_LINES:]
        raise JobFailedError("\n".join([str(error), *said])) from error

"""A worker's connection to the backend, and whether anybody answers there."""

import contextlib
import threading
from collections.abc import Callable
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

RETRY_EVERY_S: Final = 0.2
PATIENCE_S: Final = 10.0
"""How long a call waits for a backend that is being started."""
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_OPTIONS: Final = [
    # Who may send how much is decided where clients come in.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_retries", 0),
    # A process that was stopped, or hangs, closes no socket.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


class BackendLink:
    """A channel to the backend that knows whether it answers.

    Args:
        target: Where the backend listens.
        on_change: Called with whether it answers, when that changes; at first it does not.
        patience_s: How long a call waits until it does.
    """

    def __init__(
        self, target: str, *, on_change: Callable[[bool], None], patience_s: float = PATIENCE_S
    ) -> None:
        self.channel = grpc.insecure_channel(target, _OPTIONS)
        self._on_change = on_change
        self._patience_s = patience_s
        self._answers = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="backend-link", daemon=True)

    def start(self) -> None:
        """Connect, and begin to watch, in a thread."""
        self._thread.start()

    def wait(self, left_s: float) -> bool:
        """Wait for the backend, no longer than `left_s` seconds; return whether it answers."""
        return self._answers.wait(max(0.0, min(left_s, self._patience_s)))

    def stop(self) -> None:
        """Let go of the channel; calls under way are cancelled."""
        self._stopped.set()
        self.channel.close()
        if self._thread.is_alive():
            self._thread.join()

    def _follow(self) -> None:
        stub = health_pb2_grpc.HealthStub(self.channel)
        while not self._stopped.is_set():
            # ValueError: of a channel that was closed meanwhile.
            with contextlib.suppress(grpc.RpcError, ValueError):
                for reply in stub.Watch(health_pb2.HealthCheckRequest()):
                    self._report(answers=reply.status == _SERVING)
            self._report(answers=False)
            self._stopped.wait(RETRY_EVERY_S)

    def _report(self, *, answers: bool) -> None:
        if answers == self._answers.is_set():
            return
        if answers:
            self._answers.set()
        else:
            self._answers.clear()
        self._on_change(answers)

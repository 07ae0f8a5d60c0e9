"""An HTTP server in a thread of a worker process."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, cast

import uvicorn

from featurestore_server.addresses import listen
from featurestore_server.calls import Observer, Observers
from featurestore_server.http.answering import Answering
from featurestore_server.http.app import HttpApp
from featurestore_server.http.connections import Connection, Patience
from featurestore_server.http.requests import JSON
from featurestore_server.options import Limits
from featurestore_server.service import OnlineFeatures

if TYPE_CHECKING:
    import socket

_START_S: Final = 30.0
_END_S: Final = 2.0
"""How long a stop waits for the thread beyond the grace time."""


class HttpServer:
    """Serves the lookups of a `FeatureServer` over HTTP.

    Args:
        online_features: Answers them; catalogs are replaced there.
        store_answers: Whether the store is known to answer.
        threads: Trips to the store at the same time.
        limits: What one request may take.
        observer: Told how each lookup ended.
        cors_origins: Origins whose pages may call.
        patience: How long clients are waited for.
    """

    def __init__(
        self,
        online_features: OnlineFeatures,
        *,
        store_answers: Callable[[], bool],
        threads: int = 4,
        limits: Limits | None = None,
        observer: Observer | None = None,
        cors_origins: tuple[str, ...] = (),
        patience: Patience | None = None,
    ) -> None:
        limits, patience = limits or Limits(), patience or Patience()
        self._answering = Answering(
            partial(online_features.answer_all, dialect=JSON),
            threads=threads,
            max_calls=limits.max_calls,
        )
        app = HttpApp(
            self._answering,
            limits=limits,
            observer=observer or Observers(),
            is_ready=lambda: store_answers() and not self._server.should_exit,
            cors_origins=cors_origins,
            body_timeout_s=patience.body_s,
        )
        self._server = _Server(_config(app, patience))
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def listen(self, target: str) -> int:
        """Listen at `host:port` or `[ipv6]:port`; before `start`.

        Returns:
            The port; what was asked for unless that was 0.

        Raises:
            AddressInUseError: That did not work.
        """
        listening = listen(target)
        self._sockets.append(listening)
        port: int = listening.getsockname()[1]
        return port

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()
        if not self._server.has_started.wait(_START_S):
            raise RuntimeError("the HTTP server did not start")

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._server.server_state.connections)

    def begin_stop(self, grace_s: float) -> None:
        """Take no new connections, and let calls under way end; returns at once.

        Args:
            grace_s: How long they may go on, in seconds.
        """
        self._server.config.timeout_graceful_shutdown = max(1, round(grace_s))
        self._server.should_exit = True

    def stop(self, grace_s: float) -> None:
        """Begin to stop, if that did not happen yet, and wait for the end."""
        self.begin_stop(grace_s)
        self._thread.join(grace_s + _END_S)
        self._answering.close()

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._server.serve(sockets=self._sockets))


class _Server(uvicorn.Server):
    """Says when it has started."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = threading.Event()

    async def startup(self, sockets: "list[socket.socket] | None" = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


def _config(app: HttpApp, patience: Patience) -> uvicorn.Config:
    return uvicorn.Config(
        app.asgi,
        loop="asyncio",
        http=cast("type[asyncio.Protocol]", partial(Connection, patience)),
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # whoever sends nonsense fills no log
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=patience.idle_s,
    )

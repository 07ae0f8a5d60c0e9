"""One gRPC server in this process: lookups, health and reflection."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from featurestore.certificates import TlsFiles
from featurestore.functions import FunctionLoader
from featurestore.online.store import OnlineStore
from featurestore.serving.plan import ServingCatalog
from featurestore_server.calls import Gate, Observer, Observers, OpenGate
from featurestore_server.checks import MAX_WATCHES, HealthMethods
from featurestore_server.errors import AddressInUseError
from featurestore_server.guard import HandlerCollector, add_guarded, observed
from featurestore_server.link import BackendLink
from featurestore_server.loop import LookupLoop, is_supported
from featurestore_server.monitor import StoreMonitor
from featurestore_server.options import Limits
from featurestore_server.passing import SERVICES, PassedMethods
from featurestore_server.permissions import gated_stream
from featurestore_server.pool import LookupAdmission, WatchedPool
from featurestore_server.service import LOOKUP_METHOD, SERVING_SERVICE, OnlineFeatures, Witness
from featurestore_server.tls import grpc_credentials

LOGGER: Final = logging.getLogger("featurestore_server")

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
MAX_STREAMS: Final = 1_000
"""Calls under way on one connection."""
FEW_PENDING: Final = 300
"""Calls that came and were not taken: more of them, and gRPC begins to give some up."""
MAX_PENDING: Final = 600
"""Calls that came and were not taken: all beyond are given up."""
REFLECTION_THREADS: Final = 2
OTHER_CALLS: Final = 256
"""Calls of other methods under way, and lookups that are being refused."""
CONNECTION_AGE_S: Final = 300
"""Clients come back through the address then, and so to whichever worker has room."""
LAST_LOOKUPS_S: Final = 30
"""How long calls of a connection that is that old may go on."""
LAST_TRAINING_SETS_S: Final = 6 * 3_600
"""The same where some of them may be training sets, which take as long as they take."""
_END_S: Final = 1.0
"""How long a stop waits for threads whose calls are cancelled already."""


class FeatureServer:
    """Serves one catalog from one store, in this process.

    Health is that of grpc.health.v1: "" is the process, and serves until it stops; the lookup
    service is also not serving while the store does not answer, the others while the backend does
    not; without a backend their health is unknown.

    Args:
        catalog: What is served.
        store: Where the rows are; it stays the caller's to close.
        threads: Calls handled at the same time.
        limits: What one request may take.
        functions: Loads the Python functions of on-demand features; None refuses them.
        reflect: Whether clients may ask what services there are.
        fast_lookups: Whether lookups are answered by `loop`, where this grpcio permits it.
        gate: Decides who may look up what, and who may ask for reflection; None lets everybody.
        observer: Told how each call ended.
        tls: What connections are encrypted with; None for plain text.
        witnesses: See what lookups are answered with.
        backend: Where the backend listens, which answers all but lookups; "" if there is none.

    Raises:
        CertificateError: A file of `tls` cannot be used.
        FunctionLoadError: A function of the catalog cannot be loaded.
    """

    def __init__(
        self,
        catalog: ServingCatalog,
        store: OnlineStore,
        *,
        threads: int = 4,
        limits: Limits | None = None,
        functions: FunctionLoader | None = None,
        reflect: bool = True,
        fast_lookups: bool = True,
        gate: Gate | None = None,
        observer: Observer | None = None,
        tls: TlsFiles | None = None,
        witnesses: Sequence[Witness] = (),
        backend: str = "",
    ) -> None:
        self._credentials = grpc_credentials(tls) if tls else None
        limits = limits or Limits()
        self.observer = observer or Observers()
        self._gate = gate or OpenGate()
        # A stream that waits for its caller's next message holds a thread for as long.
        self._reflecting = ThreadPoolExecutor(REFLECTION_THREADS, thread_name_prefix="reflection")
        self._pool = WatchedPool(threads)
        self._admission = LookupAdmission(
            LOOKUP_METHOD,
            self._pool,
            threads=threads,
            max_calls=limits.max_calls,
            observer=self.observer,
        )
        self._server = grpc.server(
            self._pool,
            interceptors=[self._admission],
            options=_options(
                limits,
                has_loop=fast_lookups and is_supported(),
                last_s=LAST_TRAINING_SETS_S if backend else LAST_LOOKUPS_S,
            ),
            maximum_concurrent_rpcs=limits.max_calls + OTHER_CALLS + MAX_WATCHES,
        )
        self._health = health.HealthServicer()
        self._health.set(SERVING_SERVICE, _SERVING)
        self._health_methods = HealthMethods(self._health)
        self._link = self._backend_link(backend) if backend else None
        self._passed = PassedMethods(self._link, gate=self._gate, observer=self.observer)
        self._store = store
        self._monitor = _monitor(catalog, store, self._health)
        self.online_features = OnlineFeatures(
            catalog,
            store,
            limits=limits,
            store_answers=self.store_answers,
            functions=functions or FunctionLoader(),
            gate=gate,
            witnesses=witnesses,
        )
        self._loop = self._lookup_loop(threads, limits.max_calls) if fast_lookups else None
        self._add_services(reflect=reflect)

    def _backend_link(self, target: str) -> BackendLink:
        def report(answers: bool) -> None:  # noqa: FBT001 - a callback
            for service in SERVICES:
                self._health.set(service, _SERVING if answers else _NOT_SERVING)

        report(answers=False)
        return BackendLink(target, on_change=report)

    def _lookup_loop(self, threads: int, max_calls: int) -> LookupLoop | None:
        if not is_supported():
            LOGGER.warning(
                "fast lookups were not tested with grpcio %s; its own server answers instead",
                grpc.__version__,
            )
            return None
        return LookupLoop(
            self._server,
            LOOKUP_METHOD,
            self.online_features.answer_all,
            threads=threads,
            max_calls=max_calls,
            observer=self.observer,
        )

    def _add_services(self, *, reflect: bool) -> None:
        lookup: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(
            self._admission.timed(
                observed(LOOKUP_METHOD, self.online_features.answer, self.observer)
            ),
            None,
            None,
        )
        if reflect:
            services = HandlerCollector()
            names = [SERVING_SERVICE, *SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME]
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
                reflection.ReflectionServicer(names), services
            )
            for service, methods in services.services.items():
                add_guarded(self._server, service, self._gated(service, methods))
        if not self._loop:
            add_guarded(self._server, SERVING_SERVICE, {"GetOnlineFeatures": lookup})
        add_guarded(self._server, health.SERVICE_NAME, self._health_methods.by_name())
        for name, methods in self._passed.by_service().items():  # they ask the gate themselves
            add_guarded(self._server, name, methods)

    def _gated(self, service: str, methods: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the methods of a service as this server's gate lets them be called."""
        return {
            name: gated_stream(
                f"/{service}/{name}", method, self._gate, self.observer, pool=self._reflecting
            )
            for name, method in methods.items()
        }

    @property
    def calls_under_way(self) -> int:
        """How many lookups over gRPC wait or are being answered."""
        return (self._loop or self._admission).calls_under_way

    def listen(self, target: str) -> int:
        """Listen at `host:port`, `[ipv6]:port` or `unix:/path`; before `start`.

        Returns:
            The port; what was asked for unless that was 0.

        Raises:
            AddressInUseError: That did not work.
        """
        try:
            if self._credentials:
                return self._server.add_secure_port(target, self._credentials)
            return self._server.add_insecure_port(target)
        except RuntimeError:
            raise AddressInUseError(target) from None

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()
        if self._loop:
            self._loop.start()
        if self._monitor:
            self._monitor.start()
        if self._link:
            self._link.start()

    def replace_catalog(self, catalog: ServingCatalog) -> None:
        """Serve another catalog from now on; calls that came before end as they began.

        Raises:
            FunctionLoadError: A function of the catalog cannot be loaded; nothing has changed.
        """
        self.online_features.replace(catalog)
        if self._monitor is None:  # there was no view until now
            self._monitor = _monitor(catalog, self._store, self._health)
            if self._monitor:
                self._monitor.start()

    def stop(self, grace_s: float) -> None:
        """Say that this server no longer serves, take no new calls, and finish those under way.

        Args:
            grace_s: How long calls may go on, in seconds; then they are cancelled.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        if self._monitor:  # last: its probe may be waiting for the store
            self._monitor.stop()
        if self._loop:
            self._loop.join(_END_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._reflecting.shutdown(wait=False, cancel_futures=True)
        self._admission.shutdown()
        self._health_methods.close()
        self._passed.close()
        if self._link:
            self._link.stop()

    def store_answers(self) -> bool:
        """Whether the store is known to answer."""
        return self._monitor is None or self._monitor.store_answers


def _monitor(
    catalog: ServingCatalog, store: OnlineStore, servicer: health.HealthServicer
) -> StoreMonitor | None:
    if not catalog.views:
        return None

    def report(answers: bool) -> None:  # noqa: FBT001 - a callback
        servicer.set(SERVING_SERVICE, _SERVING if answers else _NOT_SERVING)

    any_view = next(iter(catalog.views.values()))
    return StoreMonitor(store, any_view.table, on_change=report)


def _options(limits: Limits, *, has_loop: bool, last_s: int) -> list[tuple[str, int]]:
    # grpcio's own server takes calls one by one, so that many wait to be taken whenever many come.
    short_queue = [
        ("grpc.server.max_pending_requests", FEW_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", MAX_PENDING),
    ]
    return [
        *(short_queue if has_loop else ()),
        ("grpc.so_reuseport", 1),
        # More wait in the client, where they cost nothing.
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_receive_message_length", limits.max_request_bytes),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1_000),
        ("grpc.max_connection_age_grace_ms", last_s * 1_000),
    ]

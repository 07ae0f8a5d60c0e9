"""One gRPC server in this process: what workers pass on, and health."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from featurestore_protos.v1 import registry_pb2_grpc, writing_pb2_grpc
from featurestore_protos.v1.training_pb2 import (
    GetHistoricalFeaturesRequest,
    GetHistoricalFeaturesResponse,
)
from grpc_health.v1 import health, health_pb2_grpc

from featurestore.store import FeatureStore
from featurestore_server.backend.jobs import TrainingJobs
from featurestore_server.backend.registry import Registry
from featurestore_server.backend.training import Training
from featurestore_server.backend.writing import Writing
from featurestore_server.errors import AddressInUseError
from featurestore_server.guard import HandlerCollector, add_guarded, in_pool
from featurestore_server.options import BackendLimits
from featurestore_server.passing import TRAINING_SERVICE

THREADS: Final = 8
"""Pushes, and questions about the registry, under way at once."""
MORE_STREAMS: Final = 8
"""Threads for training sets beyond those that are taken, to turn others away with."""
_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),  # workers have checked
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.so_reuseport", 0),
]


class BackendServer:
    """Answers for one store, in this process, whoever asks: listen where only workers come.

    Args:
        store: The project; it stays the caller's to close.
        limits: What callers may take.
    """

    def __init__(self, store: FeatureStore, *, limits: BackendLimits | None = None) -> None:
        limits = limits or BackendLimits()
        self._jobs = TrainingJobs(limits)
        streams = limits.training_jobs + limits.waiting_jobs + MORE_STREAMS
        self._pools = (
            ThreadPoolExecutor(THREADS, thread_name_prefix="call"),
            ThreadPoolExecutor(streams, thread_name_prefix="training"),
        )
        self._server = grpc.server(self._pools[0], options=_OPTIONS)
        self._health = health.HealthServicer()
        services: Any = HandlerCollector()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, services)
        writing_pb2_grpc.add_WritingServiceServicer_to_server(Writing(store), services)
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(Registry(store), services)
        training = Training(store, self._jobs, limits)
        services.services[TRAINING_SERVICE] = {
            "GetHistoricalFeatures": grpc.stream_stream_rpc_method_handler(
                in_pool(self._pools[1], training.get_historical_features),
                GetHistoricalFeaturesRequest.FromString,
                GetHistoricalFeaturesResponse.SerializeToString,
            )
        }
        for name, methods in services.services.items():
            add_guarded(self._server, name, methods)

    def listen(self, target: str) -> None:
        """Listen at `unix:/path`; before `start`.

        Raises:
            AddressInUseError: That did not work.
        """
        try:
            self._server.add_insecure_port(target)
        except RuntimeError:
            raise AddressInUseError(target) from None

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()
        self._jobs.start()

    def stop(self, grace_s: float) -> None:
        """Take no new calls, and finish those under way.

        Args:
            grace_s: How long calls may go on, in seconds; then they are cancelled.
        """
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._jobs.stop()
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)

"""The gRPC server and the SDK as a runner of scenarios: what a user of the network sees."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import featurestore_sdk as sdk
from featurestore_server.server import FeatureServer

from featurestore.testing.runners import Reply, is_core_error
from featurestore.testing.scenario import ExpectedError, LookUp, Scenario
from featurestore.testing.store_runner import StoreRunner, micros

if TYPE_CHECKING:
    from featurestore.testing.oracle import Status

# Error of the core -> what a client gets in its place, and how the reason ends that it names.
CLIENT_ERRORS: Final[dict[str, tuple[type[sdk.ClientError], str]]] = {
    "EntityValueError": (sdk.InvalidRequestError, "ENTITY_VALUE_INVALID"),
    "NameCollisionError": (sdk.InvalidRequestError, "NAME_COLLISION"),
    "NotFoundError": (sdk.NotFoundError, "NOT_FOUND"),
    "RequestError": (sdk.InvalidRequestError, "REQUEST_INVALID"),
    "FunctionCallError": (sdk.ServerError, "FUNCTION_FAILED"),
    "ComputationError": (sdk.InvalidRequestError, "FEATURE_NOT_COMPUTABLE"),
}


class ServedRunner(StoreRunner):
    """Trains and materializes in this process, looks up through server and SDK, on loopback."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        super().__init__(folder, settings)
        self.server: FeatureServer | None = None

    def start(self, scenario: Scenario) -> None:
        super().start(scenario)
        self._serve()

    def set_clock(self, now_us: int) -> None:
        super().set_clock(now_us)
        self._serve()

    def _serve(self) -> None:
        """Start a server that lives at the present time; the one of the time before stops."""
        self._stop()
        self.server = FeatureServer(
            self.store.serving_catalog(),
            self.store.online_store,
            functions=self.store.functions,
        )
        port = self.server.listen("127.0.0.1:0")
        self.server.start()
        self.client = sdk.FeatureStoreClient(f"127.0.0.1:{port}", connections=1, timeout_s=30)

    def look_up(self, call: LookUp) -> Reply:
        features = call.features if isinstance(call.features, str) else list(call.features)
        response = self.client.get_online_features(
            features, call.entities.python_rows(), full_feature_names=call.full_feature_names
        )
        return Reply(
            table=response.to_arrow(),
            statuses={
                name: [cast("Status", status.name) for status in found]
                for name, found in response.statuses.items()
            },
            event_times={
                view: [micros(at) for at in times]
                for view, times in response.event_timestamps.items()
            },
            request_us=micros(response.request_timestamp) or 0,
        )

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        if not isinstance(error, sdk.ClientError):
            return is_core_error(error, expected)
        kind, reason = CLIENT_ERRORS[expected.type]
        return isinstance(error, kind) and error.reason.endswith(reason)

    def _stop(self) -> None:
        if self.server is not None:
            self.client.close()
            self.server.stop(grace_s=5)
            self.server = None

    def close(self) -> None:
        self._stop()
        super().close()

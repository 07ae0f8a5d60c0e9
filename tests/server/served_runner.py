"""A runner of scenarios whose lookups take the long way: SDK, gRPC, server, store."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa
import pytest
from featurestore_sdk import (
    ClientError,
    FeatureStoreClient,
    InvalidRequestError,
    NotFoundError,
    OnlineFeatures,
    ServerError,
)
from featurestore_server.server import FeatureServer

from featurestore.testing.runners import Reply
from featurestore.testing.scenario import ExpectedError, LookUp
from featurestore.testing.store_runner import StoreRunner
from featurestore.time import to_micros

if TYPE_CHECKING:
    from featurestore.testing.oracle import Status

# What the classes of the core's errors are called on the wire.
REASONS: Final = {
    "ComputationError": "FEATURE_NOT_COMPUTABLE",
    "EntityValueError": "ENTITY_VALUE_INVALID",
    "NameCollisionError": "NAME_COLLISION",
    "RequestError": "REQUEST_INVALID",
}


class ServedRunner(StoreRunner):
    """Plays scenarios like `StoreRunner`, but looks up through a server and the SDK."""

    def look_up(self, call: LookUp) -> Reply:
        """Start a server with what is registered now, and ask it."""
        server = FeatureServer(
            self.store.serving_catalog(),
            self.store.online_store,
            functions=self.store.functions,
        )
        address = f"127.0.0.1:{server.listen('127.0.0.1:0')}"
        server.start()
        try:
            with FeatureStoreClient(address, timeout_s=30) as client:
                return _ask(client, call)
        finally:
            server.stop(5)

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        """Whether an error is what the scenario names, or what the SDK makes of it."""
        if isinstance(error, NotFoundError):
            return expected.type == "NotFoundError" and error.reason.endswith("_NOT_FOUND")
        if isinstance(error, InvalidRequestError):
            return error.reason == REASONS.get(expected.type)
        if isinstance(error, ServerError):
            return error.reason == "FUNCTION_FAILED" and expected.type == "FunctionCallError"
        return not isinstance(error, ClientError) and super().is_expected(error, expected)


def _ask(client: FeatureStoreClient, call: LookUp) -> Reply:
    """Ask with rows, and with a table: both have to end alike."""
    features = call.features if isinstance(call.features, str) else list(call.features)

    def ask(entities: Any) -> OnlineFeatures:
        return client.get_online_features(
            features, entities, full_feature_names=call.full_feature_names
        )

    # A table without columns does not say how many rows it has.
    table = call.entities.to_arrow() if call.entities.columns else None
    try:
        reply = ask(call.entities.python_rows())
    except ClientError as error:
        if table is not None:
            with pytest.raises(type(error)):
                ask(table)
        raise
    _check_forms(reply.to_arrow(), reply.to_rows())
    if table is not None:
        assert repr(ask(table).to_dict()) == repr(reply.to_dict())
    return Reply(
        table=reply.to_arrow(),
        statuses={
            name: [cast("Status", status.name) for status in found]
            for name, found in reply.statuses.items()
        },
        event_times={
            view: [_micros(at) for at in times] for view, times in reply.event_timestamps.items()
        },
        request_us=to_micros(reply.request_timestamp),
    )


def _check_forms(table: pa.Table, rows: list[dict[str, object]]) -> None:
    # As text, because a NaN is unlike itself.
    from_rows = pa.Table.from_pylist(rows, table.schema)
    assert repr(table.to_pylist()) == repr(from_rows.to_pylist())


def _micros(at: datetime | None) -> int | None:
    return None if at is None else to_micros(at)

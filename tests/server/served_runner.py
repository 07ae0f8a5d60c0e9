"""A runner of scenarios whose calls take the long way: client, gRPC, server, backend, store."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, cast

import grpc
import pyarrow as pa
import pytest
from featurestore_protos.v1.training_pb2 import TRAINING_MODE_AS_SERVED, TRAINING_MODE_COMPLETE
from featurestore_sdk import (
    ClientError,
    FeatureStoreClient,
    InvalidRequestError,
    NotFoundError,
    OnlineFeatures,
    ServerError,
)
from featurestore_server.errors import ANSWERS, answer_for
from featurestore_server.failures import LOGGER
from google.rpc.error_details_pb2 import ErrorInfo

from featurestore import errors
from featurestore.testing.runners import Reply, is_core_error
from featurestore.testing.scenario import ExpectedError, LookUp, Push, Train
from featurestore.testing.store_runner import StoreRunner
from featurestore.time import to_micros

from .backend_calls import push, served, train
from .calls import Failure

if TYPE_CHECKING:
    from featurestore.testing.oracle import Status

# What the classes of the core's errors are called on the wire.
REASONS: Final = {
    "ComputationError": "FEATURE_NOT_COMPUTABLE",
    "EntityValueError": "ENTITY_VALUE_INVALID",
    "NameCollisionError": "NAME_COLLISION",
    "RequestError": "REQUEST_INVALID",
}


class WireError(Exception):
    """A status, with what the server's log says under its error id.

    Args:
        failure: The status.
        logged: The error that was logged, if the status does not say it.
    """

    def __init__(self, failure: Failure, logged: Exception | None) -> None:
        self.failure = failure
        self.logged = logged
        super().__init__(f"{failure.message} {logged or ''}")


class ServedRunner(StoreRunner):
    """Plays scenarios like `StoreRunner`, but through a server: it trains, pushes and looks up."""

    def look_up(self, call: LookUp) -> Reply:
        """Start a server with what is registered now, and ask it."""
        with (
            served(self.store) as address,
            FeatureStoreClient(address, timeout_s=30) as client,
        ):
            return _ask(client, call)

    def train(self, call: Train) -> pa.Table:
        """Start a server, and have it compute the training set."""
        features = call.features if isinstance(call.features, str) else list(call.features)
        mode = {"complete": TRAINING_MODE_COMPLETE, "as_served": TRAINING_MODE_AS_SERVED}
        terms: dict[str, Any] = {
            "full_feature_names": call.full_feature_names,
            "timestamp_field": call.timestamp_field,
            "timezone": call.timezone,
        }
        with self._channel() as (channel, address):
            trained = train(channel, call.spine.to_arrow(), features, mode=mode[call.mode], **terms)
            with FeatureStoreClient(address) as client:
                job = client.get_historical_features(
                    call.spine.to_arrow(), features, mode=call.mode, **terms
                )
                found = job.to_arrow()
        assert found.schema.equals(trained.table.schema)
        assert repr(found.to_pydict()) == repr(trained.table.to_pydict())  # NaN is not NaN
        added = trained.table.column_names[call.spine.to_arrow().num_columns :]
        assert added == list(trained.summary.features)
        assert trained.summary.rows == trained.table.num_rows
        return trained.table

    def push(self, call: Push) -> None:
        """Start a server, and push through it."""
        zone = self.store.get_feature_view(call.view).source.timezone
        with self._channel() as (channel, _):
            push(channel, call.view, call.rows.to_arrow(), zone=zone)

    @contextmanager
    def _channel(self) -> Iterator[tuple[grpc.Channel, str]]:
        with served(self.store) as address, grpc.insecure_channel(address) as channel:
            log = _Log()
            LOGGER.addHandler(log)
            try:
                yield channel, address
            except grpc.RpcError as error:
                failure = Failure(error)
                raise WireError(failure, log.of(failure)) from None
            finally:
                LOGGER.removeHandler(log)

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        """Whether an error is what the scenario names, or what the wire makes of it."""
        if isinstance(error, WireError):
            if error.logged is not None:
                return is_core_error(error.logged, expected)
            wanted = getattr(errors, expected.type)
            answers = [
                answer_for(wanted),
                *(a for k, a in ANSWERS.items() if issubclass(k, wanted)),
            ]
            return any(error.failure.reason.endswith(answer.reason) for answer in answers)
        if isinstance(error, NotFoundError):
            return expected.type == "NotFoundError" and error.reason.endswith("_NOT_FOUND")
        if isinstance(error, InvalidRequestError):
            return error.reason == REASONS.get(expected.type)
        if isinstance(error, ServerError):
            return error.reason == "FUNCTION_FAILED" and expected.type == "FunctionCallError"
        return not isinstance(error, ClientError) and super().is_expected(error, expected)


class _Log(logging.Handler):
    """Errors that were logged, by id."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: dict[str, BaseException] = {}

    def emit(self, record: logging.LogRecord) -> None:
        named = re.search(r"error id (\w+)", record.getMessage())
        if named and record.exc_info and record.exc_info[1]:
            self.errors[named[1]] = record.exc_info[1]

    def of(self, failure: Failure) -> Exception | None:
        error_id = failure.detail(ErrorInfo).metadata.get("error_id")
        error = self.errors[error_id] if error_id else None
        assert error is None or isinstance(error, Exception)
        return error


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

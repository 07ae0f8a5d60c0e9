"""A runner of scenarios whose lookups take the other long way: JSON, HTTP, server, store."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from featurestore_server.http.server import HttpServer
from featurestore_server.server import FeatureServer

from featurestore.errors import FeatureStoreError
from featurestore.testing.runners import Reply
from featurestore.testing.scenario import ExpectedError, LookUp
from featurestore.testing.store_runner import StoreRunner

from .http_calls import Client
from .http_calls import Reply as HttpReply
from .json_values import from_json, micros, to_json
from .served_runner import REASONS

if TYPE_CHECKING:
    from featurestore.testing.oracle import Status


class RefusedError(Exception):
    """The server refused."""

    def __init__(self, reply: HttpReply) -> None:
        super().__init__(reply.body)
        self.reason: str = reply.error["reason"]


class HttpRunner(StoreRunner):
    """Plays scenarios like `StoreRunner`, but looks up over HTTP, by column and by row."""

    _server: FeatureServer | None = None

    def look_up(self, call: LookUp) -> Reply:
        """Let a server serve what is registered now, and ask it."""
        if call.error and self._may_be_right_in_json(call):
            return super().look_up(call)
        if self._server:
            self._server.replace_catalog(self.store.serving_catalog())
        else:
            self._start()
        return self._ask(self._client, call)

    def _may_be_right_in_json(self, call: LookUp) -> bool:
        """Whether text or bytes stand where something else belongs: in JSON all of it is text."""
        try:
            prepared = self.store.prepare_online(asked(call))
        except FeatureStoreError:
            return False
        types = prepared.request_columns
        return any(
            str(dtype) in ("string", "binary") and types.get(name, str(dtype)) != str(dtype)
            for name, dtype in call.entities.columns.items()
        )

    def _start(self) -> None:
        self._server = server = FeatureServer(
            self.store.serving_catalog(), self.store.online_store, functions=self.store.functions
        )
        self._twin = HttpServer(server.online_features, store_answers=server.store_answers)
        self._client = Client(f"127.0.0.1:{self._twin.listen('127.0.0.1:0')}")
        self._twin.start()

    def close(self) -> None:
        """Let go of files, connections and the server."""
        if self._server:
            self._client.connection.close()
            self._twin.stop(5)
        super().close()

    def _ask(self, client: Client, call: LookUp) -> Reply:
        selected = (
            {"feature_service": call.features}
            if isinstance(call.features, str)
            else {"features": list(call.features)}
        )
        rows = [
            {name: to_json(value) for name, value in row.items()}
            for row in call.entities.python_rows()
        ]
        document = selected | {"full_feature_names": call.full_feature_names, "entities": rows}
        by_column = client.post(document | {"format": "columns"})
        if by_column.status != 200:
            raise RefusedError(by_column)
        by_row = client.post(document).body
        _check_forms(by_column.body, by_row)
        return self._reply(by_column.body, call)

    def _reply(self, found: Mapping[str, Any], call: LookUp) -> Reply:
        prepared = self.store.prepare_online(
            asked(call), full_feature_names=call.full_feature_names
        )
        types = prepared.request_columns
        columns = {
            name: from_json(types[name], values) for name, values in found["entities"].items()
        }
        columns |= {
            name: from_json(feature["dtype"], feature["values"])
            for name, feature in found["features"].items()
        }
        return Reply(
            table=pa.table(columns),
            statuses={
                name: cast("list[Status]", feature["statuses"])
                for name, feature in found["features"].items()
            },
            event_times={
                view: micros(times["event_timestamps"]) for view, times in found["views"].items()
            },
            request_us=cast("int", micros([found["request_timestamp"]])[0]),
        )

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        """Whether an error is what the scenario names, as HTTP names it."""
        if not isinstance(error, RefusedError):
            return super().is_expected(error, expected)
        if expected.type == "NotFoundError":
            return error.reason.endswith("_NOT_FOUND")
        known = {**REASONS, "FunctionCallError": "FUNCTION_FAILED"}
        return error.reason == known.get(expected.type)


def asked(call: LookUp) -> str | list[str]:
    return call.features if isinstance(call.features, str) else list(call.features)


def _check_forms(by_column: Mapping[str, Any], by_row: Mapping[str, Any]) -> None:
    assert [row["entity"] for row in by_row["rows"]] == _rows(by_column["entities"], by_row)
    for part in ("values", "statuses"):
        columns = {name: feature[part] for name, feature in by_column["features"].items()}
        named = "features" if part == "values" else part
        assert [row[named] for row in by_row["rows"]] == _rows(columns, by_row)
    times = {view: times["event_timestamps"] for view, times in by_column["views"].items()}
    assert [row["event_timestamps"] for row in by_row["rows"]] == _rows(times, by_row)


def _rows(columns: Mapping[str, list[Any]], by_row: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {name: values[n] for name, values in columns.items()} for n in range(len(by_row["rows"]))
    ]

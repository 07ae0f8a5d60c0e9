"""A gRPC server on a free port of loopback that serves what a test tells it."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from types import TracebackType
from typing import Any, Final, Self

import grpc
from featurestore_protos.v1 import registry_pb2 as registry
from featurestore_protos.v1 import serving_pb2 as serving
from featurestore_protos.v1 import training_pb2 as training
from featurestore_protos.v1 import writing_pb2 as writing
from google.protobuf.message import Message

from featurestore_sdk.async_client import AsyncFeatureStoreClient
from featurestore_sdk.client import FeatureStoreClient
from featurestore_sdk.errors import ClientError, NotFoundError, ServerError
from featurestore_sdk.requests import HEALTH, SERVING
from featurestore_sdk.responses import Status
from featurestore_sdk.spines import Spine, arrow
from featurestore_sdk.testing.failures import code_of, details_of
from featurestore_sdk.testing.project import Project, Row, Service, View
from featurestore_sdk.testing.values import plain
from featurestore_sdk.training import METHOD as TRAINING

_V1: Final = "/featurestore.v1."
_THREADS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeCall:
    """A call that a fake server got, be it that it failed.

    Attributes:
        method: The name of the client's method, such as "get_online_features".
        arguments: Its arguments as they arrived, by name; entities and rows are columns of plain
            values, a spine is an Arrow table.
        api_key: The key that came with it, or None.
    """

    method: str
    arguments: Mapping[str, Any]
    api_key: str | None


class FakeFeatureStore:
    """A feature store's server for tests: real gRPC on a free port of loopback, rows in memory.

    Start it as a context manager. Requests are checked as the real server checks them, and wrong
    ones get the same typed errors. Rows are what `put` (or a push) says; nothing is computed.

    Args:
        project: The name of the project that it serves.

    Attributes:
        calls: What was asked, oldest first.
    """

    def __init__(self, project: str = "fake") -> None:
        self.calls: list[FakeCall] = []
        self._project = Project(project)
        self._lock = threading.Lock()
        self._failures: deque[Iterator[ClientError]] = deque()
        self._training_set: Spine | None = None
        self._address: str | None = None
        self._running = ExitStack()

    @property
    def address(self) -> str:
        """Where it listens, while the context lasts."""
        if self._address is None:
            raise RuntimeError("a fake server listens within `with FakeFeatureStore() as fake:`")
        return self._address

    # --- What it serves --------------------------------------------------------------------------

    def add_view(self, name: str, keys: Mapping[str, str], features: Mapping[str, str]) -> None:
        """Add a view.

        Args:
            name: Its name.
            keys: Its join keys and their types, such as `{"user_id": "int64"}`; none for a view
                with one row for everybody.
            features: Its features and their types, such as `{"scores": "list<float32>"}`. Those
                of an on-demand view are features as well, whose values a test chooses.
        """
        self._project.views[name] = View(keys=dict(keys), features=dict(features))
        self._project.revision += 1

    def add_service(
        self,
        name: str,
        features: Sequence[str],
        *,
        request_fields: Mapping[str, str] | None = None,
    ) -> None:
        """Add a feature service.

        Args:
            name: Its name.
            features: Its features, as `view:feature`.
            request_fields: What lookups of it have to bring beside join keys, with types.

        Raises:
            NotFoundError: A feature is of no view that was added.
        """
        self._project.check_names(features)
        self._project.services[name] = Service(
            features=tuple(features), request_fields=dict(request_fields or {})
        )
        self._project.revision += 1

    def put(
        self,
        view: str,
        key: Mapping[str, Any],
        values: Mapping[str, Any],
        *,
        statuses: Mapping[str, Status] | None = None,
        event_timestamp: datetime | None = None,
    ) -> None:
        """Store one entity's row, in place of the one before. Entities without one are NOT_FOUND.

        Args:
            view: The name of a view that was added.
            key: The entity.
            values: Values by feature; None, or a feature that is left out, is null.
            statuses: Where the status is none of PRESENT and NULL_VALUE, such as OUTSIDE_MAX_AGE.
            event_timestamp: When the row took effect; now unless given.

        Raises:
            NotFoundError: There is no such view or feature.
            InvalidRequestError: The key, or a value, is not of its declared type.
        """
        row = Row(
            values=dict(values),
            statuses=dict(statuses or {}),
            event_timestamp=event_timestamp or datetime.now(UTC),
        )
        self._project.put(view, key, row)

    def answer_training(self, table: Any) -> None:
        """Answer every later `get_historical_features` with this table, in any form of a spine."""
        self._training_set = Spine(table)

    def fail_next(self, error: ClientError, *, times: int | None = 1) -> None:
        """Answer the next calls with an error, as the client will raise it.

        Clients retry what is unavailable, so that a single UnavailableError is not seen.

        Args:
            error: The error; its facts arrive, too.
            times: How many tries fail; None for all from now on.

        Raises:
            ValueError: No server sends such an error.
        """
        code_of(error)
        self._failures.append(repeat(error) if times is None else repeat(error, times))

    def client(self, **options: Any) -> FeatureStoreClient:
        """Return a client of this server, with the options of FeatureStoreClient; ours to close."""
        client = FeatureStoreClient(self.address, **options)
        self._running.callback(client.close)
        return client

    def async_client(self, **options: Any) -> AsyncFeatureStoreClient:
        """Return an async client of this server, which is the caller's to close."""
        return AsyncFeatureStoreClient(self.address, **options)

    # --- How it serves ---------------------------------------------------------------------------

    def __enter__(self) -> Self:
        server = grpc.server(ThreadPoolExecutor(_THREADS), handlers=[_Handler(self)])
        self._address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self._running.callback(lambda: server.stop(None).wait())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.close()
        self._address = None

    def _record(self, method: str, arguments: dict[str, Any], api_key: str | None) -> None:
        with self._lock:  # calls are answered by several threads
            self.calls.append(FakeCall(method=method, arguments=arguments, api_key=api_key))
            while self._failures:
                error = next(self._failures[0], None)
                if error is not None:
                    raise error
                self._failures.popleft()

    def _online(self, request: bytes, key: str | None) -> Message:
        asked = serving.GetOnlineFeaturesRequest.FromString(request)
        entities = {name: plain(values) for name, values in asked.entities.items()}
        self._record("get_online_features", {**_selection(asked), "entities": entities}, key)
        return self._project.online(asked)

    def _describe(self, request: bytes, key: str | None) -> Message:
        asked = registry.DescribeFeaturesRequest.FromString(request)
        self._record("describe_features", _selection(asked), key)
        return self._project.describe(asked)

    def _get_project(self, request: bytes, key: str | None) -> Message:
        self._record("get_project", {}, key)
        self._project.check_project(registry.GetProjectRequest.FromString(request).project)
        return registry.GetProjectResponse(
            project=self._project.name, revision=self._project.revision
        )

    def _list_objects(self, request: bytes, key: str | None) -> Message:
        asked = registry.ListObjectsRequest.FromString(request)
        self._record("list_objects", {}, key)
        self._project.check_project(asked.project)
        objects = [o for o in self._project.objects() if asked.kind in (0, o.kind)]
        return registry.ListObjectsResponse(revision=self._project.revision, objects=objects)

    def _get_object(self, request: bytes, key: str | None) -> Message:
        asked = registry.GetObjectRequest.FromString(request)
        self._record("get_object", {"name": asked.name}, key)
        self._project.check_project(asked.project)
        for found in self._project.objects():
            if (found.kind, found.name) == (asked.kind, asked.name):
                return registry.GetObjectResponse(revision=self._project.revision, object=found)
        kind = registry.ObjectKind.Name(asked.kind).removeprefix("OBJECT_KIND_")
        raise NotFoundError(
            f"There is no object {asked.name!r} of the kind {kind.lower()}.",
            kind=kind.lower().replace("_", " "),
            name=asked.name,
            reason=f"{kind}_NOT_FOUND",
        )

    def _push(self, request: bytes, key: str | None) -> Message:
        asked = writing.PushRequest.FromString(request)
        rows = {name: plain(values) for name, values in asked.columns.items()}
        arguments = {"view": asked.view, "rows": rows, "append": asked.append}
        self._record("push", arguments, key)
        self._project.check_project(asked.project)
        view = self._project.view(asked.view)
        count = max(map(len, rows.values()), default=0)
        for row in range(count):
            values = {name: column[row] for name, column in rows.items()}
            entity = {name: values[name] for name in view.keys if name in values}
            self.put(asked.view, entity, {n: values[n] for n in view.features if n in values})
        return writing.PushResponse(rows=count, written=count)

    def _train(self, requests: Iterator[bytes], key: str | None) -> Iterator[Message]:
        parts = map(training.GetHistoricalFeaturesRequest.FromString, requests)
        query = next(parts).query
        pa = arrow("A fake training set")
        spine = pa.ipc.open_stream(b"".join(part.spine for part in parts)).read_all()
        self._record("get_historical_features", {**_selection(query), "spine": spine}, key)
        self._project.check_project(query.project)
        if self._training_set is None:
            raise ServerError("The fake server has no training set: see answer_training().")
        pieces = list(self._training_set.pieces())
        table = pa.ipc.open_stream(b"".join(pieces)).read_all()
        summary = training.TrainingSummary(
            project=self._project.name,
            revision=self._project.revision,
            rows=table.num_rows,
            features=[n for n in table.column_names if n not in spine.column_names],
        )
        for piece in pieces:
            yield training.GetHistoricalFeaturesResponse(table=piece)
        yield training.GetHistoricalFeaturesResponse(summary=summary)


class _Handler(grpc.GenericRpcHandler):
    """Finds what answers a method, and sends its errors."""

    def __init__(self, fake: FakeFeatureStore) -> None:
        self._train = fake._train  # noqa: SLF001 - the two are one
        self._answers: dict[str, Callable[[bytes, str | None], Message]] = {
            f"{_V1}ServingService/GetOnlineFeatures": fake._online,  # noqa: SLF001
            f"{_V1}WritingService/Push": fake._push,  # noqa: SLF001
            f"{_V1}RegistryService/GetProject": fake._get_project,  # noqa: SLF001
            f"{_V1}RegistryService/ListObjects": fake._list_objects,  # noqa: SLF001
            f"{_V1}RegistryService/GetObject": fake._get_object,  # noqa: SLF001
            f"{_V1}RegistryService/DescribeFeatures": fake._describe,  # noqa: SLF001
        }

    def service(self, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        if method == HEALTH.method:
            return grpc.unary_unary_rpc_method_handler(lambda *_: SERVING)
        if method == TRAINING:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        if method not in self._answers:
            return None
        answer = self._answers[method]

        def unary(request: bytes, context: Any) -> bytes:
            try:
                return answer(request, _key(context)).SerializeToString()
            except ClientError as error:
                return _abort(context, error)

        return grpc.unary_unary_rpc_method_handler(unary)

    def _stream(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        try:
            for message in self._train(requests, _key(context)):
                yield message.SerializeToString()
        except ClientError as error:
            _abort(context, error)


def _selection(request: Any) -> dict[str, Any]:
    by_service = request.WhichOneof("selection") == "feature_service"
    return {
        "features": request.feature_service if by_service else list(request.features.names),
        "full_feature_names": request.full_feature_names,
    }


def _key(context: Any) -> str | None:
    given = dict(context.invocation_metadata()).get("authorization")
    return None if given is None else given.removeprefix("Bearer ")


def _abort(context: Any, error: ClientError) -> bytes:
    code = grpc.StatusCode[code_of(error)]
    details = details_of(error, code.value[0])
    context.set_trailing_metadata((("grpc-status-details-bin", details),))
    context.abort(code, error.message)
    raise AssertionError("abort raises")

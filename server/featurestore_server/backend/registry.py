"""The registry, for reading: what is applied, and what lookups take and give."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

import grpc
from featurestore_protos.v1 import registry_pb2
from featurestore_protos.v1.registry_pb2 import (
    ColumnDescription,
    DescribeFeaturesRequest,
    DescribeFeaturesResponse,
    GetObjectRequest,
    GetObjectResponse,
    GetProjectRequest,
    GetProjectResponse,
    ListObjectsRequest,
    ListObjectsResponse,
    RegisteredObject,
)
from featurestore_protos.v1.registry_pb2_grpc import RegistryServiceServicer

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.errors import NotFoundError
from featurestore.registry.state import RegistryState
from featurestore.store import FeatureStore
from featurestore_server.backend.calling import check_project, selection_of
from featurestore_server.errors import MalformedMessageError

PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000

_KINDS: Final[Mapping[type[Definition], int]] = {
    Entity: registry_pb2.OBJECT_KIND_ENTITY,
    FileSource: registry_pb2.OBJECT_KIND_SOURCE,
    RequestSource: registry_pb2.OBJECT_KIND_REQUEST_SOURCE,
    FeatureView: registry_pb2.OBJECT_KIND_FEATURE_VIEW,
    OnDemandFeatureView: registry_pb2.OBJECT_KIND_ON_DEMAND_FEATURE_VIEW,
    FeatureService: registry_pb2.OBJECT_KIND_FEATURE_SERVICE,
}
_NAMES: Final = {number: kind.kind for kind, number in _KINDS.items()}
_PRIVATE: Final = frozenset({"path"})
"""Fields of documents that say where things lie on the server, or in its network."""


class _Position(NamedTuple):
    """Where an object stands among all."""

    kind: int
    name: str


class Registry(RegistryServiceServicer):
    """Answers `RegistryService`; every answer is of one revision.

    Args:
        store: Has the registry.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def GetProject(  # noqa: N802 - the method's name
        self, request: GetProjectRequest, _: grpc.ServicerContext
    ) -> GetProjectResponse:
        """Describe the project."""
        state = self._state(request.project)
        return GetProjectResponse(project=state.project, revision=state.revision)

    def ListObjects(  # noqa: N802
        self, request: ListObjectsRequest, _: grpc.ServicerContext
    ) -> ListObjectsResponse:
        """List objects by kind, then by name."""
        state = self._state(request.project)
        _check_kind(request.kind, may_be_any=True)
        size = min(request.page_size or PAGE_SIZE, MAX_PAGE_SIZE)
        after = _position(request.page_token)
        found = {
            position: definition
            for position, definition in _objects(state)
            if position > after and request.kind in (0, position.kind)
        }
        page = list(found)[:size]
        return ListObjectsResponse(
            revision=state.revision,
            objects=[_registered(found[position]) for position in page],
            next_page_token=_token(page[-1]) if len(found) > len(page) else "",
        )

    def GetObject(  # noqa: N802
        self, request: GetObjectRequest, _: grpc.ServicerContext
    ) -> GetObjectResponse:
        """Return one object."""
        state = self._state(request.project)
        _check_kind(request.kind, may_be_any=False)
        known = {p.name: d for p, d in _objects(state) if p.kind == request.kind}
        if request.name not in known:
            raise NotFoundError(_NAMES[request.kind], request.name, known=known)
        definition = known[request.name]
        return GetObjectResponse(revision=state.revision, object=_registered(definition))

    def DescribeFeatures(  # noqa: N802
        self, request: DescribeFeaturesRequest, _: grpc.ServicerContext
    ) -> DescribeFeaturesResponse:
        """Describe what a lookup takes and gives."""
        check_project(request.project, self._store)
        catalog = self._store.serving_catalog()
        chosen = selection_of(request, field="")
        plan = catalog.prepare(
            chosen if isinstance(chosen, str) else tuple(chosen),
            full_feature_names=request.full_feature_names,
        )
        return DescribeFeaturesResponse(
            revision=catalog.revision,
            request_columns=_described(plan.request_columns),
            features=_described(plan.features),
        )

    def _state(self, project: str) -> RegistryState:
        check_project(project, self._store)
        return self._store.state()


def _objects(state: RegistryState) -> Iterator[tuple[_Position, Definition]]:
    """Yield all objects in order: kinds as the enumeration has them, names as text."""
    found = [(_Position(_KINDS[type(d)], d.name), d) for d in state.definitions]
    return iter(sorted(found, key=lambda item: item[0]))


def _check_kind(kind: int, *, may_be_any: bool) -> None:
    if kind not in _NAMES and not (may_be_any and kind == 0):
        raise MalformedMessageError(
            "The request does not say which kind of object." if kind == 0 else "No such kind.",
            field="kind",
        )


def _token(position: _Position) -> str:
    """Return what a page ends with: objects that come or go meanwhile move no other."""
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode()


def _position(token: str) -> _Position:
    if not token:
        return _Position(0, "")
    try:
        kind, name = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        kind, name = None, None
    if not isinstance(kind, int) or not isinstance(name, str):
        raise MalformedMessageError(
            "The page token is none that this server gave.",
            field="page_token",
            hint="pass next_page_token of the page before, or nothing",
        )
    return _Position(kind, name)


def _registered(definition: Definition) -> RegisteredObject:
    document = {k: v for k, v in definition.to_document().items() if k not in _PRIVATE}
    return RegisteredObject(
        kind=_KINDS[type(definition)],  # type: ignore[arg-type]
        name=definition.name,
        definition_json=json.dumps(document, ensure_ascii=False, separators=(",", ":")),
        description=definition.description,
        owner=definition.owner,
        tags=definition.tags,
    )


def _described(columns: Iterable[tuple[str, str]]) -> list[ColumnDescription]:
    return [ColumnDescription(name=name, dtype=dtype) for name, dtype in columns]

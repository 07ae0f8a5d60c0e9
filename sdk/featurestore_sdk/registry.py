"""What is registered: the calls that ask for it, and what they return. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self

from featurestore_protos.v1 import registry_pb2
from featurestore_protos.v1.registry_pb2 import (
    DescribeFeaturesRequest,
    DescribeFeaturesResponse,
    GetObjectRequest,
    GetObjectResponse,
    GetProjectRequest,
    GetProjectResponse,
    ListObjectsRequest,
    ListObjectsResponse,
)
from google.protobuf.message import Message

from featurestore_sdk.errors import InvalidRequestError
from featurestore_sdk.requests import Call, select
from featurestore_sdk.responses import message_from

PAGE_SIZE: Final = 1_000
_SERVICE: Final = "/featurestore.v1.RegistryService/"


class ObjectKind(StrEnum):
    """A kind of registered objects; its text will do where one is asked for."""

    ENTITY = "entity"
    SOURCE = "source"
    REQUEST_SOURCE = "request_source"
    FEATURE_VIEW = "feature_view"
    ON_DEMAND_FEATURE_VIEW = "on_demand_feature_view"
    FEATURE_SERVICE = "feature_service"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """What a server serves.

    Attributes:
        name: The project's name.
        revision: The revision of its registry; every apply that changes something counts it up.
    """

    name: str
    revision: int

    @classmethod
    def parse(cls, reply: bytes) -> Self:
        """Return what a serialized reply says."""
        found = message_from(GetProjectResponse, reply)
        return cls(name=found.project, revision=found.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredObject:
    """One registered object.

    Attributes:
        kind: Its kind.
        name: Its name.
        definition: Its definition, as the registry holds it; paths of files are left out.
        description: What it is for, in its author's words.
        owner: Who answers for it.
        tags: Its tags.
    """

    kind: ObjectKind
    name: str
    definition: Mapping[str, Any]
    description: str
    owner: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, message: registry_pb2.RegisteredObject) -> Self:
        """Return what a message says."""
        return cls(
            kind=_KINDS[message.kind],
            name=message.name,
            definition=json.loads(message.definition_json or "{}"),
            description=message.description,
            owner=message.owner,
            tags=dict(message.tags),
        )

    @classmethod
    def parse(cls, reply: bytes) -> Self:
        """Return what the serialized reply about one object says."""
        return cls.of(message_from(GetObjectResponse, reply).object)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDescription:
    """What a lookup takes and gives.

    Attributes:
        revision: The revision of the registry that this is of.
        request_columns: The join keys and request fields that a lookup has to bring, with types.
        features: The features of its reply, in order, with types such as `list<float32>`.
    """

    revision: int
    request_columns: Mapping[str, str]
    features: Mapping[str, str]

    @classmethod
    def parse(cls, reply: bytes) -> Self:
        """Return what a serialized reply says."""
        found = message_from(DescribeFeaturesResponse, reply)
        return cls(
            revision=found.revision,
            request_columns={column.name: column.dtype for column in found.request_columns},
            features={column.name: column.dtype for column in found.features},
        )


def project_call(project: str) -> Call:
    """Return the call of `get_project`."""
    return _call("GetProject", GetProjectRequest(project=project))


def object_call(project: str, kind: str, name: str) -> Call:
    """Return the call of `get_object`.

    Raises:
        InvalidRequestError: There is no such kind.
    """
    request = GetObjectRequest(project=project, kind=_number_of(kind), name=name)
    return _call("GetObject", request)


def describe_call(project: str, features: str | Sequence[str], *, full_feature_names: bool) -> Call:
    """Return the call of `describe_features`.

    Raises:
        InvalidRequestError: This names no features.
    """
    request = DescribeFeaturesRequest(project=project, full_feature_names=full_feature_names)
    select(request, features)
    return _call("DescribeFeatures", request)


class Listing:
    """The pages of a list of objects: what to ask for next, and what came so far.

    Args:
        project: The project the server is expected to serve, or "".
        kind: Which objects; None for all.

    Raises:
        InvalidRequestError: There is no such kind.
    """

    def __init__(self, project: str, kind: str | None) -> None:
        self.objects: list[RegisteredObject] = []
        self._request = ListObjectsRequest(project=project, page_size=PAGE_SIZE)
        if kind is not None:
            self._request.kind = _number_of(kind)

    def next_call(self) -> Call:
        """Return the call for the next page."""
        return _call("ListObjects", self._request)

    def add(self, reply: bytes) -> bool:
        """Add a page; return whether there is another."""
        page = message_from(ListObjectsResponse, reply)
        self.objects += map(RegisteredObject.of, page.objects)
        self._request.page_token = page.next_page_token
        return bool(page.next_page_token)


def _number_of(kind: str) -> registry_pb2.ObjectKind:
    try:
        return _NUMBERS[ObjectKind(kind)]
    except ValueError:
        known = ", ".join(map(repr, map(str, ObjectKind)))
        raise InvalidRequestError(f"there is no kind {kind!r}; the kinds are {known}.") from None


_NUMBERS: Final = {
    ObjectKind.ENTITY: registry_pb2.OBJECT_KIND_ENTITY,
    ObjectKind.SOURCE: registry_pb2.OBJECT_KIND_SOURCE,
    ObjectKind.REQUEST_SOURCE: registry_pb2.OBJECT_KIND_REQUEST_SOURCE,
    ObjectKind.FEATURE_VIEW: registry_pb2.OBJECT_KIND_FEATURE_VIEW,
    ObjectKind.ON_DEMAND_FEATURE_VIEW: registry_pb2.OBJECT_KIND_ON_DEMAND_FEATURE_VIEW,
    ObjectKind.FEATURE_SERVICE: registry_pb2.OBJECT_KIND_FEATURE_SERVICE,
}
_KINDS: Final = {number: kind for kind, number in _NUMBERS.items()}


def _call(method: str, request: Message) -> Call:
    return Call(method=_SERVICE + method, request=request.SerializeToString())

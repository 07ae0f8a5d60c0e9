"""How requests for lookups and their replies are written: as protobuf, or as JSON (see `http`)."""

from collections.abc import Mapping
from typing import Final, Protocol

from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesRequest

from featurestore.serving.lookup import LookupResult
from featurestore.serving.plan import Columns
from featurestore_server.guard import parse
from featurestore_server.options import Limits
from featurestore_server.replies import serialize_reply
from featurestore_server.requests import Column, Selection, read_entities, read_selection


class LookupRequest(Protocol):
    """A request that was read.

    Attributes:
        project: The project that the caller expects to talk to, or "".
        selection: The feature service, or features by name.
        full_feature_names: Whether features are named "view__feature".
        entity_count: How many entities there are, where no column tells; None where not said.
    """

    project: str
    selection: Selection
    full_feature_names: bool
    entity_count: int | None

    def columns(self, types: Columns) -> Mapping[str, Column]:
        """Return the columns of entities, as a lookup takes them.

        Args:
            types: The columns that the lookup asks for, with their types.

        Raises:
            RequestError: They contradict themselves, are too long, or not of their type.
        """
        ...

    def reply(self, result: LookupResult, *, project: str, revision: int) -> bytes:
        """Return the reply to this request."""
        ...


class Dialect(Protocol):
    """Reads requests."""

    def read(self, request: bytes, limits: Limits) -> LookupRequest:
        """Return the request that these bytes are.

        Raises:
            RequestError: They are none, or the request names too many features.
        """
        ...


class ProtobufRequest:
    """A `GetOnlineFeaturesRequest`; see `LookupRequest`."""

    __slots__ = (
        "_limits",
        "_message",
        "entity_count",
        "full_feature_names",
        "project",
        "selection",
    )

    def __init__(self, message: GetOnlineFeaturesRequest, limits: Limits) -> None:
        self._message = message
        self._limits = limits
        self.project = message.project
        self.selection = read_selection(message, limits)
        self.full_feature_names = message.full_feature_names
        self.entity_count = message.entity_count or None

    def columns(self, types: Columns) -> Mapping[str, Column]:  # noqa: ARG002 - messages are typed
        """Return the columns of entities; a message says of which type they are."""
        return read_entities(self._message.entities, self._limits)

    def reply(self, result: LookupResult, *, project: str, revision: int) -> bytes:
        """Return a serialized `GetOnlineFeaturesResponse`."""
        return serialize_reply(result, project=project, revision=revision)


class _Protobuf(Dialect):
    def read(self, request: bytes, limits: Limits) -> ProtobufRequest:
        return ProtobufRequest(parse(GetOnlineFeaturesRequest.FromString, request), limits)


PROTOBUF: Final = _Protobuf()

"""From the arguments of a call to what is sent. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from featurestore_protos.v1.registry_pb2 import DescribeFeaturesRequest
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesRequest
from featurestore_protos.v1.training_pb2 import TrainingQuery
from featurestore_protos.v1.writing_pb2 import PushRequest

from featurestore_sdk.entities import ROWS, Entities, columns_of
from featurestore_sdk.errors import InvalidRequestError
from featurestore_sdk.values import encode

_Selecting = GetOnlineFeaturesRequest | DescribeFeaturesRequest | TrainingQuery


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that sends one message and gets one, as either client makes it.

    Attributes:
        method: The path of the gRPC method.
        request: The serialized request.
        repeatable: Whether the server may get it twice.
    """

    method: str
    request: bytes
    repeatable: bool = True


# Written by hand, so that nobody needs the package grpcio-health-checking for two messages:
# HealthCheckRequest(service=...) and HealthCheckResponse(status=SERVING) of grpc.health.v1.
_SERVICE: Final = b"featurestore.v1.ServingService"
HEALTH: Final = Call(
    method="/grpc.health.v1.Health/Check", request=bytes([0x0A, len(_SERVICE)]) + _SERVICE
)
SERVING: Final = b"\x08\x01"
"""The reply to HEALTH of a server that serves."""


def online_call(
    project: str,
    features: str | Sequence[str],
    entities: Entities,
    *,
    full_feature_names: bool,
) -> Call:
    """Return the call of `get_online_features`.

    Raises:
        InvalidRequestError: The arguments cannot be sent.
    """
    request = GetOnlineFeaturesRequest(project=project, full_feature_names=full_feature_names)
    select(request, features)
    columns = columns_of(entities)
    for name, column in columns.items():
        request.entities[name].MergeFrom(encode(name, column))
    if not columns and isinstance(entities, Sequence):
        request.entity_count = len(entities)
    return Call(
        method="/featurestore.v1.ServingService/GetOnlineFeatures",
        request=request.SerializeToString(),
    )


def push_call(project: str, view: str, rows: Entities, *, append: bool) -> Call:
    """Return the call of `push`.

    Raises:
        InvalidRequestError: The rows cannot be sent.
    """
    request = PushRequest(project=project, view=view, append=append)
    for name, column in columns_of(rows, ROWS).items():
        request.columns[name].MergeFrom(encode(name, column, ROWS))
    return Call(
        method="/featurestore.v1.WritingService/Push",
        request=request.SerializeToString(),
        # Rows that were appended once more would be in the source twice.
        repeatable=not append,
    )


def select(request: _Selecting, features: Any) -> None:
    """Write into a request which features it is about.

    Raises:
        InvalidRequestError: This names no features.
    """
    if isinstance(features, str):
        if ":" in features:
            raise InvalidRequestError(
                f"features={features!r} is one feature; pass [{features!r}]. A plain string is the"
                " name of a feature service."
            )
        request.feature_service = features
        return
    names = list(features) if isinstance(features, Sequence) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InvalidRequestError(
            "features is the name of a feature service, or a list of 'view:feature' strings,"
            f" not {type(features).__name__}."
        )
    request.features.names.extend(names)
    request.features.SetInParent()

"""From a call's arguments to the message that is sent. Pure."""

from collections.abc import Sequence
from typing import Any

from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesRequest

from featurestore_sdk.entities import Entities, columns_of
from featurestore_sdk.errors import InvalidRequestError
from featurestore_sdk.values import encode


def online_request(
    features: str | Sequence[str],
    entities: Entities,
    *,
    full_feature_names: bool,
    project: str | None,
) -> GetOnlineFeaturesRequest:
    """Return the message of `FeatureStoreClient.get_online_features`.

    Raises:
        InvalidRequestError: The arguments cannot be sent.
    """
    request = GetOnlineFeaturesRequest(project=project or "", full_feature_names=full_feature_names)
    _select(request, features)
    columns = columns_of(entities)
    for name, column in columns.items():
        request.entities[name].MergeFrom(encode(name, column))
    if not columns and isinstance(entities, Sequence):
        request.entity_count = len(entities)
    return request


def _select(request: GetOnlineFeaturesRequest, features: Any) -> None:
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

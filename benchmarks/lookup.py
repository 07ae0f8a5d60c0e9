"""One lookup of ours on the wire: the request, its gRPC frame, and whether the reply is right."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from benchmarks.errors import WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VIEW = "activity"
METHOD = "/featurestore.v1.ServingService/GetOnlineFeatures"
ASK_TIMEOUT_S = 30


def request(references: Sequence[str], keys: Sequence[int]) -> bytes:
    """A serialized GetOnlineFeaturesRequest for entities by ``user_id``."""
    from featurestore_protos.v1 import serving_pb2, values_pb2

    message = serving_pb2.GetOnlineFeaturesRequest(
        features=serving_pb2.FeatureList(names=references),
        entities={"user_id": values_pb2.Values(int64s=keys)},
    )
    return message.SerializeToString()


def frame(message: bytes) -> bytes:
    """The message as gRPC puts it on a stream: not compressed, its length, its bytes."""
    return struct.pack(">BI", 0, len(message)) + message


def ask(address: str, message: bytes) -> bytes:
    """Send the request once; the bytes of the reply."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return call(message, timeout=ASK_TIMEOUT_S, wait_for_ready=True)


def require_values(reply: bytes, expected: Mapping[str, Sequence[float]]) -> None:
    """Refuse a reply that does not hold the expected columns, value by value, all present.

    Raises:
        WrongAnswerError: a column or a value differs.
    """
    from featurestore_protos.v1 import serving_pb2

    message = serving_pb2.GetOnlineFeaturesResponse.FromString(reply)
    found = {column.name: column for column in message.features}
    if list(found) != list(expected):
        raise WrongAnswerError(f"The reply has the columns {list(found)}, not {list(expected)}.")
    for name, wanted in expected.items():
        values, statuses = list(found[name].values.float64s), set(found[name].statuses)
        if values != list(wanted) or statuses != {serving_pb2.FEATURE_STATUS_PRESENT}:
            raise WrongAnswerError(
                f"{name}: the server answered {values[:3]} ... with the statuses {statuses}; "
                f"the data says {list(wanted)[:3]} ..., all present."
            )

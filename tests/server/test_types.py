"""What was written is what is read, bit for bit, through the public messages."""

import struct
from decimal import Decimal
from typing import Any

import pytest
from featurestore_protos.internal.v1 import reply_pb2
from featurestore_protos.v1 import serving_pb2, values_pb2
from featurestore_protos.v1.serving_pb2 import GetOnlineFeaturesRequest
from featurestore_protos.v1.serving_pb2_grpc import ServingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from google.protobuf.descriptor import FieldDescriptor

from .shop import VALUES

FIELDS = {
    "bool": "bools",
    "int8": "int32s",
    "int16": "int32s",
    "int32": "int32s",
    "int64": "int64s",
    "uint8": "uint32s",
    "uint16": "uint32s",
    "uint32": "uint32s",
    "uint64": "uint64s",
    "float32": "float32s",
    "float64": "float64s",
    "string": "strings",
    "binary": "binaries",
    "decimal128(38, 2)": "decimals",
    "decimal128(5, 2)": "decimals",
    "date32": "dates",
    "timestamp[us, UTC]": "timestamps_us",
}


def _bits(dtype: str, value: Any) -> Any:
    if dtype.startswith("float"):
        return struct.pack("<f" if dtype == "float32" else "<d", value)
    return Decimal(value) if dtype.startswith("decimal") else value


def _scalars(dtype: str, values: Values, count: int) -> list[Any]:
    found = list(getattr(values, FIELDS[dtype]))
    assert [d.name for d, _ in values.ListFields() if d.name != "nulls"] in ([], [FIELDS[dtype]])
    assert len(found) == count
    nulls = values.nulls or bytes(count)
    return [None if n else _bits(dtype, v) for v, n in zip(found, nulls, strict=True)]


def _decoded(dtype: str, values: Values) -> list[Any]:
    if not dtype.startswith("list<"):
        return _scalars(dtype, values, 3)
    lengths = list(values.lists.lengths)
    elements = iter(_scalars(dtype[5:-1], values.lists.elements, sum(lengths)))
    lists = [[next(elements) for _ in range(length)] for length in lengths]
    return [None if null else v for v, null in zip(lists, values.nulls, strict=True)]


def _expected(dtype: str, value: Any) -> Any:
    if dtype.startswith("list<"):
        return [None if v is None else _bits(dtype[5:-1], v) for v in value]
    return _bits(dtype, value)


@pytest.mark.parametrize("position", range(len(VALUES)), ids=list(VALUES))
def test_a_value_of_this_type_arrives_as_it_was_written(
    stub: ServingServiceStub, position: int
) -> None:
    request = GetOnlineFeaturesRequest(
        feature_service="types", entities={"id": Values(int64s=[1, 2, 3])}
    )
    column = stub.GetOnlineFeatures(request, timeout=10).features[position]
    dtype, written = list(VALUES.items())[position]
    assert column.dtype == dtype
    assert _decoded(dtype, column.values) == [*(_expected(dtype, v) for v in written), None]
    assert column.values.nulls == b"\0\0\1"


MIRRORED: list[tuple[Any, Any]] = [
    (
        reply_pb2.Reply.DESCRIPTOR,
        serving_pb2.GetOnlineFeaturesResponse.DESCRIPTOR,
    ),
    (reply_pb2.ReplyColumn.DESCRIPTOR, serving_pb2.FeatureColumn.DESCRIPTOR),
    (reply_pb2.ReplyTimes.DESCRIPTOR, serving_pb2.ViewTimes.DESCRIPTOR),
    (reply_pb2.ReplyValues.DESCRIPTOR, values_pb2.Values.DESCRIPTOR),
    (reply_pb2.ReplyLists.DESCRIPTOR, values_pb2.Lists.DESCRIPTOR),
]


def _shape(field: Any) -> tuple[int, bool, int]:
    """Number, repeated, type; a packed list counts as the bytes that it is on the wire."""
    if field.is_packed:
        return field.number, False, FieldDescriptor.TYPE_BYTES
    return field.number, field.is_repeated, field.type


@pytest.mark.parametrize(("mirror", "public"), MIRRORED, ids=[m.name for m, _ in MIRRORED])
def test_the_mirror_has_the_fields_of_the_public_message(mirror: Any, public: Any) -> None:
    assert {f.name: _shape(f) for f in mirror.fields} == {f.name: _shape(f) for f in public.fields}


def test_an_entity_column_is_the_beginning_of_a_feature_column() -> None:
    entity = serving_pb2.EntityColumn.DESCRIPTOR
    feature = serving_pb2.FeatureColumn.DESCRIPTOR
    assert {f.name: _shape(f) for f in entity.fields}.items() <= {
        f.name: _shape(f) for f in feature.fields
    }.items()

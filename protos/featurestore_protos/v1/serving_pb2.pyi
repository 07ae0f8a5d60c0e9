from featurestore_protos.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FeatureStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_STATUS_UNSPECIFIED: _ClassVar[FeatureStatus]
    FEATURE_STATUS_PRESENT: _ClassVar[FeatureStatus]
    FEATURE_STATUS_NULL_VALUE: _ClassVar[FeatureStatus]
    FEATURE_STATUS_NOT_FOUND: _ClassVar[FeatureStatus]
    FEATURE_STATUS_OUTSIDE_MAX_AGE: _ClassVar[FeatureStatus]
FEATURE_STATUS_UNSPECIFIED: FeatureStatus
FEATURE_STATUS_PRESENT: FeatureStatus
FEATURE_STATUS_NULL_VALUE: FeatureStatus
FEATURE_STATUS_NOT_FOUND: FeatureStatus
FEATURE_STATUS_OUTSIDE_MAX_AGE: FeatureStatus

class GetOnlineFeaturesRequest(_message.Message):
    __slots__ = ("project", "feature_service", "features", "entities", "full_feature_names", "entity_count")
    class EntitiesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Values, _Mapping]] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    ENTITY_COUNT_FIELD_NUMBER: _ClassVar[int]
    project: str
    feature_service: str
    features: FeatureList
    entities: _containers.MessageMap[str, _values_pb2.Values]
    full_feature_names: bool
    entity_count: int
    def __init__(self, project: _Optional[str] = ..., feature_service: _Optional[str] = ..., features: _Optional[_Union[FeatureList, _Mapping]] = ..., entities: _Optional[_Mapping[str, _values_pb2.Values]] = ..., full_feature_names: bool = ..., entity_count: _Optional[int] = ...) -> None: ...

class FeatureList(_message.Message):
    __slots__ = ("names",)
    NAMES_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, names: _Optional[_Iterable[str]] = ...) -> None: ...

class GetOnlineFeaturesResponse(_message.Message):
    __slots__ = ("project", "revision", "request_timestamp_us", "entities", "features", "views")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    project: str
    revision: int
    request_timestamp_us: int
    entities: _containers.RepeatedCompositeFieldContainer[EntityColumn]
    features: _containers.RepeatedCompositeFieldContainer[FeatureColumn]
    views: _containers.RepeatedCompositeFieldContainer[ViewTimes]
    def __init__(self, project: _Optional[str] = ..., revision: _Optional[int] = ..., request_timestamp_us: _Optional[int] = ..., entities: _Optional[_Iterable[_Union[EntityColumn, _Mapping]]] = ..., features: _Optional[_Iterable[_Union[FeatureColumn, _Mapping]]] = ..., views: _Optional[_Iterable[_Union[ViewTimes, _Mapping]]] = ...) -> None: ...

class EntityColumn(_message.Message):
    __slots__ = ("name", "dtype", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    values: _values_pb2.Values
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., values: _Optional[_Union[_values_pb2.Values, _Mapping]] = ...) -> None: ...

class FeatureColumn(_message.Message):
    __slots__ = ("name", "dtype", "values", "statuses", "view")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    values: _values_pb2.Values
    statuses: bytes
    view: int
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., values: _Optional[_Union[_values_pb2.Values, _Mapping]] = ..., statuses: _Optional[bytes] = ..., view: _Optional[int] = ...) -> None: ...

class ViewTimes(_message.Message):
    __slots__ = ("name", "event_timestamps_us", "found")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMPS_US_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    name: str
    event_timestamps_us: _containers.RepeatedScalarFieldContainer[int]
    found: bytes
    def __init__(self, name: _Optional[str] = ..., event_timestamps_us: _Optional[_Iterable[int]] = ..., found: _Optional[bytes] = ...) -> None: ...

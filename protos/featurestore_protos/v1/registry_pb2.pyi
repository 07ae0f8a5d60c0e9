from featurestore_protos.v1 import serving_pb2 as _serving_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ObjectKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OBJECT_KIND_UNSPECIFIED: _ClassVar[ObjectKind]
    OBJECT_KIND_ENTITY: _ClassVar[ObjectKind]
    OBJECT_KIND_SOURCE: _ClassVar[ObjectKind]
    OBJECT_KIND_REQUEST_SOURCE: _ClassVar[ObjectKind]
    OBJECT_KIND_FEATURE_VIEW: _ClassVar[ObjectKind]
    OBJECT_KIND_ON_DEMAND_FEATURE_VIEW: _ClassVar[ObjectKind]
    OBJECT_KIND_FEATURE_SERVICE: _ClassVar[ObjectKind]
OBJECT_KIND_UNSPECIFIED: ObjectKind
OBJECT_KIND_ENTITY: ObjectKind
OBJECT_KIND_SOURCE: ObjectKind
OBJECT_KIND_REQUEST_SOURCE: ObjectKind
OBJECT_KIND_FEATURE_VIEW: ObjectKind
OBJECT_KIND_ON_DEMAND_FEATURE_VIEW: ObjectKind
OBJECT_KIND_FEATURE_SERVICE: ObjectKind

class GetProjectRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class GetProjectResponse(_message.Message):
    __slots__ = ("project", "revision")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    project: str
    revision: int
    def __init__(self, project: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...

class ListObjectsRequest(_message.Message):
    __slots__ = ("project", "kind", "page_size", "page_token")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    project: str
    kind: ObjectKind
    page_size: int
    page_token: str
    def __init__(self, project: _Optional[str] = ..., kind: _Optional[_Union[ObjectKind, str]] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListObjectsResponse(_message.Message):
    __slots__ = ("revision", "objects", "next_page_token")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    revision: int
    objects: _containers.RepeatedCompositeFieldContainer[RegisteredObject]
    next_page_token: str
    def __init__(self, revision: _Optional[int] = ..., objects: _Optional[_Iterable[_Union[RegisteredObject, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetObjectRequest(_message.Message):
    __slots__ = ("project", "kind", "name")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    project: str
    kind: ObjectKind
    name: str
    def __init__(self, project: _Optional[str] = ..., kind: _Optional[_Union[ObjectKind, str]] = ..., name: _Optional[str] = ...) -> None: ...

class GetObjectResponse(_message.Message):
    __slots__ = ("revision", "object")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    revision: int
    object: RegisteredObject
    def __init__(self, revision: _Optional[int] = ..., object: _Optional[_Union[RegisteredObject, _Mapping]] = ...) -> None: ...

class RegisteredObject(_message.Message):
    __slots__ = ("kind", "name", "definition_json", "description", "owner", "tags")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_JSON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    kind: ObjectKind
    name: str
    definition_json: str
    description: str
    owner: str
    tags: _containers.ScalarMap[str, str]
    def __init__(self, kind: _Optional[_Union[ObjectKind, str]] = ..., name: _Optional[str] = ..., definition_json: _Optional[str] = ..., description: _Optional[str] = ..., owner: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DescribeFeaturesRequest(_message.Message):
    __slots__ = ("project", "feature_service", "features", "full_feature_names")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    project: str
    feature_service: str
    features: _serving_pb2.FeatureList
    full_feature_names: bool
    def __init__(self, project: _Optional[str] = ..., feature_service: _Optional[str] = ..., features: _Optional[_Union[_serving_pb2.FeatureList, _Mapping]] = ..., full_feature_names: bool = ...) -> None: ...

class DescribeFeaturesResponse(_message.Message):
    __slots__ = ("revision", "request_columns", "features")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REQUEST_COLUMNS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    revision: int
    request_columns: _containers.RepeatedCompositeFieldContainer[ColumnDescription]
    features: _containers.RepeatedCompositeFieldContainer[ColumnDescription]
    def __init__(self, revision: _Optional[int] = ..., request_columns: _Optional[_Iterable[_Union[ColumnDescription, _Mapping]]] = ..., features: _Optional[_Iterable[_Union[ColumnDescription, _Mapping]]] = ...) -> None: ...

class ColumnDescription(_message.Message):
    __slots__ = ("name", "dtype")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ...) -> None: ...

from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Reply(_message.Message):
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
    entities: _containers.RepeatedCompositeFieldContainer[ReplyColumn]
    features: _containers.RepeatedCompositeFieldContainer[ReplyColumn]
    views: _containers.RepeatedCompositeFieldContainer[ReplyTimes]
    def __init__(self, project: _Optional[str] = ..., revision: _Optional[int] = ..., request_timestamp_us: _Optional[int] = ..., entities: _Optional[_Iterable[_Union[ReplyColumn, _Mapping]]] = ..., features: _Optional[_Iterable[_Union[ReplyColumn, _Mapping]]] = ..., views: _Optional[_Iterable[_Union[ReplyTimes, _Mapping]]] = ...) -> None: ...

class ReplyColumn(_message.Message):
    __slots__ = ("name", "dtype", "values", "statuses", "view")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    values: ReplyValues
    statuses: bytes
    view: int
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., values: _Optional[_Union[ReplyValues, _Mapping]] = ..., statuses: _Optional[bytes] = ..., view: _Optional[int] = ...) -> None: ...

class ReplyTimes(_message.Message):
    __slots__ = ("name", "event_timestamps_us", "found")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMESTAMPS_US_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    name: str
    event_timestamps_us: bytes
    found: bytes
    def __init__(self, name: _Optional[str] = ..., event_timestamps_us: _Optional[bytes] = ..., found: _Optional[bytes] = ...) -> None: ...

class ReplyValues(_message.Message):
    __slots__ = ("bools", "int32s", "int64s", "uint32s", "uint64s", "float32s", "float64s", "strings", "binaries", "decimals", "dates", "timestamps_us", "lists", "nulls")
    BOOLS_FIELD_NUMBER: _ClassVar[int]
    INT32S_FIELD_NUMBER: _ClassVar[int]
    INT64S_FIELD_NUMBER: _ClassVar[int]
    UINT32S_FIELD_NUMBER: _ClassVar[int]
    UINT64S_FIELD_NUMBER: _ClassVar[int]
    FLOAT32S_FIELD_NUMBER: _ClassVar[int]
    FLOAT64S_FIELD_NUMBER: _ClassVar[int]
    STRINGS_FIELD_NUMBER: _ClassVar[int]
    BINARIES_FIELD_NUMBER: _ClassVar[int]
    DECIMALS_FIELD_NUMBER: _ClassVar[int]
    DATES_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMPS_US_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    NULLS_FIELD_NUMBER: _ClassVar[int]
    bools: bytes
    int32s: bytes
    int64s: bytes
    uint32s: bytes
    uint64s: bytes
    float32s: bytes
    float64s: bytes
    strings: _containers.RepeatedScalarFieldContainer[str]
    binaries: _containers.RepeatedScalarFieldContainer[bytes]
    decimals: _containers.RepeatedScalarFieldContainer[str]
    dates: bytes
    timestamps_us: bytes
    lists: ReplyLists
    nulls: bytes
    def __init__(self, bools: _Optional[bytes] = ..., int32s: _Optional[bytes] = ..., int64s: _Optional[bytes] = ..., uint32s: _Optional[bytes] = ..., uint64s: _Optional[bytes] = ..., float32s: _Optional[bytes] = ..., float64s: _Optional[bytes] = ..., strings: _Optional[_Iterable[str]] = ..., binaries: _Optional[_Iterable[bytes]] = ..., decimals: _Optional[_Iterable[str]] = ..., dates: _Optional[bytes] = ..., timestamps_us: _Optional[bytes] = ..., lists: _Optional[_Union[ReplyLists, _Mapping]] = ..., nulls: _Optional[bytes] = ...) -> None: ...

class ReplyLists(_message.Message):
    __slots__ = ("lengths", "elements")
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    lengths: bytes
    elements: ReplyValues
    def __init__(self, lengths: _Optional[bytes] = ..., elements: _Optional[_Union[ReplyValues, _Mapping]] = ...) -> None: ...

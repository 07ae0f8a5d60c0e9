from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Values(_message.Message):
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
    bools: _containers.RepeatedScalarFieldContainer[bool]
    int32s: _containers.RepeatedScalarFieldContainer[int]
    int64s: _containers.RepeatedScalarFieldContainer[int]
    uint32s: _containers.RepeatedScalarFieldContainer[int]
    uint64s: _containers.RepeatedScalarFieldContainer[int]
    float32s: _containers.RepeatedScalarFieldContainer[float]
    float64s: _containers.RepeatedScalarFieldContainer[float]
    strings: _containers.RepeatedScalarFieldContainer[str]
    binaries: _containers.RepeatedScalarFieldContainer[bytes]
    decimals: _containers.RepeatedScalarFieldContainer[str]
    dates: _containers.RepeatedScalarFieldContainer[int]
    timestamps_us: _containers.RepeatedScalarFieldContainer[int]
    lists: Lists
    nulls: bytes
    def __init__(self, bools: _Optional[_Iterable[bool]] = ..., int32s: _Optional[_Iterable[int]] = ..., int64s: _Optional[_Iterable[int]] = ..., uint32s: _Optional[_Iterable[int]] = ..., uint64s: _Optional[_Iterable[int]] = ..., float32s: _Optional[_Iterable[float]] = ..., float64s: _Optional[_Iterable[float]] = ..., strings: _Optional[_Iterable[str]] = ..., binaries: _Optional[_Iterable[bytes]] = ..., decimals: _Optional[_Iterable[str]] = ..., dates: _Optional[_Iterable[int]] = ..., timestamps_us: _Optional[_Iterable[int]] = ..., lists: _Optional[_Union[Lists, _Mapping]] = ..., nulls: _Optional[bytes] = ...) -> None: ...

class Lists(_message.Message):
    __slots__ = ("lengths", "elements")
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    lengths: _containers.RepeatedScalarFieldContainer[int]
    elements: Values
    def __init__(self, lengths: _Optional[_Iterable[int]] = ..., elements: _Optional[_Union[Values, _Mapping]] = ...) -> None: ...

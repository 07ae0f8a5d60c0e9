from featurestore_protos.v1 import values_pb2 as _values_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PushRequest(_message.Message):
    __slots__ = ("project", "view", "columns", "append")
    class ColumnsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _values_pb2.Values
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_values_pb2.Values, _Mapping]] = ...) -> None: ...
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    APPEND_FIELD_NUMBER: _ClassVar[int]
    project: str
    view: str
    columns: _containers.MessageMap[str, _values_pb2.Values]
    append: bool
    def __init__(self, project: _Optional[str] = ..., view: _Optional[str] = ..., columns: _Optional[_Mapping[str, _values_pb2.Values]] = ..., append: bool = ...) -> None: ...

class PushResponse(_message.Message):
    __slots__ = ("rows", "written", "kept", "filtered", "expired", "missed_generations")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    WRITTEN_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    FILTERED_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    MISSED_GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    written: int
    kept: int
    filtered: int
    expired: int
    missed_generations: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows: _Optional[int] = ..., written: _Optional[int] = ..., kept: _Optional[int] = ..., filtered: _Optional[int] = ..., expired: _Optional[int] = ..., missed_generations: _Optional[_Iterable[int]] = ...) -> None: ...

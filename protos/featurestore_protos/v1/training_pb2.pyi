from featurestore_protos.v1 import serving_pb2 as _serving_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrainingMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAINING_MODE_UNSPECIFIED: _ClassVar[TrainingMode]
    TRAINING_MODE_COMPLETE: _ClassVar[TrainingMode]
    TRAINING_MODE_AS_SERVED: _ClassVar[TrainingMode]
TRAINING_MODE_UNSPECIFIED: TrainingMode
TRAINING_MODE_COMPLETE: TrainingMode
TRAINING_MODE_AS_SERVED: TrainingMode

class GetHistoricalFeaturesRequest(_message.Message):
    __slots__ = ("query", "spine")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    SPINE_FIELD_NUMBER: _ClassVar[int]
    query: TrainingQuery
    spine: bytes
    def __init__(self, query: _Optional[_Union[TrainingQuery, _Mapping]] = ..., spine: _Optional[bytes] = ...) -> None: ...

class TrainingQuery(_message.Message):
    __slots__ = ("project", "feature_service", "features", "full_feature_names", "timestamp_field", "timezone", "mode")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_SERVICE_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FULL_FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_FIELD_NUMBER: _ClassVar[int]
    TIMEZONE_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    project: str
    feature_service: str
    features: _serving_pb2.FeatureList
    full_feature_names: bool
    timestamp_field: str
    timezone: str
    mode: TrainingMode
    def __init__(self, project: _Optional[str] = ..., feature_service: _Optional[str] = ..., features: _Optional[_Union[_serving_pb2.FeatureList, _Mapping]] = ..., full_feature_names: bool = ..., timestamp_field: _Optional[str] = ..., timezone: _Optional[str] = ..., mode: _Optional[_Union[TrainingMode, str]] = ...) -> None: ...

class GetHistoricalFeaturesResponse(_message.Message):
    __slots__ = ("progress", "table", "summary")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    progress: TrainingProgress
    table: bytes
    summary: TrainingSummary
    def __init__(self, progress: _Optional[_Union[TrainingProgress, _Mapping]] = ..., table: _Optional[bytes] = ..., summary: _Optional[_Union[TrainingSummary, _Mapping]] = ...) -> None: ...

class TrainingProgress(_message.Message):
    __slots__ = ("phase", "rows_done", "rows_total")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    ROWS_DONE_FIELD_NUMBER: _ClassVar[int]
    ROWS_TOTAL_FIELD_NUMBER: _ClassVar[int]
    phase: str
    rows_done: int
    rows_total: int
    def __init__(self, phase: _Optional[str] = ..., rows_done: _Optional[int] = ..., rows_total: _Optional[int] = ...) -> None: ...

class TrainingSummary(_message.Message):
    __slots__ = ("project", "revision", "rows", "features")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    project: str
    revision: int
    rows: int
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, project: _Optional[str] = ..., revision: _Optional[int] = ..., rows: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

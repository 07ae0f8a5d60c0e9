"""From the columns of a lookup to the bytes of a reply (see protos/featurestore/internal)."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from featurestore_protos.internal.v1.reply_pb2 import Reply, ReplyColumn, ReplyValues

from featurestore.serving.lookup import FeatureColumn, LookupResult, Status

Column: TypeAlias = Sequence[Any] | npt.NDArray[Any]
Writer: TypeAlias = Callable[[ReplyValues, Column], None]

_PRESENT: Final = int(Status.PRESENT)
# Null marks of statuses: 0 for PRESENT, 1 for everything else.
_NULL_OF_STATUS: Final = bytes(status != _PRESENT for status in range(256))

# The field and the width in which a type's numbers travel.
_NUMBERS: Final = {
    "bool": ("bools", "?"),
    "int8": ("int32s", "<i4"),
    "int16": ("int32s", "<i4"),
    "int32": ("int32s", "<i4"),
    "int64": ("int64s", "<i8"),
    "uint8": ("uint32s", "<u4"),
    "uint16": ("uint32s", "<u4"),
    "uint32": ("uint32s", "<u4"),
    "uint64": ("uint64s", "<u8"),
    "float32": ("float32s", "<f4"),
    "float64": ("float64s", "<f8"),
    "date32": ("dates", "<i4"),
    "timestamp[us, UTC]": ("timestamps_us", "<i8"),
}


def serialize_reply(result: LookupResult, *, project: str, revision: int) -> bytes:
    """Return a serialized `GetOnlineFeaturesResponse`."""
    reply = Reply(project=project, revision=revision, request_timestamp_us=result.request_us)
    for key in result.entity_columns:
        column = reply.entities.add()
        column.name, column.dtype = key.name, key.dtype
        writer_of(key.dtype)(column.values, key.values)
        if key.valid is not None:
            column.values.nulls = (~key.valid).tobytes()
    for feature in result.features:
        _write_feature(reply.features.add(), feature)
    for view in result.views:
        times = reply.views.add()
        times.name = view.name
        times.event_timestamps_us = view.event_us.tobytes()
        if not view.found.all():
            times.found = view.found.tobytes()
    return reply.SerializeToString()


def _write_feature(column: ReplyColumn, feature: FeatureColumn) -> None:
    column.name, column.dtype, column.view = feature.name, feature.dtype, feature.view_index
    statuses = feature.statuses.tobytes()
    column.statuses = statuses
    writer_of(feature.dtype)(column.values, feature.values)
    if statuses.count(_PRESENT) != len(statuses):
        column.values.nulls = statuses.translate(_NULL_OF_STATUS)


@lru_cache(maxsize=1_024)
def writer_of(dtype: str) -> Writer:
    """Return what writes a column of `dtype` into a message; values that are None are left out.

    The writer does not mark nulls: who calls it knows them.
    """
    if dtype in _NUMBERS:
        return _number_writer(*_NUMBERS[dtype])
    if dtype.startswith("list<"):
        return _list_writer(writer_of(dtype[len("list<") : -1]))
    if dtype.startswith("decimal"):
        return _write_decimals
    return _write_strings if dtype == "string" else _write_binaries


def _number_writer(field: str, width: str) -> Writer:
    target = np.dtype(width)

    def write(message: ReplyValues, column: Column) -> None:
        if not isinstance(column, np.ndarray):  # elements of lists, which may be null
            column = np.array([0 if value is None else value for value in column], target)
        if column.dtype != target:
            column = column.astype(target)
        setattr(message, field, column.tobytes())

    return write


def _list_writer(write_elements: Writer) -> Writer:
    def write(message: ReplyValues, column: Column) -> None:
        lists = [[] if value is None else value for value in column]
        lengths = np.array([len(value) for value in lists], "<u4")
        message.lists.lengths = lengths.tobytes()
        if lists and all(isinstance(value, np.ndarray) for value in lists):
            write_elements(message.lists.elements, np.concatenate(lists))
            return
        elements = [element for value in lists for element in value]
        write_elements(message.lists.elements, elements)
        if None in elements:
            message.lists.elements.nulls = bytes(element is None for element in elements)

    return write


def _write_strings(message: ReplyValues, column: Column) -> None:
    message.strings.extend(column if None not in column else [v or "" for v in column])


def _write_binaries(message: ReplyValues, column: Column) -> None:
    message.binaries.extend(column if None not in column else [v or b"" for v in column])


def _write_decimals(message: ReplyValues, column: Sequence[Decimal | None] | Column) -> None:
    message.decimals.extend("0" if value is None else format(value, "f") for value in column)

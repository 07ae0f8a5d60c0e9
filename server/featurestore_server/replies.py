"""From the columns of a lookup to the bytes of a reply (see protos/featurestore/internal)."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from featurestore_protos.internal.v1.reply_pb2 import Reply, ReplyColumn, ReplyValues

from featurestore.serving.lookup import FeatureColumn, LookupResult, Status
from featurestore_server.wire import frame, opening

Column: TypeAlias = Sequence[Any] | npt.NDArray[Any]
Writer: TypeAlias = Callable[[ReplyValues, Column], None]

_PRESENT: Final = int(Status.PRESENT)
_NOT_FOUND: Final = int(Status.NOT_FOUND)
# Null marks of statuses: 0 for PRESENT, 1 for everything else.
_NULL_OF_STATUS: Final = bytes(status != _PRESENT for status in range(256))
# The same of windows, of which an entity without a row has a value.
_NULL_OF_WINDOW: Final = bytes(status not in (_PRESENT, _NOT_FOUND) for status in range(256))

# The field in which a type's numbers travel, and their width there.
_NUMBERS: Final = {
    dtype: (field, np.dtype(width))
    for dtype, field, width in (
        ("bool", "bools", "?"),
        ("int8", "int32s", "<i4"),
        ("int16", "int32s", "<i4"),
        ("int32", "int32s", "<i4"),
        ("int64", "int64s", "<i8"),
        ("uint8", "uint32s", "<u4"),
        ("uint16", "uint32s", "<u4"),
        ("uint32", "uint32s", "<u4"),
        ("uint64", "uint64s", "<u8"),
        ("float32", "float32s", "<f4"),
        ("float64", "float64s", "<f8"),
        ("date32", "dates", "<i4"),
        ("timestamp[us, UTC]", "timestamps_us", "<i8"),
    )
}


def serialize_reply(result: LookupResult, *, project: str, revision: int) -> bytes:
    """Return a serialized `GetOnlineFeaturesResponse`."""
    head = Reply(project=project, revision=revision, request_timestamp_us=result.request_us)
    for key in result.entity_columns:
        column = head.entities.add()
        column.name, column.dtype = key.name, key.dtype
        writer_of(key.dtype)(column.values, key.values)
        if key.valid is not None:
            column.values.nulls = (~key.valid).tobytes()
    for view in result.views:
        times = head.views.add()
        times.name = view.name
        times.event_timestamps_us = view.event_us.tobytes()
        found = view.found.tobytes()
        if 0 in found:
            times.found = found
    # Messages laid end to end are one message, in which the repeated fields of all come in order.
    parts = [head.SerializeToString()]
    seen, statuses, nulls = None, b"", b""
    for feature in result.features:
        if feature.statuses is not seen:  # features of one view mostly share them
            seen = feature.statuses
            statuses = seen.tobytes()
            is_complete = statuses.count(_PRESENT) == len(statuses)
            nulls = b"" if is_complete else statuses.translate(_NULL_OF_STATUS)
        if feature.fills and nulls:
            _write_feature(parts, feature, statuses, _window_nulls(statuses))
        else:
            _write_feature(parts, feature, statuses, nulls)
    return b"".join(parts)


def _window_nulls(statuses: bytes) -> bytes:
    nulls = statuses.translate(_NULL_OF_WINDOW)
    return nulls if 1 in nulls else b""


def _write_feature(
    parts: list[bytes], feature: FeatureColumn, statuses: bytes, nulls: bytes
) -> None:
    name, dtype, values, _, view, _ = feature
    if dtype in _NUMBERS:
        width = _NUMBERS[dtype][1]
        around = _around_numbers(name, dtype, view, len(statuses), bool(nulls))
        parts += (around[0], _raw(values, width), around[1], nulls, around[2], statuses)
        return
    prefix = _prefix(name, dtype, view)
    rest = ReplyColumn(statuses=statuses)
    writer_of(dtype)(rest.values, values)
    rest.values.nulls = nulls
    column = rest.SerializeToString()
    parts += (opening(Reply, "features", len(prefix) + len(column)), prefix, column)


@lru_cache(maxsize=16_384)
def _around_numbers(
    name: str,
    dtype: str,
    view: int,
    rows: int,
    has_nulls: bool,  # noqa: FBT001 - a cache's key
) -> tuple[bytes, ...]:
    """Return what stands before a feature's numbers, before its null marks and its statuses."""
    field, width = _NUMBERS[dtype]
    prefix = _prefix(name, dtype, view)
    before, values, marks, end = frame(len(prefix), field, rows * width.itemsize, rows, has_nulls)
    return before + prefix + values, marks, end


@lru_cache(maxsize=4_096)
def _prefix(name: str, dtype: str, view: int) -> bytes:
    """Return what is the same in every reply with this feature."""
    return ReplyColumn(name=name, dtype=dtype, view=view).SerializeToString()


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


def _number_writer(field: str, width: "np.dtype[Any]") -> Writer:
    def write(message: ReplyValues, column: Column) -> None:
        setattr(message, field, _raw(column, width))

    return write


def _raw(column: Column, width: "np.dtype[Any]") -> bytes:
    if not isinstance(column, np.ndarray):  # elements of lists, which may be null
        column = np.array([0 if value is None else value for value in column], width)
    return (column if column.dtype == width else column.astype(width)).tobytes()


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

"""Pushes: columns of values into the online store."""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import grpc
import numpy as np
from featurestore_protos.v1.values_pb2 import Values
from featurestore_protos.v1.writing_pb2 import PushRequest, PushResponse
from featurestore_protos.v1.writing_pb2_grpc import WritingServiceServicer

from featurestore.store import FeatureStore
from featurestore_server.backend.calling import check_project, who_calls
from featurestore_server.requests import read_values

if TYPE_CHECKING:
    import pyarrow as pa

LOGGER: Final = logging.getLogger("featurestore_server")


class Writing(WritingServiceServicer):
    """Answers `WritingService`.

    Args:
        store: Writes.
    """

    def __init__(self, store: FeatureStore) -> None:
        self._store = store

    def Push(self, request: PushRequest, context: grpc.ServicerContext) -> PushResponse:  # noqa: N802 - the method's name
        """Write rows of a view's source."""
        check_project(request.project, self._store)
        began = time.monotonic()
        rows = {name: _column(values, name) for name, values in request.columns.items()}
        report = self._store.push(request.view, rows, append=request.append)
        LOGGER.debug(
            "a push of %d rows to view %s took %.3f s, for %s",
            report.rows,
            report.view,
            time.monotonic() - began,
            who_calls(context),
        )
        return PushResponse(
            rows=report.rows,
            written=report.written,
            kept=report.kept,
            filtered=report.filtered,
            expired=report.expired,
            missed_generations=sorted(report.missed),
        )


def _column(values: Values, name: str) -> "pa.Array":
    """Return a column in the type that it travels in, which holds its values without loss."""
    import pyarrow as pa

    column = read_values(values, f"columns.{name}")
    if isinstance(column, np.ma.MaskedArray):
        return _aware(pa.array(column.data, mask=np.ma.getmaskarray(column)))
    if isinstance(column, np.ndarray):
        return _aware(pa.array(column))
    if values.HasField("lists"):
        return pa.array(column, pa.list_(_element_type(values.lists.elements)))
    return pa.array(column, _type_of(values))


def _aware(column: "pa.Array") -> "pa.Array":
    """Return times as the instants that they are."""
    import pyarrow as pa

    return column.cast(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(column.type) else column


def _type_of(values: Values) -> "pa.DataType | None":
    """Return the type of a column; None for decimals, whose digits say it, and for nulls alone."""
    import pyarrow as pa

    types: Mapping[str, Any] = {
        "bools": pa.bool_(),
        "int32s": pa.int32(),
        "int64s": pa.int64(),
        "uint32s": pa.uint32(),
        "uint64s": pa.uint64(),
        "float32s": pa.float32(),
        "float64s": pa.float64(),
        "strings": pa.string(),
        "binaries": pa.binary(),
        "dates": pa.date32(),
        "timestamps_us": pa.timestamp("us", "UTC"),
    }
    return next((types.get(name) for name in _filled(values)), None)


def _element_type(elements: Values) -> "pa.DataType":
    import pyarrow as pa

    if "decimals" in _filled(elements):
        return pa.array(read_values(elements, "elements")).type
    return _type_of(elements) or pa.null()


def _filled(values: Values) -> Iterator[str]:
    return (field.name for field, _ in values.ListFields() if field.name != "nulls")

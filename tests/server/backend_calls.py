"""Training sets, pushes and the registry as a client without our SDK asks for them."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import grpc
import pyarrow as pa
from featurestore_protos.v1.serving_pb2 import FeatureList
from featurestore_protos.v1.training_pb2 import (
    GetHistoricalFeaturesRequest,
    TrainingProgress,
    TrainingQuery,
    TrainingSummary,
)
from featurestore_protos.v1.training_pb2_grpc import TrainingServiceStub
from featurestore_protos.v1.values_pb2 import Values
from featurestore_protos.v1.writing_pb2 import PushRequest, PushResponse
from featurestore_protos.v1.writing_pb2_grpc import WritingServiceStub
from featurestore_server.backend.server import BackendServer
from featurestore_server.options import BackendLimits
from featurestore_server.server import FeatureServer

from featurestore.store import FeatureStore
from featurestore.time import to_micros
from featurestore.types import base_type

TIMEOUT_S: Final = 60.0
PIECE_BYTES: Final = 100_000
Part = GetHistoricalFeaturesRequest


@contextmanager
def served(
    store: FeatureStore, limits: BackendLimits | None = None, **options: Any
) -> Iterator[str]:
    """A server with a backend, both in this process; yields the address."""
    with ExitStack() as stack:
        # Paths of sockets are short; those that pytest makes need not be.
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        backend = BackendServer(store, limits=limits)
        backend.listen(f"unix:{folder}/backend")
        backend.start()
        stack.callback(backend.stop, 5)
        server = FeatureServer(
            store.serving_catalog(),
            store.online_store,
            functions=store.functions,
            backend=f"unix:{folder}/backend",
            **options,
        )
        port = server.listen("127.0.0.1:0")
        server.start()
        stack.callback(server.stop, 5)
        yield f"127.0.0.1:{port}"


def stream_of(table: pa.Table, **options: Any) -> bytes:
    """A table as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    chosen = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, table.schema, options=chosen) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def query(features: str | Sequence[str], **more: Any) -> TrainingQuery:
    """What is wanted: a service, or features by name."""
    if isinstance(features, str):
        return TrainingQuery(feature_service=features, **more)
    return TrainingQuery(features=FeatureList(names=features), **more)


def parts(
    wanted: TrainingQuery, stream: bytes, *, piece_bytes: int = PIECE_BYTES
) -> Iterator[Part]:
    """The messages that ask for a training set."""
    yield Part(query=wanted)
    for start in range(0, len(stream), piece_bytes):
        yield Part(spine=stream[start : start + piece_bytes])


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came back."""

    table: pa.Table
    summary: TrainingSummary
    progress: list[TrainingProgress]
    largest_piece: int


def train(
    channel: grpc.Channel, spine: pa.Table, features: str | Sequence[str], **more: Any
) -> Trained:
    """Ask for a training set, and take all of it."""
    return taken(asked(channel, parts(query(features, **more), stream_of(spine))))


def asked(channel: grpc.Channel, messages: Iterable[Part], **terms: Any) -> Any:
    """Ask for a training set, and take nothing yet."""
    terms = {"timeout": TIMEOUT_S, **terms}
    return TrainingServiceStub(channel).GetHistoricalFeatures(iter(messages), **terms)


def taken(call: Any) -> Trained:
    """Take a whole training set; one without a summary is none."""
    stream, progress, largest = bytearray(), [], 0
    summary = None
    for reply in call:
        assert summary is None
        kind = reply.WhichOneof("part")
        if kind == "table":
            stream += reply.table
            largest = max(largest, len(reply.table))
        elif kind == "progress":
            progress.append(reply.progress)
        else:
            summary = reply.summary
    assert summary is not None
    with pa.ipc.open_stream(bytes(stream)) as reader:
        table = reader.read_all()
    return Trained(table=table, summary=summary, progress=progress, largest_piece=largest)


def push(
    channel: grpc.Channel, view: str, rows: pa.Table, *, zone: str = "UTC", **more: Any
) -> PushResponse:
    """Push a table; its naive times are those of a zone."""
    columns = {name: values_of(rows[name].combine_chunks(), zone) for name in rows.column_names}
    request = PushRequest(view=view, columns=columns, **more)
    return WritingServiceStub(channel).Push(request, timeout=TIMEOUT_S)


def values_of(column: pa.Array, zone: str = "UTC") -> Values:
    """A column as it travels."""
    dtype = base_type(column.type)
    values = Values()
    if column.null_count:
        values.nulls = bytes(column.is_null().to_pylist())
    if pa.types.is_null(dtype):
        return values
    if pa.types.is_list(dtype):
        lists = column.to_pylist()
        values.lists.lengths.extend([len(one or ()) for one in lists])
        elements = pa.array([x for one in lists for x in one or ()], dtype.value_type)
        values.lists.elements.CopyFrom(values_of(elements, zone))
        return values
    name, filler = _list_of(dtype)
    plain = [filler if one is None else _carried(one, zone) for one in column.to_pylist()]
    getattr(values, name).extend(plain)
    return values


def _list_of(dtype: pa.DataType) -> tuple[str, Any]:
    if pa.types.is_timestamp(dtype):
        return "timestamps_us", 0
    if pa.types.is_decimal(dtype):
        return "decimals", "0"
    bits = {8: 32, 16: 32}.get(dtype.bit_width, dtype.bit_width) if _is_number(dtype) else 0
    kinds: dict[str, tuple[str, Any]] = {
        "bool": ("bools", False),
        "string": ("strings", ""),
        "binary": ("binaries", b""),
        "date32[day]": ("dates", 0),
        "float": ("float32s", 0.0),
        "double": ("float64s", 0.0),
    }
    if str(dtype) in kinds:
        return kinds[str(dtype)]
    return f"{'u' if pa.types.is_unsigned_integer(dtype) else ''}int{bits}s", 0


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype))


def _carried(value: Any, zone: str) -> Any:
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=ZoneInfo(zone))
        return to_micros(aware.astimezone(UTC))
    if hasattr(value, "toordinal"):
        return value.toordinal() - 719_163
    return str(value) if hasattr(value, "as_tuple") else value


def files_below(folder: Path) -> list[Path]:
    """What a folder holds, at any depth."""
    return sorted(folder.rglob("*"))

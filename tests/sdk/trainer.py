"""The training service, in small: it collects a spine, computes, and sends the result."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pyarrow as pa
from featurestore_protos.v1.training_pb2 import (
    TRAINING_MODE_AS_SERVED,
    GetHistoricalFeaturesRequest,
    GetHistoricalFeaturesResponse,
    TrainingProgress,
    TrainingQuery,
    TrainingSummary,
)
from featurestore_protos.v1.training_pb2_grpc import (
    TrainingServiceServicer,
    add_TrainingServiceServicer_to_server,
)

from featurestore import FeatureStore
from featurestore.errors import FeatureStoreError

Response = GetHistoricalFeaturesResponse


@dataclass
class Trainer(TrainingServiceServicer):
    """A server, and what goes wrong with it.

    Attributes:
        unavailable: How many calls end with UNAVAILABLE: before anything was sent.
        break_after: After so many pieces of a result the call fails; None never.
        refuse: Do not wait for the spine.
        omit_summary: End well, but say nothing of it.
        omit_table: Bring a summary alone.
        miscount: Rows that the summary has too many.
        cut: Bytes of a piece: pieces end anywhere.
        hang_after: After so many pieces nothing more comes; None never.
        cancelled: Set when a call is over, be it that the caller gave up.
    """

    store: FeatureStore
    unavailable: int = 0
    break_after: int | None = None
    refuse: bool = False
    omit_summary: bool = False
    omit_table: bool = False
    miscount: int = 0
    cut: int = 700
    hang_after: int | None = None
    address: str = ""
    calls: int = 0
    largest_piece: int = 0
    started: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def GetHistoricalFeatures(  # noqa: N802 - its name
        self, request_iterator: Iterator[GetHistoricalFeaturesRequest], context: Any
    ) -> Iterator[Response]:
        self.calls += 1
        context.add_callback(self.cancelled.set)
        query = next(request_iterator).query
        yield Response(progress=TrainingProgress(phase="reading", rows_done=0, rows_total=9))
        if self.calls <= self.unavailable:
            context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
        if self.refuse:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        spine = pa.ipc.open_stream(b"".join(self._pieces(request_iterator))).read_all()
        try:
            table = self._computed(query, spine)
        except FeatureStoreError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            raise
        yield from self._sent(table, context)
        if not self.omit_summary:
            yield Response(summary=self._summary(spine, table))

    def _sent(self, table: pa.Table, context: Any) -> Iterator[Response]:
        for number, piece in enumerate(_cut(table, self.cut)):
            if number == self.break_after:
                context.abort(grpc.StatusCode.UNAVAILABLE, "going away")
            if number == self.hang_after:
                self.started.set()
                self.cancelled.wait(60)
            if not self.omit_table:
                yield Response(table=piece)

    def _pieces(self, requests: Iterator[GetHistoricalFeaturesRequest]) -> Iterator[bytes]:
        for request in requests:
            self.largest_piece = max(self.largest_piece, len(request.spine))
            yield request.spine

    def _computed(self, query: TrainingQuery, spine: pa.Table) -> pa.Table:
        by_name = query.WhichOneof("selection") == "features"
        return self.store.get_historical_features(
            spine,
            list(query.features.names) if by_name else query.feature_service,
            full_feature_names=query.full_feature_names,
            timestamp_field=query.timestamp_field or "event_timestamp",
            timezone=query.timezone or "UTC",
            mode="as_served" if query.mode == TRAINING_MODE_AS_SERVED else "complete",
        ).to_arrow()

    def _summary(self, spine: pa.Table, table: pa.Table) -> TrainingSummary:
        return TrainingSummary(
            project="shop",
            revision=7,
            rows=table.num_rows + self.miscount,
            features=table.column_names[spine.num_columns :],
        )


def _cut(table: pa.Table, size: int) -> Iterator[bytes]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    written = sink.getvalue().to_pybytes()
    for start in range(0, len(written), size):
        yield written[start : start + size]


@contextmanager
def running(trainer: Trainer) -> Iterator[Trainer]:
    server = grpc.server(ThreadPoolExecutor(4))
    add_TrainingServiceServicer_to_server(trainer, server)
    trainer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield trainer
    finally:
        trainer.cancelled.set()
        server.stop(None).wait()

"""Training sets: a spine comes in, and goes out with features beside it."""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import grpc
from featurestore_protos.v1 import training_pb2
from featurestore_protos.v1.training_pb2 import (
    GetHistoricalFeaturesRequest,
    GetHistoricalFeaturesResponse,
    TrainingProgress,
    TrainingQuery,
    TrainingSummary,
)

from featurestore.offline.engine import Mode
from featurestore.store import FeatureStore
from featurestore.training.job import RetrievalJob
from featurestore_server.backend.calling import check_project, selection_of, who_calls
from featurestore_server.backend.jobs import Place, TrainingJobs
from featurestore_server.backend.outbox import Outbox, Step
from featurestore_server.errors import MalformedMessageError
from featurestore_server.options import BackendLimits

LOGGER: Final = logging.getLogger("featurestore_server")

_MODES: Final[Mapping[int, Mode]] = {
    training_pb2.TRAINING_MODE_UNSPECIFIED: "complete",
    training_pb2.TRAINING_MODE_COMPLETE: "complete",
    training_pb2.TRAINING_MODE_AS_SERVED: "as_served",
}


class Training:
    """Answers `TrainingService`.

    Args:
        store: Computes.
        jobs: Says who may compute now.
        limits: What a caller may send.
    """

    def __init__(self, store: FeatureStore, jobs: TrainingJobs, limits: BackendLimits) -> None:
        self._store = store
        self._jobs = jobs
        self._limits = limits

    def get_historical_features(
        self, requests: Iterator[GetHistoricalFeaturesRequest], context: grpc.ServicerContext
    ) -> Iterator[GetHistoricalFeaturesResponse]:
        """Answer one call."""
        query = _query(next(requests, None))
        check_project(query.project, self._store)
        began = time.monotonic()
        with self._jobs.place(context.cancel) as place:
            _when_ended(context, place.ended.set)
            spine = self._spine(requests, place)
            with self._jobs.turn(place):
                outbox = Outbox()
                with place.own_turn():
                    job = self._job(query, spine, outbox)
                del spine
                yield from _sent(job, outbox, place, context)
            yield GetHistoricalFeaturesResponse(summary=self._summary(job))
        LOGGER.info(
            "a training set of %d rows and %d features took %.1f s, for %s",
            job.num_rows,
            len(job.feature_names),
            time.monotonic() - began,
            who_calls(context),
        )

    def _spine(self, requests: Iterator[GetHistoricalFeaturesRequest], place: Place) -> Any:
        from featurestore_server.backend.spine import received  # loads pyarrow

        folder = self._store.settings.offline_store.temp_directory
        parts = _spine_parts(requests, place)
        return received(
            parts, None if folder is None else self._store.config.path(folder), self._limits
        )

    def _job(self, query: TrainingQuery, spine: Any, outbox: Outbox) -> RetrievalJob:
        return self._store.get_historical_features(
            spine,
            selection_of(query, field="query"),
            full_feature_names=query.full_feature_names,
            timestamp_field=query.timestamp_field or "event_timestamp",
            timezone=query.timezone or "UTC",
            mode=_mode(query.mode),
            progress=outbox.report,
        )

    def _summary(self, job: RetrievalJob) -> TrainingSummary:
        return TrainingSummary(
            project=self._store.project,
            revision=job.revision,
            rows=job.num_rows,
            features=job.feature_names,
        )


def _query(first: GetHistoricalFeaturesRequest | None) -> TrainingQuery:
    if first is None or first.WhichOneof("part") != "query":
        raise MalformedMessageError(
            "The first message does not say what is wanted.", field="query", hint="send it first"
        )
    return first.query


def _spine_parts(requests: Iterator[GetHistoricalFeaturesRequest], place: Place) -> Iterator[bytes]:
    """Yield the bytes that come; the end of a call that was ended early is no end of a spine."""
    while True:
        request = next(requests, None)
        place.check()
        if request is None:
            return
        if request.WhichOneof("part") != "spine":
            raise MalformedMessageError(
                "A message after the first brings no spine.",
                field="spine",
                hint="say once what is wanted, then send the spine alone",
            )
        with place.own_turn():
            yield request.spine


def _mode(mode: int) -> Mode:
    if mode not in _MODES:
        raise MalformedMessageError(f"There is no training mode {mode}.", field="query.mode")
    return _MODES[mode]


def _sent(
    job: RetrievalJob, outbox: Outbox, place: Place, context: grpc.ServicerContext
) -> Iterator[GetHistoricalFeaturesResponse]:
    """Yield a training set while a thread of its own computes it."""
    with _computing(job, outbox, context):
        parts = iter(outbox)
        while True:
            with place.own_turn():
                part = next(parts, None)
                place.check()
            if part is None:
                return
            yield _response(part)


@contextmanager
def _computing(job: RetrievalJob, outbox: Outbox, context: grpc.ServicerContext) -> Iterator[None]:
    """Have a job computed while the context lasts; it ends with the call, if not before."""

    def end() -> None:
        job.cancel()
        outbox.close()

    thread = threading.Thread(target=_write, args=(job, outbox), name="writing")
    _when_ended(context, end)
    thread.start()
    try:
        yield
    finally:
        end()
        thread.join()


def _write(job: RetrievalJob, outbox: Outbox) -> None:
    from featurestore_server.backend.streams import write_stream  # loads pyarrow

    try:
        write_stream(job, outbox)
    except Exception as error:  # noqa: BLE001 - whoever sends raises it
        outbox.finish(error)
    else:
        outbox.finish()


def _when_ended(context: grpc.ServicerContext, act: Any) -> None:
    """Act when a call has ended, at once if it has."""
    if not context.add_callback(act):
        act()


def _response(part: bytes | Step) -> GetHistoricalFeaturesResponse:
    if isinstance(part, bytes):
        return GetHistoricalFeaturesResponse(table=part)
    progress = TrainingProgress(phase=part.phase, rows_done=part.done, rows_total=part.total)
    return GetHistoricalFeaturesResponse(progress=progress)
